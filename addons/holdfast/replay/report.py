"""The figures of the replayer, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from holdfast.audit import Arrival, AuditStats, Outcome
    from holdfast.replay.sending import Sent
    from holdfast.replay.source import SourceHealth

_ATTEMPTS = (1, 2, 3, 5, 8, 13, 21, 50)
_AGES = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)


class ReplayReport:
    """Counts what has happened. `clock` gives epoch seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._outcomes = Counter(
            "holdfast_replay",
            "Captures by what became of them: delivered, dead, parked, discarded, duplicate, poison.",
            ["outcome"],
            registry=registry,
        )
        self._attempts = Counter(
            "holdfast_replay_attempts",
            "Replays by route and by what came of them: a status, or an RFC 9209 token.",
            ["route", "result"],
            registry=registry,
        )
        self._needed = Histogram(
            "holdfast_replay_attempts_needed",
            "How many replays a capture took until it was settled.",
            ["outcome"],
            buckets=_ATTEMPTS,
            registry=registry,
        )
        self._age = Histogram(
            "holdfast_replay_age_seconds",
            "From the capture to its delivery, in seconds.",
            buckets=_AGES,
            registry=registry,
        )

    def attempt(self, route: str, sent: Sent) -> None:
        """A replay has ended."""
        result = str(sent.log.status) if sent.log.status is not None else (sent.log.error or "none")
        self._attempts.labels(route, result).inc()

    def settled(self, arrival: Arrival, attempts: int, outcome: Outcome) -> None:
        """An outcome is on the disk."""
        self._outcomes.labels(outcome).inc()
        self._needed.labels(outcome).observe(attempts)
        if outcome == "delivered":
            self._age.observe(max(0.0, self._clock() - arrival.captured))

    def duplicate(self) -> None:
        """A message named what was settled before."""
        self._outcomes.labels("duplicate").inc()

    def poison(self) -> None:
        """A message named no capture."""
        self._outcomes.labels("poison").inc()


class ReplayFigures(Collector):
    """What waits, as it was when it was last asked: a scrape must not wait for a database."""

    def __init__(
        self,
        state: Callable[[], tuple[AuditStats | None, SourceHealth | None]],
        held_up: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._held_up = held_up
        self._clock = clock

    def describe(self) -> list[Metric]:
        """Empty: the names collide with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        stats, source = self._state()
        paused = "1 while captures wait because the upstream fails."
        yield GaugeMetricFamily("holdfast_replay_paused", paused, value=float(self._held_up()))
        if stats:
            waiting = GaugeMetricFamily("holdfast_replay_open", "Captures that are not settled.", labels=["due"])
            waiting.add_metric(["now"], stats.due)
            waiting.add_metric(["later"], stats.waiting)
            yield waiting
            settled = GaugeMetricFamily("holdfast_replay_captures", "Captures in the audit store.", labels=["state"])
            for state, count in stats.by_state.items():
                settled.add_metric([state], count)
            yield settled
            oldest = max(0.0, self._clock() - stats.oldest_open) if stats.oldest_open is not None else 0.0
            yield GaugeMetricFamily("holdfast_replay_oldest_seconds", "Age of the oldest open capture.", value=oldest)
        if source and source.lag is not None:
            yield GaugeMetricFamily("holdfast_replay_lag", "Messages that the source still has.", value=source.lag)
