"""policy.notices: what is told of a route, when, and never too often."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.notices import LATEST, Gone, Notice, NoticeRules, Notices, Trouble

REFUSED = Trouble(fate="failed", error="connection_refused", reason="nobody listens", traceparent="00-1")


def captured(number: int = 1) -> Trouble:
    return Trouble(fate="captured", error="http_503", capture_id=f"c{number}")


def given_up(number: int = 1, fate: str = "dead") -> Trouble:
    return Trouble(fate=fate, error="http_503", reason="attempts", capture_id=f"c{number}", attempts=12, status=503)


def notices(**rules: Any) -> Notices:
    return Notices(NoticeRules(**rules))


def types(told: Iterable[Notice]) -> list[str]:
    return [notice.type for notice in told]


def recovered(made: Notices, route: str, now: float) -> list[Notice]:
    """After three good answers."""
    return [notice for _ in range(3) for notice in made.answered(route, now)]


# -- failing and recovered ------------------------------------------------------------------------------------------


def test_the_first_failure_is_told_and_the_next_are_counted() -> None:
    """One notice, with what the failure was; the counts are in the notice of the recovery."""
    made = notices()
    (first,) = made.failed("users", captured(1), 100.0)
    assert (first.type, first.route, first.at, first.since, first.trouble) == (
        *("failing", "users", 100.0, 100.0),
        captured(1),
    )
    assert (first.capture_ids, first.captured, first.failed, first.suppressed) == (("c1",), 1, 0, 0)
    for number in range(2, 52):
        assert made.failed("users", captured(number), 101.0) == []
    assert made.failed("users", REFUSED, 102.0) == []
    (last,) = recovered(made, "users", 160.0)
    assert (last.type, last.since, last.at, last.captured, last.failed) == ("recovered", 100.0, 160.0, 51, 1)
    assert last.capture_ids == tuple(f"c{number}" for number in range(52 - LATEST, 52))
    assert (last.trouble.fate, last.trouble.error, last.unsettled) == ("ok", "http_503", None)
    assert not made.waits


def test_a_recovery_takes_so_many_good_answers_in_a_row() -> None:
    """A failure in between, of a request or of the upstream alone, starts the count again."""
    made = notices(good_answers=3)
    made.failed("users", REFUSED, 0.0)
    assert made.answered("users", 1.0) + made.answered("users", 1.0) == []
    made.failed("users", REFUSED, 2.0)
    assert made.answered("users", 3.0) + made.answered("users", 3.0) == []
    made.stumbled("users")
    assert made.answered("users", 4.0) + made.answered("users", 4.0) == []
    assert types(made.answered("users", 4.0)) == ["recovered"]
    assert recovered(made, "users", 5.0) == []


def test_a_delivered_replay_is_a_recovery() -> None:
    """The upstream has taken what it had refused; what is left over is known then."""
    made = notices()
    for number in (1, 2, 3):
        made.failed("users", captured(number), 0.0)
    (told,) = made.settled("users", "delivered", Trouble(fate="delivered", capture_id="c1"), 9.0)
    assert (told.type, told.trouble.fate, told.captured, told.unsettled) == ("recovered", "delivered", 3, 2)


@pytest.mark.parametrize("outcome", ["dead", "parked", "discarded"])
def test_other_outcomes_are_no_recovery_and_leave_less_to_do(outcome: Gone) -> None:
    """Given up is not waiting any more."""
    made = notices(types=frozenset({"failing", "recovered"}))
    made.failed("users", captured(1), 0.0)
    made.failed("users", captured(2), 0.0)
    assert made.settled("users", outcome, given_up(1), 1.0) == []
    (told,) = recovered(made, "users", 2.0)
    assert told.unsettled == 1


def test_routes_do_not_know_of_each_other() -> None:
    """Each has its own story."""
    made = notices()
    assert types(made.failed("a", REFUSED, 0.0)) == ["failing"]
    assert recovered(made, "b", 0.0) == []
    assert types(made.failed("b", REFUSED, 0.0)) == ["failing"]
    assert [each.route for each in recovered(made, "a", 1.0)] == ["a"]


def test_only_the_routes_and_types_that_are_wanted_are_told() -> None:
    """A recovery is told also where its failure was not wanted."""
    made = notices(routes=frozenset({"a"}), types=frozenset({"recovered"}))
    assert made.failed("a", REFUSED, 0.0) + made.failed("b", REFUSED, 0.0) == []
    assert made.settled("a", "dead", given_up(), 0.0) + made.settled("b", "dead", given_up(), 0.0) == []
    assert types(recovered(made, "a", 1.0)) == ["recovered"]
    assert recovered(made, "b", 1.0) == []
    assert not made.waits


# -- flapping -------------------------------------------------------------------------------------------------------


def test_a_route_that_flaps_is_told_once_in_every() -> None:
    """Down and up every ten seconds: the first pair, and then nothing for five minutes."""
    made, told = notices(every=300.0, quiet=60.0), list[Notice]()
    for second in range(0, 600, 10):
        told += made.failed("users", REFUSED, float(second))
        told += recovered(made, "users", second + 5.0)
    assert [(notice.type, notice.at) for notice in told] == [
        *(("failing", 0.0), ("recovered", 5.0)),
        *(("failing", 300.0), ("recovered", 305.0)),
    ]
    assert told[2].suppressed == 29
    assert made.suppressed["failing"] == 58


def test_a_route_that_flaps_and_stays_down_is_told_after_every() -> None:
    """By the clock: no further failure is needed."""
    made = notices(every=300.0, quiet=60.0)
    made.failed("users", REFUSED, 0.0)
    recovered(made, "users", 10.0)
    assert made.failed("users", captured(7), 20.0) == []
    assert made.waits
    assert made.due(299.0) == []
    (told,) = made.due(300.0)
    assert (told.type, told.since, told.trouble, told.suppressed) == ("failing", 20.0, captured(7), 1)
    assert not made.waits


def test_a_route_that_fails_again_after_a_quiet_while_is_told_at_once() -> None:
    """That is another outage."""
    made = notices(every=300.0, quiet=60.0)
    made.failed("users", REFUSED, 0.0)
    recovered(made, "users", 10.0)
    assert types(made.failed("users", REFUSED, 70.0)) == ["failing"]


# -- dead letters ---------------------------------------------------------------------------------------------------


def test_dead_letters_are_told_at_once_and_then_together() -> None:
    """With how many, and the latest ids."""
    made = notices(every=300.0)
    (first,) = made.settled("users", "dead", given_up(1), 0.0)
    assert (first.type, first.dead, first.capture_ids, first.trouble) == ("dead_letter", 1, ("c1",), given_up(1))
    for number in range(2, 40):
        assert made.settled("users", "parked", given_up(number, "parked"), float(number)) == []
    assert made.due(299.0) == []
    (then,) = made.due(300.0)
    assert (then.dead, then.since, then.trouble) == (38, 2.0, given_up(39, "parked"))
    assert then.capture_ids == tuple(f"c{number}" for number in range(30, 40))
    assert not made.waits
    assert types(made.settled("users", "dead", given_up(50), 700.0)) == ["dead_letter"]


def test_delivered_and_discarded_captures_are_no_dead_letters() -> None:
    """And nothing is remembered of a route that nothing is the matter with."""
    made = notices()
    assert (
        made.settled("users", "delivered", captured(), 0.0) + made.settled("users", "discarded", captured(), 0.0) == []
    )
    assert not made._routes


# -- the rate -------------------------------------------------------------------------------------------------------


def test_an_outage_of_everything_does_not_flood() -> None:
    """Ten in a minute; what was held back is counted, and told after `every` if it is still so."""
    made = notices(per_minute=10, every=300.0)
    told = [notice for number in range(30) for notice in made.failed(f"r{number:02}", REFUSED, 0.0)]
    assert [notice.route for notice in told] == [f"r{number:02}" for number in range(10)]
    assert made.suppressed["failing"] == 20
    assert made.due(61.0) == []
    later = made.due(300.0)
    assert [notice.route for notice in later] == [f"r{number}" for number in range(10, 20)]
    assert [notice.suppressed for notice in later] == [20] + [0] * 9


def test_a_recovery_is_told_as_soon_as_the_rate_allows() -> None:
    """Whoever was told that it fails is told that it does not; others need not be."""
    made = notices(per_minute=2)
    for route in ("a", "b", "c"):
        made.failed(route, REFUSED, 0.0)
    assert [notice for route in ("a", "b", "c") for notice in recovered(made, route, 10.0)] == []
    assert made.due(59.0) == []
    assert made.due(59.5) == []
    assert made.suppressed["recovered"] == 2  # once each, however often it was looked at
    assert [(notice.type, notice.route) for notice in made.due(60.0)] == [("recovered", "a"), ("recovered", "b")]
    assert not made.waits


def test_a_recovery_that_could_not_be_told_and_was_none_is_not_told() -> None:
    """It is the same outage then, from its beginning."""
    made = notices(per_minute=1)
    made.failed("a", captured(1), 0.0)
    assert recovered(made, "a", 10.0) == []
    assert made.failed("a", captured(2), 20.0) == []
    assert made.due(70.0) == []
    (told,) = recovered(made, "a", 80.0)
    assert (told.type, told.since, told.captured) == ("recovered", 0.0, 2)


def test_dead_letters_that_the_rate_holds_back_are_told_later() -> None:
    """All of them, together."""
    made = notices(per_minute=1)
    made.failed("a", REFUSED, 0.0)
    assert made.settled("a", "dead", given_up(1), 1.0) + made.settled("a", "dead", given_up(2), 2.0) == []
    (told,) = made.due(60.0)
    assert (told.type, told.dead, told.suppressed) == ("dead_letter", 2, 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["failed", "captured", "answered", "dead", "parked", "delivered", "stumbled", "due"]),
        st.sampled_from("abcde"),
        st.sampled_from([0.0, 0.0, 0.1, 1.0, 7.0, 31.0, 60.0, 301.0]),
    ),
    max_size=200,
)


@given(STEPS, st.integers(1, 4))
def test_no_order_of_events_exceeds_the_rate_or_tells_what_is_not_so(
    steps: list[tuple[str, str, float]], per_minute: int
) -> None:
    """In any minute; and failing and recovered take turns on each route, the first being failing."""
    made, told, now = notices(per_minute=per_minute, good_answers=1), list[Notice](), 0.0
    for number, (what, route, later) in enumerate(steps):
        now += later
        if what in ("failed", "captured"):
            told += made.failed(route, REFUSED if what == "failed" else captured(number), now)
        elif what == "answered":
            told += made.answered(route, now)
        elif what == "stumbled":
            made.stumbled(route)
        elif what == "due":
            told += made.due(now)
        else:
            told += made.settled(route, what, given_up(number, what), now)  # type: ignore[arg-type]
    times = [notice.at for notice in told]
    assert times == sorted(times)
    for start, end in zip(times, times[per_minute:], strict=False):
        assert end - start >= 59.999
    for route in "abcde":
        stories = [notice.type for notice in told if notice.route == route and notice.type != "dead_letter"]
        assert stories == ["failing", "recovered"] * (len(stories) // 2) + ["failing"] * (len(stories) % 2)
        dead = [notice.at for notice in told if notice.route == route and notice.type == "dead_letter"]
        assert all(end - start >= 299.999 for start, end in itertools.pairwise(dead))


@given(STEPS)
def test_in_the_end_everything_that_is_so_has_been_told(steps: list[tuple[str, str, float]]) -> None:
    """Whatever was held back: given time, every route that fails has been told of, and every dead letter."""
    made, told, now, dead, down = notices(per_minute=1, good_answers=1), list[Notice](), 0.0, 0, set[str]()
    for number, (what, route, later) in enumerate(steps):
        now += later
        if what == "failed":
            told += made.failed(route, REFUSED, now)
            down.add(route)
        elif what == "answered":
            told += made.answered(route, now)
            down.discard(route)
        elif what in ("dead", "parked"):
            told += made.settled(route, what, given_up(number, what), now)  # type: ignore[arg-type]
            dead += 1
    for _ in range(200):
        now += 60.0
        told += made.due(now)
    assert not made.waits
    assert sum(notice.dead for notice in told) == dead
    last = {notice.route: notice.type for notice in told if notice.type != "dead_letter"}
    assert {route for route, type_ in last.items() if type_ == "failing"} == down


def test_changed_rules_hold_for_what_waits() -> None:
    """A longer `every` is waited for, a route that is not wanted any more is forgotten."""
    made = notices(every=300.0)
    for route in ("a", "b"):
        made.settled(route, "dead", given_up(1), 0.0)
        made.settled(route, "dead", given_up(2), 1.0)
    made.follow(NoticeRules(every=600.0, routes=frozenset({"a"})))
    assert made.due(599.0) == []
    assert [notice.route for notice in made.due(600.0)] == ["a"]


def test_more_captures_than_can_be_remembered_are_not_called_settled() -> None:
    """A number that is wrong would be worse than none."""
    made = notices()
    for number in range(10_001):
        made.failed("a", captured(number), 0.0)
    (told,) = made.settled("a", "delivered", captured(1), 1.0)
    assert (told.captured, told.unsettled) == (10_001, None)
