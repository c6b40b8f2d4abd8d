"""A queue for each pool of servers: turns, claims, and profiles that change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from holdfast.policy.breaker import Breaker, BreakerRules
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.pool import Pool, PoolServer
from holdfast.replay.lanes import Held
from holdfast.replay.pace import IN_A_ROW, PaceRules
from holdfast.replay.queues import Fitness, Queues
from holdfast.testing import FixedClock
from tests.unit.replay.fakes import held, make_leg


class Rigged:
    """Queues over a leg; `unfit` says what is not to be sent."""

    def __init__(self, *routes: str, max_fails: int = 0, **rules: Any) -> None:
        self.clock = FixedClock(1000.0)
        self.leg: Any = make_leg(self.clock, *routes, max_fails=max_fails)
        self.queues = Queues(self.leg, PaceRules(**({"slow_start": 0.0} | rules)), lambda: 0)
        self.unfit: dict[str, Fitness] = {}

    def add(self, *names: str, route: str = "") -> list[Held]:
        helds = [held(name, f"/{name}", route=route) for name in names]
        for each in helds:
            self.queues.add(each)
        return helds

    def ready(self) -> list[str]:
        return [each.arrival.id for each in self.queues.ready(lambda one: self.unfit.get(one.arrival.id, "fit"))]

    def new_pools(self, *, keep: bool) -> None:
        """As `Leg.follow` does: new plans, in which servers that stay are the same objects."""
        for name, plan in list(self.leg.plans.items()):
            servers = (
                plan.pool.given if keep else [PoolServer(Endpoint("http", "new.test", 80), Breaker(BreakerRules()))]
            )
            self.leg.plans[name] = SimpleNamespace(pool=Pool(servers))


def test_they_go_in_the_order_in_which_they_became_due() -> None:
    """As many as the pace allows."""
    rig = Rigged(concurrency=2)
    one, two, _ = rig.add("1", "2", "3")
    assert rig.ready() == ["1", "2"]
    assert rig.queues.under_way == 2
    rig.queues.ended(one, answered=True)
    assert rig.ready() == ["3"]
    rig.queues.given_up(two)
    assert rig.queues.under_way == 1


def test_what_waits_in_a_queue_is_not_put_there_twice() -> None:
    """It would be sent before it is due."""
    rig = Rigged()
    one = rig.add("1")[0]
    rig.queues.add(one)
    assert rig.ready() == ["1"]
    assert rig.ready() == []


def test_one_whose_claim_has_run_out_comes_back_to_its_place() -> None:
    """And costs nobody a part of the rate."""
    rig = Rigged(rate=1.0)
    one, *_ = rig.add("1", "2", "3")
    rig.unfit["1"] = "not ours"
    assert rig.ready() == []
    assert rig.queues.under_way == 0
    del rig.unfit["1"]
    rig.queues.add(one)
    assert rig.ready() == ["1"], "before those that came after it"


def test_no_more_are_claimed_anew_than_can_be_sent() -> None:
    """With a low rate all the claims would run out again, for ever."""
    rig = Rigged(concurrency=2)
    helds = rig.add(*map(str, range(10)))
    rig.unfit = {str(number): "not ours" for number in range(10)}
    assert rig.ready() == []
    assert sum(each.is_queued for each in helds) == 8


def test_what_is_gone_is_passed_over() -> None:
    """Settled, lost, or no head any more."""
    rig = Rigged(concurrency=1)
    rig.add("1", "2", "3")
    rig.unfit = {"1": "gone", "2": "gone"}
    assert rig.ready() == ["3"]


def test_one_that_was_sent_queues_up_behind_the_others_the_next_time() -> None:
    """Who fails does not keep the first place."""
    rig = Rigged(concurrency=1)
    one, _ = rig.add("1", "2")
    assert rig.ready() == ["1"]
    rig.queues.ended(one, answered=True)
    rig.queues.add(one)
    assert rig.ready() == ["2"]


def test_servers_of_a_route_that_fail_keep_only_its_own_waiting() -> None:
    """Each pool has a pace."""
    rig = Rigged("own", concurrency=1)
    mine = rig.add("a", "b", "c", "d", route="own")
    rig.add("1")
    for each in mine[:IN_A_ROW]:
        assert each.arrival.id in rig.ready()
        rig.queues.ended(each, answered=False)
    assert rig.ready() == []
    assert rig.queues.held_up
    rig.add("2")
    assert rig.ready() == [], "1 is on its way"
    assert rig.queues.wait() is not None


def test_nothing_waits_when_nothing_waits() -> None:
    """A pace in trouble without anybody who waits is nobody's trouble."""
    rig = Rigged()
    one = rig.add("1")[0]
    rig.ready()
    for _ in range(IN_A_ROW):
        rig.queues.ended(one, answered=False)
        rig.queues.add(one)
        rig.ready()
    assert rig.queues.wait() is None or rig.queues.held_up
    assert not Rigged().queues.held_up


def test_a_changed_profile_keeps_what_is_known_of_servers_that_stay() -> None:
    """Who is in trouble is not forgotten, and those under way are still counted."""
    rig = Rigged(concurrency=2)
    one, *_ = rig.add("1", "2", "3", "4")
    assert rig.ready() == ["1", "2"]
    rig.new_pools(keep=True)
    assert rig.ready() == []
    rig.queues.ended(one, answered=True)
    assert rig.ready() == ["3"]


def test_what_waits_for_servers_that_are_gone_goes_to_those_that_came() -> None:
    """Their circuit would stay open for ever: nobody asks them any more."""
    rig = Rigged(max_fails=1)
    server = rig.leg.plans[""].pool.given[0]
    server.healthy = False
    rig.add("1")
    assert rig.ready() == []
    rig.new_pools(keep=False)
    assert rig.ready() == ["1"]


def test_a_route_that_gets_servers_of_its_own_takes_its_captures_along() -> None:
    """And one that loses them brings them back."""
    rig = Rigged("own")
    rig.leg.plans["own"].pool.given[0].healthy = False
    rig.add("1", route="own")
    assert rig.ready() == []
    del rig.leg.plans["own"]
    assert rig.ready() == ["1"]


def test_new_rules_are_followed_by_every_queue() -> None:
    """Those that there are, and those to come."""
    rig = Rigged("own", concurrency=1)
    rig.add("1", "2")
    rig.queues.follow(PaceRules(concurrency=5, slow_start=0.0))
    rig.add("a", "b", route="own")
    assert sorted(rig.ready()) == ["1", "2", "a", "b"]


def test_what_the_pool_knows_is_asked_of_the_servers_in_use() -> None:
    """Health, circuits, and when one has last answered."""
    rig = Rigged()
    rig.add("1")
    rig.ready()
    state = cast(Any, next(iter(rig.queues._queues.values()))).state
    server = rig.leg.plans[""].pool.given[0]
    assert state.admits()
    assert state.answers_since() is None
    server.answered, server.healthy = 7.0, False
    assert state.answers_since() == 7.0
    assert not state.admits()
