"""The loop among others: messages that come twice, other owners, rebalances, stops, and very many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.audit import Arrival
from holdfast.errors import BrokerUnavailable, StoreUnavailable
from holdfast.replay.pace import PaceRules
from holdfast.replay.replayer import ReplayLimits
from tests.unit.replay import fakes
from tests.unit.replay.fakes import arrival, in_virtual_time, rules, sent, settle_down, taken, until
from tests.unit.replay.rig import Rig, endless

PLACES = (("retry.30s", 30.0),)


@in_virtual_time
async def test_duplicates_are_sent_once() -> None:
    """Together in a batch, one while the other is on its way, and one after it was settled."""
    rig = Rig().start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("1"), taken("1"))
    await until(lambda: rig.sender.under_way)
    rig.source.put(taken("1"))
    await asyncio.sleep(2.0)
    rig.sender.gate.set()
    await rig.settled("1")
    assert rig.source.settled == ["1"] * 3
    rig.source.put(taken("1"))
    await until(lambda: len(rig.source.settled) == 4)
    assert rig.sender.sent == ["1"]
    assert rig.figure("holdfast_replay_total", outcome="duplicate") == 1
    await rig.stop()


@in_virtual_time
async def test_what_a_person_has_sent_again_while_it_leaves_is_sent_again() -> None:
    """Its message comes between the outcome and the news of it to the source: it is no duplicate."""
    rig = Rig().start()
    rig.sender.script["1"] = [sent(404), sent(200)]
    rig.source.refuses = BrokerUnavailable("slow")
    rig.source.put(taken("1"))
    await until(lambda: rig.audit.state("1") == "dead")
    rig.source.put(taken("1", redrive=1))
    await asyncio.sleep(3.0)
    rig.source.refuses = None
    await until(lambda: rig.audit.state("1") == "delivered")
    assert rig.sender.sent == ["1", "1"]
    await rig.settled("1")
    assert len(rig.source.buried) == 1
    assert rig.source.settled == ["1"]
    await rig.stop()


@in_virtual_time
async def test_an_older_one_that_comes_later_goes_first() -> None:
    """From a topic of retries; with it came a younger one, before it."""
    rig = Rig(source=fakes.FakeSource(PLACES))
    await rig.audit.arrive([arrival("old"), arrival("young")], "somebody", 0.0)
    rig.start()
    rig.source.put(taken("young"), taken("old", place="retry.30s"))
    await rig.settled("old", "young")
    assert rig.sender.sent == ["old", "young"]
    assert not rig.source.handed_on
    await rig.stop()


@in_virtual_time
async def test_one_whose_elder_waits_in_a_topic_of_retries_goes_there_too() -> None:
    """Behind it; and what comes after it as well."""
    rig = Rig(source=fakes.FakeSource(PLACES))
    await rig.audit.arrive([arrival("old")], "somebody", 0.0)
    rig.audit.rows["old"].place = "retry.30s"
    rig.start()
    rig.source.put(taken("young"), taken("younger"), taken("other", "/b"))
    await until(lambda: len(rig.source.handed_on) == 2)
    await rig.settled("other")
    assert [(name, place) for name, place, _ in rig.source.handed_on] == [
        ("young", "retry.30s"),
        ("younger", "retry.30s"),
    ]
    assert not len(rig.replayer.lanes)
    await rig.stop()


@in_virtual_time
async def test_a_message_that_was_handed_on_may_be_back_at_once() -> None:
    """Before the broker's word that it is there: it is neither lost nor settled with what is leaving."""
    rig = Rig(source=fakes.FakeSource(PLACES), rule=lambda route: rules(schedule=fakes.Listed((20.0,)))).start()
    rig.sender.script["1"] = [sent(500), sent(200)]
    rig.source.refuses = BrokerUnavailable("slow")
    rig.source.put(taken("1"))
    await until(lambda: rig.audit.rows.get("1") and rig.audit.rows["1"].place)
    rig.source.put(taken("1", place="retry.30s"))
    await asyncio.sleep(3.0)
    rig.source.refuses = None
    await rig.settled("1")
    assert rig.sender.sent == ["1", "1"]
    assert [name for name, *_ in rig.source.handed_on] == ["1"]
    assert rig.source.settled == ["1"]
    await rig.stop()


