"""Counts what becomes of requests for the page of the control surface: an observer of the access log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mitmproxy.http import HTTPFlow

from holdfast.exchange import Exchange, is_replay, route_of
from holdfast.gateway import Gateway


class Traffic:
    """Part of every chain that has a control surface; needs no `metrics` in the profile."""

    def __init__(self, gateway: Gateway) -> None:
        self._add, self._clock = gateway.minutes.add, gateway.wall_clock

    def observe(self, flow: HTTPFlow, exchange: Exchange, seconds: float) -> None:
        """Called by the access log once a request. A replay is no client's, as for the metrics."""
        if not is_replay(exchange):
            self.hit_counter(flow, exchange)((seconds,))

    def hit_counter(self, flow: HTTPFlow, exchange: Exchange) -> Callable[[Sequence[float]], None]:
        """What counts requests of this kind."""
        add, clock, route, fate = self._add, self._clock, route_of(flow), exchange["fate"]
        return lambda seconds: add(clock(), route, fate, len(seconds))
