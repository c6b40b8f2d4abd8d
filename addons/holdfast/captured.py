"""From a flow that failed to the record of it (`policy.envelope`), secrets and all."""

from __future__ import annotations

from mitmproxy.http import HTTPFlow, Message

from holdfast.exchange import exchange_of, route_of
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.envelope import AttemptRecord, CapturedRequest, UpstreamAnswer, encode_body, header_map, wire_text
from holdfast.policy.failure import Failure


def captured_request(
    flow: HTTPFlow, failure: Failure, capture_id: str, now: float, answer_body: int, spooled: bytes | None = None
) -> CapturedRequest:
    """`now` is the leg's monotonic clock in seconds, `answer_body` how much of the upstream's is kept.

    `spooled` is the body where the flow does not hold it.
    """
    request, exchange = flow.request, exchange_of(flow)
    attempts = tuple(AttemptRecord(**attempt) for attempt in exchange.get("attempts", ()))
    body, encoding = _body(request) if spooled is None else encode_body(spooled, _content_type(request))
    # mitmproxy decodes the target and cannot give its bytes back; a replay must send the same ones.
    uri = wire_text(request.data.path)
    path, _, query = uri.partition("?")
    return CapturedRequest(
        id=capture_id,
        timestamp=request.timestamp_start,
        method=request.method,
        uri=uri,
        path=path,
        query_string=query,
        headers=header_map(request.headers.fields),
        body=body,
        body_encoding=encoding,
        remote_addr=flow.client_conn.peername[0],
        # The engine aims the request at each attempt's server; with every circuit open it is the first of the profile.
        backend_url=str(Endpoint(request.scheme, request.host, request.port)),
        error=failure.error,
        error_reason=failure.detail,
        request_id=exchange.get("request_id", ""),
        route=route_of(flow),
        attempts=attempts,
        duration_ms=round((now - exchange.get("started", now)) * 1000, 3),
        response=_upstream_answer(flow, answer_body),
        idempotency_key=request.headers.get("idempotency-key"),
    )


def _upstream_answer(flow: HTTPFlow, limit: int) -> UpstreamAnswer | None:
    if flow.response is None:
        return None
    body, encoding = _body(flow.response, limit)
    truncated = len(flow.response.raw_content or b"") > limit
    headers = header_map(flow.response.headers.fields)
    return UpstreamAnswer(
        status=flow.response.status_code, headers=headers, body=body, body_encoding=encoding, body_truncated=truncated
    )


def _body(message: Message, limit: int | None = None) -> tuple[str, str]:
    return encode_body((message.raw_content or b"")[:limit], _content_type(message))


def _content_type(message: Message) -> str:
    return str(message.headers.get("content-type", ""))
