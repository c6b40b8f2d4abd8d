"""The gateway's own answers as mitmproxy responses, in the words of whoever asked."""

from __future__ import annotations

from mitmproxy.http import HTTPFlow, Response

from holdfast.exchange import exchange_of
from holdfast.policy.answer import Answer
from holdfast.policy.grpc import grpc_answer, is_grpc


def as_response(answer: Answer, flow: HTTPFlow) -> Response:
    """A response for this flow. Every answer carries the request's id, whichever part of the gateway made it."""
    if is_grpc(flow.request.headers.get("content-type", "")):
        answer = grpc_answer(answer)
    fields = [(name.encode(), value.encode()) for name, value in answer.headers]
    request_id = exchange_of(flow).get("request_id")
    if request_id:
        fields.append((b"X-Request-ID", request_id.encode()))
    response = Response.make(answer.status, answer.body, fields)
    if not answer.body:
        response.headers.pop("content-length", None)  # a call's answer ends with its header
    return response
