"""The figures of the replayer."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from holdfast.audit import AuditStats
from holdfast.replay.report import ReplayFigures, ReplayReport
from holdfast.replay.source import SourceHealth
from holdfast.testing import FixedClock
from tests.unit.replay.fakes import EPOCH, arrival, sent


def test_outcomes_attempts_and_ages_are_counted() -> None:
    """An age only of what was delivered, and never below nothing."""
    registry, clock = CollectorRegistry(), FixedClock(EPOCH + 60.0)
    report = ReplayReport(registry, clock)
    report.attempt("users", sent(503))
    report.attempt("users", sent(None, "connection_refused"))
    report.settled(arrival("1"), 3, "delivered")
    report.settled(arrival("2", captured=EPOCH + 900.0), 1, "delivered")
    report.settled(arrival("3"), 5, "dead")
    report.duplicate()
    report.poison()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for outcome, count in (("delivered", 2), ("dead", 1), ("duplicate", 1), ("poison", 1)):
        assert value("holdfast_replay_total", outcome=outcome) == count
    assert value("holdfast_replay_attempts_total", route="users", result="503") == 1
    assert value("holdfast_replay_attempts_total", route="users", result="connection_refused") == 1
    assert value("holdfast_replay_attempts_needed_sum", outcome="dead") == 5
    assert value("holdfast_replay_age_seconds_count") == 2
    assert value("holdfast_replay_age_seconds_sum") == 60.0


def test_what_waits_is_shown_as_it_was_last_seen() -> None:
    """And nothing is shown that nobody knows."""
    registry, clock = CollectorRegistry(), FixedClock(1000.0)
    seen: list[Any] = [None, None]
    figures = ReplayFigures(lambda: (seen[0], seen[1]), lambda: True, clock)
    registry.register(figures)
    assert registry.get_sample_value("holdfast_replay_paused") == 1
    assert registry.get_sample_value("holdfast_replay_oldest_seconds") is None
    assert registry.get_sample_value("holdfast_replay_lag") is None
    seen[0] = AuditStats({"open": 3, "dead": 2}, due=1, waiting=2, oldest_open=400.0)  # type: ignore[typeddict-item]
    seen[1] = SourceHealth(ok=True, detail="", lag=7)
    assert registry.get_sample_value("holdfast_replay_open", {"due": "later"}) == 2
    assert registry.get_sample_value("holdfast_replay_captures", {"state": "dead"}) == 2
    assert registry.get_sample_value("holdfast_replay_oldest_seconds") == 600.0
    assert registry.get_sample_value("holdfast_replay_lag") == 7
    assert figures.describe() == []
