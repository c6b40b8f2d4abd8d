"""The rules for a request's header, each with what breaks it and what does not."""

import json

import pytest

from holdfast.policy.request_faults import (
    MAX_FIELDS,
    UNREADABLE,
    Fault,
    fault_answer,
    http1_fault,
    http2_fault,
    trailer_fault,
)


def token(fault: Fault | None) -> str | None:
    return fault.token if fault else None


def head(*lines: str, first: str = "GET / HTTP/1.1", host: str | None = "Host: h.test:80") -> bytes:
    every = [first, *([host] if host is not None else []), *lines, "", ""]
    return "\r\n".join(every).encode("latin-1")


IN_ORDER = [
    head(),
    head(first="GET /a?b=c&d=%2F;e HTTP/1.1"),
    head(first="GET //a/../b HTTP/1.1"),
    head(first="GET / HTTP/1.0", host=None),
    head(first="OPTIONS * HTTP/1.1"),
    head(first="GET http://H.TEST/ HTTP/1.1"),
    head(first="GET HTTP://h.test:80 HTTP/1.1"),
    head(first="get / HTTP/1.1"),
    head(host="Host: [::1]:8080"),
    head(host="hOST:\t127.0.0.1 \t"),
    head(host="Host: xn--bcher-kva.test"),
    head(host="Host: a_b.test:"),
    head("Content-Length: 0"),
    head("Content-Length:  123456789012345678 "),
    head("Transfer-Encoding: CHUNKED"),
    head("X-Empty:", "X-Latin: caf\xe9", "X-Tab: a\tb", "!#$%&'*+-.^_`|~: token"),
    head(*["X: y"] * (MAX_FIELDS - 1)),
]


@pytest.mark.parametrize("given", IN_ORDER, ids=lambda given: str(given[:60]))
def test_what_has_one_reading_passes(given: bytes) -> None:
    """Odd, but in order."""
    assert http1_fault(given) is None


