"""The read side of one outbox file, for the process that owns it and for any other."""

from __future__ import annotations

import builtins  # `list` is a method below
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Unpack, cast

import apsw

from holdfast.errors import StoreUnavailable
from holdfast.outbox.database import DAMAGE, connect
from holdfast.outbox.record import (
    STATES,
    CaptureRow,
    LedgerRow,
    OutboxRecord,
    State,
    Where,
    capture_intact,
    filter_bindings,
    from_capture,
    from_ledger,
    ledger_intact,
)
from holdfast.outbox.waiting import WAITING, Waiting
from holdfast.policy.uuid7 import is_uuid

_PAGE = 500  # rows read at once by what goes through many
_CAPTURE = "SELECT * FROM captures WHERE seq = ?"
_PENDING_CAPTURES = """
SELECT c.* FROM ledger l INDEXED BY ledger_pending CROSS JOIN captures c ON c.seq = l.seq
WHERE l.state = 'pending' AND l.seq BETWEEN ? AND ?
"""
_BY_SEQ = "SELECT * FROM ledger WHERE seq = ?"
_BY_ID = "SELECT * FROM ledger WHERE id = ?"
_PENDING = """
SELECT * FROM ledger INDEXED BY ledger_pending WHERE state = 'pending' AND seq > ? ORDER BY seq LIMIT ?
"""
_FILTER = """
    (:route IS NULL OR route = :route) AND (:status IS NULL OR status = :status)
    AND (:error IS NULL OR error = :error) AND (:state IS NULL OR state = :state)
    AND (:since IS NULL OR created >= :since)
"""
_NEWEST = f"SELECT * FROM ledger WHERE seq < :from AND {_FILTER} ORDER BY seq DESC LIMIT :limit"  # noqa: S608 - constant
_OLDEST = f"SELECT * FROM ledger WHERE seq > :from AND {_FILTER} ORDER BY seq LIMIT :limit"  # noqa: S608 - constant
_OLDEST_PENDING = "SELECT created FROM ledger WHERE state = 'pending' ORDER BY seq LIMIT 1"
_NEWEST_PENDING = "SELECT max(seq) FROM ledger INDEXED BY ledger_pending WHERE state = 'pending'"
_HOW_MANY_PENDING = "SELECT count(*) FROM ledger INDEXED BY ledger_pending WHERE state = 'pending'"
_COUNTS = "SELECT state, count(*), sum(size) FROM ledger NOT INDEXED GROUP BY state"
_END = (1 << 63) - 1


class DamagedOutbox(StoreUnavailable):
    """The structure of the file makes no sense; its records are to be salvaged."""


