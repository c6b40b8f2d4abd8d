"""What a request costs in Python calls, which are repeatable where seconds are not: `tests.bench.counts`."""

from __future__ import annotations

import warnings

import pytest

from tests.bench import counts

pytestmark = pytest.mark.any_engine  # both are counted


@pytest.mark.parametrize("engine", counts.ENGINES)
def test_a_request_takes_no_more_calls_than_it_did(engine: str) -> None:
    """Hit, pass-through and capture; fewer calls are to be noted too, or they could come back unseen."""
    then, exact = counts.recorded()
    allowed = counts.ALLOWED if exact else counts.ELSEWHERE
    if not exact:
        other = "no counts for Python {python} and mitmproxy {mitmproxy}".format(**counts.here())
        warnings.warn(f"{other}: compared with those of another, within {allowed:.0%}", stacklevel=1)
    changed = counts.changes(counts.measure(engine), then[engine], allowed)
    assert not changed, "\n".join(
        [*changed, "if that is meant: scripts/bench --counts --write, and commit counts.json"]
    )


def test_another_python_is_compared_more_loosely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left out: what is recorded for another one stands in."""
    monkeypatch.setattr(counts, "here", lambda: {"python": "3.99", "mitmproxy": "99"})
    then, exact = counts.recorded()
    assert then.keys() == set(counts.ENGINES)
    assert not exact


def test_a_count_that_grows_or_shrinks_is_named() -> None:
    """Three in a hundred are let pass."""
    now, then = {"hit": 104, "miss": 103, "new": 1, "less": 96}, {"hit": 100, "miss": 100, "less": 100, "old": 1}
    told = counts.changes(now, then, 0.03)
    assert told == [
        "hit: 104 calls per request, 4.0% more than 100",
        "less: 96 calls per request, 4.0% fewer than 100",
        "new: newly counted",
        "old: no longer counted",
    ]
