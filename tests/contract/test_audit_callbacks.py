"""The queue of callbacks of every audit: SQLite and a real PostgreSQL. An outcome is posted at least once."""

from __future__ import annotations

import asyncio
import math

import pytest

from holdfast.audit import OUTCOMES, Audit, Callback, Outcome, Record
from holdfast.testing import FixedClock
from tests.contract.audit_cases import HOUR, ODD, Place, arrival, arrivals, attempt, settled, state_of

RECEIVER = "https://receiver.test/outcomes"
LEASE = 60.0


async def queue_up(audit: Audit, *names: str, outcome: Outcome = "delivered") -> None:
    """An outcome for each, in this order."""
    await audit.arrive(arrivals(*names), "me", 60)
    records = [settled(name, outcome, callback=(RECEIVER, name.encode())) for name in names]
    assert all(await audit.record(records, "me"))


async def take(audit: Audit, clock: FixedClock, limit: int = 100) -> list[Callback]:
    return list(await audit.callbacks.due(clock.now, limit, LEASE))


def documents(callbacks: list[Callback]) -> list[bytes]:
    return [callback.document for callback in callbacks]


# --- with the outcome ---


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_an_outcome_queues_its_callback(audit: Audit, clock: FixedClock, outcome: Outcome) -> None:
    """Due at once; as it was given, whatever is in it."""
    name, url, document = "id" + ODD, RECEIVER + ODD, bytes(range(256)) * 500
    await audit.arrive([arrival(name, redrive=7)], "me", 60)
    told = settled(name, outcome, attempt=attempt(), callback=(url, document))
    assert await audit.record([told], "me") == [True]
    (callback,) = await take(audit, clock)
    assert callback == Callback(callback.id, f"{name}-7", url, document, tries=0)


async def test_what_has_no_effect_queues_nothing(audit: Audit, clock: FixedClock) -> None:
    """A claim that was lost, a second outcome, a capture that nobody knows, no outcome at all."""
    callback = (RECEIVER, b"wrong")
    await audit.arrive(arrivals("a", "b", "c"), "late", 60)
    await audit.record([Record(id="c", attempt=attempt(), callback=callback)], "late")
    clock.advance(60)
    await audit.claim(["a"], "me", 60)
    assert await audit.record([settled("a", callback=callback)], "late") == [False]
    told = [settled("b", callback=(RECEIVER, b"right")), settled("b", callback=callback)]
    assert await audit.record([*told, settled("nobody", callback=callback)], "late") == [True, False, False]
    assert documents(await take(audit, clock)) == [b"right"]


async def test_an_outcome_that_asks_for_none_queues_none(audit: Audit, clock: FixedClock) -> None:
    """Nor does what a person settles."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    await audit.record([settled("a")], "me")
    await audit.settle(["b"], "discarded", "by hand")
    assert await take(audit, clock) == []


async def test_a_batch_that_is_refused_queues_nothing(audit: Audit, clock: FixedClock) -> None:
    """One impossible number refuses the whole call: neither outcome nor callback."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    told = [settled("a", callback=(RECEIVER, b"x")), Record(id="b", due=math.nan)]
    with pytest.raises(ValueError, match="'b'"):
        await audit.record(told, "me")
    assert await state_of(audit, "a") == "open"
    assert await take(audit, clock) == []


async def test_each_redrive_has_a_callback_of_its_own(audit: Audit, clock: FixedClock) -> None:
    """Also while the one before waits; the id of a message is that of the outcome."""
    await queue_up(audit, "a", outcome="dead")
    await audit.reopen(["a"])
    await audit.claim(["a"], "me", 60)
    await audit.record([settled("a", "parked", callback=(RECEIVER, b"again"))], "me")
    assert [(one.event_id, one.document) for one in await take(audit, clock)] == [("a-0", b"a"), ("a-1", b"again")]


async def test_one_outcome_is_queued_once(audit: Audit, place: Place) -> None:
    """A capture that was forgotten and comes again settles anew under the same id: what waits is not doubled."""
    await queue_up(audit, "a")
    assert await audit.prune(place.clock.advance(1), OUTCOMES) == 1
    await audit.arrive([arrival("a")], "me", 60)
    assert await audit.record([settled("a", callback=(RECEIVER, b"new"))], "me") == [True]
    assert documents(await take(audit, place.clock)) == [b"a"]


# --- taking ---


async def test_what_is_taken_is_nobody_elses_until_the_lease_ends(place: Place) -> None:
    """Then it is given again, to whoever asks: the one who had it may be dead."""
    audit, other = await place.open(), await place.open()
    await queue_up(audit, "a")
    first = await take(audit, place.clock)
    place.clock.advance(LEASE - 0.001)
    assert await take(audit, place.clock) == await take(other, place.clock) == []
    place.clock.advance(0.002)
    assert await take(other, place.clock) == first
    assert await take(audit, place.clock) == []