@in_virtual_time
async def test_what_another_owner_has_is_waited_for() -> None:
    """It is settled there; here it is only noted."""
    rig = Rig()
    await rig.audit.arrive([arrival("1"), arrival("2")], "another", 8.0)
    rig.start()
    rig.source.put(taken("1"), taken("2"))
    await asyncio.sleep(4.0)
    assert not rig.sender.sent
    await rig.audit.settle(["1"], "delivered", "")
    await rig.settled("1", "2", within=10.0)
    assert rig.sender.sent == ["2"]
    await rig.stop()


@in_virtual_time
async def test_of_an_owner_that_has_died_it_takes_over() -> None:
    """When its claim has run out."""
    rig = Rig()
    await rig.audit.arrive([arrival("1")], "another", 8.0)
    rig.start()
    rig.source.put(taken("1"))
    await rig.settled("1", within=15.0)
    assert rig.sender.sent == ["1"]
    await rig.stop()


@in_virtual_time
async def test_a_replay_that_takes_long_keeps_its_claim() -> None:
    """However long: others would send it as well."""
    rig = Rig(limits=ReplayLimits(claim=10.0)).start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("1"))
    await asyncio.sleep(100.0)
    (standing,) = await rig.audit.claim(["1"], "another", 10.0)
    assert not standing.claimed
    rig.sender.gate.set()
    await rig.settled("1")
    assert rig.sender.sent == ["1"]
    await rig.stop()


@in_virtual_time
async def test_an_outcome_after_the_claim_was_lost_changes_nothing() -> None:
    """This process stood still for too long. Somebody else's word counts; the message is settled once that is known."""
    rig = Rig(limits=ReplayLimits(claim=10.0)).start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("1"))
    await until(lambda: rig.sender.under_way)
    rig.audit.rows["1"].claim_until = 0.0
    await rig.audit.claim(["1"], "another", 5.0)
    rig.sender.gate.set()
    await asyncio.sleep(2.0)
    assert not rig.source.settled
    await rig.audit.settle(["1"], "delivered", "")
    await until(lambda: rig.source.settled == ["1"])
    assert [outcome for _, outcome in rig.audit.settled["1"]] == ["delivered"]
    assert not rig.told
    await rig.stop()


@in_virtual_time
async def test_what_is_lost_is_dropped_and_given_back_but_for_what_is_on_its_way() -> None:
    """A rebalance: others have it now, and need not wait for our claims."""
    rig = Rig(rule=endless, pace=PaceRules(concurrency=1, slow_start=0.0)).start()
    rig.sender.gate = asyncio.Event()
    messages = [taken("1"), taken("2"), taken("3", "/b")]
    rig.source.put(*messages)
    await until(lambda: rig.sender.under_way)
    for each in messages:
        each.is_lost = True
    await until(lambda: len(rig.replayer.lanes) == 1, within=5.0)
    await settle_down()
    assert rig.audit.rows["3"].claim_until == 0.0
    assert rig.audit.rows["1"].claim_until > fakes.epoch()
    rig.sender.gate.set()
    await rig.settled("1")
    assert rig.sender.sent == ["1"]
    assert not rig.source.settled
    assert rig.audit.state("1") == "delivered"
    await rig.stop()


@in_virtual_time
async def test_what_is_lost_and_comes_again_is_not_stuck() -> None:
    """The partition has come back while its claims were being given back."""
    rig = Rig(pace=PaceRules(concurrency=1, slow_start=0.0)).start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("0", "/z"))
    await until(lambda: rig.sender.under_way)
    first = taken("1")
    rig.source.put(first)
    await until(lambda: "1" in rig.replayer.lanes.by_id)
    first.is_lost = True
    for _ in range(30):
        rig.source.put(taken("1"))
        await asyncio.sleep(0.1)
    rig.sender.gate.set()
    await rig.settled("0", "1")
    assert rig.sender.sent == ["0", "1"]
    await rig.stop()


