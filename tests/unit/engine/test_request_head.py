"""A header found in what has arrived, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.net.http.http1 import read_request_head
from mitmproxy.net.http.validate import validate_headers

from holdfast.engine.request_head import HeadBuffer, lines_of
from holdfast.policy.request_faults import http1_fault

HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def test_a_header_is_given_out_as_it_came() -> None:
    """Whole, with its line ends, and what follows stays."""
    buffer = HeadBuffer()
    for byte in b"\r\n\r\n" + HEAD:
        assert buffer.maybe_extract_head() is None
        buffer += bytes([byte])
    buffer += b"body"
    assert buffer.maybe_extract_head() == HEAD
    assert bytes(buffer) == b"body"
    assert lines_of(HEAD) == [b"GET / HTTP/1.1", b"Host: h"]


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\nHost: h\n\n", b"\nGET / HTTP/1.1\r\n\r\n", b"GET\r\n\n"])
def test_other_line_ends_end_it_too_and_are_there_to_be_seen(head: bytes) -> None:
    """So that it can be refused rather than waited for."""
    buffer = HeadBuffer()
    buffer += head
    assert buffer.maybe_extract_head() == head


@pytest.mark.parametrize(
    ("data", "odd"), [(b"", False), (b"\r", False), (b"G", False), (b"\x16\x03", True), (b" G", True)]
)
def test_what_begins_like_no_request_is_not_waited_for(data: bytes, odd: bool) -> None:
    """TLS where none is spoken, for example."""
    buffer = HeadBuffer()
    buffer += data
    assert buffer.begins_oddly is odd


PIECES = [
    *(b"GET / HTTP/1.1", b"POST http://h/ HTTP/1.0", b"OPTIONS * HTTP/1.1", b"Host: h", b"host:h:80", b"X: y", b"X:"),
    *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":"),
    *(b"\x00", b"\x0b", b"\xe9", b"a"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.booleans())
def test_what_has_no_fault_is_read_the_same_by_mitmproxy(pieces: list[bytes], usual: bool) -> None:
    """The rules look at bytes, mitmproxy parses them; nothing that passes may then be something else, or fail."""
    buffer = HeadBuffer()
    buffer += (b"GET / HTTP/1.1\r\nHost: h\r\n" if usual else b"") + b"".join(pieces) + b"\r\n\r\n"
    head = buffer.maybe_extract_head()
    if head is None or http1_fault(head):
        return
    lines = lines_of(head)
    request = read_request_head(lines)
    validate_headers(request)
    assert len(request.headers.fields) == len(lines) - 1
    for line, (name, value) in zip(lines[1:], request.headers.fields, strict=True):
        assert (name, value) == (line.partition(b":")[0], line.partition(b":")[2].strip(b" \t"))
