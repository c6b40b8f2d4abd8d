"""The write side of one outbox file: what is done inside the writer's transactions, and the totals behind the bounds.

One object, one connection, one thread. Totals are of what is committed or about to be; `begin` and `rollback` keep
them in step with the database.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import apsw
import msgspec

from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox.opening import open_database
from holdfast.outbox.record import SETTLED, OutboxLimits, OutboxRecord, State, capture_row, ledger_row

_PRUNE_AT_ONCE = 256
_VACUUM_PAGES = 1024  # a transaction's share
_SPARE_PAGES = 256  # left in the file for the next records
_RECOUNT_EVERY = 1.0

_PUT_CAPTURE = "INSERT INTO captures VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_PUT_LEDGER = "INSERT INTO ledger VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_REPLACE_LEDGER = "REPLACE INTO ledger VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_TOTALS = "SELECT state, count(*), sum(size) FROM ledger NOT INDEXED GROUP BY state"
_WHICH = """
seq IN (SELECT value FROM json_each(:seqs)) AND +state IN (SELECT value FROM json_each(:allowed))
"""
_TO_MOVE = f"SELECT state, count(*), sum(size) FROM ledger WHERE {_WHICH} GROUP BY +state"  # noqa: S608 - constant
_MOVE = f"""
UPDATE ledger SET state = :state, settled = :settled, revision = revision + 1, checksum = ledger_checksum(
    seq, id, created, route, method, path, error, status, :state, :settled, size, revision + 1)
