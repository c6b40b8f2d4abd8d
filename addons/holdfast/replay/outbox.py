"""`embedded://`: outboxes of this machine as a source.

A record stays `pending` in its outbox until it is settled, whatever happens here: an outage loses nothing, and what is
delivered but not marked is known to the audit store. What is dead goes into quarantine, where nothing removes it.

A gateway that replays itself owns its outbox, and takes over those that processes which are gone have left beside it.
A consumer owns none: it reads all there are, while their owners write.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, cast

from holdfast.audit import Arrival
from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox.adoption import Adoption
from holdfast.outbox.queries import DamagedOutbox, Queries
from holdfast.outbox.reader import OutboxReader
from holdfast.outbox.record import LedgerRow, OutboxRecord, OutboxStats, ledger_intact
from holdfast.outbox.store import Outbox
from holdfast.replay.source import Headers, SourceHealth, Taken

logger = logging.getLogger(__name__)
_ADOPT_EVERY = 30.0
_LOOK_AGAIN = 2.0  # seconds; somebody may have had an older record sent again
_HELD_PER_SECOND = 5000  # with many held ones a look at all of them takes its time
_ROWS = 256


@dataclass(slots=True, eq=False)
class Slot:
    """One outbox file. `outbox` is None where another process owns it. `held`: the numbers of what the replayer has."""

    queries: Queries
    outbox: Outbox | None
    held: set[int] = field(default_factory=set)
    cursor: int = 0
    looked_again: float = field(default_factory=time.monotonic)


_Position = tuple[Slot, int]


class Files(Protocol):
    """Which outboxes there are. All of it blocks, and belongs to one thread at a time."""

    def slots(self) -> list[Slot]:
        """Those that there are now; one that was there before is the same object."""

    def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled. StoreUnavailable if that cannot be written."""

    def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are dead. StoreUnavailable if that cannot be written."""

    def stats(self) -> OutboxStats:
        """Figures over all of them."""

    def close(self) -> None:
        """Let go of everything."""


class OwnFiles:
    """The outbox of this process, which `outbox` gives once it is open, and what others have left beside it."""

    def __init__(self, outbox: Callable[[], Outbox | None], woken: Callable[[], None]) -> None:
        self._outbox = outbox
        self._woken = woken
        self._slots: list[Slot] = []
        self._adoption: Adoption | None = None

    def slots(self) -> list[Slot]:
        """Those that there are now."""
        outbox = self._outbox()
        if outbox is None:
            return []
        if self._adoption is None:
            outbox.on_commit(self._woken)
            self._slots.append(Slot(Queries(outbox.path), outbox))
            self._adoption = Adoption(outbox, _ADOPT_EVERY, self._woken)
        for done in [each for each in self._slots[1:] if each.outbox and _is_done(each.outbox, each)]:
            self._slots.remove(done)
            done.queries.close()
            assert done.outbox
            self._adoption.put_back(done.outbox)
        self._slots += [Slot(Queries(each.path), each) for each in self._adoption.adopt_if_due()]
        return self._slots

    def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled."""
        assert slot.outbox
        _written(slot.outbox.mark_sent(seqs))

    def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are dead."""
        assert slot.outbox
        _written(slot.outbox.quarantine(seqs))

    def stats(self) -> OutboxStats:
        """Of the own outbox."""
        outbox = self._outbox()
        if outbox is None:
            raise StoreUnavailable("the outbox is not open")
        return outbox.stats()

    def close(self) -> None:
        """The first one is the failure sink's to close."""
        for number, slot in enumerate(self._slots):
            slot.queries.close()
            if number and slot.outbox:
                slot.outbox.close()
        self._slots.clear()


class OthersFiles:
    """All outboxes at a path, whoever owns them."""

    def __init__(self, reader: OutboxReader) -> None:
        self._reader = reader
        self._slots: dict[Queries, Slot] = {}

    def slots(self) -> list[Slot]:
        """Those that there are now."""
        return [self._slots.setdefault(each, Slot(each, None)) for each in self._reader.slots()]

    def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled."""
        self._reader.settle(slot.queries, seqs, "sent")

    def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are dead."""
        self._reader.settle(slot.queries, seqs, "quarantined")

    def stats(self) -> OutboxStats:
        """Over all of them, by counting."""
        return self._reader.stats()

    def close(self) -> None:
        """Let go of everything."""
        self._reader.close()
        self._slots.clear()


