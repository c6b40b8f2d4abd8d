"""The gateway's own answers as mitmproxy responses."""

from __future__ import annotations

from mitmproxy.http import HTTPFlow, Response

from holdfast.exchange import exchange_of
from holdfast.policy.answer import Answer


def as_response(answer: Answer, flow: HTTPFlow) -> Response:
    """A response for this flow. Every answer carries the request's id, whichever part of the gateway made it."""
    fields = [(name.encode(), value.encode()) for name, value in answer.headers]
    request_id = exchange_of(flow).get("request_id")
    if request_id:
        fields.append((b"X-Request-ID", request_id.encode()))
    return Response.make(answer.status, answer.body, fields)
