"""What became of trace spans, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class SpanCounts:
    """What became of the spans: `holdfast_spans_exported_total`, `holdfast_spans_dropped_total{reason}`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.exported = Counter("holdfast_spans_exported", "Spans that a collector has taken.", registry=registry)
        self.dropped = Counter("holdfast_spans_dropped", "Spans that no collector got.", ["reason"], registry=registry)
        for reason in ("queue_full", "export_failed", "stopped", "not_open"):
            self.dropped.labels(reason)
