"""How captures leave: what is stored, what the source and listeners are told, and in which order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from holdfast.audit import Audit, Standing
from holdfast.errors import BrokerUnavailable, PoisonRecord, StoreUnavailable
from holdfast.gateway import Settled
from holdfast.policy.replaying.verdict import RetryLater
from holdfast.replay.lanes import Held, Lanes
from holdfast.replay.recorder import Recorder
from holdfast.replay.sending import Sent
from holdfast.replay.settling import Settling
from tests.unit.replay import fakes
from tests.unit.replay.fakes import in_virtual_time, sent, settle_down, taken

PLACES = (("retry.30s", 30.0), ("retry.2m", 120.0))


class Scene:
    """Settling between a source, a store and lanes."""

    def __init__(self, places: tuple[tuple[str, float], ...] = ()) -> None:
        loop = cast(fakes.VirtualLoop, asyncio.get_running_loop())
        self.source, self.audit, self.lanes = fakes.FakeSource(places), fakes.MemoryAudit(loop.now), Lanes()
        self.recorder = Recorder(cast(Audit, self.audit), "one")
        self.told: list[Settled] = []
        self.called_back: list[tuple[Settled, Sent | None]] = []
        self.settling = Settling(
            self.source,
            self.lanes,
            self.recorder,
            fakes.make_report(loop.now),
            self.told.append,
            self._calling_back,
            loop.now,
            hold=10.0,
        )

    def _calling_back(self, settled: Settled, answer: Sent | None) -> tuple[str, bytes] | None:
        self.called_back.append((settled, answer))
        return None

    async def hold(self, *names: str, key: str = "/a", owner: str = "one") -> list[Held]:
        """Held here, arrived and claimed."""
        helds = [fakes.held(name, key) for name in names]
        standings = await self.audit.arrive([each.arrival for each in helds], owner, 60.0)
        for each, standing in zip(helds, standings, strict=True):
            self.lanes.add(each)
            each.claimed_until = fakes.epoch() + 60.0 if standing.claimed else 0.0
        helds[0].busy = True
        return helds


@asynccontextmanager
async def scene(places: tuple[tuple[str, float], ...] = ()) -> AsyncIterator[Scene]:
    """One with a recorder at work."""
    made = Scene(places)
    task = asyncio.create_task(made.recorder.run())
    try:
        yield made
    finally:
        task.cancel()


@in_virtual_time
async def test_the_outcome_is_stored_then_the_source_is_told_and_the_next_is_let_go() -> None:
    """In this order: a crash in between costs a second replay, or nothing."""
    async with scene() as at:
        one, two = await at.hold("1", "2")
        at.source.fault = BrokerUnavailable("away")
        task = asyncio.create_task(at.settling.conclude(one, "delivered", "", sent=sent()))
        await settle_down()
        assert at.audit.state("1") == "delivered"
        assert at.lanes.is_head(one), "the source does not know yet"
        assert at.settling.trouble == "away"
        at.source.fault = None
        await task
        assert at.source.settled == ["1"]
        assert at.lanes.ripe(fakes.epoch(), 5) == [two]
        assert not at.settling.trouble
        assert [each.outcome for each in at.told] == ["delivered"]


@in_virtual_time
async def test_listeners_and_callbacks_are_told_the_same() -> None:
    """With the number of replays, this one included, and its answer."""
    async with scene() as at:
        (one,) = await at.hold("1")
        one.attempts = 2
        answer = sent(404)
        await at.settling.conclude(one, "dead", "status_404", sent=answer, message=(b"whole", ()))
        assert at.called_back == [(at.told[0], answer)]
        assert (at.told[0].attempts, at.told[0].status, at.told[0].reason) == (3, 404, "status_404")
        assert at.audit.letters == {"1": b"whole"}
        ((buried, reason, headers),) = at.source.buried
        assert (buried, reason) == ("1", "status_404")
        assert headers[:2] == (("holdfast-reason", b"status_404"), ("holdfast-attempts", b"3"))
        assert json.loads(dict(headers)["holdfast-answer"])["status"] == 404


@in_virtual_time
async def test_what_fails_again_after_a_redrive_is_parked() -> None:
    """So that nobody has it sent again and again without seeing it."""
    async with scene() as at:
        (one,) = await at.hold("1")
        one.redrive = 1
        await at.settling.conclude(one, "dead", "attempts", sent=sent(500), message=(b"whole", ()))
        assert at.audit.state("1") == "parked"
        assert at.source.buried


@in_virtual_time
async def test_messages_that_name_it_twice_are_settled_with_it() -> None:
    """A dead letter is one, whatever number of messages there were; those that are lost are somebody else's."""
    async with scene() as at:
        one, two = await at.hold("1", "2")
        one.takens += [taken("1"), taken("1", is_lost=True)]
        await at.settling.conclude(one, "delivered", "", sent=sent())
        assert at.source.settled == ["1", "1"]
        two.busy = True
        two.takens = [taken("2", is_lost=True), taken("2"), taken("2")]
        at.source.settled.clear()
        await at.settling.conclude(two, "dead", "attempts", sent=sent(500))
        assert [name for name, *_ in at.source.buried] == ["2"]
        assert at.source.settled == ["2"]


