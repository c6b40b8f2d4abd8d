"""What the cache says of its part in an answer: Cache-Status (RFC 9211), the metric, and what clients do not see."""

from __future__ import annotations

from collections.abc import Iterator

from mitmproxy.http import HTTPFlow, Response
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.caching.filling import Fill, Served
from holdfast.caching.flow import Asked, answer_from, tell
from holdfast.exchange import exchange_of
from holdfast.gateway import Health
from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.reuse import Fresh, Pass
from holdfast.policy.caching.status import CacheStatus
from holdfast.policy.caching.targeted import STRIPPED
from holdfast.stores import Store


class CacheReport:
    """Makes answers from what is stored, and marks those that are not."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._results = Counter(
            "holdfast_cache_requests", "What the cache did with a request.", ["result"], registry=registry
        )
        self._counters: dict[str, Counter] = {}

    def counter(self, result: str) -> Counter:
        """Of the requests that have come to this."""
        found = self._counters.get(result)
        if found is None:
            found = self._counters[result] = self._results.labels(result)
        return found

    def serve(
        self,
        flow: HTTPFlow,
        asked: Asked,
        stored: StoredResponse,
        decision: Served,
        key: str,
        now: float,
        degraded: str = "",
        *,
        collapsed: bool = False,
        fwd_status: int | None = None,
    ) -> CacheStatus:
        """Answer from what is stored; `degraded` is why the store could not be asked as it should be."""
        answer = answer_from(stored, asked, now)
        stale = not isinstance(decision, Fresh)
        exchange = exchange_of(flow)
        exchange["cached"], exchange["cached_because"] = "stale" if stale else "hit", decision.because
        failed = exchange.get("error") is not None or fwd_status is not None
        status = CacheStatus(
            fwd="miss" if collapsed else "stale" if failed else None,
            fwd_status=fwd_status,
            ttl=decision.ttl,
            collapsed=True if collapsed else None,
            key=key,
            detail=decision.because if stale else degraded or None,
        )
        tell(answer, status)
        put_answer(flow, answer)
        self.counter("stale" if stale else "hit").inc()
        return status

    def passed(self, flow: HTTPFlow, decision: Pass) -> None:
        """The cache has no part in this request."""
        exchange_of(flow)["cache_pass"] = f"{decision.fwd}:{decision.because}"
        self.counter("pass").inc()

    def forwarded(
        self,
        flow: HTTPFlow,
        fill: Fill,
        *,
        stored: bool,
        fwd_status: int | None = None,
        ttl: float | None = None,
        detail: str | None = None,
        result: str = "miss",
    ) -> None:
        """The upstream has been asked."""
        assert flow.response
        status = CacheStatus(
            fwd=fill.decision.fwd,
            fwd_status=fwd_status,
            ttl=ttl if stored else None,
            stored=stored,
            collapsed=fill.collapsed,
            key=fill.key,
            detail=detail or fill.lookup.degraded or None,
        )
        tell(flow.response, status)
        self.counter(result).inc()


class StoreFigures(Collector):
    """What the store says of itself at the moment of the scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        health = self._store.health()
        figures = health.figures
        up = "1 while the store is used as it should be, 0 while the cache steps aside."
        yield GaugeMetricFamily("holdfast_cache_store_up", up, value=float(health.ok))
        for name, what in (("entries", "Responses"), ("bytes", "Bytes of responses")):
            if name in figures:
                yield GaugeMetricFamily(f"holdfast_cache_{name}", f"{what} in this gateway's memory.", figures[name])
        for name, figure, what in (
            ("holdfast_cache_evictions", "evicted", "Responses dropped from this gateway's memory for want of room."),
            ("holdfast_cache_store_outages", "outages", "How often a server of the store stopped answering."),
        ):
            if figure in figures:
                yield CounterMetricFamily(name, what, figures[figure])


def health_of(store: Store, url: str) -> Health:
    """For the health page, where what needs no server is nobody's concern."""
    found = store.health()
    if url.startswith("memory:"):
        return Health("not_configured", figures=dict(found.figures))
    return Health("ok" if found.ok else "failing", found.detail, figures={"mode": found.mode, **found.figures})


def put_answer(flow: HTTPFlow, answer: Response) -> None:
    """The gateway's answer in place of the upstream's, with the request's id."""
    request_id = exchange_of(flow).get("request_id")
    if request_id:
        answer.headers["X-Request-ID"] = request_id
    flow.response = answer


def strip(flow: HTTPFlow) -> None:
    """What is meant for caches like this one goes no further; where one had no part, it says why."""
    if flow.response is None or flow.response.status_code == 101:
        return  # what follows is no HTTP, and its header is the handshake's
    for name in STRIPPED:
        flow.response.headers.pop(name, None)
    passed = exchange_of(flow).pop("cache_pass", None)
    if passed:
        fwd, _, because = passed.partition(":")
        tell(flow.response, CacheStatus(fwd=fwd, detail=because if because != fwd else None))
