"""Outboxes of this machine as a source: real files, as their owner and as a stranger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from holdfast.errors import PoisonRecord, StoreUnavailable
from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord
from holdfast.outbox.reader import OutboxReader
from holdfast.replay.all_files import AllFiles
from holdfast.replay.outbox import OthersFiles, OutboxSource, OwnFiles
from holdfast.replay.source import Taken
from tests.unit.outbox.records import make_record

WHY = (("holdfast-reason", b"attempts"),)


@pytest.fixture(params=["owner", "stranger", "worker"])
def role(request: pytest.FixtureRequest) -> str:
    """The gateway itself, `holdfast consume` beside it, or the one of several workers that replays for all."""
    return str(request.param)


@asynccontextmanager
async def serving(folder: Path, role: str = "owner") -> AsyncIterator[tuple[Outbox, OutboxSource, list[int]]]:
    """An outbox, a source that has been started on it, and how often it has said that there is more."""
    outbox = Outbox.open(folder / "holdfast.db", OutboxLimits())
    woken = [0]

    def wake() -> None:
        woken[0] += 1

    if role == "owner":
        source = OutboxSource(lambda listener: OwnFiles(lambda: outbox, listener))
    elif role == "worker":
        reader = OutboxReader(folder / "holdfast.db")
        source = OutboxSource(lambda listener: AllFiles(lambda: outbox, listener, reader))
    else:
        source = OutboxSource(lambda listener: OthersFiles(OutboxReader(folder / "holdfast.db")))
    await source.start(wake)
    try:
        yield outbox, source, woken
    finally:
        await source.stop()
        outbox.close()


def store(outbox: Outbox, count: int, key: str = "/a") -> list[OutboxRecord]:
    """So many records of a key."""
    records = [make_record(b"%d" % number, key=key) for number in range(count)]
    for each in records:
        outbox.append_sync(each)
    return records


def names(messages: list[Taken]) -> list[str]:
    """The ids that they name."""
    return [each.arrival.id for each in messages if each.arrival]


def state(outbox: Outbox, record: OutboxRecord) -> str:
    found = outbox.get(record.id)
    return found.state if found else ""


async def test_records_are_given_once_in_their_order_until_they_are_settled(tmp_path: Path, role: str) -> None:
    """What is not settled is given again by the next start."""
    async with serving(tmp_path, role) as (outbox, source, _):
        records = store(outbox, 5)
        first = await source.take(3)
        assert names(first + await source.take(10)) == [each.id for each in records]
        assert await source.take(10) == []
        assert await source.value(first[0]) == (records[0].value, records[0].headers)
        await source.settle(first[:2])
        await source.bury(first[2], "attempts", WHY)
        assert [state(outbox, each) for each in records] == ["sent", "sent", "quarantined", "pending", "pending"]
    async with serving(tmp_path, role) as (_, source, _):
        assert names(await source.take(10)) == [each.id for each in records[3:]]


async def test_what_is_in_quarantine_is_not_settled_by_its_second_message(tmp_path: Path, role: str) -> None:
    """It would be `sent` then, and gone."""
    async with serving(tmp_path, role) as (outbox, source, _):
        (record,) = store(outbox, 1)
        (message,) = await source.take(1)
        await source.bury(message, "attempts", WHY)
        await source.settle([message, message])
        assert state(outbox, record) == "quarantined"


async def test_a_commit_wakes_the_owner(tmp_path: Path) -> None:
    """Nobody has to look all the time."""
    async with serving(tmp_path) as (outbox, source, woken):
        await source.take(1)
        store(outbox, 1)
        assert woken[0]


async def test_what_a_person_has_discarded_has_no_value_and_stays_discarded(tmp_path: Path, role: str) -> None:
    """Settling it afterwards changes nothing."""
    async with serving(tmp_path, role) as (outbox, source, _):
        (record,) = store(outbox, 1)
        (message,) = await source.take(1)
        outbox.discard([record.id])
        assert await source.value(message) is None
        assert message.is_lost
        await source.settle([message])
        assert state(outbox, record) == "discarded"


async def test_what_is_set_aside_comes_when_there_is_room_and_in_its_order(tmp_path: Path) -> None:
    """New ones of its key wait behind it; other keys go on."""
    async with serving(tmp_path) as (outbox, source, woken):
        records = store(outbox, 4)
        messages = await source.take(4)
        for each in messages[2:]:
            source.set_aside(each)
        later, other = store(outbox, 1), store(outbox, 1, "/b")
        assert names(await source.take(10)) == [other[0].id]
        before = woken[0]
        source.ask_again("/a")
        assert woken[0] > before
        assert names(await source.take(10)) == [each.id for each in (*records[2:], *later)]
        source.ask_again("/a")
        assert await source.take(10) == []


async def test_no_more_is_asked_for_while_what_was_asked_for_has_not_come(tmp_path: Path) -> None:
    """It would have no room, and go back behind those that wait there: out of its order."""
    async with serving(tmp_path) as (outbox, source, _):
        records = store(outbox, 600)
        for each in await source.take(600):
            source.set_aside(each)
        for _ in range(5):
            source.ask_again("/a")
        first = await source.take(1000)
        assert names(first) == [each.id for each in records[:256]]
        source.ask_again("/a")
        assert names(await source.take(100)) == [each.id for each in records[256:356]]
        source.ask_again("/a")
        assert names(await source.take(1000)) == [each.id for each in records[356:512]]


async def test_a_key_with_many_set_aside_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    """They are passed over in one go, as far as is fair, and then it says that there is more."""
    async with serving(tmp_path) as (outbox, source, woken):
        store(outbox, 700)
        source.set_aside((await source.take(1))[0])
        (other,) = store(outbox, 1, "/b")
        found, before = list[Taken](), woken[0]
        for _ in range(30):
            found = await source.take(50)
            if found:
                break
        assert names(found) == [other.id]
        assert woken[0] > before


async def test_what_others_wait_for_is_given_next_or_said_to_be_gone(tmp_path: Path, role: str) -> None:
    """By its id, whoever has discarded it, or whatever has become of it."""
    async with serving(tmp_path, role) as (outbox, source, _):
        records = store(outbox, 6)
        messages = await source.take(6)
        for each in messages[3:]:
            source.set_aside(each)
        outbox.discard([records[0].id])
        await source.bury(messages[1], "attempts", WHY)
        asked = [records[0].id, records[1].id, records[5].id, make_record().id]
        assert await source.wanted(asked) == {records[0].id: "discarded", records[1].id: "dead"}
        assert names(await source.take(1)) == [records[5].id]


async def test_an_outbox_that_cannot_be_read_loses_nothing_that_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what was asked for again, nor what was read before the fault."""
    async with serving(tmp_path) as (outbox, source, _):
        records = store(outbox, 4)
        messages = await source.take(2)
        source.set_aside(messages[1])
        source.ask_again("/a")
        (slot,) = source._files.slots()  # type: ignore[union-attr]
        pending = [row[0] for row in slot.queries.pending(0, 10)]
        capture, broken = slot.queries.capture, {pending[1], pending[3]}

        def failing(seq: int) -> OutboxRecord | None:
            if seq in broken:
                raise StoreUnavailable("a bad moment")
            return capture(seq)

        monkeypatch.setattr(slot.queries, "capture", failing)
        with pytest.raises(StoreUnavailable):
            await source.take(10)
        broken.discard(pending[1])
        found = names(await source.take(10))
        assert found == [records[1].id, records[2].id]
        broken.clear()
        rest = await source.take(10)
        if not rest:
            slot.looked_again = -1e9
            rest = await source.take(10)
        assert names(rest) == [records[3].id]


