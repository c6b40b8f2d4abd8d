"""The interceptor: decides what a failure of the upstream is, has the request stored, and answers honestly.

Place it before `failure_sink`, and behind whatever may refuse or change a request. It acts when the upstream leg has
given up (`upstream_failed`), so everything that a retry could mend has been mended by then; and before any server is
asked (`withholding`) where the profile says `mode: always` or `order: true`. An answer that names a capture goes out
only after the capture is durable on disk; where it could not be stored the answer says so and names no id.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Literal

from mitmproxy.http import HTTPFlow
from msgspec import Meta, Struct, field

from holdfast.answering import as_response
from holdfast.errors import CaptureRefused
from holdfast.exchange import exchange_of, is_own, route_of
from holdfast.gateway import HAS_ANSWER, CaptureSink, Gateway, WouldDo
from holdfast.policy.answer import (
    BOUNDS,
    Answer,
    captured_answer,
    not_captured_answer,
    not_stored_answer,
    withheld_answer,
)
from holdfast.policy.caching.invalidation import is_safe
from holdfast.policy.failure import WITHHELD, Failure, named_status
from holdfast.policy.grpc import is_grpc
from holdfast.policy.hop_by_hop import asks_for_upgrade
from holdfast.profile.values import Duration
from holdfast.traced import name_request_span

logger = logging.getLogger(__name__)
FailureKind = Literal["connect", "reset", "timeout", "502", "503", "504"]
REPLAY = "holdfast-replay"  # the header field that marks a replay
_ALL: tuple[FailureKind, ...] = ("connect", "reset", "timeout", "502", "503", "504")
Mode = Literal["on_failure", "always"]


class RouteAnswer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs on one route; what is left out is as for all."""

    on: Annotated[tuple[FailureKind, ...] | None, Meta(description="Failures that are captured on this route.")] = None
    answer: Annotated[Literal[202, 503] | None, Meta(description="Status of the answer once stored.")] = None
    retry_after: Annotated[Duration | None, Meta(description="Value of Retry-After, rounded up to seconds.")] = None
    capture: Annotated[bool, Meta(description="false: answer, but store nothing on this route.")] = True
    mode: Annotated[Mode | None, Meta(description="When requests of this route are stored.")] = None
    full: Annotated[Literal[429, 503] | None, Meta(description="Status in place of 202 where there is no room.")] = None
    order: Annotated[
        bool | None, Meta(description="Whether requests of this route wait for captures of their key.")
    ] = None


class InterceptorSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which failures are captured, what is stored without asking the upstream, and what the client is told."""

    on: Annotated[
        tuple[FailureKind, ...],
        Meta(description="Failures that are captured; the origin's own answer is passed on for others."),
    ] = _ALL
    answer: Annotated[
        Literal[202, 503],
        Meta(description="Status of the answer once the request is stored: 503, or 202 to accept it."),
    ] = 503
    retry_after: Annotated[Duration, Meta(description="Value of Retry-After, rounded up to seconds.")] = Duration("5s")
    mode: Annotated[
        Mode,
        Meta(
            description="`always`: unsafe requests (not GET, HEAD, OPTIONS, TRACE) are stored and accepted at once, "
            "and no server is asked; needs `answer: 202`."
        ),
    ] = "on_failure"
    full: Annotated[
        Literal[429, 503],
        Meta(
            description="Status in place of 202 while the outbox is at a bound or its disk is full, with Retry-After."
        ),
    ] = 503
    order: Annotated[
        bool,
        Meta(
            description="true: while a capture of a request's key (`failure_sink.key`) is not settled, unsafe requests "
            "of that key are stored behind it and not sent."
        ),
    ] = False
    routes: Annotated[dict[str, RouteAnswer], Meta(description="What differs per route, by the router's names.")] = (
        field(default_factory=dict)
    )

    def __post_init__(self) -> None:
        faults = [fault for fault in (_fault(rules_of(self, name)) for name in ("", *self.routes)) if fault]
        if faults:
            raise ValueError(faults[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for the requests of one route. `name` is empty for what holds for all."""

    name: str
    on: tuple[FailureKind, ...]
    answer: Literal[202, 503]
    retry_after: float
    capture: bool
    mode: Mode
    full: Literal[429, 503]
    order: bool


