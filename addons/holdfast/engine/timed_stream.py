"""A stream with time limits: for the upstream's part of an exchange, and for the client's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseTrailers,
    SendHttp,
)

from holdfast.engine.attempts import Attempts
from holdfast.engine.leg import Leg
from holdfast.engine.plan import Plan
from holdfast.engine.speedups.layers import step_through
from holdfast.engine.timers import Alarm, TimerFired
from holdfast.exchange import Exchange, exchange_of, route_of
from holdfast.policy.grpc import is_grpc

_OF_THE_CLIENT = frozenset({RequestHeaders, RequestData, RequestTrailers, RequestEndOfMessage})
_OF_THE_SERVER = frozenset({ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage})


class TimedStream(HttpStream):
    """What the request's side and the response's side share. Times are seconds of the leg's monotonic clock."""

    def __init__(self, context: Context, stream_id: int, leg: Leg) -> None:
        super().__init__(context, stream_id)
        self._leg = leg
        client = context.client.id
        self.upstream_alarm = Alarm(leg.timers, client, stream_id, "upstream")
        self._client_alarm = Alarm(leg.timers, client, stream_id, "client")
        self._progress_at = 0.0  # of the upstream
        self._client_progress_at = 0.0

    @property
    def _exchange(self) -> Exchange:
        return exchange_of(self.flow)

    @property
    def _plan(self) -> Plan:
        """What holds for this request; before it has a route, what holds for all."""
        return self._leg.plan(route_of(self.flow))

    @cached_property
    def _grpc(self) -> bool:
        return is_grpc(self.flow.request.headers.get("content-type", ""))

    @cached_property
    def _attempts(self) -> Attempts:
        """Made when a server is first needed: by then every addon has had its say on where the request goes."""
        return Attempts(self._leg, self.flow, self.context.server)

    def _abandon(self) -> None:
        if "_attempts" in vars(self):
            self._attempts.abandoned()

    def note_progress(self) -> None:
        """The upstream is not late."""
        self._progress_at = self._leg.clock()

    # -- events -----------------------------------------------------------------------------------------------------

    at_once: Callable[[Command], object] | None = None
    """Carries out what it can of what this stream would wait for: see `step_through`."""

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, without a pause where there is nothing to wait for."""
        return step_through(self, event, self.at_once) if self.at_once else super().handle_event(event)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        kind = type(event)
        state: Callable[[events.Event], CommandGenerator[None]]
        if kind in _OF_THE_CLIENT:
            state = self.client_state
        elif kind in _OF_THE_SERVER:
            state = self.server_state
        else:
            state = self._timer_fired if kind is TimerFired else super()._handle_event  # type: ignore[assignment]
        return state(event)

    def passthrough(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, but a WebSocket that ends without a close frame does so for the other side too.

        Stock sends one that says all is well (1000), and a client that should connect again does not.
        """
        ended = isinstance(event, RequestEndOfMessage | ResponseEndOfMessage)
        abrupt = ended and self.flow.websocket and self.flow.websocket.close_code is None
        for command in super().passthrough(event):
            if not (abrupt and isinstance(command, SendHttp) and isinstance(command.event, RequestData | ResponseData)):
                yield command

    # -- time -------------------------------------------------------------------------------------------------------

    def _timer_fired(self, event: TimerFired) -> CommandGenerator[None]:
        if self.upstream_alarm.rang(event):
            yield from self._upstream_is_late()
        elif self._client_alarm.rang(event):
            yield from self._client_is_late()

    def _arm(self, delay: float) -> None:
        """At most `delay` seconds for what comes next, and never beyond the deadline while there is one."""
        if self.server_state != self.state_stream_response_body:
            delay = min(delay, self._attempts.deadline_at - self._leg.clock())
        self.upstream_alarm.arm(delay)

    def _upstream_is_late(self) -> CommandGenerator[None]:
        raise NotImplementedError

    def _client_is_late(self) -> CommandGenerator[None]:
        raise NotImplementedError
