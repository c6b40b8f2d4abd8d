"""Outcomes on their way to the disk: together, again and again, and each in its place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from holdfast.audit import Audit, Record
from holdfast.errors import StoreUnavailable
from holdfast.replay.recorder import Recorder
from tests.unit.replay.fakes import in_virtual_time, settle_down


class Store:
    """Notes what is written, one call after the other."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.faults: list[Exception] = []
        self.poison: set[str] = set()
        self.gate: asyncio.Event | None = None

    async def record(self, records: Sequence[Record], owner: str) -> list[bool]:
        if self.gate:
            await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if bad := [each.id for each in records if each.id in self.poison]:
            raise ValueError(f"{bad} cannot be stored")
        self.written.append([each.id for each in records])
        return [each.id != "late" for each in records]


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[Recorder]:
    """A recorder at work."""
    recorder = Recorder(cast(Audit, store), "one")
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
    finally:
        task.cancel()


@in_virtual_time
async def test_whether_it_has_taken_effect_is_told() -> None:
    """Each gets its own answer."""
    async with running(Store()) as recorder:
        answers = await asyncio.gather(*(recorder.record(Record(id=name)) for name in ("a", "late", "b")))
        assert answers == [True, False, True]


@in_virtual_time
async def test_those_that_come_while_one_is_written_share_the_next_transaction() -> None:
    """In their order, and not more than a transaction takes."""
    store = Store()
    store.gate = asyncio.Event()
    async with running(store) as recorder:
        tasks = [asyncio.create_task(recorder.record(Record(id="first")))]
        await settle_down()
        tasks += [asyncio.create_task(recorder.record(Record(id=str(number)))) for number in range(700)]
        await settle_down()
        store.gate.set()
        assert all(await asyncio.gather(*tasks))
    assert [len(each) for each in store.written] == [1, 500, 200]
    assert store.written[1][:3] == ["0", "1", "2"]


@in_virtual_time
async def test_a_store_that_is_away_is_tried_until_it_is_back() -> None:
    """And why is told meanwhile; the order stays."""
    store = Store()
    store.faults = [StoreUnavailable("disk full")] * 6
    async with running(store) as recorder:
        task = asyncio.create_task(recorder.record(Record(id="a")))
        await asyncio.sleep(1.0)
        assert recorder.trouble == "disk full"
        assert not task.done()
        assert await task
        assert not recorder.trouble


@in_virtual_time
async def test_one_that_cannot_be_stored_fails_alone() -> None:
    """The others of its transaction are written without it, and the next ones after it."""
    store = Store()
    store.poison = {"bad"}
    async with running(store) as recorder:
        tasks = [asyncio.create_task(recorder.record(Record(id=name))) for name in ("a", "bad", "b")]
        await asyncio.wait(tasks)
        assert await tasks[0]
        assert await tasks[2]
        with pytest.raises(ValueError, match="bad"):
            await tasks[1]
        assert await recorder.record(Record(id="c"))


@in_virtual_time
async def test_after_a_stop_whoever_waits_for_a_store_that_is_away_is_told_so() -> None:
    """At once, and those that come after it too; what can be written still is."""
    store = Store()
    store.faults = [StoreUnavailable("away")] * 3
    async with running(store) as recorder:
        task = asyncio.create_task(recorder.record(Record(id="a")))
        await settle_down()
        recorder.stop()
        with pytest.raises(StoreUnavailable):
            await task
        with pytest.raises(StoreUnavailable):
            await recorder.record(Record(id="b"))
        assert await recorder.record(Record(id="c"))


@in_virtual_time
async def test_a_caller_that_has_gone_away_does_not_stop_the_others() -> None:
    """It was cancelled while its record was being written."""
    store = Store()
    store.gate = asyncio.Event()
    async with running(store) as recorder:
        first: Any = asyncio.create_task(recorder.record(Record(id="a")))
        second = asyncio.create_task(recorder.record(Record(id="b")))
        await settle_down()
        first.cancel()
        store.gate.set()
        assert await second
        assert await recorder.record_all([Record(id="c"), Record(id="late")]) == [True, False]
        assert await recorder.record_all([]) == []