WHERE {_WHICH}
"""  # noqa: S608 - constant
_PRUNE = """
DELETE FROM ledger WHERE seq IN (
    SELECT seq FROM ledger INDEXED BY ledger_settled
    WHERE state IN ('sent', 'discarded') AND settled <= ? ORDER BY settled LIMIT ?
) RETURNING seq, state, size
"""
_LAST_SEQ = "SELECT max((SELECT coalesce(max(seq), 0) FROM ledger), (SELECT coalesce(max(seq), 0) FROM captures))"


@dataclass(slots=True)
class Totals:
    """Records and bytes by state."""

    records: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, state: str, records: int, size: int) -> None:
        self.records[state] = self.records.get(state, 0) + records
        self.bytes[state] = self.bytes.get(state, 0) + size

    def copy(self) -> Totals:
        return Totals(dict(self.records), dict(self.bytes))

    def all(self) -> tuple[int, int]:
        return sum(self.records.values()), sum(self.bytes.values())

    def unsettled(self) -> tuple[int, int]:
        """Of what may not be pruned."""
        records, size = self.all()
        return (
            records - sum(self.records.get(state, 0) for state in SETTLED),
            size - sum(self.bytes.get(state, 0) for state in SETTLED),
        )


def move(
    db: apsw.Connection, seqs: Sequence[int], to: State, now: float, allowed: Iterable[State]
) -> list[tuple[State, int, int]]:
    """Bring records into a state, as far as they are in an allowed one: which, how many and their bytes, for each."""
    which = {"seqs": _json(seqs), "allowed": _json([state for state in allowed if state != to])}
    moved = cast(list[tuple[State, int, int]], db.execute(_TO_MOVE, which).fetchall())
    if moved:
        db.execute(_MOVE, {**which, "state": to, "settled": float(now) if to in SETTLED else None})
    return moved


def _json(values: Sequence[int | str]) -> str:
    return msgspec.json.encode(values).decode()


class Ledger:
    """An open outbox file. Methods raise what APSW raises, and CaptureRefused before anything was written."""

    def __init__(self, path: Path, limits: OutboxLimits, clock: Callable[[], float], *, damaged: bool = False) -> None:
        self.path = path
        self.totals = Totals()
        self._limits = limits
        self._clock = clock
        self.db, self.rescue = open_database(path, clock(), damaged=damaged)
        self._identity = self._on_disk()
        self._before = self.totals
        self._last_seq: int = self.db.execute(_LAST_SEQ).get
        self._data_version = -1
        self._counted = 0.0
        self._shrunk = False
        self.recount()

    def follow(self, limits: OutboxLimits) -> None:
        """From now on these bounds hold."""
        self._limits = limits

    def close(self, *, damaged: bool = False) -> None:
        """Let go of the file. The log of a damaged one is left as it is, for the rescue to read."""
        if damaged:
            self.db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.db.close()

    # --- around each transaction ---

    def begin(self) -> None:
        """Start a transaction. StoreUnavailable if the file is no longer the one that was opened."""
        if self._on_disk() != self._identity:
            raise StoreUnavailable(f"{self.path} was moved or deleted while in use")
        self.db.execute("BEGIN IMMEDIATE")
        if self.db.pragma("data_version") != self._data_version and time.monotonic() > self._counted + _RECOUNT_EVERY:
            self.recount()  # another process changed states
        self._before = self.totals.copy()

    def commit(self) -> None:
        self.db.execute("COMMIT")
        if self._shrunk:
            self._shrunk = False
            self._checkpoint()

    def rollback(self) -> None:
        self.totals = self._before
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def _checkpoint(self) -> None:
        """Bring the log into the database, so that a file that got smaller does so on the disk too."""
        with contextlib.suppress(apsw.Error):  # what is committed is safe in the log, and the next try brings it in
            self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def recount(self) -> None:
        """Read the totals from the rows."""
        self._data_version = self.db.pragma("data_version")
        self._counted = time.monotonic()
        totals = Totals()
        for state, records, size in cast(list[tuple[str, int, int]], self.db.execute(_TOTALS).fetchall()):
            totals.add(state, records, size)
        self.totals = totals

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    # --- inside a transaction ---

    def append(self, record: OutboxRecord) -> int:
        """Store a record; its seq. CaptureRefused, before anything is written for it, if a bound is reached."""
        size = record.size
        self._make_room(size)
        # Out of the clock, so that a number is never used again, even if the row that had it is long pruned.
        seq = max(self._last_seq + 1, int(self._clock() * 1_000_000))
        try:
            self.db.execute(_PUT_CAPTURE, capture_row(record, seq))
            self.db.execute(_PUT_LEDGER, ledger_row(record, seq, size))
        except apsw.ConstraintError as error:
            if ".seq" in str(error):
                raise apsw.CorruptError(f"a new number is taken already: {error}") from error
            raise
        self._last_seq = seq
        self.totals.add("pending", 1, size)
        return seq

    def _make_room(self, size: int) -> None:
        most_records, most_bytes = self._limits.max_records, self._limits.max_bytes
        records, held = self.totals.unsettled()
        if records + 1 > most_records or held + size > most_bytes:
            raise CaptureRefused("outbox_full", f"the outbox holds {records} unsent records of {held} bytes")
        while (total := self.totals.all())[0] + 1 > most_records or total[1] + size > most_bytes:
            if not self._prune(float("inf"), _PRUNE_AT_ONCE):
                raise CaptureRefused("outbox_full", f"the outbox holds {total[0]} records of {total[1]} bytes")

    def move(self, seqs: Sequence[int], to: State, allowed: Iterable[State]) -> int:
        """Bring records into a state, if they are in an allowed one; how many were."""
        moved = move(self.db, seqs, to, self._clock(), allowed)
        for state, records, size in moved:
            self.totals.add(state, -records, -size)
            self.totals.add(to, records, size)
        return sum(records for _, records, _ in moved)

    def repair(self, record: OutboxRecord) -> None:
        """Write a damaged ledger row anew, as to be sent, from a record whose capture is whole."""
        self.db.execute(_REPLACE_LEDGER, ledger_row(record, record.seq, record.size))
        self.recount()

    def tidy(self) -> bool:
        """Delete what is past its retention and give free pages back: a part of it. Whether there is more to do."""
        pruned = self._prune(self._clock() - self._limits.retention, _PRUNE_AT_ONCE)
        free = int(self.db.pragma("freelist_count")) - _SPARE_PAGES
        if free > 0:
            # Each page given back is a row of the result, and is given back when it is read.
            self.db.execute(f"PRAGMA incremental_vacuum({min(free, _VACUUM_PAGES)})").fetchall()
            self._shrunk = True
        return pruned == _PRUNE_AT_ONCE or free > _VACUUM_PAGES

    def _prune(self, settled_before: float, most: int) -> int:
        gone = cast(list[tuple[int, str, int]], self.db.execute(_PRUNE, (settled_before, most)).fetchall())
        for seq, state, size in gone:
            self.db.execute("DELETE FROM captures WHERE seq = ?", (seq,))
            self.totals.add(state, -1, -size)
        return len(gone)
