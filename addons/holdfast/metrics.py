"""The metrics addon: what became of each request, counted and timed per route, for Prometheus.

It may stand anywhere in the chain: the figures are taken when the request has ended, with the fate that the access log
shows. Labels are bounded: the route label, never the path; the methods of RFC 9110, else OTHER.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Annotated

from mitmproxy.http import HTTPFlow
from msgspec import Meta, Struct
from prometheus_client import Counter, Histogram

from holdfast.exchange import Exchange, is_replay, route_of, sent_status
from holdfast.gateway import Gateway, WouldDo

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class MetricsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Requests counted and timed on the admin listener's `/metrics`."""

    buckets: Annotated[
        tuple[float, ...],
        Meta(description="Upper bounds of the duration histogram, in seconds, ascending.", extra={"restart": True}),
    ] = _BUCKETS

    def __post_init__(self) -> None:
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] <= 0:
            raise ValueError("buckets must be positive seconds in ascending order, like [0.01, 0.1, 1]")


class Metrics:
    """`holdfast_requests_total` and `holdfast_request_duration_seconds`."""

    Settings = MetricsSettings

    def __init__(self, settings: MetricsSettings, gateway: Gateway) -> None:
        self._requests = Counter(
            "holdfast_requests",
            "Requests that have ended, by what became of them.",
            ["route", "method", "status", "fate"],
            registry=gateway.registry,
        )
        self._kinds: dict[
            tuple[str, str, str, str], Callable[[Sequence[float]], None]
        ] = {}  # as many as there are series
        self._duration = Histogram(
            "holdfast_request_duration_seconds",
            "From the request's header to the end of its answer, in seconds.",
            ["route", "fate"],
            buckets=settings.buckets,
            registry=gateway.registry,
        )

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """Whatever becomes of it."""
        return WouldDo(True, f"counts and times it as `{route_of(flow)}`")

    def observe(self, flow: HTTPFlow, exchange: Exchange, seconds: float) -> None:
        """Called by the access log once a request; status is `none` where the client got no answer."""
        if not is_replay(exchange):  # no client's: the replayer counts its own
            self.hit_counter(flow, exchange)((seconds,))

    def hit_counter(self, flow: HTTPFlow, exchange: Exchange) -> Callable[[Sequence[float]], None]:
        """What counts requests of this kind, each with the seconds that it took."""
        method = flow.request.method.upper()
        status = str(sent_status(flow) or "none")
        route, fate = route_of(flow), exchange["fate"]
        kind = route, method, status, fate
        known = self._kinds.get(kind)
        if known:
            return known
        requests = self._requests.labels(route, method if method in _METHODS else "OTHER", status, fate)
        duration = self._duration.labels(route, fate)

        bounds: Sequence[float] = duration._upper_bounds

        def count(seconds: Sequence[float]) -> None:
            requests.inc(len(seconds))
            shortest = bisect_left(bounds, min(seconds))
            if shortest == bisect_left(bounds, max(seconds)):  # all in one bucket, and so in one step
                duration._sum.inc(sum(seconds))
                duration._buckets[shortest].inc(len(seconds))
            else:
                for each in seconds:
                    duration.observe(each)

        if method in _METHODS:
            self._kinds[kind] = count
        return count
