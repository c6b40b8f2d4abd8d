"""What strangers send over HTTP/1, and what each of it gets: the first table of docs/security.md.

The bytes are sent on a connection of their own. `gets` are the statuses of the answers in their order; a refusal ends
the connection, after anything else it can be used on. `origin` are the requests that arrive behind the gateway, as
`METHOD target body`: each well-formed, or broken off where `aborted` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.policy.request_faults import MAX_FIELDS


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the table."""

    group: str
    name: str
    sent: bytes
    gets: tuple[int, ...]
    origin: tuple[str, ...] = ()
    fault: str = ""
    """The word for it in the answer's problem document."""
    aborted: bool = False
    """Something may arrive behind the gateway, but nothing whole."""

    @property
    def refused(self) -> bool:
        return self.gets[-1] >= 400


HOST = b"Host: h\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def _get(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    return first + b"\r\n" + host + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _post(*lines: bytes, body: bytes = b"", first: bytes = b"POST / HTTP/1.1") -> bytes:
    return _get(*lines, first=first) + body


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


def _refused(group: str, status: int, fault: str, sent: dict[str, bytes]) -> list[Attack]:
    return [Attack(group, name, data, (status,), fault=fault) for name, data in sent.items()]


TE = b"Transfer-Encoding: chunked"
FRAMING = "How long is the body?"
LENGTHS = {
    "Content-Length: +5": b"+5",
    "Content-Length: 5, 5": b"5, 5",
    "Content-Length: 0x5": b"0x5",
    "Content-Length: -1": b"-1",
    "Content-Length: 05": b"05",
    "Content-Length: 5 5": b"5 5",
    "Content-Length without a value": b"",
    "Content-Length of 30 digits": b"9" * 30,
    "Content-Length: 5 and a vertical tab": b"5\x0b",
}
framing = [
    *_refused(
        FRAMING,
        400,
        "length_and_coding",
        {
            "Content-Length, then Transfer-Encoding": _post(b"Content-Length: 40", TE, body=b"0\r\n\r\n" + SMUGGLED),
            "Transfer-Encoding, then Content-Length": _post(TE, b"Content-Length: 40", body=b"0\r\n\r\n" + SMUGGLED),
        },
    ),
    *_refused(
        FRAMING,
        400,
        "length_twice",
        {
            "Content-Length twice, different": _post(b"Content-Length: 0", b"Content-Length: 35", body=SMUGGLED),
            "Content-Length twice, the same": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        },
    ),
    *(
        Attack(
            FRAMING,
            name,
            _post(b"Content-Length: " + value, body=b"hello"),
            (400,),
            fault="field_value" if b"\x0b" in value else "content_length",
        )
        for name, value in LENGTHS.items()
    ),
    Attack(
        FRAMING,
        "Content-Length with spaces around it",
        _post(b"Content-Length:  5 \t", body=b"hello"),
        (200,),
        ("POST / hello",),
    ),
    *_refused(
        FRAMING,
        400,
        "transfer_encoding",
        {
            "Transfer-Encoding: xchunked": _post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
            "Transfer-Encoding: chunked, identity": _post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
            "Transfer-Encoding: chunked, chunked": _post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
            "Transfer-Encoding: identity": _post(b"Transfer-Encoding: identity", body=SMUGGLED),
            "Transfer-Encoding without a value": _post(b"Transfer-Encoding:", body=SMUGGLED),
            'Transfer-Encoding: "chunked"': _post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
        },
    ),
    *_refused(
        FRAMING,
        501,
        "transfer_coding",
        {"Transfer-Encoding: gzip, chunked": _post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")},
    ),
    *_refused(
        FRAMING,
        400,
        "coding_twice",
        {"Transfer-Encoding twice": _post(TE, b"Transfer-Encoding: identity", body=b"0\r\n\r\n")},
    ),
    *_refused(
        FRAMING,
        400,
        "coding_in_http_1_0",
        {"Transfer-Encoding in HTTP/1.0": _post(TE, body=b"0\r\n\r\n", first=b"POST / HTTP/1.0")},
    ),
    *_refused(
        FRAMING,
        400,
        "field_value",
        {
            "Transfer-Encoding: chunked after a vertical tab": _post(
                b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"
            )
        },
    ),
    Attack(
        FRAMING,
        "Transfer-Encoding: Chunked after a tab",
        _post(b"Transfer-Encoding:\tChunked", body=b"2\r\nhi\r\n0\r\n\r\n"),
        (200,),
        ("POST / hi",),
    ),
    Attack(
        FRAMING,
        "a GET whose body is a request",
        _post(b"Content-Length: 35", body=SMUGGLED, first=b"GET / HTTP/1.1"),
        (200,),
        ("GET / " + SMUGGLED.decode(),),
    ),
    Attack(FRAMING, "a second request behind a GET", _get() + SMUGGLED, (200, 200), ("GET / ", "GET /smuggled ")),
]

CHUNKS = "Chunks"
BAD_CHUNKS = {
    "a size of 18 digits": b"f" * 18 + b"\r\nhello",
    "a size of -1": b"-1\r\nhello",
    "a size of 0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size of +5": b"+5\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than its size": b"3\r\nhello\r\n0\r\n\r\n",
    "no line end after a chunk": b"5\r\nhello0\r\n\r\n" + SMUGGLED,
    "a bare LF after a size": b"5\nhello\r\n0\r\n\r\n",
    "a bare LF after a chunk": b"5\r\nhello\n0\r\n\r\n",
    "a bare CR in a chunk extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a chunk extension without end": b"5;" + b"a" * 100_000,
    "a trailer that ends with a bare LF": b"5\r\nhello\r\n0\r\nX: y\n\n" + SMUGGLED + b"\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: y\r\n" * 20_000,
}
chunks = [
    *(Attack(CHUNKS, name, _chunked(body), (400,), fault="body") for name, body in BAD_CHUNKS.items()),
    Attack(
        CHUNKS,
        "a bad chunk behind more than is held",
        _chunked(b"40000\r\n" + bytes(0x40000) + b"\r\nzz\r\n"),
        (400,),
        fault="body",
        aborted=True,
    ),
    Attack(
        CHUNKS,
        "chunk extensions, and spaces before them",
        _chunked(b"2;a=b\r\nhe\r\n3 ;c\r\nllo\r\n0\r\n\r\n"),
        (200,),
        ("POST / hello",),
    ),
    Attack(CHUNKS, "trailers", _chunked(b"2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n"), (200,), ("POST / hi",)),
    Attack(
        CHUNKS,
        "20,000 chunks of one byte",
        _chunked(b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n"),
        (200,),
        ("POST / " + "a" * 20_000,),
    ),
]

LINES = "Lines and fields"
lines = [
    *_refused(
        LINES,
        400,
        "bare_line_end",
        {
            "lines that end with a bare LF": b"GET / HTTP/1.1\nHost: h\n\n",
            "one line that ends with a bare LF": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\nInjected: yes\r\n\r\n",
            "a bare CR in a value": _get(b"X: a\rInjected: yes"),
            "an empty line of a bare LF": b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        },
    ),
    *_refused(
        LINES,
        400,
        "obs_fold",
        {
            "a field continued on the next line": _get(b"X: a", b" b"),
            "Transfer-Encoding continued on the next line": _post(
                b"Transfer-Encoding:", b" chunked", body=b"0\r\n\r\n"
            ),
            "a first field that begins with a space": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        },
    ),
    *_refused(
        LINES,
        400,
        "field_name",
        {
            "a space before the colon": _post(b"Content-Length : 5", body=b"hello"),
            "a space in a name": _get(b"Content Length: 5"),
            "a NUL in a name": _get(b"X\x00: a"),
            "an empty name": _get(b": a"),
            "a name beyond ASCII": _get(b"X-\xe9: a"),
        },
    ),
    *_refused(LINES, 400, "field_line", {"a line without a colon": _get(b"nonsense")}),
    *_refused(
        LINES,
        400,
        "field_value",
        {"a NUL in a value": _get(b"X: a\x00b"), "an escape in a value": _get(b"X: a\x1bb")},
    ),
    Attack(LINES, "bytes beyond ASCII in a value", _get(b"X: caf\xe9"), (200,), ("GET / ",)),
    Attack(LINES, "empty lines before the request", b"\r\n\r\n" + _get(), (200,), ("GET / ",)),
]

TARGETS = "Request line and host"
targets = [
    *_refused(
        TARGETS,
        400,
        "request_line",
        {
            "a space in the target": _get(first=b"GET /a b HTTP/1.1"),
            "two spaces": _get(first=b"GET  / HTTP/1.1"),
            "a tab for a space": _get(first=b"GET\t/ HTTP/1.1"),
            "a space at the end": _get(first=b"GET / HTTP/1.1 "),
            "no version": b"GET /\r\n\r\n",
            "a version in lower case": _get(first=b"GET / http/1.1"),
            "HTTP/3": _get(first=b"GET / HTTP/3"),
            "a method with odd characters": _get(first=b"G(E)T / HTTP/1.1"),
            "a NUL in the target": _get(first=b"GET /\x00 HTTP/1.1"),
        },
    ),
    *_refused(
        TARGETS,
        505,
        "http_version",
        {"HTTP/2.0 in the line": _get(first=b"GET / HTTP/2.0"), "HTTP/1.2": _get(first=b"GET / HTTP/1.2")},
    ),
    *_refused(TARGETS, 400, "method_case", {"head in lower case": _get(first=b"head / HTTP/1.1")}),
    *_refused(
        TARGETS,
        400,
        "target",
        {
            "a target that is no path": _get(first=b"GET elsewhere HTTP/1.1"),
            "a fragment": _get(first=b"GET /a#b HTTP/1.1"),
            "an asterisk for a GET": _get(first=b"GET * HTTP/1.1"),
            "a host and port": _get(first=b"GET h:80 HTTP/1.1"),
            "a URL of another scheme": _get(first=b"GET ftp://h/ HTTP/1.1"),
            "a URL with a user": _get(first=b"GET http://me@h/ HTTP/1.1"),
        },
    ),
    *_refused(
        TARGETS,
        400,
        "target_and_host",
        {"a URL of another host than Host": _get(first=b"GET http://elsewhere.test/ HTTP/1.1")},
    ),
    *_refused(TARGETS, 405, "connect", {"CONNECT": _get(first=b"CONNECT elsewhere.test:443 HTTP/1.1")}),
    *_refused(TARGETS, 400, "no_host", {"no Host": _get(host=b"")}),
    *_refused(
        TARGETS,
        400,
        "host_twice",
        {"Host twice": _get(b"Host: elsewhere.test"), "Host twice, the same": _get(b"Host: h")},
    ),
    *_refused(
        TARGETS,
        400,
        "host",
        {
            "a Host with a user": _get(host=b"Host: me@h\r\n"),
            "a Host with a path": _get(host=b"Host: h/path\r\n"),
            "a Host with a space": _get(host=b"Host: h elsewhere.test\r\n"),
            "a Host with a comma": _get(host=b"Host: h, elsewhere.test\r\n"),
            "an empty Host": _get(host=b"Host:\r\n"),
            "a port that is none": _get(host=b"Host: h:99999\r\n"),
        },
    ),
    Attack(TARGETS, "a URL of the same host", _get(first=b"GET http://H:80/x HTTP/1.1"), (200,), ("GET /x ",)),
    Attack(TARGETS, "OPTIONS *", _get(first=b"OPTIONS * HTTP/1.1"), (200,), ("OPTIONS * ",)),
    Attack(TARGETS, "a method nobody knows", _get(first=b"BREW / HTTP/1.1"), (200,), ("BREW / ",)),
]

SIZES = "Size"
sizes = [
    *_refused(SIZES, 414, "target_too_long", {"a request line of 100,000 bytes": b"GET /" + b"a" * 100_000}),
    *_refused(SIZES, 431, "header_too_large", {"a header of 100,000 bytes": _get(b"X: " + b"a" * 100_000)}),
    *_refused(SIZES, 431, "too_many_fields", {f"{MAX_FIELDS + 1:,} fields": _get(*[b"X: y"] * MAX_FIELDS)}),
    Attack(SIZES, f"{MAX_FIELDS:,} fields", _get(*[b"X: y"] * (MAX_FIELDS - 1)), (200,), ("GET / ",)),
    *_refused(SIZES, 400, "unreadable", {"bytes that are no text": bytes(range(1, 9)) * 10}),
]

ATTACKS: list[Attack] = [*framing, *chunks, *lines, *targets, *sizes]