class Queries:
    """Reads one file, from any thread. StoreUnavailable if it cannot be read at all; a damaged row costs only itself.

    Every query ends at once, so that no reader keeps the log from being cut, and the file is opened again when
    another one has taken its place. `on_lost` is told the number of a record whose value turns out to be damaged.
    """

    def __init__(self, path: Path, on_lost: Callable[[int], object] = lambda seq: None) -> None:
        self.path = path
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._db: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def close(self) -> None:
        with self._lock:
            self._disconnect()

    def get(self, record_id: str) -> OutboxRecord | None:
        """The record with this id. Anything that is not a UUID is simply not found."""
        rows = self._with_id(record_id)
        return self.whole(rows[0]) if rows else None

    def list(
        self, *, limit: int = 100, newest_first: bool = True, after: int = 0, **where: Unpack[Where]
    ) -> builtins.list[OutboxRecord]:
        """Records without their large parts, in the order of storing; from the one behind the `seq` of `after` on."""
        query = _NEWEST if newest_first else _OLDEST
        rows = self._page(query, after or (_END if newest_first else 0), limit, where)
        return [from_ledger(row) for row in rows if ledger_intact(row)]

    def export(self, **where: Unpack[Where]) -> Iterator[OutboxRecord]:
        """Whole records, oldest first, read one at a time. One whose value is lost is left out."""
        for seqs in self.seqs(**where):
            for seq in seqs:
                for row in self._ledger_rows(_BY_SEQ, (seq,)):
                    if (record := self.whole(row)) and (record.value or record.state != "quarantined"):
                        yield record

    def seqs(self, ids: Iterable[str] | None = None, **where: Unpack[Where]) -> Iterator[builtins.list[int]]:
        """The numbers of all records that fit, a page at a time; of those with given ids, if there are any."""
        if ids is not None:
            rows = [row for each in ids for row in self._with_id(each)]
            yield [row[0] for row in rows if _fits(from_ledger(row), where)]
            return
        last = 0
        while rows := self._page(_OLDEST, last, _PAGE, where):
            last = rows[-1][0]
            yield [row[0] for row in rows]

    def pending(self, after: int, limit: int) -> builtins.list[LedgerRow]:
        """The rows that are to be sent and come after a number. Not checked: that is for `whole` to do."""
        return self._ledger_rows(_PENDING, (after, limit))

    def whole(self, row: LedgerRow) -> OutboxRecord | None:
        """The record of a ledger row. A lost value leaves a quarantined record without one, a lost row nothing."""
        record = None
        with contextlib.suppress(DamagedOutbox):  # which may be cured: it is for the relay and the next start to see to
            record = self.capture(row[0])
            if record is None:
                self._on_lost(row[0])
        if not ledger_intact(row):
            return record
        about = from_ledger(row)
        if record is None:
            return replace(about, state="quarantined", sent=None)
        return replace(record, state=about.state, sent=about.sent)

    def capture(self, seq: int) -> OutboxRecord | None:
        """The record as it was captured, as if still to be sent; None if it is not what was written.

        DamagedOutbox if it is not found where it should be: it may stand, whole, where the damaged tree does not lead.
        """
        try:
            rows = cast(builtins.list[CaptureRow], self._rows(_CAPTURE, (seq,)))
        except (*DAMAGE, apsw.IOError) as error:
            raise DamagedOutbox(f"the outbox {self.path} is damaged: {error}") from error
        if not rows:
            raise DamagedOutbox(f"the outbox {self.path} is damaged: a record is missing")
        return from_capture(rows[0]) if capture_intact(rows[0]) else None

    def pending_captures(self, first: int, last: int) -> builtins.list[CaptureRow]:
        """The rows of all records that are to be sent, between two numbers. Not checked, and some may be missing.

        StoreUnavailable if they cannot be read together: then one by one, which tells what is wrong.
        """
        return cast(builtins.list[CaptureRow], self._checked_rows(_PENDING_CAPTURES, (first, last)))

    def is_pending(self, seq: int) -> bool:
        """Whether a record is still to be sent."""
        return any(row[8] == "pending" for row in self._ledger_rows(_BY_SEQ, (seq,)))

    def waiting(self, key: str, after: int, limit: int) -> builtins.list[Waiting]:
        """The oldest records of a key that are pending or published. StoreUnavailable also while there is no index."""
        rows = cast(builtins.list[Waiting], self._checked_rows(WAITING, (key, after, limit)))
        return [Waiting(*row) for row in rows]

    def counts(self) -> builtins.list[tuple[State, int, int]]:
        """Records and bytes by state."""
        rows = cast(builtins.list[tuple[State, int, int]], self._checked_rows(_COUNTS, ()))
        return [row for row in rows if row[0] in STATES]

    def oldest_pending(self) -> float | None:
        """When the oldest record that is to be sent was captured."""
        rows = cast(builtins.list[tuple[float]], self._checked_rows(_OLDEST_PENDING, ()))
        return rows[0][0] if rows else None

    def newest_pending(self) -> int:
        """The highest number of a record that is to be sent; 0 where there is none."""
        rows = cast(builtins.list[tuple[int | None]], self._checked_rows(_NEWEST_PENDING, ()))
        return rows[0][0] or 0

    def how_many_pending(self) -> int:
        """Counted."""
        rows = cast(builtins.list[tuple[int]], self._checked_rows(_HOW_MANY_PENDING, ()))
        return rows[0][0]

    # --- the connection ---

    def _with_id(self, record_id: str) -> builtins.list[LedgerRow]:
        wanted = record_id.lower()
        return self._ledger_rows(_BY_ID, (wanted,)) if is_uuid(wanted) else []

    def _page(self, query: str, start: int, limit: int, where: Where) -> builtins.list[LedgerRow]:
        bindings = {**filter_bindings(where), "from": start, "limit": min(max(0, limit), _END)}
        return self._ledger_rows(query, bindings)

    def _ledger_rows(self, query: str, bindings: apsw.Bindings) -> builtins.list[LedgerRow]:
        return cast(builtins.list[LedgerRow], self._checked_rows(query, bindings))

    def _checked_rows(self, query: str, bindings: apsw.Bindings) -> builtins.list[tuple[object, ...]]:
        try:
            return self._rows(query, bindings)
        except apsw.IOError as error:
            raise StoreUnavailable(f"the outbox {self.path} cannot be read: {error}") from error
        except DAMAGE as error:
            raise DamagedOutbox(f"the outbox {self.path} is damaged, and is salvaged at the next start") from error

    def _rows(self, query: str, bindings: apsw.Bindings) -> builtins.list[tuple[object, ...]]:
        with self._lock:
            try:
                return cast(builtins.list[tuple[object, ...]], self._connection().execute(query, bindings).fetchall())
            except OverflowError:  # a filter beyond 64 bits, which nothing stored can match
                return []
            except (apsw.CantOpenError, apsw.BusyError, apsw.SQLError, OSError) as error:
                self._disconnect()
                raise StoreUnavailable(f"the outbox {self.path} cannot be read: {error}") from error

    def _connection(self) -> apsw.Connection:
        status = self.path.stat()
        if self._db is None or self._identity != (status.st_dev, status.st_ino):
            self._disconnect()
            self._db = connect(self.path, read_only=True)
            self._identity = status.st_dev, status.st_ino
        return self._db

    def _disconnect(self) -> None:
        if self._db:
            self._db.close()
            self._db = None


def _fits(record: OutboxRecord, where: Where) -> bool:
    same = all(where.get(name) in (None, getattr(record, name)) for name in ("route", "status", "error", "state"))
    return same and record.created >= (where.get("since") or record.created)
