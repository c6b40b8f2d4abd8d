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


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of failure. `cells` are in the order of the columns; a column without a cell does not apply."""

    name: str
    token: str
    """As in `Proxy-Status` and the log; empty where it is no failure."""
    cells: tuple[Cell, ...]
    plan: Plan = Answer()
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

READING = ("the client is reading",)
BROKEN = (Cell(1, "broken off"),)

REFUSED, TIMEOUT, TLS_FAILED = "connection_refused", "connection_timeout", "tls_protocol_error"
GONE, SILENT = "connection_terminated", "http_response_timeout"
CUT, STUCK, NONSENSE = "http_response_incomplete", "connection_read_timeout", "http_protocol_error"
NOT_PROCESSED = "destination_unavailable"

CONNECTING = [
    Row("nobody listens", REFUSED, NEVER_THERE, door="refusing", seen=False),
    Row("the accept queue is full", TIMEOUT, NEVER_THERE, door="full_backlog", seen=False),
    Row("silence in the TLS handshake", TIMEOUT, NEVER_THERE, Break("accept", "hang"), tls=True, seen=False, fresh=True),
    Row("reset in the TLS handshake", TLS_FAILED, NEVER_THERE, Break("accept"), tls=True, seen=False, fresh=True),
    Row("FIN in the TLS handshake", TLS_FAILED, NEVER_THERE, Break("accept", "fin"), tls=True, seen=False, fresh=True),
    Row("accepted, then reset", GONE, MAYBE_THERE, Break("accept"), tls=False, seen=False, fresh=True),
    Row("accepted, then FIN", GONE, MAYBE_THERE, Break("accept", "fin"), tls=False, seen=False, fresh=True),
]
ANSWERED_BADLY = [
    Row("502", "http_502", MAYBE_THERE, Answer(502, body=b"bad"), kept=True),
    Row("503", "http_503", MAYBE_THERE, Answer(503, body=b"busy"), kept=True),
    Row("504, of unknown length", "http_504", MAYBE_THERE, Answer(504, body=b"late", chunked=True), kept=True),
    Row("500 and every other status", "", ALL_PASSED, Answer(500, body=b"own"), kept=True),
]
BROKEN_CONNECTION = [
    Row("reset after the request", GONE, MAYBE_THERE, Break("request")),
    Row("FIN after the request", GONE, MAYBE_THERE, Break("request", "fin")),
    Row("silence after the request", SILENT, MAYBE_THERE, Break("request", "hang"), kept=False),
    Row("silence within the header", SILENT, MAYBE_THERE, Break("half-header", "hang"), kept=False),
    Row("reset in mid-body", CUT, MAYBE_THERE, Break("body")),
    Row("FIN in mid-body", CUT, MAYBE_THERE, Break("body", "fin")),
    Row("silence after the header", STUCK, MAYBE_THERE, Break("header", "hang"), kept=False),
    Row("silence in mid-body", STUCK, MAYBE_THERE, Break("body", "hang"), kept=False),
    Row("bytes that are no HTTP", NONSENSE, MAYBE_THERE, Garbage()),
]

HTTP1: list[Row] = [
    *CONNECTING,
    *BROKEN_CONNECTION,
    Row("reset within the header", CUT, MAYBE_THERE, Break("half-header")),
    Row("FIN within the header", CUT, MAYBE_THERE, Break("half-header", "fin")),
    Row("FIN in a chunk", CUT, MAYBE_THERE, Break("body", "fin", Answer(body=b"y" * 900, chunked=True))),
    Row("a status line that is none", NONSENSE, MAYBE_THERE, Garbage(b"HTTP/9.9 twelve\r\n\r\n")),
    *ANSWERED_BADLY,
]


def early_data(received: Received) -> Step:
    """A DATA frame where the header should be."""
    return Garbage(DataFrame(received.stream, b"early").serialize())


def _reset(code: ErrorCodes, name: str, cells: tuple[Cell, ...] = MAYBE_THERE) -> Row:
    return Row(f"RST_STREAM `{code.name}` {name}", GONE, cells, StreamReset(code), kept=True)


HTTP2 = [
    *CONNECTING,
    *BROKEN_CONNECTION,
    Row("reset within the header", GONE, MAYBE_THERE, Break("half-header")),
    Row("FIN within the header", GONE, MAYBE_THERE, Break("half-header", "fin")),
    Row(
        "RST_STREAM `REFUSED_STREAM`",
        NOT_PROCESSED,
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
    Row("GOAWAY below the request's stream, then FIN", NOT_PROCESSED, NOT_TAKEN, GoAway(last_stream="before")),
    Row(
        "GOAWAY below the request's stream, the connection stays for a while",
        NOT_PROCESSED,
        NOT_TAKEN,
        GoAway(last_stream="before", then="finish"),
        kept=False,
    ),
    Row("GOAWAY that counts the request in, then FIN", GONE, MAYBE_THERE, GoAway()),
    Row("GOAWAY `INTERNAL_ERROR`, then FIN", GONE, MAYBE_THERE, GoAway(ErrorCodes.INTERNAL_ERROR)),
    Row("GOAWAY, and the request is answered", "", ALL_PASSED, GoAway(then="finish"), kept=False),
    Row("graceful shutdown: two GOAWAYs, all answered", "", ALL_PASSED, GoAway(0, "max", "finish"), kept=False),
    Row("the whole connection falls silent", SILENT, MAYBE_THERE, Stall(), kept=False),
    Row("... after the header", STUCK, MAYBE_THERE, Stall("header"), kept=False),
    Row("... in mid-body", STUCK, MAYBE_THERE, Stall("body"), kept=False),
    Row("DATA before the header", NONSENSE, MAYBE_THERE, early_data),
    Row("a field that HTTP/2 forbids", NONSENSE, MAYBE_THERE, Answer(headers=[("connection", "close")])),
    *ANSWERED_BADLY,
]

UNAVAILABLE = GrpcAnswer(status=14, message="warming up", trailers_only=True)
ONE_OF_TWO = GrpcAnswer([b"x" * 400, b"y" * 400])
GRPC = [
    Row("nobody listens", REFUSED, CALL_NEVER_THERE, door="refusing", seen=False),
    Row("the accept queue is full", TIMEOUT, CALL_NEVER_THERE, door="full_backlog", seen=False),
    Row("reset after the call", GONE, CALL_MAYBE_THERE, Break("request")),
    Row("silence after the call", SILENT, CALL_MAYBE_THERE, Break("request", "hang"), kept=False),
    Row("RST_STREAM `REFUSED_STREAM`", NOT_PROCESSED, CALL_NOT_TAKEN, StreamReset(ErrorCodes.REFUSED_STREAM), kept=True),
    Row("RST_STREAM `INTERNAL_ERROR`", GONE, CALL_MAYBE_THERE, StreamReset(ErrorCodes.INTERNAL_ERROR), kept=True),
    Row(
        "GOAWAY below the call's stream",
        NOT_PROCESSED,
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
    Row("reset within the first message", CUT, CALL_MAYBE_THERE, Break("body", "reset", GrpcAnswer([b"x" * 400]))),
    Row("silence within the first message", STUCK, CALL_MAYBE_THERE, Break("body", "hang", GrpcAnswer([b"x" * 400]))),
]

MUCH = Answer(body=b"m" * LARGE)
STREAMED = [
    Row("reset in mid-body", CUT, BROKEN, Break("body", "reset", MUCH)),
    Row("FIN in mid-body", CUT, BROKEN, Break("body", "fin", MUCH)),
    Row("silence in mid-body", STUCK, BROKEN, Break("body", "hang", MUCH)),
    Row("FIN in mid-body, of unknown length", CUT, BROKEN, Break("body", "fin", Answer(body=MUCH.body, chunked=True))),
]
STREAMED_HTTP2 = [
    Row("RST_STREAM `INTERNAL_ERROR` in mid-body", CUT, BROKEN, StreamReset(ErrorCodes.INTERNAL_ERROR, "body", MUCH)),
    Row("the whole connection falls silent in mid-body", STUCK, BROKEN, Stall("body", MUCH)),
]
STREAMED_GRPC = [
    Row("reset after the first message", CUT, BROKEN, Break("body", "reset", ONE_OF_TWO)),
    Row("silence after the first message", STUCK, BROKEN, Break("body", "hang", ONE_OF_TWO)),
    Row("RST_STREAM after the first message", CUT, BROKEN, StreamReset(ErrorCodes.INTERNAL_ERROR, "body", ONE_OF_TWO)),
]
