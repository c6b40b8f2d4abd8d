"""The failure matrix as data: what comes of a request, by how the upstream fails and by what kind of request it is.

`test_failure_matrix.py` has every cell happen and compares; the page for users is written from the same rows:

    python -m tests.e2e.matrix > docs/failures.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame

from holdfast.policy.failure import Failure
from holdfast.testing import (
    Answer,
    Break,
    Garbage,
    GoAway,
    GrpcAnswer,
    Received,
    Stall,
    Step,
    StreamReset,
)

ATTEMPTS = 3
BUFFER = 64 * 1024
"""Bytes of a body that are held; what is larger is streamed."""
LARGE = BUFFER * 4
"""Bytes of a body that is streamed: what a broken answer has by then is more than is held."""

type Told = Literal["captured", "not stored", "passed on", "broken off"]
type Plan = Step | Callable[[Received], Step]


@dataclass(frozen=True, slots=True)
class Cell:
    """What comes of a request: how often it was tried, what the client is told, why it was not tried again."""

    attempts: int
    told: Told
    why: str = ""

    def __str__(self) -> str:
        if self.told == "passed on":
            return self.told
        why = f" ({self.why})" if self.why not in ("", "attempts") else ""
        return f"{self.told} after {self.attempts}{why}"


WELL = Answer()


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of failure. `cells` are in the order of the columns; a column without a cell does not apply."""

    name: str
    token: str
    """As in `Proxy-Status` and the log; empty where it is no failure."""
    cells: tuple[Cell, ...]
    plan: Plan = WELL
    door: str = ""
    """What the listening socket does: a context manager of the origin."""
    seen: bool = True
    """Whether the origin sees each attempt; otherwise it sees none."""
    tls: bool | None = None
    """Only with TLS, or only without; None: both."""
    fresh: bool = False
    """It begins on a new connection."""
    kept: bool | None = None
    """Whether the connection is used for the next request; None: it does not matter."""


TRIED = Cell(ATTEMPTS, "captured", "attempts")
TRIED_IN_VAIN = Cell(ATTEMPTS, "not stored", "attempts")
ONCE = Cell(1, "captured", "method")
LOST = Cell(1, "not stored", "method")
HALF_GONE = Cell(1, "not stored", "body_streamed")
PASSED = Cell(1, "passed on")

REQUESTS = ("GET", "POST", "POST with `Idempotency-Key`", "POST, streamed", "PUT, streamed")
NEVER_THERE = (*(TRIED,) * 3, *(TRIED_IN_VAIN,) * 2)
"""No byte of the request can have arrived: everything may be tried again."""
MAYBE_THERE = (TRIED, ONCE, TRIED, LOST, HALF_GONE)
"""It may have arrived: tried again only where a repetition does no harm and the body is still there."""
NOT_TAKEN = (TRIED, TRIED, TRIED, HALF_GONE, HALF_GONE)
"""The server has said that it did nothing; but of a streamed body there is nothing left to send again."""
ALL_PASSED = (PASSED,) * 5

CALLS = ("unary call", "unary call with `idempotency-key`", "client stream")
CALL_NEVER_THERE = (TRIED, TRIED, TRIED_IN_VAIN)
CALL_MAYBE_THERE = (ONCE, TRIED, LOST)
CALL_NOT_TAKEN = (TRIED, TRIED, HALF_GONE)
CALL_PASSED = (PASSED,) * 3
IN_A_MESSAGE = (ONCE, TRIED, Cell(1, "broken off"))
"""The client of a stream has got the header by then, which it may be waiting for."""

READING = ("the client is reading",)
BROKEN = (Cell(1, "broken off"),)

REFUSED, TIMEOUT, TLS_FAILED = "connection_refused", "connection_timeout", "tls_protocol_error"
GONE, SILENT = "connection_terminated", "http_response_timeout"
CUT, STUCK, NONSENSE = "http_response_incomplete", "connection_read_timeout", "http_protocol_error"
ELSE = "destination_unavailable"

