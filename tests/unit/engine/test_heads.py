"""heads: a message read in one step is the one that mitmproxy's parser makes of the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Message
from mitmproxy.net.http.http1 import read_request_head, read_response_head

from holdfast.engine.heads import request_of, response_of
from holdfast.engine.request_head import HeadBuffer, lines_of
from holdfast.policy.request_faults import http1_fault
from holdfast.policy.response_faults import mended, response_fault

METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS", b"get", b"X-~"]
TARGETS = [
    b"/",
    b"/a?b=c",
    b"//h/a",
    b"/\xe9",
    b"*",
    b"http://h/",
    b"http://h:80",
    b"HTTPS://h:444/a?b",
    b"http://h:0/",
]
REQUEST_FIELDS = [
    *(b"X: y", b"X:", b"x:\t y z\t ", b"X-A: a:b", b"Cookie: \xe9", b"Content-Length: 5", b"Content-Length: 0"),
    *(b"Transfer-Encoding: chunked", b"Connection: close", b" X: y", b"X : y", b"X", b": y"),
]
STATUS_LINES = [
    *(b"HTTP/1.1 200 OK", b"HTTP/1.0 404 Not  Found ", b"HTTP/1.1 204", b"HTTP/1.1 204 ", b"HTTP/1.1 500  \t x"),
    *(b"HTTP/1.1 999 \xe9", b"HTTP/1.1 100 Continue", b"HTTP/1.1 20", b"HTTP/2 200 OK", b"HTTP/1.1  200 OK"),
]
RESPONSE_FIELDS = [
    *(b"X: y", b"X:", b"x:\t y z\t ", b"X-A: a:b", b"Set-Cookie: \xe9", b"Content-Length: 5", b"X : y", b"X\t: y"),
    *(b" folded", b"\tfolded: x", b" ", b": y", b" : y", b"X \x1f: y", b"\x0bX: \x1cy\x85", b"X\xa0: y\xa0", b"X"),
]


def made(read: Callable[[], Message]) -> object:
    """All that the message has, but for when; or that there is none."""
    try:
        message = read()
    except ValueError:
        return ValueError
    data: Any = message.data
    assert data.timestamp_start > 1e9
    assert type(message.headers.fields) is tuple
    return type(message), asdict(data) | {"timestamp_start": None}


@given(
    method=st.sampled_from(METHODS),
    target=st.sampled_from(TARGETS),
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]),
    host=st.sampled_from([b"Host: h\r\n", b"host:h\r\n", b"Host: h:444 \r\n", b""]),
    fields=st.lists(st.sampled_from(REQUEST_FIELDS), max_size=4),
)
def test_a_request_without_a_fault_is_the_one_that_mitmproxy_reads(
    method: bytes, target: bytes, version: bytes, host: bytes, fields: list[bytes]
) -> None:
    """RFC 9112, sections 3 and 5: in all that it has. Where mitmproxy reads none, there is none."""
    buffer = HeadBuffer()
    buffer += method + b" " + target + b" " + version + b"\r\n" + host + b"".join(f + b"\r\n" for f in fields) + b"\r\n"
    head = buffer.maybe_extract_head()
    assert head
    if http1_fault(head) is None:
        assert made(lambda: request_of(head)) == made(lambda: read_request_head(lines_of(head)))


@given(st.sampled_from(STATUS_LINES), st.lists(st.sampled_from(RESPONSE_FIELDS), max_size=4))
def test_a_response_without_a_fault_is_the_one_that_mitmproxy_reads(status_line: bytes, fields: list[bytes]) -> None:
    """RFC 9112, sections 4 and 5: also where something had to be mended first."""
    lines = [status_line, *fields]
    if response_fault(lines) is None:
        assert made(lambda: response_of(lines)) == made(lambda: read_response_head(mended(lines)))


@given(
    st.from_regex(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?", fullmatch=True),
    st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=4)), max_size=3),
)
def test_any_bytes_of_a_response_are_read_alike(status_line: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever `response_fault` lets pass."""
    lines = [status_line, *(name + b":" + value for name, value in fields)]
    if response_fault(lines) is None:
        assert made(lambda: response_of(lines)) == made(lambda: read_response_head(mended(lines)))
