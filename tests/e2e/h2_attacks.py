"""What strangers send over HTTP/2, and what each of it gets: the second table of docs/security.md.

`status`: the answer on stream 1, after which the connection still serves others. `goaway`: the error code with which
the connection ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.e2e.frames import (
    CONTINUATION,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    Fields,
    block,
    data,
    frame,
    headers,
    request,
)


@dataclass(frozen=True, slots=True)
class Http2Attack:
    """One row of the table."""

    group: str
    name: str
    sent: bytes
    status: int = 0
    fault: str = ""
    goaway: str = ""
    origin: tuple[str, ...] = ()


def _with(*fields: tuple[str, str]) -> bytes:
    return headers([*REQUEST, *fields])


def _without(name: str) -> bytes:
    return headers([(n, v) for n, v in REQUEST if n != name])


def _post(*fields: tuple[str, str], end: bool = False) -> bytes:
    return headers([(":method", "POST"), *REQUEST[1:], *fields], end=end)


def _refused(fault: str, sent: dict[str, bytes], status: int = 400) -> list[Http2Attack]:
    return [Http2Attack("Header fields", name, each, status, fault) for name, each in sent.items()]


twice: Fields = [*REQUEST, (":path", "/other")]
fields = [
    *_refused(
        "field_name",
        {
            "a name in upper case": _with(("X-Upper", "a")),
            "an empty name": _with(("", "a")),
            "a space in a name": _with(("x y", "a")),
            "a colon in a name": _with(("x:y", "a")),
        },
    ),
    *_refused(
        "field_value",
        {
            "CR LF in a value": _with(("x", "a\r\ninjected: yes")),
            "LF in a value": _with(("x", "a\ninjected: yes")),
            "a NUL in a value": _with(("x", "a\x00b")),
            "a space before a value": _with(("x", " a")),
            "CR LF in the method": request(method="GET / HTTP/1.1\r\nHost: h\r\n\r\nGET"),
            "CR LF in the authority": request(authority="h\r\nx: y"),
        },
    ),
    *_refused(
        "connection_field",
        {
            "connection": _with(("connection", "close")),
            "transfer-encoding": _with(("transfer-encoding", "chunked")),
            "upgrade": _with(("upgrade", "websocket")),
            "te: gzip": _with(("te", "gzip")),
        },
    ),
    *_refused(
        "pseudo_field",
        {
            "a pseudo field behind a field": headers([*REQUEST[:3], ("x", "y"), REQUEST[3]]),
            "a pseudo field twice": headers(twice),
            "an unknown pseudo field": headers([*REQUEST, (":protocol", "websocket")]),
            "a pseudo field of responses": headers([*REQUEST, (":status", "200")]),
            "no method": _without(":method"),
            "no scheme": _without(":scheme"),
            "a scheme of another kind": request(scheme="ftp"),
            "a space in the method": request(method="GET /smuggled"),
        },
    ),
    *_refused(
        "target",
        {
            "no path": _without(":path"),
            "an empty path": request(path=""),
            "a path that does not begin with a slash": request(path="smuggled"),
            "a space in the path": request(path="/ HTTP/1.1"),
            "a fragment in the path": request(path="/a#b"),
        },
    ),
    *_refused("target_and_host", {"a host that is not the authority": _with(("host", "elsewhere.test"))}),
    *_refused("host_twice", {"host twice": _with(("host", "h.test"), ("host", "h.test"))}),
    *_refused("host", {"an authority with a user": request(authority="me@h.test")}),
    *_refused("no_host", {"neither authority nor host": _without(":authority")}),
    *_refused("connect", {"CONNECT": headers([(":method", "CONNECT"), (":authority", "h.test:443")])}, 405),
    *_refused("length_twice", {"content-length twice": _post(("content-length", "5"), ("content-length", "5"))}),
    *_refused("too_many_fields", {"1,001 fields": _with(*[("x", "")] * 1001)}, 431),
    *_refused("header_too_large", {"a header of 100,000 bytes": _with(*[("x", "a" * 10_000)] * 10)}, 431),
    Http2Attack("Header fields", "te: trailers", _with(("te", "trailers")), 200, origin=("GET / ",)),
    Http2Attack("Header fields", "a host that is the authority", _with(("host", "h.test")), 200, origin=("GET / ",)),
]

LENGTH = "How long is the body?"
five = _post(("content-length", "5"))
bodies = [
    Http2Attack(LENGTH, "a length, and no body", _post(("content-length", "35"), end=True), 400, "content_length"),
    Http2Attack(LENGTH, "a body shorter than its length", five + data(b"abc"), goaway="PROTOCOL_ERROR"),
    Http2Attack(LENGTH, "a body longer than its length", five + data(b"abcdefgh"), goaway="PROTOCOL_ERROR"),
    Http2Attack(
        LENGTH,
        "a body shorter than its length, ended by trailers",
        five + data(b"abc", end=False) + headers([("x", "y")]),
        400,
        "unreadable",
    ),
    Http2Attack(LENGTH, "content-length: +5", _post(("content-length", "+5")) + data(b"hello"), 400, "content_length"),
    Http2Attack(LENGTH, "content-length: abc", _post(("content-length", "abc")), goaway="PROTOCOL_ERROR"),
    Http2Attack(
        LENGTH,
        "a content-length among the trailers",
        _post() + data(b"abc", end=False) + headers([("content-length", "3")]),
        400,
        "trailer",
    ),
    Http2Attack(
        LENGTH,
        "a pseudo field among the trailers",
        _post() + data(b"abc", end=False) + headers([(":path", "/other")]),
        400,
        "field_name",
    ),
    Http2Attack(LENGTH, "a body of its length", five + data(b"hello"), 200, origin=("POST / hello",)),
    Http2Attack(
        LENGTH,
        "a body without a length, in three pieces",
        _post() + data(b"he", end=False) + data(b"l", end=False) + data(b"lo"),
        200,
        origin=("POST / hello",),
    ),
]

FLOODS = "Floods"
CALM = "ENHANCE_YOUR_CALM"


def _rapid_reset(number: int) -> bytes:
    return b"".join(request(n) + frame(RST_STREAM, 0, n, b"\x00\x00\x00\x08") for n in range(1, 2 * number, 2))


piece = block([("x", "a" * 10_000)])
floods = [
    Http2Attack(FLOODS, "1,000 requests taken back at once", _rapid_reset(1000), goaway=CALM),
    Http2Attack(FLOODS, "2,000 pings", frame(PING, payload=b"areyou??") * 2000, goaway=CALM),
    Http2Attack(FLOODS, "2,000 SETTINGS", frame(SETTINGS) * 2000, goaway=CALM),
    Http2Attack(FLOODS, "2,000 PRIORITY frames", frame(PRIORITY, 0, 1, b"\x00\x00\x00\x03\x00") * 2000, goaway=CALM),
    Http2Attack(FLOODS, "2,000 frames of an unknown type", frame(0xFA) * 2000, goaway=CALM),
    Http2Attack(FLOODS, "2,000 empty DATA frames", _post() + data(b"", end=False) * 2000, goaway=CALM),
    Http2Attack(
        FLOODS,
        "a header of 65 CONTINUATION frames",
        frame(HEADERS, END_STREAM, 1, block(REQUEST)) + frame(CONTINUATION, 0, 1, block([("x", "y")])) * 65,
        goaway="PROTOCOL_ERROR",
    ),
    Http2Attack(
        FLOODS,
        "a header of 400,000 bytes in CONTINUATION frames",
        frame(HEADERS, END_STREAM, 1, block(REQUEST)) + frame(CONTINUATION, 0, 1, piece) * 40,
        goaway=CALM,
    ),
    Http2Attack(
        FLOODS,
        "101 requests at once",
        b"".join(headers([(":method", "POST"), *REQUEST[1:]], n, end=False) for n in range(1, 203, 2)),
        goaway="PROTOCOL_ERROR",
    ),
    Http2Attack(
        FLOODS, "no HTTP/2 behind the preface", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 3, goaway="FRAME_SIZE_ERROR"
    ),
]

HTTP2_ATTACKS: list[Http2Attack] = [*fields, *bodies, *floods]
