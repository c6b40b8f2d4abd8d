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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

from holdfast.audit import Arrival
from holdfast.errors import CaptureRefused, PoisonRecord, StoreUnavailable
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
_END = (1 << 63) - 1
_ROUNDS = 8  # of reading what is only set aside, before others have their turn


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
    """Which outboxes there are. What is not asynchronous blocks, and belongs to one thread at a time."""

    def slots(self) -> list[Slot]:
        """Those that there are now; one that was there before is the same object."""

    async def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled. StoreUnavailable if that cannot be written."""

    async def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
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

    async def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled."""
        # Without a thread: it would be held for as long as the disk takes, and there are few of them.
        with _refusals():
            await asyncio.shield(asyncio.wrap_future(_own(slot).mark_sent(seqs)))

    async def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are dead."""
        with _refusals():
            await asyncio.shield(asyncio.wrap_future(_own(slot).quarantine(seqs)))

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

    async def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled."""
        await asyncio.to_thread(self._reader.settle, slot.queries, seqs, "sent")

    async def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are dead."""
        await asyncio.to_thread(self._reader.settle, slot.queries, seqs, "quarantined")

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
        self._woken: Callable[[], None] = lambda: None
        self._aside: dict[str, deque[_Position]] = {}  # by key, oldest first; their records stay on the disk
        self._again: deque[tuple[str, _Position]] = deque()  # to be given next; the key, or empty
        self._asked: Counter[str] = Counter()  # how many of a key are among these
        self._one_at_a_time = asyncio.Lock()

    async def start(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._files = self._make_files(woken)

    async def stop(self) -> None:
        async with self._one_at_a_time:
            if self._files:
                await asyncio.to_thread(self._files.close)

    async def take(self, most: int) -> list[Taken]:
        async with self._one_at_a_time:
            given = await self._asked_for(most)
            for _ in range(_ROUNDS):
                if len(given) >= most:
                    return given
                wanted = most - len(given)
                try:
                    new = await asyncio.to_thread(self._take, wanted)
                except StoreUnavailable:
                    if given:  # what was taken must not be lost; the next call finds the same
                        return given
                    raise
                for taken in new:
                    assert taken.arrival
                    if taken.arrival.key in self._aside:
                        self.set_aside(taken)
                    else:
                        given.append(taken)
                if len(new) < wanted:  # that was all
                    return given
        self._woken()  # there may be more, but others are to have their turn
        return given

    def set_aside(self, taken: Taken) -> None:
        assert taken.arrival
        self._aside.setdefault(taken.arrival.key, deque()).append(_position(taken))

    def ask_again(self, key: str) -> None:
        aside = self._aside.get(key)
        if not aside or self._asked[key]:  # more than there is room for would go back behind those that wait there
            return
        for _ in range(min(_ROWS, len(aside))):
            self._again.append((key, aside.popleft()))
            self._asked[key] += 1
        if not aside:
            del self._aside[key]
        self._woken()

    async def wanted(self, ids: Sequence[str]) -> dict[str, Literal["discarded", "dead"]]:
        async with self._one_at_a_time:
            found = await asyncio.to_thread(self._find, ids)
        self._again.extendleft(("", (slot, record.seq)) for slot, record in found if record.state == "pending")
        gone = [record for _, record in found if record.state != "pending"]
        return {each.id: "dead" if each.state == "quarantined" else "discarded" for each in gone}

    async def value(self, taken: Taken) -> tuple[bytes, Headers] | None:
        slot, seq = _position(taken)
        try:
            record = await asyncio.to_thread(_pending, slot, seq)
        except DamagedOutbox:
            if slot.outbox:
                with contextlib.suppress(CaptureRefused):
                    await asyncio.to_thread(slot.outbox.salvage)
            raise
        if record is None:
            slot.held.discard(seq)
            taken.is_lost = True  # whoever has discarded it has said so in the outbox
            return None
        return record.value, record.headers

    async def settle(self, taken: Sequence[Taken]) -> None:
        assert self._files
        by_slot: dict[Slot, set[int]] = {}
        for slot, seq in map(_position, taken):
            if seq in slot.held:  # not one that was given twice, and is in quarantine by now
                by_slot.setdefault(slot, set()).add(seq)
        for slot, seqs in by_slot.items():
            await self._files.sent(slot, sorted(seqs))
            slot.held -= seqs

    async def bury(self, taken: Taken, reason: str, headers: Headers) -> None:
        assert self._files
        slot, seq = _position(taken)
        if seq in slot.held:
            await self._files.quarantine(slot, [seq])
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

    async def _asked_for(self, most: int) -> list[Taken]:
        """Those that are to be given before any other."""
        wanted = [self._again.popleft() for _ in range(min(most, len(self._again)))]
        if not wanted:
            return []
        try:
            found = await asyncio.to_thread(_still_pending, [position for _, position in wanted])
        except BaseException:
            self._again.extendleft(reversed(wanted))
            raise
        self._asked -= Counter(key for key, _ in wanted)
        return found

    # -- in a thread ------------------------------------------------------------------------------------------------

    def _take(self, most: int) -> list[Taken]:
        """New ones of all outboxes, in the order of storing. One that cannot be read does not stop the others."""
        assert self._files
        slots, found = self._files.slots(), list[Taken]()
        trouble: StoreUnavailable | None = None
        # What is stored in one while another has been read already waits: what came before it may be there by now.
        until = max((_newest(slot) for slot in slots), default=0) if len(slots) > 1 else _END
        rows: list[tuple[Slot, LedgerRow]] = []
        for slot in slots:
            try:
                rows += [(slot, row) for row in _upcoming(slot, most)]
            except StoreUnavailable as error:
                trouble = error
        rows.sort(key=lambda each: each[1][0])
        count = min(most, sum(row[0] <= until for _, row in rows))
        for slot, row in reversed(rows[count:]):
            slot.cursor = row[0] - 1
        for slot, row in rows[:count]:
            try:
                if record := self._read(slot, row[0], intact=ledger_intact(row)):
                    slot.held.add(row[0])
                    found.append(_taken(slot, record))
            except StoreUnavailable as error:
                trouble, slot.cursor = error, min(slot.cursor, row[0] - 1)
        if len(rows) > count:
            self._woken()
        if trouble and not found:
            raise trouble
        return found

    def _find(self, ids: Sequence[str]) -> list[tuple[Slot, OutboxRecord]]:
        assert self._files
        slots = self._files.slots()
        return [(slot, record) for slot in slots for each in ids if (record := slot.queries.get(each))]

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
        if record is None:
            _quarantine_damaged(slot, seq)
        elif slot.outbox and not intact:
            logger.warning("outbox row was damaged, repaired from its capture", extra={"id": record.id})
            slot.outbox.repair(record)
        return record


def _newest(slot: Slot) -> int:
    try:
        return slot.queries.newest_pending()
    except StoreUnavailable:
        return 0  # reading it says why


def _upcoming(slot: Slot, most: int) -> list[LedgerRow]:
    """The next ones that the replayer does not have."""
    began, found = slot.cursor, dict[int, LedgerRow]()
    try:
        while len(found) < most and (rows := _rows(slot, min(_ROWS, most - len(found)))):
            slot.cursor = rows[-1][0]
            # By number: when all are looked at again, those that were found just now come once more.
            found |= {row[0]: row for row in rows if row[0] not in slot.held}
    except BaseException:
        slot.cursor = min(slot.cursor, began)
        raise
    return list(found.values())


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


def _still_pending(positions: list[_Position]) -> list[Taken]:
    found = []
    for slot, seq in positions:
        try:
            record = _pending(slot, seq)
        except PoisonRecord:
            record = None  # it is in quarantine by now
        if record:
            slot.held.add(seq)
            found.append(_taken(slot, record))
        else:
            slot.held.discard(seq)
    return found


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
    """None if it is not to be sent any more. PoisonRecord for one that is damaged: it is in quarantine then."""
    if not slot.queries.is_pending(seq):
        return None
    record = slot.queries.capture(seq)
    if record is None:
        _quarantine_damaged(slot, seq)
        raise PoisonRecord("the record is damaged on disk")
    return record


def _quarantine_damaged(slot: Slot, seq: int) -> None:
    if slot.outbox:
        logger.warning("capture quarantined", extra={"seq": seq, "reason": "the record is damaged on disk"})
        with _refusals():
            slot.outbox.quarantine([seq], damaged=True).result()


def _is_done(outbox: Outbox, slot: Slot) -> bool:
    return not slot.held and not outbox.stats().pending


def _own(slot: Slot) -> Outbox:
    assert slot.outbox
    return slot.outbox


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except CaptureRefused as error:
        raise StoreUnavailable(f"the outbox cannot be changed: {error}") from error
