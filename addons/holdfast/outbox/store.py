"""The outbox of one process: appending for the addons, queries for the control surface, states for the relay."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self, Unpack

import apsw

from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox import slots
from holdfast.outbox.ledger import Ledger
from holdfast.outbox.queries import Queries
from holdfast.outbox.record import ROW_COST, STATES, OutboxLimits, OutboxRecord, OutboxStats, State, Where, storable
from holdfast.outbox.waiting import Waiting, forget, make_index
from holdfast.outbox.writer import Ticket, Writer
from holdfast.policy.uuid7 import is_uuid

log = logging.getLogger(__name__)
DISCARDABLE: tuple[State, ...] = ("pending", "quarantined")
# A record that was given up while it was on its way has been sent all the same.
SENDABLE: tuple[State, ...] = ("pending", "discarded", "quarantined")
REQUEUABLE: tuple[State, ...] = ("sent", "discarded", "quarantined")


class Outbox:
    """Made by `open`. Any thread may call it; what is asynchronous belongs to a running event loop."""

    def __init__(self, slot: slots.Slot, base: Path, limits: OutboxLimits, clock: Callable[[], float]) -> None:
        self.path = slot.path
        self.base = base
        self.limits = limits
        self._damaged = 0
        self._clock = clock
        self._slot = slot
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._writer = Writer(slot.path, limits, clock, self._committed)
        self.queries = Queries(slot.path, self._lost)
        self._figures = Queries(slot.path)  # of its own: the metrics must not wait for somebody's long list

    @classmethod
    def open(cls, path: str | Path, limits: OutboxLimits, clock: Callable[[], float] = time.time) -> Self:
        """The outbox at `path`, or at the next slot that no other process holds.

        StoreUnavailable, with what to do about it, if there can be none.
        """
        base = Path(path).absolute()
        if not base.parent.is_dir():
            raise StoreUnavailable(f"the outbox's folder {base.parent} does not exist: create it")
        return cls._open_slot(slots.claim(base), base, limits, clock)

    @classmethod
    def _open_slot(cls, slot: slots.Slot, base: Path, limits: OutboxLimits, clock: Callable[[], float]) -> Self:
        try:
            outbox = cls(slot, base, limits, clock)
            slot.mark()
        except BaseException:
            slot.release()
            raise
        return outbox

    def follow(self, limits: OutboxLimits) -> None:
        """From now on these bounds hold."""
        if limits != self.limits:
            self.limits = limits
            self._writer.follow(limits)

    def leftovers(self, wanted: Callable[[Path], bool]) -> Iterator[Self]:
        """The outboxes that processes which are gone have left beside this one; the caller closes each."""
        for slot in slots.leftovers(self.base, wanted):
            try:
                yield self._open_slot(slot, self.base, self.limits, self._clock)
            except StoreUnavailable as error:
                log.warning("outbox left by another process cannot be opened", extra={"reason": str(error)})

    def close(self) -> None:
        """Commit what waits and let go of the file. May be called twice."""
        self.queries.close()  # first: the last connection to be closed brings the log into the database
        self._figures.close()
        self._writer.close()
        self._slot.release()

    # --- storing ---

    async def append(self, record: OutboxRecord, *, in_company: bool = False) -> None:
        """Returns once the record is on the disk. CaptureRefused, with its reason, if it is not known to be.

        `in_company`: many requests are under way, and others are likely to fail as this one has.
        After the reasons `outbox_busy` and `outbox_unavailable`, and after a cancellation, it may still be stored.
        """
        ticket = self._ticket(record, asyncio.get_running_loop())
        ticket.in_company = in_company
        self._writer.submit(ticket)
        try:
            async with asyncio.timeout(self.limits.commit_timeout):
                await ticket.future  # type: ignore[misc]
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            ticket.abandoned = True

    def append_sync(self, record: OutboxRecord) -> None:
        """The same for a thread of its own."""
        self._wait(self._ticket(record, None), bounded=True)

    def _ticket(self, record: OutboxRecord, loop: asyncio.AbstractEventLoop | None) -> Ticket[int]:
        record = storable(record)
        size = record.size
        if size - ROW_COST > self.limits.max_record:
            raise CaptureRefused("too_large", f"{size - ROW_COST} bytes, the bound is {self.limits.max_record}")
        if not is_uuid(record.id):
            raise CaptureRefused("outbox_unavailable", "the id of the record is not a UUID in lower case")
        return Ticket(lambda ledger: ledger.append(record), size, loop)

    def _wait[T](self, ticket: Ticket[T], *, bounded: bool = False) -> T:
        self._writer.submit(ticket, bounded=bounded)
        future = ticket.future
        assert isinstance(future, concurrent.futures.Future)
        try:
            return future.result(self.limits.commit_timeout if bounded else None)
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            ticket.abandoned = True

    def _too_slow(self) -> CaptureRefused:
        return CaptureRefused("outbox_busy", f"the disk did not commit within {self.limits.commit_timeout:g} s")

    # --- changing states ---

    def mark_sent(self, seqs: Iterable[int]) -> concurrent.futures.Future[int]:
        """For the relay: does not wait. The future fails with CaptureRefused if it could not be written."""
        return self._later(_move(seqs, "sent", SENDABLE))

    def quarantine(self, seqs: Iterable[int], *, damaged: bool = False) -> concurrent.futures.Future[int]:
        """The same for records that can never be sent."""
        moved = self._later(_move(seqs, "quarantined", ("pending",)))
        if damaged:
            moved.add_done_callback(self._count_damaged)
        return moved

    def _lost(self, seq: int) -> None:
        with contextlib.suppress(CaptureRefused):  # closed: the next one to read it finds out again
            self.quarantine([seq], damaged=True)

    def _count_damaged(self, moved: concurrent.futures.Future[int]) -> None:
        # One that cannot even be moved is damaged all the same; one that is not there any more was discarded.
        self._damaged += 1 if moved.exception() else moved.result()

    def repair(self, record: OutboxRecord) -> None:
        """Write the damaged ledger row of a whole record anew."""
        self._wait(Ticket(lambda ledger: ledger.repair(record)))

    def discard(self, ids: Iterable[str] | None = None, **where: Unpack[Where]) -> int:
        """Give records up that are not sent yet; how many. Those with the ids, or all that the filter finds."""
        return self._move(ids, where, "discarded", DISCARDABLE)

    def requeue(self, ids: Iterable[str] | None = None, **where: Unpack[Where]) -> int:
        """Have records sent (again) that were sent, discarded or quarantined; how many."""
        return self._move(ids, where, "pending", REQUEUABLE)

    def _move(self, ids: Iterable[str] | None, where: Where, to: State, allowed: tuple[State, ...]) -> int:
        try:
            return sum(self._wait(_move(chosen, to, allowed)) for chosen in self.queries.seqs(ids, **where))
        except CaptureRefused as error:
            raise StoreUnavailable(f"the outbox {self.path} cannot be changed: {error}") from error

    def _later(self, ticket: Ticket[int]) -> concurrent.futures.Future[int]:
        self._writer.submit(ticket, bounded=False)
        assert isinstance(ticket.future, concurrent.futures.Future)
        return ticket.future

    def tidy(self) -> None:
        """Delete what is past its retention now, instead of some seconds later, and give the space back."""
        while self._wait(Ticket(Ledger.tidy)):
            pass

    # --- queries ---

    def get(self, record_id: str) -> OutboxRecord | None:
        """The whole record with this id."""
        return self.queries.get(record_id)

    def list(
        self, *, limit: int = 100, newest_first: bool = True, **where: Unpack[Where]
    ) -> builtins.list[OutboxRecord]:
        """Records without their large parts (key, headers, value)."""
        return self.queries.list(limit=limit, newest_first=newest_first, **where)

    def export(self, **where: Unpack[Where]) -> Iterator[OutboxRecord]:
        """Whole records, oldest first."""
        return self.queries.export(**where)

    def has_any(self, *states: State) -> bool:
        """Whether there are records in one of these states, without reading: what another process has changed in the
        file is known some seconds later.
        """
        records = self._writer.totals.records
        return any(records.get(state, 0) > 0 for state in states)

    def pending(self) -> int:
        """How many records are to be sent; known as `has_any` knows."""
        return self._writer.totals.records.get("pending", 0)

    def waiting(self, key: str, after: int, limit: int) -> builtins.list[Waiting]:
        """The oldest records of a key behind the number `after` that are pending, or published and not forgotten.

        The first time it makes the index for it, which takes seconds where the outbox holds a million. StoreUnavailable
        if it cannot be known.
        """
        try:
            return self._figures.waiting(key, after, limit)
        except StoreUnavailable:
            try:
                self._wait(Ticket(lambda ledger: make_index(ledger.db)), bounded=True)
            except CaptureRefused as error:
                raise StoreUnavailable(f"the outbox {self.path} cannot be indexed: {error}") from error
            return self._figures.waiting(key, after, limit)

    def forget(self, key: str, seqs: Iterable[int]) -> None:
        """Nobody need wait for these published records of the key any more. Does not wait."""
        settled = tuple(seqs)
        with contextlib.suppress(CaptureRefused):  # closed: whoever asks the next time forgets them
            self._writer.submit(Ticket(lambda ledger: forget(ledger.db, key, settled)), bounded=False)

    def stats(self) -> OutboxStats:
        """Figures, without reading more than one row."""
        totals = self._writer.totals
        counts = {state: totals.records.get(state, 0) for state in STATES}
        try:
            oldest = self._figures.oldest_pending()
        except StoreUnavailable:
            oldest = None
        return OutboxStats(
            **counts,
            bytes=totals.all()[1],
            file_bytes=file_bytes(self.path),
            oldest_pending_seconds=0.0 if oldest is None else max(0.0, self._clock() - oldest),
            damaged=self._damaged + self._writer.lost,
            salvaged=self._writer.salvaged,
            rescues=self._writer.rescues,
        )

    # --- for the relay ---

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener`, which must be quick, after every commit, on the writer's thread."""
        self._listeners = (*self._listeners, listener)

    def salvage(self) -> None:
        """Begin the file anew with what is whole in it; not more than once in a while."""
        seen = self._writer.rescues

        def report(_: Ledger) -> None:
            if self._writer.rescues == seen:
                raise apsw.CorruptError("damage was found while reading")

        self._wait(Ticket(report))

    def _committed(self) -> None:
        for listener in self._listeners:
            listener()


def _move(seqs: Iterable[int], to: State, allowed: tuple[State, ...]) -> Ticket[int]:
    chosen = tuple(seqs)
    return Ticket(lambda ledger: ledger.move(chosen, to, allowed))


def file_bytes(path: Path) -> int:
    """What a database and its log take on the disk."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(each.stat().st_size for each in files if each.exists())
