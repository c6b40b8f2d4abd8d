"""admin.dashboard.chart: what has happened is seen, in its proportion and in words."""

import pytest

from holdfast.admin.dashboard.chart import HEIGHT, LEAST, WIDTH, chart_of, nice_top, strip_of
from holdfast.policy.minutes import Minute

NOON = 1_767_268_800.0


def hour(**fates: int) -> tuple[Minute, ...]:
    """Sixty minutes, the last with these counts."""
    empty = [Minute(NOON + 60 * n, {}) for n in range(59)]
    return (*empty, Minute(NOON + 59 * 60, {("users", fate): count for fate, count in fates.items()}))


def test_a_column_is_as_high_as_its_count() -> None:
    """The parts stand on each other, the good at the bottom."""
    chart = chart_of(hour(ok=60, failed=20))
    last = chart.columns[-1]
    assert (chart.top, chart.total, last.x) == (100, 80, 59 * WIDTH)
    assert [(bar.fate, bar.y, bar.height) for bar in last.bars] == [("ok", 40.0, 60.0), ("failed", 20.0, 20.0)]


def test_one_failure_in_a_thousand_is_seen() -> None:
    """And nothing is drawn outside of the picture."""
    last = chart_of(hour(ok=1000, failed=1)).columns[-1]
    assert last.bars[-1].height == LEAST
    full = chart_of(hour(ok=1000, stale=1, captured=1, failed=1, rejected=1, retried=1)).columns[-1]
    assert all(0 <= bar.y <= HEIGHT for bar in full.bars)


def test_it_says_in_words_what_it_shows() -> None:
    """For who does not see it, and for the mouse."""
    chart = chart_of(hour(ok=2, captured=1))
    assert chart.words == "3 requests in the last hour: 2 ok, 1 captured"
    assert chart.columns[-1].words == "12:59 UTC: 2 ok, 1 captured"
    assert chart.columns[0].words == "12:00 UTC: none"
    assert [column.begun for column in chart.busy] == [NOON + 59 * 60]
    assert chart.share("captured", "failed") == pytest.approx(1 / 3)


def test_an_hour_without_requests_is_a_chart_too() -> None:
    """The first minute of every gateway."""
    chart = chart_of(hour())
    assert (chart.total, chart.top, chart.sums, chart.share("ok"), chart.busy) == (0, 5, (), None, [])
    assert chart.words == "0 requests in the last hour"


def test_one_route_can_be_shown_alone() -> None:
    """Those of the others are left out."""
    assert chart_of(hour(ok=2), "users").total == 2
    assert chart_of(hour(ok=2), "data").total == 0


@pytest.mark.parametrize(
    ("most", "top"), [(0, 5), (5, 5), (6, 10), (11, 20), (21, 50), (99, 100), (101, 200), (9999, 10000)]
)
def test_the_scale_is_a_round_number(most: int, top: int) -> None:
    """5, 10, 20, 50 and so on."""
    assert nice_top(most) == top


def test_a_strip_is_full_and_shows_every_fate() -> None:
    """However few there were."""
    parts = strip_of([("ok", 10_000), ("failed", 1)]).parts
    assert [fate for fate, _, _ in parts] == ["ok", "failed"]
    assert parts[1][2] >= LEAST - 0.1
    assert parts[-1][1] + parts[-1][2] == pytest.approx(100, abs=0.1)
    assert strip_of([]).parts == ()
