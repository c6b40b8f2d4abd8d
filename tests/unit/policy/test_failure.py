"""policy.failure: each way of failing has one token, one class, and one answer to "may it have arrived?"."""

import pytest

from holdfast.policy.failure import Failure, answered_with, connect_failure


@pytest.mark.parametrize(
    ("message", "token"),
    [
        ("[Errno 111] Connect call failed ('127.0.0.1', 3000)", "connection_refused"),
        ("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111]", "connection_refused"),
        ("[Errno -2] Name or service not known", "dns_error"),
        ("[Errno -3] Temporary failure in name resolution", "dns_error"),
        ("[Errno 113] No route to host", "destination_ip_unroutable"),
        ("[Errno 101] Network is unreachable", "destination_ip_unroutable"),
        ("Certificate verify failed: self-signed certificate", "tls_certificate_error"),
        ("The remote server does not speak TLS.", "tls_protocol_error"),
        ("connection closed", "tls_protocol_error"),
        ("Connection killed: Request destination unknown. Unable to figure out", "proxy_loop_detected"),
        ("something new", "destination_unavailable"),
    ],
)
def test_a_connection_error_is_named_by_its_rfc_9209_token(message: str, token: str) -> None:
    """RFC 9209, section 2.3."""
    failure = connect_failure(message, timed_out=False)
    assert failure.error == token
    assert failure.reached is False


def test_the_text_for_the_client_does_not_tell_the_upstreams_address() -> None:
    """What the operating system says names hosts and ports of the inside."""
    assert "10.0.0.7" not in connect_failure("[Errno 111] Connect call failed ('10.0.0.7', 3000)", False).detail


def test_a_connect_timeout_is_one_whatever_the_error_text_says() -> None:
    """The text then only says that the attempt was cancelled."""
    assert connect_failure("connection cancelled", timed_out=True).error == "connection_timeout"


@pytest.mark.parametrize(
    ("failure", "kind", "reached", "timed_out"),
    [
        (Failure("connection_refused", ""), "connect", False, False),
        (Failure("connection_timeout", ""), "connect", False, True),
        (Failure("connection_terminated", ""), "reset", True, False),
        (Failure("http_response_incomplete", ""), "reset", True, False),
        (Failure("http_protocol_error", ""), "reset", True, False),
        (Failure("http_response_timeout", ""), "timeout", True, True),
        (Failure("connection_read_timeout", ""), "timeout", True, True),
        (answered_with(502), "502", True, False),
        (answered_with(504), "504", True, True),
    ],
)
def test_each_failure_has_its_class(failure: Failure, kind: str, reached: bool, timed_out: bool) -> None:
    """The classes are the words of `retry.on` and `interceptor.on`."""
    assert (failure.kind, failure.reached, failure.timed_out) == (kind, reached, timed_out)
