"""One replay through the gateway's own upstream leg, with the servers, failover, circuits and protocols of the profile.

Nothing in a record decides where it goes. The request passes the whole chain, so that traces and mitmweb show it, and
an addon that signs requests signs it; what is in its exchange keeps it from being captured again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy.http import Headers, HTTPFlow, Request, Response

from holdfast.audit import AttemptLog
from holdfast.engine.background import current_mode, send_in_background
from holdfast.exchange import Exchange, exchange_of
from holdfast.gateway import Gateway
from holdfast.policy.envelope import UpstreamAnswer
from holdfast.policy.grpc import is_grpc
from holdfast.policy.redaction import DEFAULT_HEADERS, MASK
from holdfast.policy.replaying.requests import ReplayRequest
from holdfast.policy.replaying.verdict import Answer, parse_retry_after
from holdfast.policy.wire import encode_body, first_value, header_map, wire_bytes

UNREACHED = frozenset(
    {"connection_refused", "connection_timeout", "dns_error", "dns_timeout", "tls_protocol_error",
     "tls_certificate_error", "destination_unavailable", "destination_ip_unroutable", "connection_limit_reached"}
)  # fmt: skip  # RFC 9209, section 2.3: no server has seen the request
_GRPC_UNKNOWN = 2
_ENDLESS = "http_response_incomplete"  # RFC 9209, section 2.3.13
_BESIDES = 2.0  # seconds for hooks
_WITH_BODY = ("POST", "PUT", "PATCH")  # RFC 9110, section 8.6


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a replay: for the rules, and for the log.

    `answered`: by a server, whatever it said; but a 502, 503 or 504, where the profile calls it a failure, says that
    there is none.
    """

    answer: Answer
    log: AttemptLog
    answered: bool


class ChainSender:
    """`body_kept` bounds how much of an answer is kept, in bytes. `clock` gives epoch seconds."""

    def __init__(self, gateway: Gateway, body_kept: int, clock: Callable[[], float] = time.time) -> None:
        self.body_kept = body_kept
        self._gateway = gateway
        self._clock = clock

    async def send(self, request: ReplayRequest, capture_id: str) -> Sent:
        """Waits for the outcome, which the upstream's timeouts and deadline bound; an answer without an end, we do."""
        began = self._clock()
        known = {"replay": capture_id, "original_host": clients_host(request)}
        try:
            async with asyncio.timeout(self._longest()):
                flow = await send_in_background(as_request(request, began), self._gateway.leg, current_mode(), known)
        except TimeoutError:
            return _unended(began, self._clock())
        return self._sent(flow, began)

    def _longest(self) -> float:
        """Seconds that no replay takes but one whose answer goes on and on, or that a person has intercepted."""
        bounds = [plan.bounds for plan in self._gateway.leg.plans.values()]
        return 2 * max(each.deadline + each.read_timeout for each in bounds) + _BESIDES

    def _sent(self, flow: HTTPFlow, began: float) -> Sent:
        exchange, response = exchange_of(flow), flow.response
        attempts = exchange.get("attempts", [])
        last = attempts[-1] if attempts else None
        error = exchange.get("error") or ("connection_terminated" if flow.error else None)
        # The gateway's own words, or nobody's; a status that a server has sent may be in the last attempt.
        status, fields, body = last["status"] if last else None, tuple[tuple[bytes, bytes], ...](), b""
        if response and not exchange.get("answered"):
            status, fields, body = response.status_code, _fields(response), response.raw_content or b""
        if status is None and error is None:
            error = "proxy_internal_response"
        log = AttemptLog(
            at=began,
            server=last["server"] if last else "",
            error=error,
            status=status,
            duration_ms=round((self._clock() - began) * 1000, 3),
            headers=header_map(fields),
            body=body[: self.body_kept],
            body_truncated=len(body) > self.body_kept or bool(response and response.stream),
            traceparent=flow.request.headers.get("traceparent", ""),
        )
        unreachable = status is None and _is_unreached(exchange, error)
        answer = Answer(
            status=status,
            error=error,
            retry_after=_retry_after(flow, self._clock()) if fields else None,
            grpc_status=_grpc_status(flow) if fields else None,
            unreachable=unreachable,
        )
        return Sent(answer, log, answered=status is not None and error != f"http_{status}")


def clients_host(request: ReplayRequest) -> str:
    """As the client named the gateway, for routes by host and for what the cache keeps; empty where it is not known."""
    return next((value.decode("latin-1") for name, value in request.headers if name == b"x-forwarded-host"), "")


def _unended(began: float, now: float) -> Sent:
    log = AttemptLog(at=began, server="", error=_ENDLESS, duration_ms=round((now - began) * 1000, 3))
    return Sent(Answer(error=_ENDLESS), log, answered=True)


def as_request(request: ReplayRequest, now: float) -> Request:
    """As mitmproxy has it; whoever sends it says where to, and adds `Host`. `now` in epoch seconds."""
    fields = list(request.headers)
    # Without one it would be said nowhere that there is no body, and some servers refuse that (411).
    if request.body or request.method in _WITH_BODY:
        fields.append((b"content-length", str(len(request.body)).encode()))
    return Request(
        host="",
        port=0,
        method=request.method.encode("latin-1"),
        scheme=b"http",
        authority=b"",
        path=wire_bytes(request.target),
        http_version=b"HTTP/1.1",
        headers=Headers(fields),
        content=request.body,
        trailers=None,
        timestamp_start=now,
        timestamp_end=now,
    )


def _fields(response: Response) -> tuple[tuple[bytes, bytes], ...]:
    """Header and trailers, secrets masked."""
    return tuple(
        (name, MASK.encode() if name.decode("latin-1").lower() in DEFAULT_HEADERS else value)
        for section in (response.headers, response.trailers)
        if section
        for name, value in section.fields
    )


def _is_unreached(exchange: Exchange, error: str | None) -> bool:
    attempts = exchange.get("attempts", [])
    return (error or "") in UNREACHED and all((each["error"] or "") in UNREACHED for each in attempts)


def _retry_after(flow: HTTPFlow, now: float) -> float | None:
    text = flow.response.headers.get("retry-after") if flow.response else None
    return None if text is None else parse_retry_after(wire_bytes(text), now)


def _grpc_status(flow: HTTPFlow) -> int | None:
    """Of a call's answer; in its trailers or, where it has no more than a header, there."""
    response = flow.response
    if response is None or not is_grpc(response.headers.get("content-type", "")):
        return None
    trailer = response.trailers.get("grpc-status") if response.trailers else None
    text = trailer or response.headers.get("grpc-status", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else _GRPC_UNKNOWN


def answer_of(log: AttemptLog) -> UpstreamAnswer | None:
    """What the upstream answered, as it was logged."""
    if log.status is None:
        return None
    text, encoding = encode_body(log.body, first_value(log.headers, "content-type"))
    return UpstreamAnswer(
        status=log.status, headers=log.headers, body=text, body_encoding=encoding, body_truncated=log.body_truncated
    )
