"""From counters to rates, whatever restarts meanwhile."""

from __future__ import annotations

import random

import pytest

from holdfast.top.history import SPAN, Group, History, quantile
from tests.unit.top.scrapes import requests, scrape

FATE: Group = ("holdfast_requests_total", ("fate",))


def history(*readings: tuple[float, dict[str, float]]) -> History:
    """One that has read these, at these seconds."""
    made = History([FATE])
    for when, samples in readings:
        made.add(scrape(when, samples))
    return made


def test_one_reading_gives_no_rates() -> None:
    """What has been counted before anybody looked is not a rate."""
    found = history((0, requests(ok=1000)))
    assert found.now(FATE) is None
    assert found.minute(FATE) is None
    assert set(found.line(FATE, 10)) == {None}


def test_the_rate_is_that_of_the_last_interval() -> None:
    """However long it was."""
    found = history((0, requests(ok=0)), (1, requests(ok=100)), (3, requests(ok=110, failed=4))).now(FATE)
    assert found
    assert (found.rate("ok"), found.rate("failed"), found.rate("hit"), found.rate()) == (5, 2, 0, 7)


@pytest.mark.parametrize("start", [{}, {"process_start_time_seconds": 1.0}], ids=["unsaid", "said"])
def test_a_counter_that_went_back_began_again_at_nothing(start: dict[str, float]) -> None:
    """A gateway that was restarted: what it shows has been counted since."""
    again = {name: value + 1 for name, value in start.items()}
    found = history((0, requests(ok=1000) | start), (1, requests(ok=1010) | start), (2, requests(ok=7) | again))
    now, minute = found.now(FATE), found.minute(FATE)
    assert now
    assert minute
    assert (now.rate("ok"), minute.count("ok"), found.restarts) == (7, 17, 1)


def test_one_counter_may_begin_again_alone() -> None:
    """An addon that a changed profile has brought back, in a gateway that was not restarted."""
    start = {"process_start_time_seconds": 1.0}
    found = history((0, requests(ok=10, hit=10) | start), (1, requests(ok=12, hit=3) | start))
    now = found.now(FATE)
    assert now
    assert (now.rate("ok"), now.rate("hit"), found.restarts) == (2, 3, 0)


def test_a_restart_shows_by_its_time_where_the_counter_has_overtaken() -> None:
    """Away for long, and back with more than before."""
    before, after = {"process_start_time_seconds": 1.0}, {"process_start_time_seconds": 2.0}
    found = history((0, requests(ok=10) | before), (10, requests(ok=50) | after))
    now = found.now(FATE)
    assert now
    assert (now.count("ok"), found.restarts) == (50, 1)


def test_labels_that_come_later_count_from_nothing_and_those_that_go_do_not_count_back() -> None:
    """The first failure is one failure; after a restart the labels are gone until they are needed."""
    found = history((0, requests(ok=5)), (1, requests(ok=6, failed=1)), (2, requests(ok=6)))
    now, minute = found.now(FATE), found.minute(FATE)
    assert now
    assert minute
    assert (now.rate(), minute.count("failed"), minute.count("ok")) == (0, 1, 1)


def test_the_minute_is_a_minute() -> None:
    """What is older has left it, and is not kept."""
    found = history(*((float(second), requests(ok=second * 2)) for second in range(200)))
    minute = found.minute(FATE)
    assert minute
    assert (minute.count("ok"), minute.seconds) == (2 * SPAN, SPAN)
    assert len(found._points) <= SPAN + 2


def test_with_long_intervals_the_minute_is_the_last_interval() -> None:
    """Rather than nothing at all."""
    minute = history((0, requests(ok=0)), (300, requests(ok=60)), (600, requests(ok=90))).minute(FATE)
    assert minute
    assert (minute.count("ok"), minute.seconds) == (30, 300)


def test_the_line_has_the_rates_of_the_minute_and_gaps_before_the_first_reading() -> None:
    """Between two readings it is straight, so that a long pause is no spike."""
    found = history((0, requests(ok=0)), (30, requests(ok=30)), (40, requests(ok=130)))
    assert found.line(FATE, 6, "ok") == (None, None, 1, 1, 1, 10)
    assert found.line(FATE, 6, "failed") == (None, None, 0, 0, 0, 0)


def test_a_reading_that_is_not_later_counts_for_nothing() -> None:
    """No division by zero, no negative time."""
    found = history((1, requests(ok=1)), (1, requests(ok=5)), (0.5, requests(ok=9)), (2, requests(ok=2)))
    now = found.now(FATE)
    assert now
    assert now.rate() == 1


def test_nothing_is_lost_or_invented_over_any_restarts(seed: int) -> None:
    """The sum over the minute is the sum of what was counted, as far as the readings can know."""
    dice = random.Random(seed)
    shown, counted, readings, start = 0, 0, [], 1.0
    for second in range(50):
        if dice.random() < 0.2:
            shown, start = 0, start + 1
        new = dice.randint(0, 5)
        shown, counted = shown + new, counted + (new if second else 0)
        readings.append((float(second), requests(ok=shown) | {"process_start_time_seconds": start}))
    minute = history(*readings).minute(FATE)
    assert minute
    assert minute.count() == counted


@pytest.mark.parametrize(
    ("share", "buckets", "value"),
    [
        (0.5, {"0.1": 10, "0.2": 10, "+Inf": 10}, 0.05),
        (0.5, {"0.1": 0, "0.2": 10, "+Inf": 10}, pytest.approx(0.15)),
        (0.95, {"0.1": 90, "0.2": 100, "+Inf": 100}, pytest.approx(0.15)),
        (0.99, {"0.1": 90, "0.2": 90, "+Inf": 100}, 0.2),  # above all bounds: the largest of them
        (0.5, {"+Inf": 3}, 0.0),
        (0.5, {"0.1": 0, "+Inf": 0}, None),
        (0.5, {}, None),
    ],
)
def test_quantiles_are_those_of_prometheus(share: float, buckets: dict[str, float], value: float | None) -> None:
    """histogram_quantile: linear within a bucket."""
    assert quantile(share, buckets) == value