async def test_one_outbox_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes have written."""
    other = Outbox.open(tmp_path / "holdfast.db", OutboxLimits())
    try:
        async with serving(tmp_path, "stranger") as (outbox, source, _):
            store(other, 1)
            (record,) = store(outbox, 1)
            slots = source._files.slots()  # type: ignore[union-attr]
            assert len(slots) == 2

            def failing(after: int, limit: int) -> list[object]:
                raise StoreUnavailable("unreadable")

            monkeypatch.setattr(slots[0].queries, "pending", failing)
            assert names(await source.take(10)) == [record.id]
    finally:
        other.close()


async def test_a_record_that_is_damaged_after_it_was_taken_is_poison_and_in_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not discarded: nobody has given it up."""
    async with serving(tmp_path) as (outbox, source, _):
        (record,) = store(outbox, 1)
        (message,) = await source.take(1)
        (slot,) = source._files.slots()  # type: ignore[union-attr]
        monkeypatch.setattr(slot.queries, "capture", lambda seq: None)
        with pytest.raises(PoisonRecord):
            await source.value(message)
        assert state(outbox, record) == "quarantined"


async def test_an_outbox_that_is_closed_cannot_be_changed_for_now(tmp_path: Path) -> None:
    """It is tried again: the error is one that says so."""
    async with serving(tmp_path) as (outbox, source, _):
        store(outbox, 2)
        one, two = await source.take(2)
        outbox.close()
        with pytest.raises(StoreUnavailable):
            await source.settle([one])
        with pytest.raises(StoreUnavailable):
            await source.bury(two, "attempts", WHY)


async def test_its_health_says_how_many_wait(tmp_path: Path, role: str) -> None:
    """And before it has been started that it has not."""
    assert not (await OutboxSource(lambda woken: OwnFiles(lambda: None, woken)).health()).ok
    async with serving(tmp_path, role) as (outbox, source, _):
        assert (await source.health()).lag == 0
        store(outbox, 3)
        health = await source.health()
        assert (health.ok, health.lag) == (True, 3)
        assert health.oldest
