"""From a flow that has ended to its spans (`policy.spans`), and what is noted for them while it goes on."""

from __future__ import annotations

from typing import TypedDict, cast

from mitmproxy.http import HTTPFlow
from mitmproxy.net.http import url

from holdfast.exchange import Attempt, Exchange, sent_status
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.spans import (
    Attributes,
    Span,
    Tried,
    attempt_attributes,
    method_attributes,
    plain,
    protocol_version,
    request_error,
    span_name,
    without_empty,
)
from holdfast.policy.trace_context import TraceParent

KEY = "holdfast_trace"  # in `flow.metadata`, so that it goes with the flow


class Noted(TypedDict):
    """What is known of a request's trace while it goes on: plain values, as everything in a flow's metadata."""

    trace_id: str
    span_id: str
    parent_id: str | None
    flags: int
    state: str
    clock_offset: float  # from the leg's clock to seconds since the epoch
    attempts: list[str]  # span ids, the one that is next or under way included
    begun: list[float]  # when each began, by the leg's clock


def noted_of(flow: HTTPFlow) -> Noted | None:
    """None before `requestheaders`."""
    return cast("Noted | None", flow.metadata.get(KEY))


def name_request_span(flow: HTTPFlow) -> None:
    """What becomes of the request later, such as a replay, continues its own span and not that of an attempt."""
    noted = noted_of(flow)
    if noted and noted["flags"] & 1:
        flow.request.headers["traceparent"] = str(TraceParent(noted["trace_id"], noted["span_id"], noted["flags"]))


def spans_of(flow: HTTPFlow, exchange: Exchange, noted: Noted, now: float, seconds: float) -> list[Span]:
    """The attempts' spans and then the request's, which took `seconds` until `now`, by the leg's clock."""
    end = now + noted["clock_offset"]
    request = request_span(flow, exchange, noted, end - seconds, end)
    made = list(exchange.get("attempts", ()))
    if len(made) < len(noted["attempts"]) and is_abandoned(flow, exchange):
        made.append(abandoned_attempt(flow, exchange, now - noted["begun"][-1]))
    known = zip(made, noted["attempts"], noted["begun"], strict=False)
    spans = [
        attempt_span(flow, request, number, attempt, span_id, begun + noted["clock_offset"])
        for number, (attempt, span_id, begun) in enumerate(known, 1)
    ]
    return [*spans, request]


def request_span(flow: HTTPFlow, exchange: Exchange, noted: Noted, start: float, end: float) -> Span:
    """The SERVER span."""
    status = sent_status(flow)
    error = request_error(exchange["fate"], exchange["reason"], status)
    return Span(
        name=span_name(flow.request.method, exchange.get("route")),
        kind="server",
        trace_id=noted["trace_id"],
        span_id=noted["span_id"],
        parent_id=noted["parent_id"],
        remote_parent=noted["parent_id"] is not None,
        state=noted["state"],
        start=start,
        end=end,
        attributes={
            **wire_attributes(flow, exchange),
            **fate_attributes(exchange),
            **without_empty({"http.response.status_code": status, "error.type": error}),
        },
        error=None if error is None else plain(exchange.get("detail", "")),
    )


def wire_attributes(flow: HTTPFlow, exchange: Exchange) -> Attributes:
    """What the client has asked, and who it is."""
    request = flow.request
    host, port = url.parse_authority(exchange.get("original_host") or "", check=False)
    return without_empty(
        {
            **method_attributes(request.method),
            "http.route": exchange.get("route"),
            "url.scheme": "https" if flow.client_conn.tls else "http",
            "url.path": path_of(flow),
            "network.protocol.version": protocol_version(request.http_version),
            "client.address": flow.client_conn.peername[0],
            "user_agent.original": plain(request.headers.get("user-agent", "")),
            "server.address": plain(host),
            "server.port": port,
        }
    )


def fate_attributes(exchange: Exchange) -> Attributes:
    """What the access log says too, under the same names."""
    return without_empty(
        {
            "holdfast.fate": exchange["fate"],
            "holdfast.reason": plain(exchange["reason"]),
            "holdfast.not_retried": exchange.get("not_retried"),
            "holdfast.capture_id": exchange.get("capture_id"),
            "holdfast.capture_failed": exchange.get("capture_failed"),
            "holdfast.request_id": exchange.get("request_id"),
            "holdfast.attempts": len(exchange.get("attempts", ())),
        }
    )


def attempt_span(flow: HTTPFlow, request: Span, number: int, attempt: Attempt, span_id: str, start: float) -> Span:
    """The CLIENT span of one attempt."""
    tried = Tried(number, attempt["server"], attempt["error"], attempt["status"])
    attributes = attempt_attributes(tried, flow.request.method, path_of(flow))
    return Span(
        name=span_name(flow.request.method, None),
        kind="client",
        trace_id=request.trace_id,
        span_id=span_id,
        parent_id=request.span_id,
        state=request.state,
        start=start,
        end=start + attempt["duration_ms"] / 1000,
        attributes=attributes,
        error="" if "error.type" in attributes else None,
    )


def is_abandoned(flow: HTTPFlow, exchange: Exchange) -> bool:
    """Whether the client's end of it ended an attempt that was under way, of which the exchange has no account."""
    cut_short = flow.error is not None or "rejected" in exchange
    return cut_short and "not_retried" not in exchange and flow.server_conn.timestamp_tcp_setup is not None


def abandoned_attempt(flow: HTTPFlow, exchange: Exchange, seconds: float) -> Attempt:
    """The upstream may have spans below it, so it gets one too."""
    server = Endpoint(flow.request.scheme, flow.request.host, flow.request.port)
    return Attempt(server=str(server), error=exchange["reason"], status=None, duration_ms=seconds * 1000)


def path_of(flow: HTTPFlow) -> str:
    """Without its query, which may hold secrets."""
    return plain(flow.request.path.partition("?")[0])
