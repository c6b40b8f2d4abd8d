"""framing: the short answers are those that mitmproxy's own functions give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy.http import Headers, Request, Response
from mitmproxy.net.http.http1 import connection_close, expected_http_body_size

from holdfast.engine.framing import plain_size, size_of, stays_open

NAMES = st.sampled_from([b"Content-Length", b"transfer-encoding", b"Connection", b"x"])
NUMBERS = [b"0", b"5", b"05", b"+5", b"1_0", b"5, 5", b"\xb2", b"", b"9" * 15, b"9" * 16, b"-1"]
WORDS = [b"chunked", b"gzip", b"close", b"keep-alive", b"Keep-Alive", b"a"]
VALUES = st.sampled_from(NUMBERS + WORDS)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=3)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0"])


def outcome(request: Request, response: Response | None) -> object:
    try:
        return expected_http_body_size(request, response)
    except ValueError as error:
        return str(error)


def message(fields: list[tuple[bytes, bytes]], made: Any, version: str) -> Any:
    made.headers, made.http_version = Headers(fields), version
    return made


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "CONNECT"]),
    status=st.sampled_from([101, 200, 204, 304, 500]),
    versions=st.tuples(VERSIONS, VERSIONS),
    asked=FIELDS,
    answered=FIELDS,
)
def test_what_is_said_at_a_glance_is_what_mitmproxy_says(
    method: str,
    status: int,
    versions: tuple[str, str],
    asked: list[tuple[bytes, bytes]],
    answered: list[tuple[bytes, bytes]],
) -> None:
    """RFC 9112, sections 6.3 and 9.3: a connection that is said to stay open does so by mitmproxy's rules too."""
    request, response = Request.make("GET", "http://a/"), Response.make(status)
    request.method, (request.http_version, response.http_version) = method, versions
    request.headers, response.headers = Headers(asked), Headers(answered)
    try:
        told: object = size_of(request)
    except ValueError as error:
        told = str(error)
    assert told == outcome(request, None)
    if stays_open(request, response):
        assert outcome(request, response) != -1
        assert not isinstance(outcome(request, response), str)
        assert not connection_close(request.http_version, request.headers)
        assert not connection_close(response.http_version, response.headers)
        assert status != 101 and method != "CONNECT"


def test_the_usual_exchange_is_known_at_a_glance() -> None:
    """Or nothing would be gained."""
    request = Request.make("GET", "http://a/")
    for fields in ([], [(b"Connection", b"keep-alive")]):
        assert stays_open(request, Response.make(200, b"abc", Headers([*fields])))
    assert not stays_open(request, Response.make(200, b"abc", {"connection": "close"}))


LENGTHS = [(b"Content-Length", b"5"), (b"content-length", b"0")]
USUAL = st.sampled_from([*LENGTHS, (b"Connection", b"Keep-Alive"), (b"x", b"a")])
PLAIN = st.lists(USUAL, max_size=2)


@given(
    method=st.sampled_from(["GET", "HEAD", "head", "POST", "CONNECT", "connect"]),
    status=st.sampled_from([100, 101, 199, 200, 204, 304, 500]),
    versions=st.tuples(VERSIONS, VERSIONS) | st.just(("HTTP/1.1", "HTTP/1.1")),
    asked=FIELDS | PLAIN,
    answered=FIELDS | PLAIN,
)
def test_a_size_that_is_plain_is_mitmproxys(
    method: str,
    status: int,
    versions: tuple[str, str],
    asked: list[tuple[bytes, bytes]],
    answered: list[tuple[bytes, bytes]],
) -> None:
    """RFC 9112, sections 6.3 and 9.3: and then neither side ends the connection."""
    request = message(asked, Request.make("GET", "http://a/"), versions[0])
    request.method = method
    response = message(answered, Response.make(status), versions[1])
    size = plain_size(request, response)
    assert stays_open(request, response) is (size is not None)
    if size is None:
        return
    assert size == outcome(request, response)
    assert not connection_close(request.http_version, request.headers)
    assert not connection_close(response.http_version, response.headers)
    assert status >= 200 and method.upper() != "CONNECT"


@pytest.mark.parametrize(
    ("method", "status", "fields", "size"),
    [
        ("GET", 200, [(b"Content-Length", b"5")], 5),
        ("GET", 200, [(b"content-length", b"0"), (b"Connection", b"keep-alive")], 0),
        ("HEAD", 200, [(b"Content-Length", b"5")], 0),
        ("GET", 304, [(b"Content-Length", b"5")], 0),
        ("GET", 200, [], None),
        ("GET", 200, [(b"Transfer-Encoding", b"chunked")], None),
        ("GET", 200, [(b"Content-Length", b"5"), (b"Content-Length", b"5")], None),
        ("GET", 200, [(b"Content-Length", b"05")], None),
    ],
)
def test_what_is_plain(method: str, status: int, fields: list[tuple[bytes, bytes]], size: int | None) -> None:
    """One length, in the usual form; the rest is looked at more closely."""
    response = message(fields, Response.make(status), "HTTP/1.1")
    assert plain_size(Request.make(method, "http://a/"), response) == size
