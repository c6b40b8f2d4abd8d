"""engine.failures: what mitmproxy's HTTP/1 client says, as a failure."""

import pytest
from mitmproxy.proxy.layers.http import ResponseProtocolError
from mitmproxy.proxy.layers.http._events import ErrorCode

from holdfast.engine.failures import response_failure


@pytest.mark.parametrize(
    ("message", "headers_seen", "token"),
    [
        ("server closed connection", False, "connection_terminated"),
        ("unexpected server response: b'HTTP/1.1 200 OK\\r\\nContent-'", False, "http_response_incomplete"),
        ("unexpected server response: b'\\x16\\x03'", False, "http_protocol_error"),
        ("Cannot parse HTTP response: Invalid", False, "http_protocol_error"),
        (
            "HTTP/1 protocol error: peer closed connection without sending complete message body (received 3 bytes)",
            True,
            "http_response_incomplete",
        ),
        ("stream reset by server (CANCEL)", False, "connection_terminated"),
        ("stream reset by server (CANCEL)", True, "http_response_incomplete"),
        ("HTTP/2 stream not processed: REFUSED_STREAM", False, "destination_unavailable"),
        ("HTTP/2 stream not processed: REFUSED_STREAM", True, "http_response_incomplete"),
        ("HTTP/1 protocol error: illegal chunk header: bytearray(b'zz')", True, "http_protocol_error"),
    ],
)
def test_each_message_has_its_token(message: str, headers_seen: bool, token: str) -> None:
    """The texts are those of mitmproxy 12.2 and h11 0.16."""
    event = ResponseProtocolError(1, message, ErrorCode.GENERIC_SERVER_ERROR)
    assert response_failure(event, headers_seen).error == token