OUT_OF_ORDER = [
    (b"GET / HTTP/1.1\nHost: h\r\n\r\n", "bare_line_end"),  # RFC 9112, 2.2
    (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", "bare_line_end"),
    (head(first="GET /  HTTP/1.1"), "request_line"),  # RFC 9112, 3
    (head(first="GET /"), "request_line"),
    (head(first=""), "request_line"),
    (head(first="G[]T / HTTP/1.1"), "request_line"),
    (head(first="GET / HTTP/11"), "request_line"),
    (head(first="GET / HTTP/3.0"), "http_version"),
    (head(" folded"), "obs_fold"),  # RFC 9112, 5.2
    (head("\tfolded"), "obs_fold"),
    (head("no colon"), "field_line"),  # RFC 9112, 5
    (head("X : y"), "field_name"),  # RFC 9112, 5.1
    (head(": y"), "field_name"),
    (head("X\x00: y"), "field_name"),
    (head("X: \x00"), "field_value"),  # RFC 9110, 5.5
    (head("X: \x7f"), "field_value"),
    (head("X: \x0b"), "field_value"),
    (head(*["X: y"] * MAX_FIELDS), "too_many_fields"),
    (head(first="CONNECT h:443 HTTP/1.1"), "connect"),  # RFC 9110, 9.3.6
    (head(first="Connect h:443 HTTP/1.1"), "method_case"),
    (head(first="Head / HTTP/1.1"), "method_case"),
    (head("Content-Length: 1", "Content-Length: 1"), "length_twice"),  # RFC 9112, 6.3
    (head("Content-Length: 1, 1"), "content_length"),
    (head("Content-Length: \xb2"), "content_length"),
    (head("Content-Length: 1_0"), "content_length"),
    (head("Content-Length: 1234567890123456789"), "content_length"),
    (head("content-length: 1", "TRANSFER-ENCODING: chunked"), "length_and_coding"),  # RFC 9112, 6.1
    (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "coding_twice"),
    (head("Transfer-Encoding: chunked", first="GET / HTTP/1.0"), "coding_in_http_1_0"),
    (head("Transfer-Encoding: chunked;q=1"), "transfer_encoding"),
    (head("Transfer-Encoding: chunked,"), "transfer_encoding"),
    (head("Transfer-Encoding: br, chunked"), "transfer_coding"),
    (head(host=None), "no_host"),  # RFC 9112, 3.2
    (head("Host: h.test:80"), "host_twice"),
    (head("Host: b", first="GET / HTTP/1.0"), "host_twice"),
    (head(host="Host: h:65536"), "host"),  # RFC 9110, 7.2
    (head(host="Host: http://h"), "host"),
    (head(host="Host: [::1"), "host"),
    (head(host="Host: h?x"), "host"),
    (head(first="GET h.test HTTP/1.1"), "target"),  # RFC 9112, 3.2
    (head(first="GET https:// HTTP/1.1"), "target"),
    (head(first="GET http://h.test:x/ HTTP/1.1"), "target"),
    (head(first="GET http://h.test:81/ HTTP/1.1"), "target_and_host"),
    (head(first="GET https://h.test/ HTTP/1.1"), "target_and_host"),
]


@pytest.mark.parametrize(("given", "expected"), OUT_OF_ORDER, ids=lambda part: str(part[:60]))
def test_what_has_two_readings_is_a_fault(given: bytes, expected: str) -> None:
    """Each rule by the section beside it."""
    assert token(http1_fault(given)) == expected


REQUEST = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h.test"), (b":path", b"/")]
FIELDS: list[tuple[list[tuple[bytes, bytes]], bool, str | None]] = [
    (REQUEST, True, None),
    ([*REQUEST, (b"te", b"Trailers"), (b"cookie", b"a"), (b"cookie", b"b"), (b"x", b"")], False, None),
    ([*REQUEST, (b"host", b"H.test:443")], True, None),
    ([*REQUEST, (b"content-length", b"0")], True, None),
    ([*REQUEST[:2], (b"host", b"h"), REQUEST[3]], True, "pseudo_field"),
    ([*REQUEST[:2], REQUEST[3], (b"host", b"h")], True, None),
    ([*REQUEST[:3], (b":path", b"*")], True, "target"),
    ([(b":method", b"OPTIONS"), *REQUEST[1:3], (b":path", b"*")], True, None),
    ([*REQUEST, (b"content-length", b"1")], True, "content_length"),
    ([*REQUEST, (b"keep-alive", b"1")], True, "connection_field"),
    ([*REQUEST, (b"te", b"trailers, gzip")], True, "connection_field"),
    ([*REQUEST, (b"x", b"a ")], True, "field_value"),
    ([*REQUEST, (b"host", b"h.test:80")], True, "target_and_host"),
    ([*REQUEST[:2], (b":authority", b""), REQUEST[3]], True, "host"),
    ([], True, "pseudo_field"),
]


@pytest.mark.parametrize(("given", "ends", "expected"), FIELDS)
def test_the_fields_of_http2(given: list[tuple[bytes, bytes]], ends: bool, expected: str | None) -> None:
    """RFC 9113, sections 8.2 and 8.3."""
    assert token(http2_fault(given, ends)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(b"grpc-status", b"0"), (b"x-sum", b"a")], None),
        ([(b":path", b"/")], "field_name"),
        ([(b"content-length", b"1")], "trailer"),
        ([(b"transfer-encoding", b"chunked")], "connection_field"),
        ([(b"x", b"")] * (MAX_FIELDS + 1), "too_many_fields"),
    ],
)
def test_the_fields_after_a_body(given: list[tuple[bytes, bytes]], expected: str | None) -> None:
    """RFC 9110, section 6.5.1."""
    assert token(trailer_fault(given)) == expected


def test_the_answer_names_the_fault_and_ends_the_connection() -> None:
    """RFC 9457 and RFC 9209; a 405 says what there is instead (RFC 9110, section 15.5.6)."""
    answer = fault_answer(UNREADABLE)
    fields = dict(answer.headers)
    assert (answer.status, fields["Connection"]) == (400, "close")
    assert fields["Proxy-Status"] == 'holdfast; error=http_request_error; details="unreadable"'
    assert json.loads(answer.body)["fault"] == "unreadable"
    assert "GET" in dict(fault_answer(Fault("connect", "no", 405)).headers)["Allow"]
