"""The metrics of several workers as one."""

from __future__ import annotations

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from holdfast.policy.minutes import Minutes
from holdfast.workers.figures import Collected, Family, Figures, Ledger, figures_of

type Shown = dict[tuple[str, ...], float]


class One:
    """A worker's registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.minutes = Minutes()
        self.requests = Counter("holdfast_requests", "Requests.", ["route"], registry=self.registry)
        self.seconds = Histogram("holdfast_seconds", "Seconds.", buckets=(1.0,), registry=self.registry)
        self.bytes = Gauge("holdfast_outbox_bytes", "Bytes.", registry=self.registry)
        self.oldest = Gauge("holdfast_outbox_oldest_seconds", "Age.", registry=self.registry)
        self.good = Gauge("holdfast_profile_last_reload_successful", "Good.", registry=self.registry)
        self.theirs = Gauge("temperature", "Of another package.", registry=self.registry)

    def told(self) -> Figures:
        """As it goes over the line."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(figures_of(self.registry, self.minutes)), type=Figures)


def shown(ledger: Ledger, parent: list[Family] | None = None) -> Shown:
    """As Prometheus reads it."""
    text = generate_latest(Collected(ledger.families(parent or []))).decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *(f"{k}={v}" for k, v in sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_counters_are_added_up_and_gauges_joined_by_their_meaning() -> None:
    """Those of other packages keep apart, by a label."""
    ledger, one, other = Ledger(), One(), One()
    for worker, count in ((one, 2), (other, 3)):
        worker.requests.labels("a").inc(count)
        worker.seconds.observe(count)
        for gauge in (worker.bytes, worker.oldest, worker.theirs, worker.good):
            gauge.set(count)
    other.requests.labels("b").inc()
    ledger.note("1", one.told())
    ledger.note("2", other.told())
    found = shown(ledger)
    assert found["holdfast_requests_total", "route=a"] == 5
    assert found["holdfast_requests_total", "route=b"] == 1
    assert (found["holdfast_seconds_count",], found["holdfast_seconds_sum",]) == (2, 5)
    assert found["holdfast_seconds_bucket", "le=+Inf"] == 2
    assert found["holdfast_outbox_bytes",] == 5
    assert found["holdfast_outbox_oldest_seconds",] == 3
    assert found["holdfast_profile_last_reload_successful",] == 2
    assert (found["temperature", "worker=1"], found["temperature", "worker=2"]) == (2, 3)


def test_what_an_ended_worker_has_counted_stays_and_what_it_has_shown_goes() -> None:
    """Again and again; the next one of its name counts from nothing."""
    ledger = Ledger()
    for life in range(1, 4):
        one = One()
        one.requests.labels("a").inc()
        one.bytes.set(7)
        ledger.note("1", one.told())
        assert shown(ledger)["holdfast_requests_total", "route=a"] == life
        ledger.ended("1")
        found = shown(ledger)
        assert found["holdfast_requests_total", "route=a"] == life
        assert ("holdfast_outbox_bytes",) not in found
    ledger.ended("1")  # before it has said anything
    assert shown(ledger)["holdfast_requests_total", "route=a"] == 3


def test_minutes_are_added_up_over_workers_and_lives() -> None:
    """A minute is told several times while it lasts, and counts once."""
    ledger, one, other = Ledger(), One(), One()
    for _ in range(2):
        one.minutes.add(60.0, "a", "ok")
        ledger.note("1", one.told())
    other.minutes.add(60.0, "a", "ok")
    other.minutes.add(120.0, "a", "failed")
    ledger.note("2", other.told())
    assert ledger.minutes() == [(1, [("a", "ok", 3)]), (2, [("a", "failed", 1)])]
    ledger.ended("1")
    again = One()
    again.minutes.add(61.0, "a", "ok")
    ledger.note("1", again.told())
    assert dict(ledger.minutes())[1] == [("a", "ok", 4)]
