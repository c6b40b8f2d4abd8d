"""The audit in an SQLite file of this machine, for one replayer; the command line may have it open at the same time.

Every call runs on one thread of its own, in a transaction whose commit is on the disk before the call returns. Calls
that wait together share one, and with it the sync.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import apsw

from holdfast.audit import (
    STATES,
    Arrival,
    AttemptLog,
    AuditStats,
    CallbackQueue,
    DeadLetter,
    Entry,
    Filter,
    Outcome,
    Record,
    Standing,
)
from holdfast.audit import rows as r
from holdfast.audit.listing import conditions
from holdfast.audit.rules import Book
from holdfast.audit.sqlite_callbacks import SqliteCallbacks
from holdfast.audit.sqlite_thread import SqliteThread

TIMEOUT = 15.0
_PRUNED_AT_ONCE = 1000


def _insert(table: str, columns: Sequence[str], verb: str = "INSERT") -> str:
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_HELD = ", ".join(f"c.{name}" for name in r.HELD)
_BY_ID = f"SELECT {_HELD} FROM captures c WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
_KNOWN = "SELECT id FROM captures WHERE id IN (SELECT value FROM json_each(?))"
# Of each key: the oldest that is open, and what is claimed. Left alone, SQLite would begin with all that is open.
_FRONTS = f"""
WITH k (lane, key) AS (SELECT value ->> 0, value ->> 1 FROM json_each(?))
SELECT {_HELD} FROM captures c WHERE c.seq IN (
  SELECT (SELECT o.seq FROM captures o WHERE o.lane = k.lane AND o.key = k.key AND o.state = 'open'
          ORDER BY o.seq LIMIT 1) FROM k
  UNION ALL
  SELECT o.seq FROM k CROSS JOIN captures o INDEXED BY captures_claimed ON o.lane = k.lane AND o.key = k.key
  WHERE o.state = 'open' AND o.claim_until > 0)
"""  # noqa: S608
_OWNED = (
    f"SELECT {_HELD} FROM captures c INDEXED BY captures_claimed WHERE state = 'open' AND claim_until > 0 AND owner = ?"  # noqa: S608
)
_NEW = _insert("captures", r.ARRIVING)
_CHANGE = f"UPDATE captures SET {', '.join(f'{name} = ?' for name in r.CHANGING)} WHERE seq = ?"  # noqa: S608
_LOG = _insert("audit_log", r.LOG)
_PROCESSED = _insert("processed_events", r.PROCESSED, "INSERT OR REPLACE")
_UNPROCESSED = "DELETE FROM processed_events WHERE event_id = ?"
_LETTER = _insert("dead_letters", r.LETTER, "INSERT OR REPLACE")
_NO_LETTER = "DELETE FROM dead_letters WHERE event_id = ?"
_ATTEMPTS = f"""
SELECT {", ".join(r.ATTEMPT)} FROM audit_log WHERE event_id = ? AND kind = 'attempt' ORDER BY at, sequence
"""  # noqa: S608
_LETTERS = f"""
SELECT {", ".join(f"d.{name}" for name in r.LETTER)} FROM dead_letters d JOIN captures c ON c.id = d.event_id
WHERE d.event_id IN (SELECT value FROM json_each(?)) ORDER BY c.seq
"""  # noqa: S608
_COUNTS = "SELECT state, count(*) FROM captures GROUP BY state"
_STATS = """
SELECT (SELECT count(*) FROM captures WHERE state = 'open' AND due <= ?1),
  (SELECT count(*) FROM captures WHERE state = 'open' AND due > ?1),
  (SELECT min(captured) FROM captures WHERE state = 'open'),
  (SELECT count(*) FROM callbacks WHERE state = 'waiting')
