"""Connections to servers as metrics: how many are open, and how often one has served again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from holdfast.engine.keepalive.sharing import SharedConnections


class ConnectionFigures(Collector):
    """Read when Prometheus asks. Nothing where connections are not shared."""

    def __init__(self, shared: Callable[[], SharedConnections | None]) -> None:
        self._shared = shared

    def describe(self) -> list[Metric]:
        """Empty: the names collide with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        shared = self._shared()
        if shared is None:
            return
        name, labels = "holdfast_upstream_connections", ["server"]
        now = GaugeMetricFamily(name, "Open connections to servers, idle or active.", labels=[*labels, "state"])
        opened = CounterMetricFamily(f"{name}_opened", "Connections to servers that were opened.", labels=labels)
        told = "Requests that went over a connection which had served another before."
        reused = CounterMetricFamily(f"{name}_reused", told, labels=labels)
        idle = shared.idle()
        for server, figures in shared.figures.items():
            now.add_metric([server, "idle"], idle[server])
            now.add_metric([server, "active"], figures.open - idle[server])
            opened.add_metric([server], figures.opened)
            reused.add_metric([server], figures.reused)
        yield now
        yield opened
        yield reused
