"""The loop: what is sent when, and what becomes of it, whatever store, source, sender and rules do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import BrokerUnavailable, PoisonRecord, StoreUnavailable
from holdfast.policy.replaying.requests import Unsendable
from holdfast.replay.pace import IN_A_ROW, PaceRules
from holdfast.replay.replayer import ReplayLimits
from tests.unit.replay import fakes
from tests.unit.replay.fakes import in_virtual_time, prepare, rules, sent, taken, until
from tests.unit.replay.rig import Rig, endless

PLACES = (("retry.30s", 30.0),)


@in_virtual_time
async def test_captures_of_a_key_are_delivered_one_after_the_other_and_keys_beside_each_other() -> None:
    """In the order of their arrival."""
    rig = Rig().start()
    rig.source.put(*(taken(f"{key}{number}", f"/{key}") for number in range(3) for key in "abc"))
    await rig.settled(*(f"{key}{number}" for number in range(3) for key in "abc"))
    for key in "abc":
        assert [each for each in rig.sender.sent if each[0] == key] == [f"{key}0", f"{key}1", f"{key}2"]
    assert rig.sender.sent[:3] == ["a0", "b0", "c0"]
    assert rig.sender.most == 3
    await rig.stop()


@in_virtual_time
async def test_while_one_is_retried_those_behind_it_wait_and_others_go_on() -> None:
    """Without anybody waiting for it."""
    rig = Rig(rule=endless).start()
    rig.sender.script["a0"] = [sent(500)] * 20 + [sent(200)]
    rig.source.put(taken("a0"), taken("a1"), *(taken(f"b{number}", "/b") for number in range(50)))
    await rig.settled("a0", "a1", *(f"b{number}" for number in range(50)))
    order = rig.sender.sent
    assert order.index("a1") > max(place for place, name in enumerate(order) if name == "a0")
    assert order.index("b49") < order.index("a1")
    await rig.stop()


@in_virtual_time
async def test_no_more_than_the_bound_are_on_their_way() -> None:
    """Over all keys."""
    rig = Rig(pace=PaceRules(concurrency=5, slow_start=0.0)).start()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(60)))
    await rig.settled(*map(str, range(60)))
    assert rig.sender.most == 5
    await rig.stop()


@in_virtual_time
async def test_with_a_low_rate_claims_run_out_and_everything_is_delivered_all_the_same() -> None:
    """Each is claimed anew when its turn has come, and keeps its turn."""
    rig = Rig(pace=PaceRules(rate=0.2, slow_start=0.0), limits=ReplayLimits(claim=10.0)).start()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(30)))
    await rig.settled(*map(str, range(30)), within=200.0)
    assert rig.sender.sent == [str(number) for number in range(30)]
    await rig.stop()


@in_virtual_time
async def test_an_outage_uses_up_no_attempts_and_is_probed() -> None:
    """One at a time; when it is over, all of them are delivered."""
    rig = Rig(pace=PaceRules(slow_start=2.0)).start()
    down = sent(None, "connection_refused", unreachable=True)
    for number in range(20):
        rig.sender.script[str(number)] = [down]
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(20)))
    await asyncio.sleep(600.0)
    assert len(rig.sender.sent) < 60, "a probe every now and then"
    assert rig.queues.held_up
    rig.sender.script.clear()
    await rig.settled(*map(str, range(20)))
    assert all(row.attempts == 1 for row in rig.audit.rows.values())
    await rig.stop()


@in_virtual_time
async def test_what_is_final_is_buried_and_what_fails_too_often_too() -> None:
    """With the reason, and the message."""
    rig = Rig().start()
    rig.sender.script = {"a": [sent(404)], "b": [sent(500)]}
    rig.source.put(taken("a"), taken("b", "/b"), taken("c"))
    await rig.settled("a", "b", "c")
    assert {name: reason for name, reason, _ in rig.source.buried} == {"a": "status_404", "b": "attempts"}
    assert rig.audit.letters == {"a": b"a", "b": b"b"}
    assert rig.sender.sent.count("b") == 3
    assert rig.figure("holdfast_replay_total", outcome="dead") == 2
    assert rig.figure("holdfast_replay_total", outcome="delivered") == 1
    await rig.stop()


@in_virtual_time
async def test_what_is_expired_is_not_sent() -> None:
    """Neither at first, nor once it has waited too long."""
    rig = Rig(rule=lambda route: rules(expires_after=30.0, attempts=1000)).start()
    rig.sender.script["young"] = [sent(500)]
    rig.source.put(taken("old", captured=fakes.epoch() - 31.0), taken("young", "/b", captured=fakes.epoch()))
    await rig.settled("old", "young")
    assert "old" not in rig.sender.sent
    assert {reason for _, reason, _ in rig.source.buried} == {"expired"}
    await rig.stop()


@pytest.mark.parametrize("fault", [PoisonRecord("no JSON"), ValueError("odd"), KeyError("odd"), RecursionError()])
@in_virtual_time
async def test_a_record_that_nobody_can_read_is_dead_and_stops_nobody(fault: Exception) -> None:
    """Whatever is wrong with it, and with the one who reads it: it would be the same the next time."""

    async def choking(value: bytes, headers: Any, one: Any, number: int) -> Any:
        if value == b"bad":
            raise fault
        return Unsendable("truncated") if value == b"half" else await prepare(value, headers, one, number)

    rig = Rig(prepare=choking).start()
    rig.source.put(taken("bad"), taken("half"), taken("good"))
    await rig.settled("bad", "half", "good")
    assert [(name, reason) for name, reason, _ in rig.source.buried] == [("bad", "poison"), ("half", "truncated")]
    assert rig.sender.sent == ["good"]
    await rig.stop()


@in_virtual_time
async def test_poison_that_cannot_be_buried_keeps_nobody_waiting() -> None:
    """The topic of dead letters is missing, say: it is tried again, beside everything else."""
    rig = Rig().start()
    rig.source.refuses, rig.source.refused = BrokerUnavailable("no such topic"), {"p"}
    rig.source.put(fakes.Taken(None, 3, poison="no JSON", position="p"), *(taken(str(n)) for n in range(20)))
    await rig.settled(*map(str, range(20)))
    assert rig.replayer.trouble == "no such topic" or not rig.source.buried
    rig.source.refuses = None
    await until(lambda: rig.source.buried)
    await rig.stop()


@in_virtual_time
async def test_what_the_store_refuses_is_poison_and_the_rest_of_its_batch_is_not() -> None:
    """A message may claim any number."""
    rig = Rig().start()
    rig.audit.refused = {"odd"}
    rig.source.put(taken("1"), taken("odd"), taken("2", "/b"))
    await rig.settled("1", "2")
    assert [(name, reason) for name, reason, _ in rig.source.buried] == [("odd", "poison")]
    await rig.stop()


@in_virtual_time
async def test_what_a_person_has_discarded_is_not_sent() -> None:
    """It is not there any more."""
    rig = Rig().start()
    rig.source.discarded = {"1"}
    rig.source.put(taken("1"), taken("2"))
    await rig.settled("1", "2")
    assert rig.audit.state("1") == "discarded"
    assert rig.sender.sent == ["2"]
    await rig.stop()


@pytest.mark.parametrize("fault", [OSError("disk"), StoreUnavailable("away"), RuntimeError("a defect")])
@in_virtual_time
async def test_a_replay_that_fails_on_our_side_is_put_off_and_its_lane_goes_on(fault: Exception) -> None:
    """Also when it is a defect: nothing is stuck, nothing is counted as an attempt."""
    rig = Rig().start()
    rig.sender.script["1"] = [fault, fault, sent(200)]
    rig.source.put(taken("1"), taken("2"))
    await rig.settled("1", "2")
    assert rig.sender.sent == ["1", "1", "1", "2"]
    assert rig.audit.rows["1"].attempts == 1
    assert rig.queues.under_way == 0
    await rig.stop()


@in_virtual_time
async def test_a_source_that_cannot_give_a_value_is_asked_again() -> None:
    """And is said to be in trouble by nobody but itself."""
    rig = Rig().start()
    rig.source.put(taken("1"))
    await until(lambda: not rig.source.messages)
    rig.source.fault = StoreUnavailable("unreadable")
    await asyncio.sleep(5.0)
    rig.source.fault = None
    await rig.settled("1")
    await rig.stop()


@in_virtual_time
async def test_a_source_that_gives_nothing_does_not_keep_what_is_here() -> None:
    """It is asked again, and said meanwhile."""
    rig = Rig().start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(taken("1"), taken("2"))
    await until(lambda: rig.sender.under_way)
    rig.source.take_fault = BrokerUnavailable("away")
    rig.sender.gate.set()
    await rig.settled("1", "2")
    await asyncio.sleep(3.0)
    assert rig.replayer.trouble == "away"
    rig.source.take_fault = None
    rig.source.put(taken("3"))
    await rig.settled("3")
    await asyncio.sleep(2.0)
    assert not rig.replayer.trouble
    await rig.stop()


@in_virtual_time
async def test_a_source_that_cannot_be_started_is_tried_again() -> None:
    """With a pause in between, whatever it does."""
    rig = Rig()
    rig.source.fault = BrokerUnavailable("away")
    rig.start()
    await asyncio.sleep(10.0)
    assert 5 < rig.source.starts < 15
    assert rig.replayer.trouble == "away"
    rig.source.fault = None
    rig.source.put(taken("1"))
    await rig.settled("1")
    await rig.stop()


@in_virtual_time
async def test_a_store_that_is_away_is_sat_out_and_nothing_is_sent_meanwhile() -> None:
    """What was taken waits for it; what was sent waits to be noted, and is noted."""
    rig = Rig().start()
    rig.source.put(taken("1"), taken("2", "/b"))
    rig.sender.gate = asyncio.Event()
    await until(lambda: len(rig.sender.under_way) == 2)
    rig.audit.fault = StoreUnavailable("disk full")
    rig.sender.gate.set()
    rig.source.put(*(taken(f"c{number}", f"/c{number}") for number in range(5)))
    await asyncio.sleep(60.0)
    assert rig.sender.sent == ["1", "2"]
    assert rig.replayer.trouble == "disk full"
    rig.source.woken()
    calls = rig.audit.calls["arrive"]
    for _ in range(100):
        rig.source.woken()
        await asyncio.sleep(0.01)
    assert rig.audit.calls["arrive"] - calls <= 10, "however often the source says that it has more"
    rig.audit.fault = None
    await rig.settled("1", "2", *(f"c{number}" for number in range(5)))
    assert sorted(rig.sender.sent) == sorted(["1", "2", *(f"c{number}" for number in range(5))])
    await asyncio.sleep(1.0)
    assert not rig.replayer.trouble
    await rig.stop()


@in_virtual_time
async def test_a_defect_in_the_store_does_not_end_the_loop() -> None:
    """It goes on a moment later."""
    rig = Rig().start()
    rig.audit.fault = RuntimeError("a defect")
    rig.source.put(taken("1"))
    await asyncio.sleep(5.0)
    rig.audit.fault = None
    await rig.settled("1")
    await rig.stop()


@in_virtual_time
async def test_in_trouble_with_a_probe_due_a_store_that_is_away_is_still_waited_for() -> None:
    """The loop must not turn round and round: nobody else would have a turn, the store least of all."""
    rig = Rig(rule=endless).start()
    for number in range(IN_A_ROW + 2):
        rig.sender.script[str(number)] = [sent(None, "http_response_timeout")]
        rig.source.put(taken(str(number), f"/{number}"))
    await until(lambda: rig.queues.held_up)
    rig.audit.fault = StoreUnavailable("away")
    async with asyncio.timeout(30.0):
        await asyncio.sleep(20.0)
    rig.audit.fault = None
    rig.sender.script.clear()
    await rig.settled(*map(str, range(IN_A_ROW + 2)))
    await rig.stop()


@in_virtual_time
async def test_outcomes_that_wait_for_the_source_are_bounded() -> None:
    """It cannot be told anything, and upstream and store are fast."""
    rig = Rig(pace=PaceRules(concurrency=50, slow_start=0.0)).start()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(2000)))
    rig.source.refuses = BrokerUnavailable("away")
    rig.sender.script = {str(number): [sent(404)] for number in range(2000)}
    await asyncio.sleep(120.0)
    assert 400 <= len(rig.sender.sent) <= 560
    rig.source.refuses = None
    await rig.settled(*map(str, range(2000)))
    await rig.stop()


@in_virtual_time
async def test_outcomes_that_wait_are_bounded_by_their_bytes_too() -> None:
    """A hundred of three megabytes each."""
    rig = Rig(pace=PaceRules(concurrency=100, slow_start=0.0)).start()
    rig.sender.gate = asyncio.Event()
    for number in range(150):
        message = taken(str(number), f"/{number}")
        message.size = 3 * 1024 * 1024
        rig.source.put(message)
    await asyncio.sleep(5.0)
    assert 80 <= len(rig.sender.under_way) <= 90
    rig.sender.gate.set()
    await rig.settled(*map(str, range(150)))
    await rig.stop()


@in_virtual_time
async def test_no_more_are_held_than_the_window_has_room_for() -> None:
    """The others stay where they are; as soon as there is room they come."""
    rig = Rig(limits=ReplayLimits(window=40)).start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(200)))
    await asyncio.sleep(5.0)
    assert len(rig.replayer.lanes) == 40
    rig.sender.gate.set()
    await rig.settled(*map(str, range(200)))
    await rig.stop()


@in_virtual_time
async def test_a_full_window_does_not_keep_the_loop_turning() -> None:
    """There is more to take, and no room: it rests until there is some."""
    rig = Rig(limits=ReplayLimits(window=10)).start()
    rig.sender.gate = asyncio.Event()
    rig.source.put(*(taken(str(number), f"/{number}") for number in range(50)))
    await asyncio.sleep(5.0)
    turns = 0
    original = rig.replayer._turn

    async def counted() -> bool:
        nonlocal turns
        turns += 1
        return await original()

    rig.replayer._turn = counted  # type: ignore[method-assign]
    await asyncio.sleep(20.0)
    assert turns <= 25
    rig.sender.gate.set()
    await rig.stop()
