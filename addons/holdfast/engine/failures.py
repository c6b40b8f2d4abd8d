"""What a connection upstream says went wrong, in the terms of `policy.failure`."""

from __future__ import annotations

from mitmproxy.http import HTTPFlow, Response
from mitmproxy.proxy.layers.http import ResponseProtocolError

from holdfast.engine.upstream_http2 import NOT_PROCESSED
from holdfast.policy import failure
from holdfast.policy.failure import GATEWAY_STATUSES, Failure
from holdfast.policy.grpc import UNAVAILABLE, is_grpc

CLOSED = "server closed connection"
"""What mitmproxy says of an HTTP/1 connection that has ended before a byte of the response."""


def response_failure(event: ResponseProtocolError, headers_seen: bool) -> Failure:
    """`headers_seen`: whether the response had begun when it broke off."""
    return _failure(event.message, headers_seen)


def client_replay_failure(flow: HTTPFlow) -> Failure | None:
    """Of a flow that mitmproxy's own client replay has sent, if it failed."""
    if flow.error is None:
        return None
    if flow.server_conn.timestamp_tcp_setup is None or flow.server_conn.error:
        return failure.connect_failure(flow.error.msg, timed_out=False)
    return _failure(flow.error.msg, flow.response is not None)


def _failure(text: str, headers_seen: bool) -> Failure:
    if text.startswith(NOT_PROCESSED) and not headers_seen:  # whoever has begun to answer has done something
        return failure.NOT_PROCESSED
    if not headers_seen and text.startswith("stream reset"):
        return Failure("connection_terminated", f"the upstream gave the request up: {text}")
    if text == CLOSED or (text == "peer closed connection" and not headers_seen):
        return Failure("connection_terminated", "the upstream closed the connection before it answered")
    if text.startswith("unexpected server response") and "b'HTTP/" in text:
        return Failure("http_response_incomplete", "the upstream closed the connection within the response header")
    if headers_seen and any(word in text for word in ("peer", "closed", "incomplete", "stream reset", NOT_PROCESSED)):
        return Failure("http_response_incomplete", "the upstream broke off the response body")
    return Failure("http_protocol_error", text[:300])


def is_endless(response: Response) -> bool:
    """Whether its body may be a stream of events without an end, each of which is to arrive at once."""
    kind = response.headers.get("content-type", "")
    return kind.startswith("text/event-stream") or is_grpc(kind)


def is_gateway_failure(response: Response, trailers_only: bool) -> bool:
    """Whether it says that a server behind this one, or the call itself, has failed in a way that may pass."""
    if response.status_code in GATEWAY_STATUSES:
        return True
    unavailable = trailers_only and response.headers.get("grpc-status") == str(UNAVAILABLE)
    return unavailable and is_grpc(response.headers.get("content-type", ""))