async def test_several_that_take_at_once_share_what_is_due(place: Place) -> None:
    """Each callback goes to one of them, and none is left."""
    audits = [await place.open() for _ in range(4)]
    names = [f"n{number:03d}" for number in range(200)]
    await queue_up(audits[0], *names)

    async def one(audit: Audit) -> list[Callback]:
        mine: list[Callback] = []
        while found := await take(audit, place.clock, limit=7):
            assert len(found) <= 7
            mine += found
        return mine

    async with asyncio.timeout(30):
        taken = [each for mine in await asyncio.gather(*map(one, audits * 2)) for each in mine]
    assert sorted(one.document.decode() for one in taken) == names


async def test_what_has_been_due_for_longest_is_taken_first(audit: Audit, clock: FixedClock) -> None:
    """No more than was asked for, nothing that is due later."""
    await queue_up(audit, "a", "b", "c", "d")
    a, b, c, _ = await take(audit, clock)
    for callback, due in ((a, 3.0), (b, 1.0), (c, 2.0)):
        await audit.callbacks.later(callback.id, clock.now + due, "http_503")
    assert await take(audit, clock) == []
    clock.advance(2.5)
    assert await take(audit, clock, limit=0) == []
    assert documents(await take(audit, clock, limit=1)) == [b"b"]
    clock.advance(0.5)
    assert documents(await take(audit, clock)) == [b"c", b"a"]


# --- what became of it ---


async def test_what_was_taken_by_its_receiver_is_forgotten(audit: Audit, place: Place) -> None:
    """Also if that is said late, or twice, or of what was given up."""
    await queue_up(audit, "a", "b", "c")
    a, b, c = await take(audit, place.clock)
    await audit.callbacks.given_up(c.id, "tries")
    place.clock.advance(LEASE + 1)
    await audit.callbacks.done([])
    await audit.callbacks.done([a.id, c.id])
    await audit.callbacks.done([a.id])
    assert await place.rows("SELECT event_id FROM callbacks") == [("b",)]
    assert await take(audit, place.clock) == [b]


async def test_a_failed_try_is_counted_and_its_lease_ends(audit: Audit, place: Place) -> None:
    """It is due when that was said, however long the lease would have been."""
    await queue_up(audit, "a")
    for tries in range(3):
        (callback,) = await take(audit, place.clock)
        assert callback.tries == tries
        await audit.callbacks.later(callback.id, place.clock.now + 5, ODD)
        assert await take(audit, place.clock) == []
        place.clock.advance(5)
    (row,) = await place.rows("SELECT tries, due FROM callbacks")
    assert tuple(row) == (3, place.clock.now)


async def test_what_was_given_up_is_not_tried_again(audit: Audit, place: Place) -> None:
    """Whatever is said of it later."""
    await queue_up(audit, "a")
    (callback,) = await take(audit, place.clock)
    for error in ("http_410", "tries"):
        await audit.callbacks.given_up(callback.id, error)
    await audit.callbacks.later(callback.id, place.clock.now, "late")
    place.clock.advance(HOUR)
    assert await take(audit, place.clock) == []
    (row,) = await place.rows("SELECT state, tries, last_error FROM callbacks")
    assert tuple(row) == ("given_up", 1, "http_410")


async def test_an_impossible_number_is_refused(audit: Audit, clock: FixedClock) -> None:
    """And changes nothing."""
    await queue_up(audit, "a")
    calls = [audit.callbacks.due(number, 1, LEASE) for number in (math.nan, math.inf)]
    calls += [audit.callbacks.due(clock.now, 1 << 62, LEASE), audit.callbacks.due(clock.now, 1, math.inf)]
    for call in calls:
        with pytest.raises(ValueError, match="cannot be stored"):
            await call
    (callback,) = await take(audit, clock)
    with pytest.raises(ValueError, match="cannot be stored"):
        await audit.callbacks.later(callback.id, math.nan, "")
    assert await take(audit, clock) == []


# --- figures, pruning ---


async def test_what_is_to_be_posted_is_counted(audit: Audit, clock: FixedClock) -> None:
    """Now, later or under way; not what was given up."""
    await queue_up(audit, "a", "b", "c", "d")
    a, b, *_ = await take(audit, clock, limit=3)
    await audit.callbacks.later(a.id, clock.now + HOUR, "timeout")
    assert (await audit.stats(clock.now)).callbacks == 4
    await audit.callbacks.given_up(b.id, "tries")
    assert (await audit.stats(clock.now)).callbacks == 3
    await audit.callbacks.done([a.id])
    assert (await audit.stats(clock.now)).callbacks == 2


async def test_pruning_a_capture_forgets_its_given_up_callbacks(audit: Audit, place: Place) -> None:
    """What waits is posted all the same; if it is given up then, the next pruning forgets it."""
    await queue_up(audit, "a", "b", outcome="dead")
    await queue_up(audit, "c")
    a, b, c = await take(audit, place.clock)
    for callback in (a, c):
        await audit.callbacks.given_up(callback.id, "tries")
    assert await audit.prune(place.clock.advance(LEASE + 1), ["dead"]) == 2
    assert [row[0] for row in await place.rows("SELECT event_id FROM callbacks ORDER BY id")] == ["b", "c"]
    assert await take(audit, place.clock) == [b]
    await audit.callbacks.given_up(b.id, "tries")
    assert await audit.prune(place.clock.now, []) == 0
    assert [row[0] for row in await place.rows("SELECT event_id FROM callbacks")] == ["c"]
