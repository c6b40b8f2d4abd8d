"""The thread that writes: what waits is committed together, so that requests failing at once share one sync."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import apsw

from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox.database import DAMAGE, refusal
from holdfast.outbox.ledger import Ledger
from holdfast.outbox.record import OutboxLimits

log = logging.getLogger(__name__)
_GROUP_RECORDS = 1024
_GROUP_BYTES = 8 << 20
_GATHER = 0.0015
_GATHER_AT_MOST = 0.006
"""Seconds. To sync costs about as much for many as for one, and each time the thread wakes costs the event loop."""
_TIDY_EVERY = 5.0
_REOPEN_EVERY = 1.0
_RESCUE_EVERY = 60.0
_NOBODYS_FAULT = (apsw.BusyError, apsw.LockedError, StoreUnavailable)  # smaller groups would only wait again


class Ticket[T]:
    """Something to be done in a transaction, and the future of its outcome: the result once that is committed.

    `size` is what it holds in memory while it waits. An `abandoned` ticket is not begun any more. One that is
    `in_company` may wait a few milliseconds for others, which are likely to come.
    """

    in_company = False

    def __init__(
        self, work: Callable[[Ledger], T], size: int = 0, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self.work = work
        self.size = size
        self.loop = loop
        self.future: Future[T] | asyncio.Future[T] = loop.create_future() if loop else Future()
        self.abandoned = False
        self.result: T
        self.error: CaptureRefused | None = None

    def resolve(self) -> None:
        """Hand the outcome to whoever waits; on the event loop of the future, if it belongs to one."""
        if self.future.done():
            return
        if self.error:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Owns the ledger of one file. `on_commit` is called, on the writer's thread, after every commit."""

    def __init__(
        self,
        path: Path,
        limits: OutboxLimits,
        clock: Callable[[], float],
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._on_commit = on_commit
        self._changed = threading.Condition()
        self._waiting: deque[Ticket[Any]] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._next_tidy = time.monotonic() + _TIDY_EVERY
        self._next_open = 0.0
        self._next_rescue = 0.0
        self.rescues = 0
        self.salvaged = 0
        self.lost = 0
        self._ledger: Ledger | None = self._open()
        self.totals = self._ledger.totals.copy()
        self._thread = threading.Thread(target=self._run, name=f"outbox {path.name}", daemon=True)
        self._thread.start()

    # --- any thread ---

    def submit(self, ticket: Ticket[Any], *, bounded: bool = True) -> None:
        """Queue something. CaptureRefused if the writer is closed or, for what is `bounded`, the queue is full."""
        with self._changed:
            if self._closing:
                raise CaptureRefused("outbox_unavailable", "the outbox is closed")
            records, size = len(self._waiting) + 1, self._waiting_bytes + ticket.size
            if bounded and self._waiting and (records > self._limits.queue_records or size > self._limits.queue_bytes):
                raise CaptureRefused("outbox_busy", f"{records - 1} records are waiting for the disk already")
            self._waiting.append(ticket)
            self._waiting_bytes = size
            self._changed.notify()

    def follow(self, limits: OutboxLimits) -> None:
        """From now on these bounds hold; for the ledger from the next commit on."""
        self._limits = limits
        with contextlib.suppress(CaptureRefused):  # closed: there is nothing left to bound
            self.submit(Ticket(lambda ledger: ledger.follow(limits)), bounded=False)

    def close(self) -> None:
        """Commit what waits, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    # --- the writer's thread ---

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            try:
                self._commit(group)
                self._tidy_if_due()
            except Exception as error:  # the thread must live: without it nothing is captured
                log.warning("outbox writer failed", exc_info=error)
                self._settle([ticket for ticket in group if not ticket.future.done()], error)
        if self._ledger:
            self._ledger.close()
            self._ledger = None

    def _next_group(self) -> list[Ticket[Any]] | None:
        """What waits, up to the bounds of a group; nothing when it is time to tidy; None at the end."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(max(0.0, self._next_tidy - time.monotonic()))
            if not self._waiting:
                return None if self._closing else []
            in_company = self._waiting[0].in_company
        if in_company:
            self._gather()
        with self._changed:
            group: list[Ticket[Any]] = []
            size = 0
            while self._waiting and len(group) < _GROUP_RECORDS and (not group or size < _GROUP_BYTES):
                ticket = self._waiting.popleft()
                self._waiting_bytes -= ticket.size
                if not ticket.abandoned:
                    group.append(ticket)
                    size += ticket.size
            return group

    def _gather(self) -> None:
        """Wait for a moment as long as more are coming."""
        until, seen = time.monotonic() + _GATHER_AT_MOST, 0
        while seen < len(self._waiting) < _GROUP_RECORDS and time.monotonic() < until and not self._closing:
            seen = len(self._waiting)
            time.sleep(_GATHER)

    def _commit(self, group: list[Ticket[Any]]) -> None:
        """Commit a group as one transaction; if that fails, its halves, so that one bad row only fails itself."""
        if not group:
            return
        try:
            self._transact(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes the refusal of the tickets
            if self._recovered(error):
                self._commit(group)
            elif len(group) > 1 and self._ledger and not isinstance(error, _NOBODYS_FAULT):
                middle = len(group) // 2
                self._commit(group[:middle])
                self._commit(group[middle:])
            else:
                self._settle(group, error)
        else:
            self._settle(group, None)
            self._on_commit()

    def _transact(self, group: Iterable[Ticket[Any]]) -> None:
        ledger = self._ledger = self._ledger or self._reopen()
        ledger.begin()
        try:
            for ticket in group:
                ticket.error = None
                try:
                    ticket.result = ticket.work(ledger)
                except CaptureRefused as refused:  # raised before anything was written, so the others can go on
                    ticket.error = refused
            ledger.commit()
        except BaseException:
            ledger.rollback()
            raise
        self.totals = ledger.totals.copy()

    def _settle(self, group: list[Ticket[Any]], error: Exception | None) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[Ticket[Any]]] = {}
        db = self._ledger.db if self._ledger else None
        for ticket in group:
            ticket.error = refusal(error, db) if error else ticket.error
            if ticket.loop:
                loops.setdefault(ticket.loop, []).append(ticket)
            else:
                ticket.resolve()
        for loop, tickets in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve_all, tickets)
            except RuntimeError:  # the loop was closed, and nobody waits any more
                log.debug("nobody waits for the outbox any more")

    def _tidy_if_due(self) -> None:
        if time.monotonic() < self._next_tidy:
            return
        self._next_tidy = time.monotonic() + _TIDY_EVERY
        ticket = Ticket[Any](Ledger.tidy)
        self._commit([ticket])
        if ticket.error:
            log.warning("outbox could not be tidied", extra={"reason": str(ticket.error)})
        elif ticket.result:
            self._next_tidy = 0.0  # there is more, which takes turns with what waits

    # --- when the file fails ---

    def _open(self, *, damaged: bool = False) -> Ledger:
        ledger = Ledger(self._path, self._limits, self._clock, damaged=damaged)
        if ledger.rescue:
            self.rescues += 1
            self.salvaged += ledger.rescue.saved
            self.lost += ledger.rescue.lost
        return ledger

    def _reopen(self) -> Ledger:
        if time.monotonic() < self._next_open:
            raise StoreUnavailable(f"{self._path} could not be opened")
        self._next_open = time.monotonic() + _REOPEN_EVERY
        return self._open()

    def _recovered(self, error: Exception) -> bool:
        """Open the file anew where that can help; whether it is worth another try."""
        if isinstance(error, DAMAGE) and time.monotonic() >= self._next_rescue:
            self._next_rescue = time.monotonic() + _RESCUE_EVERY
            return self._replace(damaged=True)
        if isinstance(error, StoreUnavailable) and self._ledger:  # the file was moved or deleted
            log.warning("outbox file is gone, beginning a new one", extra={"file": str(self._path)})
            return self._replace(damaged=False)
        if isinstance(error, apsw.IOError | apsw.CantOpenError) and self._ledger:
            # After a failed write or sync nothing that this connection remembers is to be relied on.
            self._ledger.close()
            self._ledger = None
        return False

    def _replace(self, *, damaged: bool) -> bool:
        if self._ledger:
            self._ledger.close(damaged=damaged)
            self._ledger = None
        try:
            self._ledger = self._open(damaged=damaged)
        except StoreUnavailable as error:
            log.warning("outbox cannot be opened", extra={"reason": str(error)})
            return False
        return True


def _resolve_all(tickets: list[Ticket[Any]]) -> None:
    for ticket in tickets:
        ticket.resolve()