CONNECTING = (
    Row("nobody listens", REFUSED, NEVER_THERE, door="refusing", seen=False),
    Row("the accept queue is full", TIMEOUT, NEVER_THERE, door="full_backlog", seen=False),
    Row(
        "silence in the TLS handshake", TIMEOUT, NEVER_THERE, Break("accept", "hang"), tls=True, seen=False, fresh=True
    ),
    Row("reset in the TLS handshake", TLS_FAILED, NEVER_THERE, Break("accept"), tls=True, seen=False, fresh=True),
    Row("FIN in the TLS handshake", TLS_FAILED, NEVER_THERE, Break("accept", "fin"), tls=True, seen=False, fresh=True),
)
ANSWERED_BADLY = (
    Row("502", "http_502", MAYBE_THERE, Answer(502, body=b"bad"), kept=True),
    Row("503", "http_503", MAYBE_THERE, Answer(503, body=b"busy"), kept=True),
    Row("504, of unknown length", "http_504", MAYBE_THERE, Answer(504, body=b"late", chunked=True), kept=True),
    Row("500 and every other status", "", ALL_PASSED, Answer(500, body=b"own"), kept=True),
)
BROKEN_CONNECTION = (
    Row("reset after the request", GONE, MAYBE_THERE, Break("request")),
    Row("FIN after the request", GONE, MAYBE_THERE, Break("request", "fin")),
    Row("silence after the request", SILENT, MAYBE_THERE, Break("request", "hang"), kept=False),
    Row("silence within the header", SILENT, MAYBE_THERE, Break("half-header", "hang"), kept=False),
    Row("reset in mid-body", CUT, MAYBE_THERE, Break("body")),
    Row("FIN in mid-body", CUT, MAYBE_THERE, Break("body", "fin")),
    Row("silence after the header", STUCK, MAYBE_THERE, Break("header", "hang"), kept=False),
    Row("silence in mid-body", STUCK, MAYBE_THERE, Break("body", "hang"), kept=False),
)

HTTP1 = (
    *CONNECTING,
    Row("accepted, then reset", GONE, MAYBE_THERE, Break("accept"), tls=False, seen=False),
    Row("accepted, then FIN", GONE, MAYBE_THERE, Break("accept", "fin"), tls=False, seen=False),
    *BROKEN_CONNECTION,
    Row("bytes that are no HTTP", NONSENSE, MAYBE_THERE, Garbage()),
    Row("reset within the header", CUT, MAYBE_THERE, Break("half-header")),
    Row("FIN within the header", CUT, MAYBE_THERE, Break("half-header", "fin")),
    Row("FIN in a chunk", CUT, MAYBE_THERE, Break("body", "fin", Answer(body=b"y" * 900, chunked=True))),
    Row("a status line that is none", NONSENSE, MAYBE_THERE, Garbage(b"HTTP/9.9 twelve\r\n\r\n")),
    *ANSWERED_BADLY,
)


def early_data(received: Received) -> Step:
    """A DATA frame where the header should be."""
    return Garbage(DataFrame(received.stream, b"early").serialize())


def _reset(code: ErrorCodes, name: str, cells: tuple[Cell, ...] = MAYBE_THERE) -> Row:
    return Row(f"RST_STREAM `{code.name}` {name}", GONE, cells, StreamReset(code), kept=True)