"""
_PRUNABLE = """
SELECT event_id FROM processed_events
WHERE processed_at < ? AND outcome IN (SELECT value FROM json_each(?)) LIMIT ?
"""
_CALLBACK = f"{_insert('callbacks', r.QUEUED)} ON CONFLICT (event_id, redrive) DO NOTHING"
_PRUNE_CALLBACKS = """
DELETE FROM callbacks WHERE state = 'given_up' AND NOT EXISTS (SELECT 1 FROM captures c WHERE c.id = event_id)
"""


class SqliteAudit:
    """`Audit` in a file; `clock` gives epoch seconds and is asked on the thread of the file."""

    def __init__(self, path: Path, clock: Callable[[], float], *, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._clock = clock
        self._thread = SqliteThread(path, timeout)
        self._callbacks = SqliteCallbacks(self._thread)

    async def open(self) -> None:
        await self._thread.start()

    async def close(self) -> None:
        await self._thread.stop()

    @property
    def callbacks(self) -> CallbackQueue:
        return self._callbacks

    # --- what changes something ---

    async def arrive(self, arrivals: Sequence[Arrival], owner: str, seconds: float) -> list[Standing]:
        ids, keys = [each.id for each in arrivals], {each.key for each in arrivals}
        return await self._decide(ids, lambda book: book.arrive(arrivals, owner, seconds), keys)

    async def claim(self, ids: Sequence[str], owner: str, seconds: float) -> list[Standing]:
        return await self._decide(ids, lambda book: book.claim(ids, owner, seconds), set())

    async def release(self, owner: str) -> int:
        def work(db: apsw.Connection) -> int:
            book = Book(self._clock(), map(r.held_of, db.execute(_OWNED, (r.stored(owner),))))
            count = book.release(owner)
            _save(db, book)
            return count

        return await self._thread.do(work)

    async def record(self, records: Sequence[Record], owner: str) -> list[bool]:
        return await self._decide([each.id for each in records], lambda book: book.record(records, owner))

    async def reopen(self, ids: Sequence[str]) -> dict[str, int]:
        return await self._decide(ids, lambda book: book.reopen(ids))

    async def settle(self, ids: Sequence[str], outcome: Outcome, reason: str) -> int:
        return await self._decide(ids, lambda book: book.settle(ids, outcome, reason))

    async def prune(self, before: float, outcomes: Sequence[Outcome]) -> int:
        """In steps, each of which lets other calls pass."""

        def work(db: apsw.Connection) -> int:
            found = db.execute(_PRUNABLE, (before, json.dumps(list(outcomes)), _PRUNED_AT_ONCE)).fetchall()
            db.executemany("DELETE FROM audit_log WHERE event_id = ?", found)
            db.executemany("DELETE FROM captures WHERE id = ?", found)  # and with it what refers to it
            db.execute(_PRUNE_CALLBACKS)
            return len(found)

        total = count = await self._thread.do(work)
        while count == _PRUNED_AT_ONCE:
            total += (count := await self._thread.do(work))
        return total

    async def _decide[T](self, ids: Sequence[str], decide: Callable[[Book], T], keys: set[str] | None = None) -> T:
        """`decide` on a book with these captures and, where `keys` are given, what goes before them; and save it."""

        def work(db: apsw.Connection) -> T:
            rows = [r.held_of(row) for row in db.execute(_BY_ID, (_as_json(ids),))]
            if keys is not None:
                lanes = keys | {row.key for row in rows if row.state == "open"}
                rows = _with_fronts(db, rows, lanes)
            book = Book(self._clock(), rows)
            result = decide(book)
            _save(db, book)
            return result

        return await self._thread.do(work)

    # --- what only reads ---

    async def known(self, ids: Sequence[str]) -> set[str]:
        return {r.loaded(row[0]) for row in await self._read(_KNOWN, (_as_json(ids),))}

    async def entry(self, capture_id: str) -> Entry | None:
        found = await self.entries({"ids": [capture_id]}, limit=1)
        return found[0] if found else None

    async def entries(self, where: Filter, *, limit: int = 100, newest_first: bool = True) -> list[Entry]:
        text, values = conditions(where, "?", "IN (SELECT value FROM json_each(?))", json.dumps)
        order = "captured DESC, seq DESC" if newest_first else "captured, seq"
        query = f"SELECT {', '.join(r.ENTRY)} FROM captures WHERE {text} ORDER BY {order} LIMIT ?"  # noqa: S608 - marks only
        now = self._clock()
        return [r.entry_of(row, now) for row in await self._read(query, (*values, max(0, limit)))]

    async def attempts(self, capture_id: str) -> list[AttemptLog]:
        return list(map(r.attempt_of, await self._read(_ATTEMPTS, (r.stored(capture_id),))))

    async def dead_letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        return list(map(r.letter_of, await self._read(_LETTERS, (_as_json(ids),))))

    async def stats(self, now: float) -> AuditStats:
        def work(db: apsw.Connection) -> AuditStats:
            counts: dict[Any, Any] = dict(cast(list[tuple[Any, Any]], db.execute(_COUNTS).fetchall()))
            figures = cast(tuple[Any, ...], db.execute(_STATS, (now,)).fetchone())
            return AuditStats({state: counts.get(state, 0) for state in STATES}, *figures)

        return await self._thread.do(work, writes=False)

    async def _read(self, query: str, values: Sequence[Any]) -> list[Any]:
        return await self._thread.do(lambda db: db.execute(query, values).fetchall(), writes=False)


def _as_json(ids: Sequence[str]) -> str:
    return json.dumps([r.stored(each) for each in ids])


def _with_fronts(db: apsw.Connection, rows: list[r.Held], keys: set[str]) -> list[r.Held]:
    """Also the rows that decide of claims, each once."""
    named = json.dumps([(r.lane(key), r.stored(key)) for key in keys])
    found = {row.seq: row for row in map(r.held_of, db.execute(_FRONTS, (named,)))}
    return list((found | {row.seq: row for row in rows}).values())


def _save(db: apsw.Connection, book: Book) -> None:
    db.executemany(_NEW, [r.arriving(arrival, held, book.now) for arrival, held in book.new.values()])
    db.executemany(_CHANGE, map(r.changing, book.changed.values()))
    db.executemany(_LOG, map(r.logged, book.log))
    for each, held in book.processed.items():
        db.execute(*((_PROCESSED, r.processed(held)) if held else (_UNPROCESSED, (r.stored(each),))))
    for each, letter in book.letters.items():
        db.execute(*((_LETTER, r.lettered(letter)) if letter else (_NO_LETTER, (r.stored(each),))))
    db.executemany(_CALLBACK, book.callbacks)