class OutboxSource:
    """What waits for its time waits here: there are no topics of retries. `files` is called when the source starts."""

    places: tuple[tuple[str, float], ...] = ()

    def __init__(self, files: Callable[[Callable[[], None]], Files]) -> None:
        self._make_files = files
        self._files: Files | None = None
        self._aside: dict[str, deque[_Position]] = {}  # by key; their records stay on the disk
        self._again: deque[_Position] = deque()
        self._one_at_a_time = asyncio.Lock()

    async def start(self, woken: Callable[[], None]) -> None:
        self._files = self._make_files(woken)

    async def stop(self) -> None:
        async with self._one_at_a_time:
            if self._files:
                await asyncio.to_thread(self._files.close)

    async def take(self, most: int) -> list[Taken]:
        async with self._one_at_a_time:
            again = [self._again.popleft() for _ in range(min(most, len(self._again)))]
            found = await asyncio.to_thread(self._take_again, again)
            new = await asyncio.to_thread(self._take, most - len(again))
        for taken in new:
            assert taken.arrival
            if taken.arrival.key in self._aside:
                self.set_aside(taken)
            else:
                found.append(taken)
        return found

    def set_aside(self, taken: Taken) -> None:
        assert taken.arrival
        self._aside.setdefault(taken.arrival.key, deque()).append(_position(taken))

    def ask_again(self, key: str) -> None:
        aside = self._aside.get(key)
        for _ in range(min(_ROWS, len(aside) if aside else 0)):
            assert aside
            self._again.append(aside.popleft())
        if aside is not None and not aside:
            del self._aside[key]

    async def value(self, taken: Taken) -> tuple[bytes, Headers] | None:
        slot, seq = _position(taken)
        record = await asyncio.to_thread(_pending, slot, seq)
        if record is None:
            slot.held.discard(seq)
            return None
        return record.value, record.headers

    async def settle(self, taken: Sequence[Taken]) -> None:
        assert self._files
        by_slot: dict[Slot, list[int]] = {}
        for slot, seq in map(_position, taken):
            by_slot.setdefault(slot, []).append(seq)
        for slot, seqs in by_slot.items():
            await asyncio.to_thread(self._files.sent, slot, seqs)
            slot.held.difference_update(seqs)

    async def bury(self, taken: Taken, reason: str, headers: Headers) -> None:
        assert self._files
        slot, seq = _position(taken)
        await asyncio.to_thread(self._files.quarantine, slot, [seq])
        slot.held.discard(seq)

    async def hand_on(self, taken: Taken, place: str, due: float, headers: Headers) -> None:
        raise NotImplementedError("an outbox has no topics of retries")

    async def health(self) -> SourceHealth:
        if self._files is None:
            return SourceHealth(ok=False, detail="not started yet")
        try:
            stats = await asyncio.to_thread(self._files.stats)
        except StoreUnavailable as error:
            return SourceHealth(ok=False, detail=str(error))
        oldest = time.time() - stats.oldest_pending_seconds if stats.pending else None
        return SourceHealth(ok=True, detail="from the outbox", lag=stats.pending, oldest=oldest)

    # -- in a thread ------------------------------------------------------------------------------------------------

    def _take_again(self, positions: list[_Position]) -> list[Taken]:
        found = []
        for slot, seq in positions:
            record = _pending(slot, seq)
            if record:
                found.append(_taken(slot, record))
            else:
                slot.held.discard(seq)
        return found

    def _take(self, most: int) -> list[Taken]:
        assert self._files
        found: list[Taken] = []
        for slot in self._files.slots():
            while len(found) < most and (rows := _rows(slot, min(_ROWS, most - len(found)))):
                for row in rows:
                    slot.cursor = row[0]
                    if row[0] in slot.held:
                        continue
                    record = self._read(slot, row[0], intact=ledger_intact(row))
                    if record:
                        slot.held.add(row[0])
                        found.append(_taken(slot, record))
        return found

    def _read(self, slot: Slot, seq: int, *, intact: bool) -> OutboxRecord | None:
        """None for one that is damaged; where the file is ours, something is done about it."""
        try:
            record = slot.queries.capture(seq)
        except DamagedOutbox:
            if slot.outbox and slot.queries.is_pending(seq):
                with contextlib.suppress(CaptureRefused):
                    slot.outbox.salvage()
                slot.cursor = 0
            return None
        if slot.outbox and record is None:
            logger.warning("capture quarantined", extra={"seq": seq, "reason": "the record is damaged on disk"})
            slot.outbox.quarantine([seq], damaged=True).exception(slot.outbox.limits.commit_timeout)
        elif slot.outbox and record and not intact:
            logger.warning("outbox row was damaged, repaired from its capture", extra={"id": record.id})
            slot.outbox.repair(record)
        return record


def _rows(slot: Slot, limit: int) -> list[LedgerRow]:
    try:
        rows = slot.queries.pending(slot.cursor, limit)
        again = max(_LOOK_AGAIN, len(slot.held) / _HELD_PER_SECOND)
        if not rows and slot.cursor and time.monotonic() > slot.looked_again + again:
            slot.looked_again = time.monotonic()
            rows = slot.queries.pending(0, limit)
    except DamagedOutbox:
        if slot.outbox:
            slot.outbox.salvage()
        raise
    return rows


def _taken(slot: Slot, record: OutboxRecord) -> Taken:
    traceparent = next((value.decode("latin-1") for name, value in record.headers if name == "traceparent"), "")
    arrival = Arrival(
        id=record.id,
        key=record.key,
        route=record.route,
        method=record.method,
        path=record.path,
        error=record.error,
        captured=record.created,
        status=record.status,
        traceparent=traceparent,
    )
    return Taken(arrival, record.size, position=(slot, record.seq))


def _position(taken: Taken) -> _Position:
    return cast(_Position, taken.position)


def _pending(slot: Slot, seq: int) -> OutboxRecord | None:
    return slot.queries.capture(seq) if slot.queries.is_pending(seq) else None


def _is_done(outbox: Outbox, slot: Slot) -> bool:
    return not slot.held and not outbox.stats().pending


def _written(moved: Future[int]) -> None:
    try:
        moved.result()
    except CaptureRefused as error:
        raise StoreUnavailable(f"the outbox cannot be changed: {error}") from error
