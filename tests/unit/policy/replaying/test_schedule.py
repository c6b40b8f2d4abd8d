"""policy.replaying.schedule: how long to wait, in which topic, and how fast after an outage."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.replaying.schedule import Exponential, Listed, next_delay, rate, tier_for

fixed = settings(derandomize=True, deadline=None)
JITTER = st.floats(0, 1, exclude_max=True)
FULL = Exponential(1.0, 2.0, 10.0)
EQUAL = Exponential(1.0, 2.0, 10.0, "equal")
LISTED = Listed((5.0, 60.0, 600.0))
TIERS = (("retry-1h", 3600.0), ("retry-10s", 10.0), ("retry-5m", 300.0))


@pytest.mark.parametrize(
    ("schedule", "failed", "jitter", "delay"),
    [
        (FULL, 1, 0.5, 0.5),
        (FULL, 2, 0.5, 1.0),
        (FULL, 4, 0.5, 4.0),
        (FULL, 5, 0.5, 5.0),
        (FULL, 5, 0.0, 0.0),
        (FULL, 100_000, 0.5, 5.0),
        (FULL, 0, 0.5, 0.5),
        (EQUAL, 1, 0.0, 0.5),
        (EQUAL, 1, 0.5, 0.75),
        (EQUAL, 4, 0.5, 6.0),
        (EQUAL, 9, 0.0, 5.0),
        (Exponential(2.0, 1.0, 9.0), 50, 0.5, 1.0),
        (LISTED, 0, 0.9, 5.0),
        (LISTED, 1, 0.9, 5.0),
        (LISTED, 2, 0.9, 60.0),
        (LISTED, 3, 0.9, 600.0),
        (LISTED, 1000, 0.0, 600.0),
    ],
)
def test_the_delay_grows_with_the_failures(
    schedule: Exponential | Listed, failed: int, jitter: float, delay: float
) -> None:
    """By the factor up to the longest, or along the list, whose last delay repeats."""
    assert next_delay(schedule, failed, jitter) == delay


@fixed
@given(
    base=st.floats(1e-3, 1e3),
    factor=st.floats(1, 1e100),
    more=st.floats(0, 1e6),
    failed=st.integers(1, 10_000),
    jitter=JITTER,
)
def test_a_delay_stays_within_its_step(base: float, factor: float, more: float, failed: int, jitter: float) -> None:
    """Full jitter spreads over the whole step, equal jitter over its second half; the longest bounds both."""
    longest = base + more
    full = Exponential(base, factor, longest).delay(failed, jitter)
    equal = Exponential(base, factor, longest, "equal").delay(failed, jitter)
    assert 0 <= full <= longest
    assert base / 2 <= equal <= longest
    assert full <= equal * (1 + 1e-9)


@pytest.mark.parametrize(
    ("schedule", "at_least", "delay"),
    [(LISTED, 0.0, 5.0), (LISTED, 4.0, 5.0), (LISTED, 30.0, 30.0), (FULL, 3600.0, 3600.0)],
)
def test_what_the_server_asked_for_is_a_lower_bound(
    schedule: Exponential | Listed, at_least: float, delay: float
) -> None:
    """RFC 9110, section 10.2.3; also beyond the longest step."""
    assert next_delay(schedule, 1, 0.0, at_least) == delay


@pytest.mark.parametrize(
    ("base", "factor", "longest"),
    [(0, 2, 1), (-1, 2, 1), (1, 0.9, 1), (2, 2, 1), (1, 2, math.inf), (1, math.inf, 2), (1, math.nan, 2)],
)
def test_an_exponential_schedule_has_sound_numbers(base: float, factor: float, longest: float) -> None:
    """A factor below 1 would hurry the more, the worse it goes."""
    with pytest.raises(ValueError, match="write a base above 0"):
        Exponential(base, factor, longest)


@pytest.mark.parametrize("delays", [(), (1.0, -1.0), (math.inf,), (math.nan,)])
def test_a_list_has_at_least_one_delay_and_none_below_zero(delays: tuple[float, ...]) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match="write at least one delay"):
        Listed(delays)


@pytest.mark.parametrize(
    ("delay", "tier"),
    [
        (0.0, "retry-10s"),
        (10.0, "retry-10s"),
        (10.1, "retry-5m"),
        (301.0, "retry-1h"),
        (3600.0, "retry-1h"),
        (1e6, "retry-1h"),
    ],
)
def test_the_retry_topic_is_the_shortest_that_is_long_enough(delay: float, tier: str) -> None:
    """And the longest where none is long enough."""
    assert tier_for(delay, TIERS) == tier


@pytest.mark.parametrize(
    ("delay", "local_below", "tier"), [(4.9, 5.0, None), (5.0, 5.0, "retry-10s"), (0.0, 0.0, "retry-10s")]
)
def test_a_short_delay_is_waited_for_on_the_spot(delay: float, local_below: float, tier: str | None) -> None:
    """A round through a topic is not worth it."""
    assert tier_for(delay, TIERS, local_below) == tier


def test_without_retry_topics_everything_waits_where_it_is() -> None:
    """As with a broker that has none."""
    assert tier_for(3600.0, ()) is None


@pytest.mark.parametrize(
    ("seconds", "ramp", "expected"),
    [
        (0.0, 60.0, 5.0),
        (-1.0, 60.0, 5.0),
        (6.0, 60.0, 5.0),
        (30.0, 60.0, 25.0),
        (60.0, 60.0, 50.0),
        (1e9, 60.0, 50.0),
        (0.0, 0.0, 50.0),
    ],
)
def test_after_an_outage_the_rate_comes_up_slowly(seconds: float, ramp: float, expected: float) -> None:
    """In a straight line from a tenth, so that what has just come back is not run over by what has piled up."""
    assert rate(seconds, 50.0, ramp) == pytest.approx(expected)


@fixed
@given(first=st.floats(0, 1e4), later=st.floats(0, 1e4), full=st.floats(0.1, 1e4), ramp=st.floats(0, 1e4))
def test_the_rate_never_falls_and_never_passes_the_full_one(
    first: float, later: float, full: float, ramp: float
) -> None:
    """It is never nothing either."""
    one, other = sorted((first, later))
    assert 0 < rate(one, full, ramp) <= rate(other, full, ramp) <= full
