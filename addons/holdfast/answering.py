"""The gateway's own answers as mitmproxy responses, in the words of whoever asked."""

from __future__ import annotations

import time

from mitmproxy.http import Headers, HTTPFlow, Response
from mitmproxy.net.http.status_codes import RESPONSES

from holdfast.exchange import exchange_of
from holdfast.policy.answer import Answer
from holdfast.policy.grpc import grpc_answer, is_grpc

_ABOUT_THE_BODY = (b"content-encoding", b"content-length", b"transfer-encoding")


def as_response(answer: Answer, flow: HTTPFlow) -> Response:
    """A response for this flow. Every answer carries the request's id, whichever part of the gateway made it."""
    if is_grpc(flow.request.headers.get("content-type", "")):
        answer = grpc_answer(answer)
    fields = [(name.encode(), value.encode()) for name, value in answer.headers]
    request_id = exchange_of(flow).get("request_id")
    if request_id:
        fields.append((b"X-Request-ID", request_id.encode()))
    if any(name.lower() in _ABOUT_THE_BODY for name, _ in fields):
        response = Response.make(answer.status, answer.body, fields)
        if not answer.body:
            response.headers.pop("content-length", None)
        return response
    if answer.body:  # a call's answer ends with its header
        fields.append((b"content-length", b"%d" % len(answer.body)))
    # What `make` would do; it takes several times as long.
    reason, now = RESPONSES.get(answer.status, "").encode(), time.time()
    return Response(b"HTTP/1.1", answer.status, reason, Headers(fields), answer.body, None, now, now)