@in_virtual_time
async def test_an_outcome_that_has_no_effect_tells_nobody_and_is_asked_about() -> None:
    """Somebody else has it by now: the message stays where it is, until it is known what became of it."""
    async with scene() as at:
        (one,) = await at.hold("1")
        at.audit.rows["1"].owner = "another"
        await at.settling.conclude(one, "delivered", "", sent=sent())
        assert not at.source.settled
        assert not at.told
        assert at.lanes.holds(one)
        assert not one.claimed_until
        assert not one.is_leaving
        one.busy = False
        assert at.lanes.next_time() == 0.0


@in_virtual_time
async def test_what_is_to_be_retried_waits_here_where_there_are_no_topics() -> None:
    """It is asked for again then: its claim is given back."""
    async with scene() as at:
        (one,) = await at.hold("1")
        now = fakes.epoch()
        await at.settling.retry(one, RetryLater(90.0, counts=True), sent(500))
        assert (one.attempts, one.due, one.claimed_until) == (1, now + 90.0, 0.0)
        assert at.lanes.next_time() == now + 90.0
        assert at.audit.rows["1"].claim_until == 0.0
        assert not at.source.handed_on


@in_virtual_time
async def test_a_long_wait_goes_to_a_topic_of_retries_with_everything_of_its_key_behind_it() -> None:
    """In their order; a short one waits here."""
    async with scene(PLACES) as at:
        one, *_ = await at.hold("1", "2", "3")
        await at.settling.retry(one, RetryLater(5.0, counts=True), sent(500))
        assert not at.source.handed_on
        now = fakes.epoch()
        await at.settling.retry(one, RetryLater(25.0, counts=False), sent(None, "connection_refused"))
        assert [(name, place) for name, place, _ in at.source.handed_on] == [(n, "retry.30s") for n in "123"]
        assert at.source.handed_on[0][2] == now + 25.0
        assert not len(at.lanes)
        assert {row.place for row in at.audit.rows.values()} == {"retry.30s"}
        assert at.audit.rows["1"].attempts == 1, "the second did not count"


@in_virtual_time
async def test_what_comes_while_a_lane_is_handed_on_follows_it() -> None:
    """The broker takes its time meanwhile."""
    async with scene(PLACES) as at:
        one, _ = await at.hold("1", "2")
        at.source.fault = BrokerUnavailable("slow")
        task = asyncio.create_task(at.settling.retry(one, RetryLater(25.0, counts=True), sent(500)))
        await settle_down()
        (three,) = await at.hold("3")
        three.busy = False
        at.source.fault = None
        await task
        assert [name for name, *_ in at.source.handed_on] == ["1", "2", "3"]


@in_virtual_time
async def test_once_it_is_back_nothing_follows_it_any_more() -> None:
    """Both would go round in circles for ever."""
    async with scene(PLACES) as at:
        one, two = await at.hold("1", "2")
        one.is_back = True
        await at.settling.retry(one, RetryLater(25.0, counts=True), sent(500))
        assert [name for name, *_ in at.source.handed_on] == ["1"]
        assert at.lanes.ripe(fakes.epoch(), 5) == [two], "it finds out what it waits for"


@in_virtual_time
async def test_it_may_come_back_while_those_behind_it_are_being_handed_on() -> None:
    """Those that are still here stay."""
    async with scene(PLACES) as at:
        one, _, three = await at.hold("1", "2", "3")
        at.source.refuses, at.source.refused = BrokerUnavailable("slow"), {"2"}
        task = asyncio.create_task(at.settling.retry(one, RetryLater(25.0, counts=True), sent(500)))
        await settle_down()
        one.is_back = True
        at.source.refuses = None
        await task
        assert [name for name, *_ in at.source.handed_on] == ["1", "2"]
        assert at.lanes.ripe(fakes.epoch(), 5) == [three]


@in_virtual_time
async def test_an_older_one_that_has_come_meanwhile_is_not_handed_on_with_the_younger() -> None:
    """It goes before them."""
    async with scene(PLACES) as at:
        one, two, three = await at.hold("1", "2", "3")
        at.lanes.to_front(three)
        await at.settling.follow(one, "retry.30s")
        assert [name for name, *_ in at.source.handed_on] == ["1", "2"]
        assert at.lanes.is_head(three)
        assert at.source.handed_on[0][2] > fakes.epoch(), "not at once: nothing may be before it there"
        assert not at.lanes.holds(two)


