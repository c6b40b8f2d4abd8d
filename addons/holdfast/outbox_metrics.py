"""The outbox and the relay as Prometheus sees them: read when it asks, so that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.outbox import Outbox, Relay


class OutboxMetrics(Collector):
    """`holdfast_outbox_*` and `holdfast_relay_*`; nothing of an outbox that is not open, or without a relay."""

    def __init__(self, outbox: Callable[[], Outbox | None], relay: Callable[[], Relay | None]) -> None:
        self._outbox = outbox
        self._relay = relay

    def describe(self) -> list[Metric]:
        """Empty: the names are fixed below and collide with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        outbox, relay = self._outbox(), self._relay()
        if outbox:
            stats = outbox.stats()
            records = GaugeMetricFamily("holdfast_outbox_records", "Records in the outbox.", labels=["state"])
            for state in ("pending", "sent", "discarded", "quarantined"):
                records.add_metric([state], getattr(stats, state))
            yield records
            yield GaugeMetricFamily("holdfast_outbox_bytes", "Bytes of the records held.", value=stats.bytes)
            for name, bound in (("records", outbox.limits.max_records), ("bytes", outbox.limits.max_bytes)):
                told = f"How many {name} the outbox may hold; at the bound captures are refused."
                yield GaugeMetricFamily(f"holdfast_outbox_max_{name}", told, value=bound)
            oldest = "Age of the oldest record not yet published."
            yield GaugeMetricFamily("holdfast_outbox_oldest_seconds", oldest, value=stats.oldest_pending_seconds)
        if relay:
            published, errors = relay.stats.published, relay.stats.errors
            yield CounterMetricFamily("holdfast_relay_published", "Records the broker has confirmed.", value=published)
            yield CounterMetricFamily("holdfast_relay_errors", "Deliveries that failed.", value=errors)
