"""What servers send that harms, or might, and what the client gets: the third table of docs/security.md.

The bytes are sent as they are, and then the connection is closed. The client's own connection goes on in every case.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.policy.request_faults import MAX_FIELDS
from holdfast.policy.response_faults import MAX_INTERIM


@dataclass(frozen=True, slots=True)
class BadResponse:
    """One row of the table. 502 is what the gateway answers of its own: the response counts as a failure."""

    group: str
    name: str
    sent: bytes
    status: int = 502
    body: bytes = b""
    shows: tuple[tuple[str, str], ...] = ()
    """Header fields of the answer."""
    method: str = "GET"
    asks: tuple[tuple[str, str], ...] = ()
    """Header fields of the request."""


def _ok(*lines: bytes, body: bytes = b"", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""]) + body


def _chunked(body: bytes) -> bytes:
    return _ok(b"Transfer-Encoding: chunked", body=body)


CL, TE = b"Content-Length: 2", b"Transfer-Encoding: chunked"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
SPLITTING = "Response splitting"
splitting = [
    BadResponse(SPLITTING, "a bare CR in a value", _ok(CL, b"X: a\rInjected: yes", body=b"ok")),
    BadResponse(SPLITTING, "a NUL in a value", _ok(CL, b"X: a\x00b", body=b"ok")),
    BadResponse(SPLITTING, "a bare CR in the reason", _ok(CL, body=b"ok", first=b"HTTP/1.1 200 O\rK")),
    BadResponse(
        SPLITTING,
        "a field continued on the next line",
        _ok(CL, b"X: a", b"\tb", body=b"ok"),
        200,
        b"ok",
        (("x", "a b"),),
    ),
    BadResponse(SPLITTING, "a space before the colon", _ok(b"Content-Length : 2", body=b"ok"), 200, b"ok"),
    BadResponse(SPLITTING, "a space in a name", _ok(CL, b"X Y: a", body=b"ok")),
    BadResponse(SPLITTING, "a line without a colon", _ok(CL, b"nonsense", body=b"ok")),
    BadResponse(SPLITTING, "lines that end with a bare LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok"),
    BadResponse(SPLITTING, "a second response behind the first", _ok(CL, body=b"ok") + EVIL, 200, b"ok"),
]

FRAMING = "How long is the body?"
framing = [
    BadResponse(FRAMING, "Content-Length and Transfer-Encoding", _ok(CL, TE, body=b"2\r\nok\r\n0\r\n\r\n")),
    BadResponse(FRAMING, "Content-Length twice, different", _ok(CL, b"Content-Length: 3", body=b"ok!")),
    BadResponse(FRAMING, "Content-Length twice, the same", _ok(CL, CL, body=b"ok")),
    BadResponse(FRAMING, "Content-Length: 2, 2", _ok(b"Content-Length: 2, 2", body=b"ok")),
    BadResponse(FRAMING, "Content-Length: +2", _ok(b"Content-Length: +2", body=b"ok")),
    BadResponse(FRAMING, "Content-Length: -2", _ok(b"Content-Length: -2", body=b"ok")),
    BadResponse(FRAMING, "Transfer-Encoding twice", _ok(TE, TE, body=b"2\r\nok\r\n0\r\n\r\n")),
    BadResponse(FRAMING, "Transfer-Encoding: xchunked", _ok(b"Transfer-Encoding: xchunked", body=b"ok")),
    BadResponse(
        FRAMING, "Transfer-Encoding after a vertical tab", _ok(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")
    ),
    BadResponse(FRAMING, "Transfer-Encoding in a 204", _ok(TE, body=b"0\r\n\r\n", first=b"HTTP/1.1 204 No Content")),
    BadResponse(FRAMING, "a chunk size that is none", _chunked(b"zz\r\nok\r\n0\r\n\r\n")),
    BadResponse(FRAMING, "a chunk size of 18 digits", _chunked(b"f" * 18 + b"\r\nok")),
    BadResponse(FRAMING, "a chunk that is longer than its size", _chunked(b"1\r\nok\r\n0\r\n\r\n")),
    BadResponse(FRAMING, "a chunk extension without end", _chunked(b"2;" + b"a" * 100_000)),
    BadResponse(FRAMING, "trailers", _chunked(b"2\r\nok\r\n0\r\nX: y\r\n\r\n"), 200, b"ok"),
    BadResponse(FRAMING, "a 204 with a body", _ok(CL, body=b"ok", first=b"HTTP/1.1 204 No Content"), 204),
    BadResponse(FRAMING, "a 304 with a body", _ok(CL, body=EVIL, first=b"HTTP/1.1 304 Not Modified"), 304),
    BadResponse(FRAMING, "a body for HEAD", _ok(b"Content-Length: 42", body=EVIL), 200, method="HEAD"),
]

WEBSOCKET = (("Connection", "upgrade"), ("Upgrade", "websocket"))
STATUS = "Status"
status = [
    BadResponse(
        STATUS, "101 that nobody asked for", _ok(b"Connection: upgrade", b"Upgrade: tcp", first=b"HTTP/1.1 101 Go")
    ),
    BadResponse(
        STATUS,
        "101 to another protocol than was asked for",
        _ok(b"Connection: upgrade", b"Upgrade: tcp", first=b"HTTP/1.1 101 Go"),
        asks=WEBSOCKET,
    ),
    BadResponse(STATUS, "status 099", _ok(CL, body=b"ok", first=b"HTTP/1.1 099 Odd")),
    BadResponse(STATUS, "status 1000", _ok(CL, body=b"ok", first=b"HTTP/1.1 1000 Odd")),
    BadResponse(STATUS, "status +200", _ok(CL, body=b"ok", first=b"HTTP/1.1 +200 Odd")),
    BadResponse(STATUS, "status 999", _ok(CL, body=b"ok", first=b"HTTP/1.1 999 Odd"), 999, b"ok"),
    BadResponse(STATUS, "HTTP/2.0 in the line", _ok(CL, body=b"ok", first=b"HTTP/2.0 200 OK")),
    BadResponse(STATUS, "a body without a header", b"<html>hello</html>"),
    BadResponse(
        STATUS,
        f"{MAX_INTERIM + 1} interim answers",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * (MAX_INTERIM + 1) + _ok(CL, body=b"ok"),
    ),
    BadResponse(
        STATUS,
        f"{MAX_INTERIM} interim answers",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_INTERIM + _ok(CL, body=b"ok"),
        200,
        b"ok",
    ),
]

SIZES = "Size"
sizes = [
    BadResponse(SIZES, f"{MAX_FIELDS + 1:,} fields", _ok(CL, *[b"X: y"] * MAX_FIELDS, body=b"ok")),
    BadResponse(SIZES, "a header of 300,000 bytes", _ok(CL, b"X: " + b"a" * 300_000, body=b"ok")),
    BadResponse(
        SIZES, "a header of 262,200 bytes, a little above the bound", _ok(CL, b"X: " + b"a" * 262_150, body=b"ok")
    ),
    BadResponse(SIZES, "a header without end", b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaa\r\n" * 60_000),
]

BAD_RESPONSES: list[BadResponse] = [*splitting, *framing, *status, *sizes]
