"""What mitmproxy's HTTP/1 client says went wrong, in the terms of `policy.failure`."""

from __future__ import annotations

from mitmproxy.proxy.layers.http import ResponseProtocolError

from holdfast.policy.failure import Failure


def response_failure(event: ResponseProtocolError, headers_seen: bool) -> Failure:
    """`headers_seen`: whether the response had begun when it broke off."""
    text = event.message
    if text == "server closed connection":
        return Failure("connection_terminated", "the upstream closed the connection before it answered")
    if text.startswith("unexpected server response") and "b'HTTP/" in text:
        return Failure("http_response_incomplete", "the upstream closed the connection within the response header")
    if headers_seen and ("peer" in text or "closed" in text or "incomplete" in text):
        return Failure("http_response_incomplete", "the upstream broke off the response body")
    return Failure("http_protocol_error", text[:300])
