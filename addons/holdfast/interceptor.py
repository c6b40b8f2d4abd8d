"""The interceptor: decides what a failure of the upstream is, has the request stored, and answers honestly.

Place it before `failure_sink`. It acts when the upstream leg has given up (`upstream_failed`), so everything that a
retry could mend has been mended by then. The answer goes out only after the capture is durable on disk; where it could
not be stored the answer says so and names no id.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from typing import Annotated, Literal

from mitmproxy.http import HTTPFlow, Response
from msgspec import Meta, Struct, field

from holdfast.answering import as_response
from holdfast.errors import CaptureRefused
from holdfast.exchange import exchange_of, route_of
from holdfast.gateway import Gateway
from holdfast.policy.answer import STATUS_PATH, Answer, captured_answer, not_captured_answer
from holdfast.policy.failure import Failure
from holdfast.profile.values import Duration

logger = logging.getLogger(__name__)
FailureKind = Literal["connect", "reset", "timeout", "502", "503", "504"]
REPLAY = "holdfast-replay"  # the header field that marks a replay
_ALL: tuple[FailureKind, ...] = ("connect", "reset", "timeout", "502", "503", "504")


class RouteAnswer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs on one route; what is left out is as for all."""

    on: Annotated[tuple[FailureKind, ...] | None, Meta(description="Failures that are captured on this route.")] = None
    answer: Annotated[Literal[202, 503] | None, Meta(description="Status of the answer once stored.")] = None
    retry_after: Annotated[Duration | None, Meta(description="Value of Retry-After, rounded up to seconds.")] = None
    capture: Annotated[bool, Meta(description="false: answer, but store nothing on this route.")] = True


class InterceptorSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which failures are captured, and what the client is told."""

    on: Annotated[
        tuple[FailureKind, ...],
        Meta(description="Failures that are captured; the origin's own answer is passed on for others."),
    ] = _ALL
    answer: Annotated[
        Literal[202, 503],
        Meta(description="Status of the answer once the request is stored: 503, or 202 to accept it."),
    ] = 503
    retry_after: Annotated[Duration, Meta(description="Value of Retry-After, rounded up to seconds.")] = Duration("5s")
    routes: Annotated[dict[str, RouteAnswer], Meta(description="What differs per route, by the router's names.")] = (
        field(default_factory=dict)
    )


class Interceptor:
    """Answers for a failed upstream."""

    Settings = InterceptorSettings

    def __init__(self, settings: InterceptorSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self.reload(settings)

    def reload(self, settings: InterceptorSettings) -> None:
        """These hold for failures from now on."""
        self._default = settings
        self._routes = settings.routes

    async def requestheaders(self, flow: HTTPFlow) -> None:
        """The page that `Location` of a 202 names. It tells nothing of the request but whether it is still waiting."""
        if flow.response or not flow.request.path.startswith(STATUS_PATH) or self._gateway.sink is None:
            return
        outbox, capture_id = self._gateway.sink.outbox, flow.request.path.removeprefix(STATUS_PATH)
        record = await asyncio.to_thread(outbox.get, capture_id) if outbox else None
        exchange_of(flow)["route"] = "captures"
        document = {"id": record.id, "state": record.state, "captured_at": record.created} if record else None
        body = json.dumps(document or {"title": "No such capture", "status": 404}).encode() + b"\n"
        fields = {"content-type": "application/json", "cache-control": "no-store"}
        flow.response = Response.make(200 if record else 404, body, fields)

    async def upstream_failed(self, flow: HTTPFlow) -> None:
        exchange = exchange_of(flow)
        if "cached" in exchange or "refresh" in exchange:
            return  # the cache has an answer: nobody need know of the failure; or nobody but the gateway has asked
        if "replay" in exchange or REPLAY in flow.request.headers:
            return  # it is captured already, here or in a gateway before this one
        status = flow.response.status_code if flow.response else None
        failure = Failure(exchange["error"], exchange["detail"], status)
        rules = self._routes.get(route_of(flow), RouteAnswer())
        if failure.kind not in (self._default.on if rules.on is None else rules.on):
            return
        answer = await self._store(flow, failure, rules)
        flow.response = as_response(answer, flow)

    async def _store(self, flow: HTTPFlow, failure: Failure, rules: RouteAnswer) -> Answer:
        """Have the request stored and put what happened in words."""
        exchange = exchange_of(flow)
        wait = self._default.retry_after if rules.retry_after is None else rules.retry_after
        retry_after, not_retried = math.ceil(max(wait, exchange.get("retry_in", 0.0))), exchange.get("not_retried", "")
        if self._gateway.sink is None or not rules.capture:
            return not_captured_answer(failure, 503, "", retry_after, not_retried)
        try:
            capture_id = await self._gateway.sink.capture(flow, failure)
        except CaptureRefused as refused:
            exchange["capture_failed"] = refused.reason
            logger.warning("request not captured", extra={"reason": refused.reason, "detail": str(refused)})
            return not_captured_answer(failure, 503, refused.reason, retry_after, not_retried)
        exchange["capture_id"] = capture_id
        return captured_answer(failure, rules.answer or self._default.answer, capture_id, retry_after, not_retried)
