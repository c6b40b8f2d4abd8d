"""The thread that has the audit's SQLite file: calls that wait together are committed together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from holdfast.audit.sqlite_file import open_file, unavailable
from holdfast.errors import StoreUnavailable
from holdfast.outbox.database import DAMAGE

log = logging.getLogger(__name__)
_LOST = (*DAMAGE, apsw.IOError, apsw.CantOpenError)  # nothing that the connection remembers is to be relied on
_GROUP = 64  # calls that share a transaction at most
_CLOSED = "the audit is closed"


class _Call[T]:
    """Something to be done in a transaction. `begun` and `abandoned` exclude each other, under the thread's lock."""

    def __init__(self, work: Callable[[apsw.Connection], T], *, writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[T] = self.loop.create_future()
        self.begun = False
        self.abandoned = False
        self.result: T
        self.error: Exception | None = None

    def resolve(self) -> None:
        if self.done.done():
            return
        if self.error:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class SqliteThread:
    """Runs what it is given, in order, each in a transaction; `timeout` in seconds for each call."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._changed = threading.Condition()
        self._waiting: deque[_Call[Any]] = deque()
        self._closing = False
        self._may_create = False  # only at the start: what has vanished later held outcomes
        self._db: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    # --- the event loop ---

    async def start(self) -> None:
        """Open the file. StoreUnavailable if that cannot be done; it may be tried again."""
        if self._thread is None:
            self._closing, self._may_create = False, True
            self._thread = threading.Thread(target=self._run, name=f"audit {self._path.name}", daemon=True)
            self._thread.start()
        try:
            await self.do(lambda db: None, writes=False)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Do what waits, then let go of the file."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(thread.join, self._timeout)

    async def do[T](self, work: Callable[[apsw.Connection], T], *, writes: bool = True) -> T:
        """The result of `work`, once it is committed. `work` may be run again where it shares a transaction."""
        call = _Call(work, writes=writes)
        with self._changed:
            if self._thread is None or self._closing:
                raise StoreUnavailable(_CLOSED)
            self._waiting.append(call)
            self._changed.notify()
        try:
            return await asyncio.wait_for(asyncio.shield(call.done), self._timeout)
        except TimeoutError:
            # Whoever is in the middle of a write cannot be stopped: that is as good as an outage of the disk.
            known = "nothing has changed" if self._abandon(call) else "it is not known whether it was written"
            raise StoreUnavailable(
                f"the audit {self._path} did not answer within {self._timeout:g} s ({known}): see to its disk"
            ) from None
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    def _abandon(self, call: _Call[Any]) -> bool:
        with self._changed:
            call.abandoned = not call.begun
        call.done.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks for it any more
        return call.abandoned

    # --- the thread ---

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._serve(group)
            except Exception as error:  # the thread must live: everybody waits for it
                log.warning("audit thread failed", exc_info=error)
                self._tell(group, error)
        self._let_go()

    def _next_group(self) -> list[_Call[Any]]:
        """What waits, up to the bounds of a group; nothing at the end."""
        with self._changed:
            while True:
                group: list[_Call[Any]] = []
                while self._waiting and len(group) < _GROUP:
                    call = self._waiting.popleft()
                    if not call.abandoned:
                        call.begun = True
                        group.append(call)
                if group or self._closing:
                    return group
                self._changed.wait()

    def _serve(self, group: list[_Call[Any]]) -> None:
        """One transaction; if that fails, one for each, so that nobody pays for another's fault.

        Not where it is the disk's: then it is not certain that nothing was written, and doing it again would tell that
        it has been done before.
        """
        try:
            self._transact(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of the call
            self._give_up_file(error)
            if len(group) > 1 and not isinstance(error, (StoreUnavailable, OSError, apsw.BusyError, *_LOST)):
                for call in group:
                    self._serve([call])
                return
            self._tell(group, self._translated(error))
        else:
            self._tell(group, None)

    def _transact(self, group: list[_Call[Any]]) -> None:
        db = self._open()
        db.execute("BEGIN IMMEDIATE" if any(call.writes for call in group) else "BEGIN")
        try:
            for call in group:
                call.result = call.work(db)
            db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(apsw.Error):  # some errors have ended the transaction themselves
                db.execute("ROLLBACK")
            raise

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, apsw.Error | OSError):
            return error
        translated = unavailable(error, self._path, self._db)
        translated.__cause__ = error
        return translated

    def _tell(self, group: list[_Call[Any]], error: Exception | None) -> None:
        for call in group:
            call.error = error
            with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
                call.loop.call_soon_threadsafe(call.resolve)

    # --- the file ---

    def _open(self) -> apsw.Connection:
        if self._db is None:
            self._db = open_file(self._path, create=self._may_create)
            self._may_create = False
            self._identity = self._look()
        elif self._identity != self._look():
            self._let_go()  # what is written there now would be gone with the file
            return self._open()
        return self._db

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _give_up_file(self, error: Exception) -> None:
        if isinstance(error, _LOST):
            self._let_go()

    def _let_go(self) -> None:
        db, self._db = self._db, None
        if db:
            with contextlib.suppress(apsw.Error):
                db.close()