@in_virtual_time
async def test_a_topic_that_refuses_it_keeps_it_here() -> None:
    """Too large for it, say; it is sent when it is due all the same."""
    async with scene(PLACES) as at:
        one, two = await at.hold("1", "2")
        at.source.refuses = PoisonRecord("too large")
        now = fakes.epoch()
        await at.settling.retry(one, RetryLater(25.0, counts=True), sent(500))
        assert at.lanes.next_time() == now + 25.0
        assert not one.is_leaving
        assert at.lanes.holds(two)
        await at.settling.follow(one, "retry.30s")
        assert at.lanes.next_time()


@in_virtual_time
async def test_followers_that_are_refused_stay_and_are_looked_at() -> None:
    """No lane ends because of them."""
    async with scene(PLACES) as at:
        one, two, three = await at.hold("1", "2", "3")
        at.source.refuses, at.source.refused = PoisonRecord("too large"), {"2"}
        await at.settling.retry(one, RetryLater(25.0, counts=True), sent(500))
        assert [name for name, *_ in at.source.handed_on] == ["1"]
        assert at.lanes.ripe(fakes.epoch(), 5) == [two]
        assert at.lanes.holds(three)
        assert not two.busy


@in_virtual_time
async def test_a_dead_letter_that_is_refused_is_settled_all_the_same() -> None:
    """Its message is in the audit store."""
    async with scene() as at:
        (one,) = await at.hold("1")
        at.source.refuses = PoisonRecord("too large")
        await at.settling.conclude(one, "dead", "attempts", sent=sent(500), message=(b"whole", ()))
        assert at.source.settled == ["1"]
        assert at.audit.letters == {"1": b"whole"}


@in_virtual_time
async def test_poison_and_duplicates_end_where_they_belong() -> None:
    """A duplicate of what is dead is a dead letter: the source may not have been told before a crash."""
    async with scene() as at:
        await at.settling.poison([taken("p", poison="no JSON")])
        assert at.source.buried == [("p", "poison", (("holdfast-reason", b"no JSON"),))]
        await at.settling.duplicates(
            [
                (taken("1"), Standing("1", "delivered")),
                (taken("2"), Standing("2", "dead")),
                (taken("3"), Standing("3", "parked")),
            ]
        )
        assert at.source.settled == ["1"]
        assert [(name, reason) for name, reason, _ in at.source.buried[1:]] == [("2", "dead"), ("3", "parked")]


@in_virtual_time
async def test_what_was_settled_elsewhere_is_settled_here() -> None:
    """As it was there."""
    async with scene() as at:
        one, two = await at.hold("1", "2")
        await at.settling.settled_elsewhere(one, Standing("1", "discarded"))
        await at.settling.settled_elsewhere(two, Standing("2", "dead"))
        assert at.source.settled == ["1"]
        assert [name for name, *_ in at.source.buried] == ["2"]
        assert not len(at.lanes)
        assert not at.told


@in_virtual_time
async def test_what_is_given_back_is_free_for_others_at_once() -> None:
    """It is open, and due when it was."""
    async with scene() as at:
        one, two = await at.hold("1", "2")
        one.due = 77.0
        await at.settling.give_back(one)
        row = at.audit.rows["1"]
        assert (row.state, row.claim_until, row.due, row.attempts) == ("open", 0.0, 77.0, 0)
        assert at.lanes.is_head(two)


@in_virtual_time
async def test_after_a_stop_the_source_is_told_once() -> None:
    """What it does not hear, it is told by the next start; nobody waits for it."""
    async with scene() as at:
        (one,) = await at.hold("1")
        at.source.fault = StoreUnavailable("away")
        task = asyncio.create_task(at.settling.conclude(one, "delivered", "", sent=sent()))
        await settle_down()
        at.settling.stop()
        await settle_down()
        with pytest.raises(StoreUnavailable):
            await task
        assert at.audit.state("1") == "delivered"


@in_virtual_time
async def test_a_lane_has_a_bound_where_nothing_waits_elsewhere_and_the_oldest_is_never_refused() -> None:
    """The others stay in the source until there is room; with topics of retries there is no need."""
    async with scene() as at:
        helds = await at.hold(*(str(number) for number in range(1000)))
        behind = Standing("x", "open", behind="0")
        assert not at.settling.has_room(taken("x"), behind)
        assert [each.position for each in at.source.aside["/a"]] == ["x"]
        assert at.settling.has_room(taken("y"), Standing("y", "open", claimed=True))
        assert at.settling.has_room(taken("z", "/b"), behind)
        for each in helds[:501]:
            at.settling.let_go(each)
        assert at.source.asked == ["/a"]
    async with scene(PLACES) as at:
        await at.hold(*(str(number) for number in range(1000)))
        assert at.settling.has_room(taken("x"), behind)
