"""The gateway's own answers are the responses that mitmproxy itself would make of them."""

from __future__ import annotations

import gzip

import pytest
from mitmproxy.http import Response

from holdfast.answering import as_response
from holdfast.exchange import exchange_of
from holdfast.policy.answer import Answer
from holdfast.testing import make_flow

TEXT = ("Content-Type", "text/plain")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503, (TEXT, ("Retry-After", "5")), b"busy\n"),
        Answer(299, (TEXT,), b"a status without a name"),
        Answer(503, (TEXT, ("Content-Encoding", "gzip")), b"busy\n"),
        Answer(503, (TEXT, ("transfer-encoding", "chunked")), b"busy\n"),
        Answer(503, (TEXT, ("Content-Length", "99")), b"busy\n"),
    ],
    ids=["plain", "no-name", "encoded", "chunked", "wrong-length"],
)
def test_it_is_what_mitmproxy_makes_of_it(answer: Answer) -> None:
    """Status line, fields in their order, body."""
    flow = make_flow()
    exchange_of(flow)["request_id"] = "r-1"
    made = as_response(answer, flow)
    fields = [(name.encode(), value.encode()) for name, value in (*answer.headers, ("X-Request-ID", "r-1"))]
    expected = Response.make(answer.status, answer.body, fields)
    assert made.headers.fields == expected.headers.fields
    assert (made.http_version, made.status_code, made.reason) == ("HTTP/1.1", answer.status, expected.reason)
    assert made.content == expected.content == answer.body
    if "content-encoding" in made.headers:
        assert gzip.decompress(made.raw_content or b"") == answer.body


@pytest.mark.parametrize("headers", [(), (("Content-Length", "0"),)])
def test_an_answer_without_a_body_has_no_length(headers: tuple[tuple[str, str], ...]) -> None:
    """A call's answer ends with its header."""
    made = as_response(Answer(200, headers, b""), make_flow())
    assert "content-length" not in made.headers
    assert made.raw_content == b""
