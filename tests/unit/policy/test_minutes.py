"""policy.minutes: the last hour by minute, route and fate, bounded in time and in routes."""

from holdfast.policy.minutes import KEPT, OTHER, Minutes, by_route

NOON = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC


def counts(minutes: Minutes, now: float) -> list[tuple[int, int]]:
    """(minutes ago, requests) of those that are not empty."""
    hour = minutes.hour(now)
    return [(KEPT - 1 - n, sum(each.counts.values())) for n, each in enumerate(hour) if each.counts]


def test_a_request_counts_in_the_minute_in_which_it_ended() -> None:
    """Minutes are those of the clock on the wall, the newest last and not yet over."""
    minutes = Minutes()
    for at in (NOON - 1, NOON, NOON + 59, NOON + 60):
        minutes.add(at, "users", "ok")
    assert counts(minutes, NOON + 61) == [(2, 1), (1, 2), (0, 1)]
    hour = minutes.hour(NOON + 61)
    assert len(hour) == KEPT
    assert [each.begun for each in hour[-2:]] == [NOON, NOON + 60]


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    """Whether or not anything has been counted since."""
    minutes = Minutes()
    minutes.add(NOON, "users", "ok")
    assert counts(minutes, NOON + 59 * 60) == [(59, 1)]
    assert counts(minutes, NOON + 60 * 60) == []
    minutes.add(NOON + 3 * 3600, "users", "ok")
    assert counts(minutes, NOON + 3 * 3600) == [(0, 1)]


def test_a_minute_can_be_asked_by_fate_and_by_route() -> None:
    """No route means all of them."""
    minutes = Minutes()
    for route, fate in (("users", "ok"), ("users", "failed"), ("data", "ok")):
        minutes.add(NOON, route, fate)
    newest = minutes.hour(NOON)[-1]
    assert (newest.of("ok"), newest.of("ok", "users"), newest.of("failed", "data")) == (2, 1, 0)


def test_routes_that_lose_requests_come_first() -> None:
    """Then the busiest; fates in the order of all other views."""
    minutes = Minutes()
    for route, fate, times in (("busy", "ok", 9), ("bad", "captured", 1), ("bad", "ok", 1), ("quiet", "hit", 1)):
        for _ in range(times):
            minutes.add(NOON, route, fate)
    found = by_route(minutes.hour(NOON))
    assert [(each.route, each.total, each.lost) for each in found] == [
        ("bad", 2, 0.5),
        ("busy", 9, 0.0),
        ("quiet", 1, 0),
    ]
    assert list(found[0].fates) == ["ok", "captured"]


def test_there_are_never_more_routes_than_allowed() -> None:
    """What came too late is counted as one; a route that has not been seen for an hour makes room."""
    minutes = Minutes(most_routes=2)
    for route in ("a", "b", "c", "d", "a", "c"):
        minutes.add(NOON, route, "ok")
    assert {each.route: each.total for each in by_route(minutes.hour(NOON))} == {"a": 2, "b": 1, OTHER: 3}
    later = NOON + 3600
    for route in ("c", "d", "e"):
        minutes.add(later, route, "ok")
    assert {each.route for each in by_route(minutes.hour(later))} == {"c", "d", OTHER}


def test_a_clock_that_goes_back_loses_nothing() -> None:
    """What ends meanwhile counts in the newest minute."""
    minutes = Minutes()
    minutes.add(NOON, "users", "ok")
    minutes.add(NOON - 300, "users", "ok")
    assert counts(minutes, NOON - 300) == [(0, 2)]
    minutes.add(NOON + 60, "users", "ok")
    assert counts(minutes, NOON + 60) == [(1, 2), (0, 1)]


def test_a_clock_that_goes_back_by_a_day_begins_anew() -> None:
    """Otherwise the page would show nothing new for a day."""
    minutes = Minutes()
    minutes.add(NOON, "users", "ok")
    minutes.add(NOON - 86_400, "users", "ok")
    assert counts(minutes, NOON - 86_400) == [(0, 1)]