@in_virtual_time
async def test_an_elder_that_will_never_come_does_not_hold_up_its_key() -> None:
    """It was discarded, or is damaged, where it is kept, and nobody has told the audit store."""
    rig = Rig()
    await rig.audit.arrive([arrival("gone"), arrival("broken", "/b")], "before", 0.0)
    rig.source.gone = {"gone": "discarded", "broken": "dead"}
    rig.start()
    rig.source.put(taken("1"), taken("2", "/b"))
    await rig.settled("1", "2", within=10.0)
    assert (rig.audit.state("gone"), rig.audit.state("broken")) == ("discarded", "dead")
    await rig.stop()


@in_virtual_time
async def test_what_the_store_has_forgotten_arrives_anew() -> None:
    """It was put back to what it was some time ago."""
    rig = Rig(rule=endless).start()
    rig.sender.script["1"] = [sent(500)] * 5 + [sent(200)]
    rig.source.put(taken("1"), taken("2"))
    await until(lambda: "1" in rig.audit.rows and rig.audit.rows["1"].attempts == 2)
    rig.audit.rows.clear()
    rig.audit.open.clear()
    await rig.settled("1", "2")
    assert rig.source.settled.count("1") == 1
    await rig.stop()


@in_virtual_time
async def test_set_aside_are_those_that_one_key_has_too_many_of_and_all_of_them_come() -> None:
    """Five thousand of a key that fails do not keep the others waiting, and are delivered in their order after it."""
    rig = Rig(rule=endless).start()
    names = [f"a{number:04}" for number in range(5000)]
    rig.sender.script[names[0]] = [sent(500)] * 30 + [sent(200)]
    rig.sender.seconds = 0.001
    rig.source.put(*map(taken, names), taken("b", "/b"))
    await until(lambda: rig.audit.state("b") == "delivered", within=10.0)
    assert len(rig.replayer.lanes) <= 1001
    await rig.settled(*names, within=600.0)
    assert rig.sender.sent[-4999:] == names[1:]
    await rig.stop()


@in_virtual_time
async def test_servers_of_a_route_that_are_down_keep_only_its_own_waiting() -> None:
    """And a profile that gives it others helps at once."""
    rig = Rig(routes=("own",), rule=endless).start()
    rig.leg.plans["own"].pool.given[0].healthy = False
    rig.source.put(taken("1", "/own", route="own"), *(taken(f"b{number}", "/b") for number in range(20)))
    await until(lambda: rig.audit.state("b19") == "delivered")
    assert "1" not in rig.sender.sent
    del rig.leg.plans["own"]
    await rig.settled("1")
    await rig.stop()


@in_virtual_time
async def test_clients_go_first() -> None:
    """While there are many, one at a time."""
    rig = Rig(pace=PaceRules(give_way=5, slow_start=0.0))
    rig.clients = 6
    rig.start()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(20)))
    await rig.settled(*map(str, range(20)))
    assert rig.sender.most == 1
    await rig.stop()


@in_virtual_time
async def test_a_stop_lets_what_is_on_its_way_end_and_gives_the_rest_back() -> None:
    """Nothing new is begun; whoever comes next need not wait."""
    rig = Rig(pace=PaceRules(concurrency=2, slow_start=0.0)).start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(6)))
    await until(lambda: len(rig.sender.under_way) == 2)
    rig.replayer.stop()
    await settle_down()
    assert rig.task
    assert not rig.task.done()
    rig.sender.gate.set()
    await rig.task
    assert rig.sender.sent == ["0", "1"]
    assert sorted(rig.source.settled) == ["0", "1"]
    assert not any(row.claim_until for row in rig.audit.rows.values() if row.state == "open")
    assert rig.source.stops == 1