HTTP2 = (
    *CONNECTING,
    Row("accepted, then silence", TIMEOUT, NEVER_THERE, Break("accept", "hang"), tls=False, seen=False, fresh=True),
    Row("accepted, then reset", ELSE, NEVER_THERE, Break("accept"), tls=False, seen=False, fresh=True),
    Row("accepted, then FIN", ELSE, NEVER_THERE, Break("accept", "fin"), tls=False, seen=False, fresh=True),
    *BROKEN_CONNECTION,
    Row("reset within the header", GONE, MAYBE_THERE, Break("half-header")),
    Row("FIN within the header", GONE, MAYBE_THERE, Break("half-header", "fin")),
    Row(
        "RST_STREAM `REFUSED_STREAM`",
        ELSE,
        NOT_TAKEN,
        StreamReset(ErrorCodes.REFUSED_STREAM),
        kept=True,
    ),
    _reset(ErrorCodes.INTERNAL_ERROR, "before the header"),
    _reset(ErrorCodes.CANCEL, "before the header"),
    _reset(ErrorCodes.HTTP_1_1_REQUIRED, "before the header"),
    Row(
        "RST_STREAM `INTERNAL_ERROR` after the header",
        CUT,
        MAYBE_THERE,
        StreamReset(ErrorCodes.INTERNAL_ERROR, "header"),
        kept=True,
    ),
    Row(
        "RST_STREAM `REFUSED_STREAM` after the header",
        CUT,
        MAYBE_THERE,
        StreamReset(ErrorCodes.REFUSED_STREAM, "header"),
        kept=True,
    ),
    Row("RST_STREAM `CANCEL` in mid-body", CUT, MAYBE_THERE, StreamReset(ErrorCodes.CANCEL, "body"), kept=True),
    Row("GOAWAY below the request's stream, then FIN", ELSE, NOT_TAKEN, GoAway(last_stream="before")),
    Row(
        "GOAWAY below the request's stream, the connection stays for a while",
        ELSE,
        NOT_TAKEN,
        GoAway(last_stream="before", then="finish"),
        kept=False,
    ),
    Row("GOAWAY that counts the request in, then FIN", GONE, MAYBE_THERE, GoAway()),
    Row("GOAWAY `INTERNAL_ERROR`, then FIN", GONE, MAYBE_THERE, GoAway(ErrorCodes.INTERNAL_ERROR)),
    Row("GOAWAY, and the request is answered", "", ALL_PASSED, GoAway(then="finish"), kept=False),
    Row("graceful shutdown: two GOAWAYs, all answered", "", ALL_PASSED, GoAway(0, "max", "finish"), kept=False),
    Row("the whole connection falls silent", SILENT, MAYBE_THERE, Stall(), kept=False),
    Row("the whole connection falls silent after the header", STUCK, MAYBE_THERE, Stall("header"), kept=False),
    Row("the whole connection falls silent in mid-body", STUCK, MAYBE_THERE, Stall("body"), kept=False),
    Row("an HTTP/1.1 answer", NONSENSE, MAYBE_THERE, Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    Row("DATA before the header", NONSENSE, MAYBE_THERE, early_data),
    Row("a wrong content-length", NONSENSE, MAYBE_THERE, Answer(headers=[("content-length", "7")], chunked=True)),
    Row("two content-lengths", NONSENSE, MAYBE_THERE, Answer(headers=[("content-length", "7")])),
    *ANSWERED_BADLY,
)

UNAVAILABLE = GrpcAnswer(status=14, message="warming up", trailers_only=True)
ONE_OF_TWO = GrpcAnswer([b"x" * 400, b"y" * 400])
GRPC = (
    Row("nobody listens", REFUSED, CALL_NEVER_THERE, door="refusing", seen=False),
    Row("the accept queue is full", TIMEOUT, CALL_NEVER_THERE, door="full_backlog", seen=False),
    Row("reset after the call", GONE, CALL_MAYBE_THERE, Break("request")),
    Row("silence after the call", SILENT, CALL_MAYBE_THERE, Break("request", "hang"), kept=False),
    Row("RST_STREAM `REFUSED_STREAM`", ELSE, CALL_NOT_TAKEN, StreamReset(ErrorCodes.REFUSED_STREAM), kept=True),
    Row("RST_STREAM `INTERNAL_ERROR`", GONE, CALL_MAYBE_THERE, StreamReset(ErrorCodes.INTERNAL_ERROR), kept=True),
    Row(
        "GOAWAY below the call's stream",
        ELSE,
        CALL_NOT_TAKEN,
        GoAway(last_stream="before", then="finish"),
        kept=False,
    ),
    Row("the whole connection falls silent", SILENT, CALL_MAYBE_THERE, Stall(), kept=False),
    Row("HTTP status 503", "http_503", CALL_MAYBE_THERE, Answer(503, body=b"busy"), kept=True),
    Row("`UNAVAILABLE` at once (Trailers-Only)", "grpc_unavailable", CALL_MAYBE_THERE, UNAVAILABLE, kept=True),
    Row(
        "`UNAVAILABLE` after a message, and every other status",
        "",
        CALL_PASSED,
        GrpcAnswer([b"x"], status=14),
        kept=True,
    ),
    Row("`NOT_FOUND` at once", "", CALL_PASSED, GrpcAnswer(status=5, trailers_only=True), kept=True),
    Row("reset within the first message", CUT, IN_A_MESSAGE, Break("body", "reset", GrpcAnswer([b"x" * 400]))),
)

MUCH = Answer(body=b"m" * LARGE)
STREAMED = (
    Row("reset in mid-body", CUT, BROKEN, Break("body", "reset", MUCH)),
    Row("FIN in mid-body", CUT, BROKEN, Break("body", "fin", MUCH)),
    Row("silence in mid-body", STUCK, BROKEN, Break("body", "hang", MUCH)),
    Row("FIN in mid-body, of unknown length", CUT, BROKEN, Break("body", "fin", Answer(body=MUCH.body, chunked=True))),
)
STREAMED_HTTP2 = (
    Row(
        "RST_STREAM `INTERNAL_ERROR` in mid-body",
        CUT,
        BROKEN,
        StreamReset(ErrorCodes.INTERNAL_ERROR, "body", MUCH),
        kept=True,
    ),
    Row("the whole connection falls silent in mid-body", STUCK, BROKEN, Stall("body", MUCH), kept=False),
)
STREAMED_GRPC = (
    Row("reset after the first message", CUT, BROKEN, Break("body", "reset", ONE_OF_TWO)),
    Row("RST_STREAM after the first message", CUT, BROKEN, StreamReset(ErrorCodes.INTERNAL_ERROR, "body", ONE_OF_TWO)),
)


# -- the page ---------------------------------------------------------------------------------------------------------

_HEAD = f"""\
# What happens when the upstream fails

Every row is a way in which a server behind the gateway can fail, every column a kind of request; the cell says what
becomes of the request. This page is generated from `tests/e2e/matrix.py` (`python -m tests.e2e.matrix >
docs/failures.md`), and every cell of it is made to happen by `tests/e2e/test_failure_matrix.py`, on client connections
that are kept and go on to be used.

## How to read it

- **captured after {ATTEMPTS}**: the request was tried {ATTEMPTS} times in all (`upstream.retry.attempts`), each attempt
  failed, and the client has got 503 with the id under which the request is stored.
- **captured after 1 (method)**: it was tried once, and then stored. The word in parentheses is why there was no further
  attempt: `method`, it might not be harmless to repeat; `body_streamed`, its body is not there any more. It is also in
  `Proxy-Status` (`holdfast-not-retried`), in the log line and in `holdfast_not_retried_total`.
- **not stored after 1**: the same 503, but without an id and with `Holdfast-Capture: failed; reason=too_large`: there
  was nothing left that could have been stored. The client knows that it has to send the request again.
- **passed on**: the client has got the server's answer as it was. It is no failure.
- **broken off**: the client had got a part of the answer already, and sees that it is not whole.

Where one of the attempts succeeds, the client gets its answer and nothing else happens.

**error** is the token in `Proxy-Status`, the log, the metrics and the stored record (RFC 9209). A status that the
server sent is `received-status` in `Proxy-Status`.

**reached** says whether the server may have seen the request. Where it cannot have, everything is tried again, on
another server if there is one. Where it may have, GET, HEAD, PUT, DELETE, OPTIONS and TRACE are tried again, and POST
and PATCH only if the client has sent an `Idempotency-Key`: nothing that may not happen twice is ever sent twice.

**Streamed** is a body that is larger than `limits.buffer_body`. It goes to the server as it arrives, and is not held:
as soon as a part of it is under way there is nothing to try again with, and nothing to store. With
`failure_sink.spool` such bodies are kept on disk meanwhile; then each *not stored* below is *captured*, but for gRPC.

A few rules hold for all tables. Each attempt is bounded by `connect_timeout`, `response_timeout` and `read_timeout`,
and all together by `deadline`; retries are at most `retry.budget` of all requests; where every server is left alone by
its circuit breaker the answer is immediate (`destination_unavailable`, not retried: `breaker`). The addon that captures
is the interceptor; without it the client gets 502, or 504 after a timeout, in place of 503. In all cases the
connection of the client stays open, and its next request is served; the only exception is HTTP/1.1 where an answer
is broken off, since closing is how HTTP/1.1 says that.

The tables are about connections that were opened for the request. A server may also close one that it has kept, at the
moment in which the next request goes out on it. Where the request may be sent again at all, it goes out once more at
once, on a new connection, and that is no attempt. Others get no connection that was idle for longer than a second."""

_HTTP1 = """
## HTTP/1.1 to the server

The same for clients of HTTP/1.1 and of HTTP/2, and for servers with and without TLS unless the row says which.
"""
_HTTP2 = """
## HTTP/2 to the server

The same for clients of HTTP/1.1 and of HTTP/2; for `h2c://` servers and for those that agree on HTTP/2 by TLS.

A request goes out once the server has said its first word (SETTINGS): one that accepts a connection and then says
nothing, or ends it, never had the request. A server says that it has not processed a request by `REFUSED_STREAM`, or by
a GOAWAY below its stream (RFC 9113, section 8.7): that is as good as never having reached it.

The end of one stream costs no other request anything, and the connection is kept. A connection that has been silent
while a request ran out of time is given no new ones, and is closed when those it has are done. A server that takes no
more streams (SETTINGS_MAX_CONCURRENT_STREAMS) is sent no more on that connection: another one is opened.
"""
_GRPC = """
## gRPC

A call with one message is held like any other request. The client gets the status `UNAVAILABLE`, with an `ErrorInfo`
of the reason `CAPTURED` and the id in its details (`UPSTREAM_FAILED` where nothing could be stored), and the header
fields of the other tables as metadata. A client that sends several messages is passed on as it speaks: that is a
stream, of which nothing is held or stored.

A server's own status is its answer and passed on as it is. Only `UNAVAILABLE` as all there is of an answer
(Trailers-Only) is a failure, like 503.
"""
_STREAMED = """
## While the client is reading

An answer larger than `limits.buffer_body`, `text/event-stream`, and a gRPC answer from its first message on are passed
on as they come. When the server breaks off then, nothing can be tried again or put in its place, and the request is
not stored: the client has had an answer, and knows what it has of it. What it sees is never a whole answer: a client of
HTTP/1.1 sees the connection closed before the end, one of HTTP/2 RST_STREAM (`INTERNAL_ERROR`), one of gRPC the status
`UNAVAILABLE`.

Event streams and gRPC streams may be silent for as long as they like: `read_timeout` does not hold for them.
"""


def page() -> str:
    """docs/failures.md."""
    reading = (*STREAMED, *STREAMED_HTTP2)
    parts = [_HEAD, _HTTP1, *_table(HTTP1, REQUESTS), _HTTP2, *_table(HTTP2, REQUESTS), _GRPC, *_table(GRPC, CALLS)]
    parts += [_STREAMED, *_table(reading, READING), "\nFor gRPC:\n", *_table(STREAMED_GRPC, READING)]
    return "\n".join(parts) + "\n"


def _table(rows: Iterable[Row], columns: Iterable[str]) -> Iterator[str]:
    """A line for each error; what leads to the same is in the same line."""
    heads = ["what happens", "error", "reached", *columns]
    yield _line(heads)
    yield _line("---" for _ in heads)
    merged: dict[tuple[str, tuple[Cell, ...]], list[str]] = {}
    for row in rows:
        where = {True: " (TLS)", False: " (without TLS)", None: ""}[row.tls]
        merged.setdefault((row.token, row.cells), []).append(row.name + where)
    for (token, cells), names in merged.items():
        error = f"`{token}`" if token else ""
        yield _line(["<br>".join(names), error, _reached(token), *map(str, cells)])


def _reached(token: str) -> str:
    if not token:
        return "yes"
    return "maybe" if Failure(token, "").reached else "no"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(page())
