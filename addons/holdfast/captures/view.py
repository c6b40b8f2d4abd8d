"""Both stores as one: lists of captures, and a capture with its message and its replays."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from holdfast.audit import AttemptLog, Audit
from holdfast.captures import Capture, Choice
from holdfast.captures.merging import audit_filter, from_entry, from_record, is_chosen, outbox_filter
from holdfast.outbox import OutboxReader, OutboxRecord
from holdfast.outbox.queries import Queries
from holdfast.outbox.record import Where

PAGE = 500  # at most 1,000: `Audit.known` takes no more
_TICKS = 1_000_000  # the number of a record in an outbox is when it was stored, in microseconds


@dataclass(frozen=True, slots=True)
class Message:
    """A captured request as it is, or would be, published. `value`: the envelope."""

    key: str
    value: bytes = field(repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


class Captures:
    """`publishes`: whether the outbox hands its records to a broker. Either store may be missing.

    StoreUnavailable where a store that is there cannot be asked: half of the truth would not look like half.
    """

    def __init__(self, outbox: OutboxReader | None, audit: Audit | None, *, publishes: bool) -> None:
        self.outbox = outbox
        self.audit = audit
        self.publishes = publishes

    # -- lists ------------------------------------------------------------------------------------------------------

    async def newest(self, choice: Choice, limit: int) -> list[Capture]:
        """By the time they were captured, newest first."""
        if limit <= 0:
            return []
        listed = await self._entries(choice, limit)
        cut = listed[-1].captured if len(listed) == limit else 0.0
        found, missed = await self._newest_records(choice, limit, cut, {each.id for each in listed})
        if missed:  # some may have reached the audit store just now
            listed = await self._entries(choice, limit)
        merged = {each.id: each for each in (*found, *listed)}
        return _newest(merged.values(), limit)

    async def each(self, choice: Choice) -> AsyncIterator[Capture]:
        """All that fit, each once: those only the outbox knows, then those of the audit store; both oldest first."""
        told = set()
        async for page in self._pages(choice, newest_first=False):
            for record in await self._unknown(page):
                told.add(record.id)
                yield from_record(record, publishes=self.publishes)
        async for capture in self._all_entries(choice):
            if capture.id not in told:
                yield capture

    async def _entries(self, choice: Choice, limit: int) -> list[Capture]:
        where = audit_filter(choice)
        if self.audit is None or where is None:
            return []
        return [from_entry(entry) for entry in await self.audit.entries(where, limit=limit)]

    async def _all_entries(self, choice: Choice) -> AsyncIterator[Capture]:
        where, edge = audit_filter(choice), set[str]()
        if self.audit is None or where is None:
            return
        while True:
            # From the moment of the last one on, without those of that moment that have been told.
            size = PAGE + len(edge)
            page = await self.audit.entries(where, limit=size, newest_first=False)
            for entry in page:
                if entry.id not in edge:
                    yield from_entry(entry)
            if len(page) < size:
                return
            last = page[-1].captured
            edge = {each.id for each in page if each.captured == last}
            where["since"] = last

    async def _newest_records(
        self, choice: Choice, limit: int, cut: float, listed: set[str]
    ) -> tuple[list[Capture], bool]:
        """Those that only the outbox knows, and whether the audit store knows of others that it has not listed.

        What was captured before `cut` is not wanted.
        """
        found: list[Capture] = []
        missed = False
        async for page in self._pages(choice, newest_first=True):
            unknown = await self._unknown(page)
            found = _newest([*found, *(from_record(each, publishes=self.publishes) for each in unknown)], limit)
            missed = missed or bool({record.id for record in page} - {record.id for record in unknown} - listed)
            # They come by when they were stored, which may be long after they were captured, and is never before.
            if len(found) == limit:
                cut = max(cut, found[-1].captured)
            if page[-1].seq < int(cut * _TICKS):
                break
        return found, missed

    async def _unknown(self, page: list[OutboxRecord]) -> list[OutboxRecord]:
        known = await self.audit.known([record.id for record in page]) if self.audit else set[str]()
        return [record for record in page if record.id not in known]

    # -- the outbox -------------------------------------------------------------------------------------------------

    async def _pages(self, choice: Choice, *, newest_first: bool) -> AsyncIterator[list[OutboxRecord]]:
        where = outbox_filter(choice, publishes=self.publishes)
        if self.outbox is None or where is None:
            return
        records = self._records(self.outbox, choice, where, newest_first)
        while page := await asyncio.to_thread(lambda: list(islice(records, PAGE))):
            yield page

    def _records(
        self, outbox: OutboxReader, choice: Choice, where: Where, newest_first: bool
    ) -> Iterator[OutboxRecord]:
        slots = [_of_slot(queries, where, newest_first) for queries in outbox.slots()]
        for record in heapq.merge(*slots, key=lambda each: each.seq, reverse=newest_first):
            # A list knows no keys: they are with the values.
            whole = outbox.get(record.id) if choice.key is not None else record
            if whole and is_chosen(from_record(whole, publishes=self.publishes), choice):
                yield record

    # -- one of them ------------------------------------------------------------------------------------------------

    async def get(self, capture_id: str) -> Capture | None:
        """None where neither store has it."""
        return (await self.of([capture_id])).get(capture_id)

    async def of(self, ids: Sequence[str]) -> dict[str, Capture]:
        """Those that there are, by the ids that were given."""
        found = {}
        if self.audit:
            entries = await self.audit.entries({"ids": [each.lower() for each in ids]}, limit=len(ids))
            found = {entry.id: from_entry(entry) for entry in entries}
        captures = {}
        for each in ids:
            capture = found.get(each.lower())
            if capture is None and (record := await self.record(each)):
                capture = from_record(record, publishes=self.publishes)
            if capture:
                captures[each] = capture
        return captures

    async def merged(self, records: Sequence[OutboxRecord]) -> list[Capture]:
        """A capture for each of these records of the outbox."""
        entries = []
        if self.audit:
            entries = await self.audit.entries({"ids": [record.id for record in records]}, limit=len(records))
        known = {entry.id: from_entry(entry) for entry in entries}
        return [known.get(each.id) or from_record(each, publishes=self.publishes) for each in records]

    async def record(self, capture_id: str) -> OutboxRecord | None:
        """As it stands in the outbox, whole."""
        return await asyncio.to_thread(self.outbox.get, capture_id) if self.outbox else None

    async def message(self, capture_id: str) -> Message | None:
        """Of the outbox, or of the dead letters; None where it is kept in neither (any more)."""
        record = await self.record(capture_id)
        if record and record.value:
            return Message(record.key, record.value, record.headers)
        letters = await self.audit.dead_letters([capture_id.lower()]) if self.audit else []
        return next((Message(letter.key, letter.value, letter.headers) for letter in letters if letter.value), None)

    async def attempts(self, capture_id: str) -> list[AttemptLog]:
        """Its replays, oldest first."""
        return await self.audit.attempts(capture_id.lower()) if self.audit else []

    # -- giving up --------------------------------------------------------------------------------------------------

    async def discard(self, ids: Sequence[str]) -> int:
        """Neither sent nor replayed, wherever they are: how many. Delivered ones stay as they are.

        One that is published and has not reached a replayer cannot be given up: it is in the broker's hands.
        """
        before = await self.of(ids)
        if self.audit:
            await self.audit.settle([each.id for each in before.values()], "discarded", "by hand")
        if self.outbox:
            await asyncio.to_thread(self.outbox.discard, [each.id for each in before.values()])
        after = await self.of(ids)
        return sum(after[each].state == "discarded" != capture.state for each, capture in before.items())


def _newest(captures: Iterable[Capture], limit: int) -> list[Capture]:
    return sorted(captures, key=lambda each: (each.captured, each.id), reverse=True)[:limit]


def _of_slot(queries: Queries, where: Where, newest_first: bool) -> Iterator[OutboxRecord]:
    after = 0
    while page := queries.list(limit=PAGE, newest_first=newest_first, after=after, **where):
        yield from page
        after = page[-1].seq