def rules_of(settings: InterceptorSettings, route: str) -> Rules:
    """With what the route leaves out filled in."""
    own = settings.routes.get(route, RouteAnswer())
    return Rules(
        name=route,
        on=settings.on if own.on is None else own.on,
        answer=own.answer or settings.answer,
        retry_after=float(settings.retry_after if own.retry_after is None else own.retry_after),
        capture=own.capture,
        mode=own.mode or settings.mode,
        full=own.full or settings.full,
        order=settings.order if own.order is None else own.order,
    )


def _fault(rules: Rules) -> str | None:
    where = f"routes.{rules.name}: " if rules.name else ""
    if rules.mode == "always" and rules.answer != 202:
        return f"{where}`mode: always` accepts what no server has seen: it needs `answer: 202`"
    if rules.mode == "always" and not rules.capture:
        return f"{where}`mode: always` accepts what is stored: it cannot have `capture: false`"
    return None


class Interceptor:
    """Answers for a failed upstream, and for one that is not asked."""

    Settings = InterceptorSettings

    def __init__(self, settings: InterceptorSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self.reload(settings)

    def reload(self, settings: InterceptorSettings) -> None:
        """These hold for requests and failures from now on."""
        self._default = rules_of(settings, "")
        self._routes = {route: rules_of(settings, route) for route in settings.routes}

    async def request_grown(self, flow: HTTPFlow) -> None:
        """A body that is not held: whether it goes to a server is decided before any of it does."""
        await self._withhold(flow)

    def request(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """The request is whole. What is withheld is stored now, and answered."""
        if "withheld" in exchange_of(flow) or self._may_be_withheld(flow, self._rules(flow)):
            return self._answer_withheld(flow)
        return None

    async def _answer_withheld(self, flow: HTTPFlow) -> None:
        exchange = exchange_of(flow)
        if not exchange.get("request_streamed"):
            await self._withhold(flow)
        why = WITHHELD.get(exchange.get("withheld", ""))
        if why and flow.response is None and self._gateway.sink:
            answer = await self._keep(flow, self._gateway.sink, why)
            flow.response = as_response(answer, flow)
            exchange["answered"] = True

    async def upstream_failed(self, flow: HTTPFlow) -> None:
        exchange = exchange_of(flow)
        if "cached" in exchange or _is_nobodys(flow):
            return  # the cache has an answer: nobody need know of the failure
        # No response: it was let go for another attempt, for which there was no server any more.
        status = flow.response.status_code if flow.response else named_status(exchange["error"])
        failure = Failure(exchange["error"], exchange["detail"], status)
        rules = self._rules(flow)
        if failure.kind not in rules.on:
            return
        if self._gateway.stand_in:  # wherever it stands in the chain: what it answers need not be sent again
            await self._gateway.stand_in(flow)
        if "understudy" in exchange:
            return
        answer = await self._store(flow, failure, rules)
        flow.response = as_response(answer, flow)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """What it does where the upstream fails, or before any server is asked."""
        rules, sink = self._rules(flow), self._gateway.sink
        if flow.response:
            return HAS_ANSWER
        if _is_nobodys(flow):
            return WouldDo(False, "it is a replay", {"captures": False})
        answer, plainly = f"{rules.answer} with Retry-After {math.ceil(rules.retry_after)}", "503"
        if is_grpc(flow.request.headers.get("content-type", "")):
            answer, plainly = f"the gRPC status of {answer}", "the gRPC status of 503"
        if withheld := await self._why_withheld(flow, rules):
            exchange_of(flow)["withheld"] = withheld  # the sink and the replayer have to do with it all the same
            says = f"stores it ({WITHHELD[withheld].detail}) and answers {answer}; no server is asked"
            stored: dict[str, object] = {"on": [], "answer": rules.answer, "withheld": withheld, "captures": True}
            return WouldDo(True, says, stored, answers=True)
        kinds = ", ".join(rules.on)
        details: dict[str, object] = {"on": list(rules.on), "answer": rules.answer, "captures": False}
        cannot = sink is not None and asks_for_upgrade(flow.request.headers.fields)
        if sink is None or cannot or not rules.capture:
            why = "there is no failure_sink to store it" if sink is None else "this route is not captured"
            why = "what asks for another protocol cannot be captured" if cannot else why
            return WouldDo(bool(rules.on), f"answers {plainly} after {kinds}; {why}", details | {"answer": 503})
        details["captures"] = bool(rules.on)
        return WouldDo(bool(rules.on), f"has it captured after {kinds}, and answers {answer}", details)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _rules(self, flow: HTTPFlow) -> Rules:
        return self._routes.get(route_of(flow), self._default)

    async def _withhold(self, flow: HTTPFlow) -> None:
        """Say in the exchange why this request goes to no server, if it does not."""
        rules = self._rules(flow)
        if why := await self._why_withheld(flow, rules):
            exchange_of(flow)["withheld"] = why
            exchange_of(flow)["retry_in"] = rules.retry_after

    async def _why_withheld(self, flow: HTTPFlow, rules: Rules) -> Literal["accepted", "queued"] | None:
        sink = self._gateway.sink
        if sink is None or not self._may_be_withheld(flow, rules):
            return None
        if rules.mode == "always":
            return "accepted"
        return "queued" if await sink.waits(await sink.key_of(flow)) else None

    def _may_be_withheld(self, flow: HTTPFlow, rules: Rules) -> bool:
        asked_for = rules.capture and (rules.order or rules.mode == "always")
        return asked_for and self._gateway.sink is not None and not flow.response and _can_wait(flow)

    async def _keep(self, flow: HTTPFlow, sink: CaptureSink, why: Failure) -> Answer:
        """Have a request stored that no server is asked for. Whatever happens it goes nowhere else from here."""
        exchange, rules = exchange_of(flow), self._rules(flow)
        retry_after = math.ceil(rules.retry_after)
        name_request_span(flow)
        try:
            exchange["capture_id"] = await sink.capture(flow, why)
        except CaptureRefused as refused:
            exchange["rejected"] = refused.reason
            _note(flow, refused)
            if refused.reason == "too_large":
                return not_stored_answer(413, refused.reason, None)
            return not_stored_answer(_refusal(rules, refused), refused.reason, retry_after)
        return withheld_answer(why, rules.answer, exchange["capture_id"], retry_after)

    async def _store(self, flow: HTTPFlow, failure: Failure, rules: Rules) -> Answer:
        """Have a failed request stored and put what happened in words."""
        exchange = exchange_of(flow)
        retry_after = math.ceil(max(rules.retry_after, exchange.get("retry_in", 0.0)))
        not_retried = exchange.get("not_retried", "")
        if self._gateway.sink is None or not rules.capture:
            return not_captured_answer(failure, 503, "", retry_after, not_retried)
        try:
            exchange["capture_id"] = await self._gateway.sink.capture(flow, failure)
        except CaptureRefused as refused:
            _note(flow, refused)
            return not_captured_answer(failure, _refusal(rules, refused), refused.reason, retry_after, not_retried)
        return captured_answer(failure, rules.answer, exchange["capture_id"], retry_after, not_retried)


def _can_wait(flow: HTTPFlow) -> bool:
    """Whether a request can be stored and answered before a server has seen it.

    Not one that only asks for something, a call of gRPC or a conversation, which wait for what the server says.
    """
    request = flow.request
    if _is_nobodys(flow) or is_safe(request.method) or request.method == "CONNECT":
        return False
    return not (is_grpc(request.headers.get("content-type", "")) or asks_for_upgrade(request.headers.fields))


def _is_nobodys(flow: HTTPFlow) -> bool:
    """Whether no client has asked, or it is captured already, here or in a gateway before this one."""
    return is_own(flow) or REPLAY in flow.request.headers


def _refusal(rules: Rules, refused: CaptureRefused) -> int:
    """Who is used to 202 is told in a way of its own that there is no room for now."""
    return rules.full if rules.answer == 202 and refused.reason in BOUNDS else 503


def _note(flow: HTTPFlow, refused: CaptureRefused) -> None:
    exchange_of(flow)["capture_failed"] = refused.reason
    logger.warning("request not captured", extra={"reason": refused.reason, "detail": str(refused)})
