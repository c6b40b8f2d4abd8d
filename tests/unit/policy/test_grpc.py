"""policy.grpc: message boundaries, and a failure as gRPC clients understand it."""

from __future__ import annotations

import base64

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.answer import Answer, captured_answer, problem, too_large_answer, upstream_failed_answer
from holdfast.policy.failure import Failure
from holdfast.policy.grpc import Messages, grpc_answer, grpc_status, is_grpc
from holdfast.testing import grpc_frame

DOWN = Failure("connection_refused", "the upstream refused the connection")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("Application/gRPC; charset=x", True),
        ("application/grpc-web", False),
        ("application/grpc-web+proto", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_grpc_is_known_by_its_content_type(content_type: str, expected: bool) -> None:
    """gRPC over HTTP2: "Content-Type"."""
    assert is_grpc(content_type) is expected


@given(st.lists(st.binary(max_size=300), max_size=6), st.binary(max_size=4), st.data())
def test_messages_are_counted_however_the_bytes_are_cut(
    messages: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    """Length-prefixed messages: a flag byte, four bytes of length, the message."""
    whole = b"".join(map(grpc_frame, messages)) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    seen = Messages()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        seen.feed(whole[start:end])
    assert (seen.complete, seen.between) == (len(messages), not rest)


def fields(answer: Answer) -> dict[str, str]:
    """Its header fields; none may be there twice."""
    assert len(dict(answer.headers)) == len(answer.headers)
    return dict(answer.headers)


def status_of(answer: Answer) -> status_pb2.Status:
    """The rich status, by the library that clients use."""
    encoded = fields(answer)["grpc-status-details-bin"]
    return status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))


@pytest.mark.parametrize("status", [503, 202])
def test_a_captured_call_is_unavailable_and_says_under_which_id_it_is_kept(status: int) -> None:
    """Trailers-Only; the details are google.rpc.ErrorInfo and RetryInfo."""
    answer = grpc_answer(captured_answer(DOWN, status, "01-id", 7, "attempts"))
    sent = fields(answer)
    assert (answer.status, answer.body) == (200, b"")
    assert (sent["content-type"], sent["grpc-status"]) == ("application/grpc", "14")
    assert sent["holdfast-capture-id"] == "01-id"
    assert "connection_refused" in sent["proxy-status"]
    rich = status_of(answer)
    assert (rich.code, rich.message) == (14, sent["grpc-message"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert rich.details[0].Unpack(info)
    assert rich.details[1].Unpack(retry)
    assert (info.reason, info.domain, dict(info.metadata)) == ("CAPTURED", "holdfast", {"capture_id": "01-id"})
    assert retry.retry_delay.seconds == 7


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (upstream_failed_answer(DOWN, ""), 14),
        (too_large_answer(10), 8),
        (problem(500, "addon-failed", "t", "d"), 2),
        (problem(400, "bad-request", "t", "d"), 13),
        (problem(404, "x", "t", "d"), 12),
    ],
)
def test_each_status_has_its_code(answer: Answer, code: int) -> None:
    """The table "HTTP to gRPC Status Code Mapping"; 413 is RESOURCE_EXHAUSTED."""
    assert fields(grpc_answer(answer))["grpc-status"] == str(code)
    assert status_of(grpc_answer(answer)).code == code


def test_a_message_that_is_not_ascii_is_percent_encoded() -> None:
    """ "Percent-Encoded" in the protocol description: everything but printable ASCII without `%`."""
    assert dict(grpc_status(14, "50% é\n"))["grpc-message"] == "50%25 %C3%A9%0A"