@pytest.mark.parametrize("what", ["store", "source", "both"])
@in_virtual_time
async def test_a_stop_during_an_outage_is_prompt(what: str) -> None:
    """What could not be noted is done again by the next start, and is known then if it was."""
    rig = Rig().start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("1"), taken("2", "/b"))
    await until(lambda: len(rig.sender.under_way) == 2)
    rig.audit.fault = StoreUnavailable("away") if what != "source" else None
    rig.source.fault = BrokerUnavailable("away") if what != "store" else None
    rig.sender.gate.set()
    rig.source.put(taken("3", "/c"))
    await asyncio.sleep(3.0)
    began = asyncio.get_running_loop().time()
    await rig.stop()
    assert asyncio.get_running_loop().time() - began < 2.0
    rig.audit.fault = rig.source.fault = None
    again = Rig(audit=rig.audit, owner="two").start()
    again.source.put(taken("1"), taken("2", "/b"), taken("3", "/c"))
    await until(lambda: len(again.source.settled) == 3)
    assert {name: len(outcomes) for name, outcomes in rig.audit.settled.items()} == {"1": 1, "2": 1, "3": 1}
    await again.stop()


@in_virtual_time
async def test_a_cancelled_loop_leaves_nothing_running() -> None:
    """Whoever has lost patience cancels it."""
    rig = Rig().start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("1"))
    await until(lambda: rig.sender.under_way)
    assert rig.task
    rig.task.cancel()
    await asyncio.wait([rig.task])
    await settle_down()
    assert not rig.sender.under_way
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_twenty_thousand_keys_are_held_without_a_look_at_all_of_them_each_time() -> None:
    """What the store is asked grows with what is delivered, not with its square."""
    count = 20_000
    rig = Rig(pace=PaceRules(concurrency=200, slow_start=0.0), limits=ReplayLimits(window=count)).start()
    rig.sender.seconds = 0.5
    looks = 0
    original = rig.replayer.lanes.is_head

    def counted(one: Any) -> bool:
        nonlocal looks
        looks += 1
        return original(one)

    rig.replayer.lanes.is_head = counted  # type: ignore[method-assign]
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(count)))
    await until(lambda: len(rig.source.settled) == count, within=600.0, every=1.0)
    assert rig.audit.calls["arrive"] == count
    assert rig.audit.calls["claim"] < 3 * count
    assert looks < 15 * count
    await rig.stop()


@in_virtual_time
async def test_a_lane_of_thousands_is_handed_on_without_a_look_at_all_of_it_each_time() -> None:
    """One key with topics of retries."""
    rig = Rig(
        source=fakes.FakeSource(PLACES),
        rule=lambda route: rules(schedule=fakes.Listed((20.0,))),
        limits=ReplayLimits(window=6000),
    ).start()
    rig.sender.gate = asyncio.Event()
    rig.sender.script["0"] = [sent(500)]
    rig.source.put(*(taken(str(number)) for number in range(5000)))
    await until(lambda: len(rig.replayer.lanes) == 5000)
    looks = 0
    original = rig.replayer.lanes.behind

    def counted(one: Any) -> Any:
        nonlocal looks
        found = original(one)
        looks += len(found)
        return found

    rig.replayer.lanes.behind = counted  # type: ignore[method-assign]
    rig.sender.gate.set()
    await until(lambda: len(rig.source.handed_on) == 5000)
    assert [name for name, *_ in rig.source.handed_on] == [str(number) for number in range(5000)]
    assert looks < 20_000
    await rig.stop()


@in_virtual_time
async def test_messages_name_what_they_are_about() -> None:
    """What listeners hear is what arrived."""
    rig = Rig().start()
    about = Arrival("1", "/k", "users", "PUT", "/p", "http_503", fakes.epoch() - 9.0, 503, "00-trace")
    rig.source.put(fakes.Taken(about, 1, position="1"))
    await rig.settled("1")
    (told,) = rig.told
    assert (told.id, told.key, told.route, told.method, told.path) == ("1", "/k", "users", "PUT", "/p")
    assert (told.outcome, told.attempts, told.status, told.traceparent) == ("delivered", 1, 200, "00-trace")
    await rig.stop()
