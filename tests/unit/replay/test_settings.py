"""What a profile says of replays, as rules."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.policy.replaying.schedule import Exponential, Listed
from holdfast.profile.values import Duration
from holdfast.replay.settings import ReplayerSettings, RouteReplay, ScheduleSettings


def test_a_route_differs_in_what_it_names_and_in_nothing_else() -> None:
    """Everything else is as for all."""
    made = ReplayerSettings(
        attempts=7,
        expires_after=Duration("1h"),
        delivered=("2xx",),
        routes={"own": RouteReplay(attempts=2, delivered=("404",), show_answer=True)},
    )
    rules = made.rules()
    own, other = rules["own"], rules[""]
    assert (own.attempts, other.attempts) == (2, 7)
    assert own.expires_after == other.expires_after == 3600.0
    assert 404 in own.delivered
    assert 404 not in other.delivered
    assert own.retry == other.retry
    assert made.shows_answer("own")
    assert not made.shows_answer("other")


def test_a_schedule_is_a_list_or_grows() -> None:
    """The list wins."""
    assert ScheduleSettings(delays=(Duration("1s"), Duration("1m"))).schedule() == Listed((1.0, 60.0))
    assert ScheduleSettings(base=Duration("3s")).schedule() == Exponential(3.0, 2.0, 600.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"delivered": ("2yy",)},
        {"routes": {"own": RouteReplay(retry=("600",))}},
        {"schedule": ScheduleSettings(base=Duration("1h"), longest=Duration("1s"))},
        {"attach": {"content-length": "3"}},
        {"attach": {"x": "a\nb"}},
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(changes: dict[str, Any]) -> None:
    """Not when the first capture is to be replayed."""
    with pytest.raises(ValueError, match=r"."):
        ReplayerSettings(**changes)


def test_pace_and_requests_follow_the_profile() -> None:
    """As they take it."""
    made = ReplayerSettings(concurrency=3, rate=2.5, slow_start=Duration("1m"), give_way=1, attach={"x-key": "s"})
    assert (made.pace().concurrency, made.pace().rate, made.pace().slow_start, made.pace().give_way) == (
        3,
        2.5,
        60.0,
        1,
    )
    assert made.request_rules().attach == (("x-key", "s"),)
