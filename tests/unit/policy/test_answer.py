"""policy.answer: what a client reads when the gateway answers itself."""

import json

from holdfast.policy.answer import (
    Answer,
    addon_failed_answer,
    captured_answer,
    not_captured_answer,
    proxy_status,
    upstream_failed_answer,
)
from holdfast.policy.failure import Failure, answered_with

REFUSED = Failure("connection_refused", "the upstream refused the connection")


def document(answer: Answer) -> dict[str, object]:
    """Header fields and body as one dictionary, once the body is known to be a problem document."""
    fields = dict(answer.headers)
    assert fields["Content-Type"] == "application/problem+json"
    body = json.loads(answer.body)
    assert {"type", "title", "status", "detail"} <= body.keys()
    assert body["status"] == answer.status
    return fields | body


def test_a_captured_request_is_answered_with_its_id_in_header_and_body() -> None:
    """CONTRACT: 503, problem document with capture_id, Holdfast-Capture-Id, Retry-After, Proxy-Status."""
    seen = document(captured_answer(REFUSED, 503, "0199-id", 5, "attempts"))
    assert seen["capture_id"] == seen["Holdfast-Capture-Id"] == "0199-id"
    assert seen["Retry-After"] == "5"
    assert str(seen["Proxy-Status"]).startswith("holdfast; error=connection_refused")


def test_an_accepted_request_says_where_to_ask_for_it() -> None:
    """202 carries Location (RFC 9110, section 15.3.3)."""
    answer = captured_answer(REFUSED, 202, "0199-id", 5, "")
    assert answer.status == 202
    assert dict(answer.headers)["Location"] == "/.holdfast/captures/0199-id"


def test_a_request_that_could_not_be_stored_gets_no_id_and_the_reason() -> None:
    """Never a claim that is not true."""
    seen = document(not_captured_answer(REFUSED, 503, "disk_full", 5, "method"))
    assert seen["Holdfast-Capture"] == "failed; reason=disk_full"
    assert "capture_id" not in seen and "Holdfast-Capture-Id" not in seen


def test_the_upstreams_own_status_is_told_from_an_error_of_the_gateway() -> None:
    """RFC 9209: received-status against error."""
    assert proxy_status("http_502", 502).startswith("holdfast; received-status=502")
    assert "error=" not in proxy_status("http_502", 502)


def test_a_detail_from_outside_cannot_break_the_header_field() -> None:
    """RFC 9651 strings are printable ASCII; quotes and backslashes are escaped."""
    value = proxy_status("http_protocol_error", None, 'a"b\\c\r\nX-Evil: 1 \u2603')
    assert "\r" not in value and "\n" not in value and value.isascii()
    assert r'details="a\"b\\c??X-Evil: 1 ?"' in value


def test_without_an_interceptor_a_timeout_is_504_and_all_else_502() -> None:
    """RFC 9110, sections 15.6.3 and 15.6.5."""
    assert upstream_failed_answer(REFUSED, "").status == 502
    assert upstream_failed_answer(Failure("http_response_timeout", ""), "").status == 504
    assert upstream_failed_answer(answered_with(504), "").status == 504


def test_a_failed_addon_is_named() -> None:
    """`on_error: closed`."""
    assert "'banner'" in str(document(addon_failed_answer("banner"))["detail"])
