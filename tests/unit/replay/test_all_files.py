"""The outboxes of several workers as one source, for the worker that replays."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from holdfast.order import siblings_hold_up
from holdfast.outbox import Outbox, OutboxLimits
from holdfast.outbox.reader import OutboxReader
from holdfast.replay.outbox import OutboxSource
from tests.unit.outbox.records import make_record
from tests.unit.replay.test_outbox_source import names, serving


@asynccontextmanager
async def siblings(folder: Path) -> AsyncIterator[tuple[Outbox, Outbox, OutboxSource]]:
    """The own outbox, that of another worker, and the source over both."""
    async with serving(folder, "worker") as (own, source, _):
        other = Outbox.open(folder / "holdfast.db", OutboxLimits())
        assert other.path != own.path
        try:
            yield own, other, source
        finally:
            other.close()


async def test_all_are_given_in_the_order_in_which_they_were_stored_wherever(tmp_path: Path, seed: int) -> None:
    """A few at a time, also what comes meanwhile; each once, and settled where it lies."""
    dice, stored, given = random.Random(seed), list[str](), list[str]()
    async with siblings(tmp_path) as (own, other, source):
        for _ in range(30):
            for _ in range(dice.randrange(4)):
                record = make_record(b"x", key="/a")
                dice.choice((own, other)).append_sync(record)
                stored.append(record.id)
            _look_again(source)
            given += names(await source.take(dice.randint(1, 5)))
        while taken := await source.take(7):
            given += names(taken)
        assert given == stored
        assert (await source.health()).lag == len(stored)
    async with siblings(tmp_path) as (own, other, source):
        messages = await source.take(1000)
        assert names(messages) == stored
        await source.settle(messages[1:])
        await source.bury(messages[0], "attempts", ())
        with OutboxReader(tmp_path / "holdfast.db") as reader:
            assert {record.state for record in reader.list(limit=1000)} == {"sent", "quarantined"}


def _look_again(source: OutboxSource) -> None:
    """At all that waits, as is done every few seconds."""
    assert source._files
    for slot in source._files.slots():
        slot.looked_again = float("-inf")


async def test_what_is_stored_while_the_files_are_read_waits_for_what_came_before_it(tmp_path: Path) -> None:
    """One file has been read, then an older record comes into it and a younger one into the next."""
    async with siblings(tmp_path) as (own, other, source):
        other.append_sync(first := make_record(b"0", key="/a"))
        await source.take(0)
        assert source._files
        (mine, theirs) = source._files.slots()
        read, later = theirs.queries.pending, list[str]()

        def pending(after: int, limit: int) -> object:
            if not later:  # by now the own file has been looked into
                for outbox in (own, other):
                    outbox.append_sync(record := make_record(b"1", key="/a"))
                    later.append(record.id)
            return read(after, limit)

        theirs.queries.pending = pending  # type: ignore[assignment, method-assign]
        assert mine.cursor == 0
        given = names(await source.take(10) + await source.take(10))
        assert given == [first.id, *later]


async def test_a_worker_knows_of_what_waits_in_the_outbox_of_another(tmp_path: Path) -> None:
    """As soon as it is stored; and no more once it is published, or given up."""
    async with siblings(tmp_path) as (own, other, _):
        with OutboxReader(tmp_path / "holdfast.db") as reader:
            assert not await siblings_hold_up(reader, own, "/a", None)
            own.append_sync(make_record(b"0", key="/a"))
            assert not await siblings_hold_up(reader, own, "/a", None)
            other.append_sync(record := make_record(b"1", key="/a"))
            assert await siblings_hold_up(reader, own, "/a", None)
            assert not await siblings_hold_up(reader, own, "/b", None)
            reader.discard([record.id])
            assert not await siblings_hold_up(reader, own, "/a", None)
            other.append_sync(record := make_record(b"2", key="/a"))
            other.mark_sent([other.list()[0].seq]).result()
            assert not await siblings_hold_up(reader, own, "/a", None)
