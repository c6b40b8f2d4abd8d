"""The audit in PostgreSQL, shared by replayers on any number of machines. Their clocks decide when a claim runs out: a
claim must last for longer than they differ.

A call is two round trips: the locks of the keys it is about and their rows, then all changes and the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

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
from holdfast.errors import StoreUnavailable

_MISSING = 'an audit in PostgreSQL needs more packages: pip install "holdfast[postgres]"'
try:
    from holdfast.audit import postgres_sql as sql
    from holdfast.audit.migrating import prepare
    from holdfast.audit.postgres_callbacks import PostgresCallbacks
    from holdfast.audit.postgres_link import Link
except ImportError as missing:
    raise StoreUnavailable(_MISSING) from missing
if find_spec("alembic") is None:  # not loaded before it is needed
    raise StoreUnavailable(_MISSING)
if TYPE_CHECKING:
    from holdfast.audit.postgres_link import Commit, Connection

TIMEOUT = 10.0
_PRUNED_AT_ONCE = 1000


class PostgresAudit:
    """`Audit` in the database of this URL; `clock` gives epoch seconds, `timeout` bounds each call in seconds."""

    def __init__(self, url: str, clock: Callable[[], float], *, timeout: float = TIMEOUT) -> None:
        self._clock = clock
        self._link = Link(url, timeout)
        self._locks = 0  # what keeps our locks apart from those of other schemas
        self._callbacks = PostgresCallbacks(self._link)

    async def open(self) -> None:
        self._locks = await prepare(self._link)
        await self._link.open()

    async def close(self) -> None:
        await self._link.close()

    @property
    def callbacks(self) -> CallbackQueue:
        return self._callbacks

    # --- what changes something ---

    async def arrive(self, arrivals: Sequence[Arrival], owner: str, seconds: float) -> list[Standing]:
        ids, keys = [each.id for each in arrivals], sorted({each.key for each in arrivals})
        return await self._decide(ids, lambda book: book.arrive(arrivals, owner, seconds), keys)

    async def claim(self, ids: Sequence[str], owner: str, seconds: float) -> list[Standing]:
        return await self._decide(ids, lambda book: book.claim(ids, owner, seconds), ())

    async def release(self, owner: str) -> int:
        async def work(conn: Connection, commit: Commit) -> int:
            name = r.stored(owner)
            locked = await conn.execute(sql.LOCK_OWNED, (self._locks, name))
            found = await conn.execute(sql.OWNED, (name,))
            commit.number = (await locked.fetchall())[0][0]
            book = Book(self._clock(), map(r.held_of, await found.fetchall()))
            count = book.release(owner)
            await _save(conn, book, commit)
            return count

        return await self._link.change(work)

    async def record(self, records: Sequence[Record], owner: str) -> list[bool]:
        return await self._decide([each.id for each in records], lambda book: book.record(records, owner))

    async def reopen(self, ids: Sequence[str]) -> dict[str, int]:
        return await self._decide(ids, lambda book: book.reopen(ids))

    async def settle(self, ids: Sequence[str], outcome: Outcome, reason: str) -> int:
        return await self._decide(ids, lambda book: book.settle(ids, outcome, reason))

    async def prune(self, before: float, outcomes: Sequence[Outcome]) -> int:
        """In steps, each of which lets other calls pass."""
        total = 0
        while True:
            prunable = await self._link.statement(sql.PRUNABLE, (before, list(outcomes), _PRUNED_AT_ONCE))
            found = [row[0] for row in prunable]

            async def work(conn: Connection, commit: Commit, ids: list[str] = found) -> int:
                locked = await conn.execute(sql.LOCK_BY_ID, (self._locks, ids, []))
                gone = await conn.execute(sql.PRUNE, (ids, before, list(outcomes)))
                commit.number = (await locked.fetchall())[0][0]
                return int((await gone.fetchall())[0][0])

            total += await self._link.change(work) if found else 0
            if len(found) < _PRUNED_AT_ONCE:
                break
        await self._link.statement(sql.PRUNE_CALLBACKS, None)
        return total

    async def _decide[T](self, ids: Sequence[str], decide: Callable[[Book], T], keys: Sequence[str] | None = None) -> T:
        """`decide` on a book with these captures and, where `keys` are given, what goes before them; and save it."""
        named = [r.stored(each) for each in ids]
        lanes, texts = [r.lane(key) for key in keys or ()], [r.stored(key) for key in keys or ()]

        async def work(conn: Connection, commit: Commit) -> T:
            locked = await conn.execute(sql.LOCK_BY_ID, (self._locks, named, lanes))
            if keys is None:
                found = await conn.execute(sql.BY_ID, (named,), binary=True)
            else:
                found = await conn.execute(sql.WITH_FRONTS, (named, lanes, texts), binary=True)
            commit.number = (await locked.fetchall())[0][0]
            book = Book(self._clock(), map(r.held_of, await found.fetchall()))
            result = decide(book)
            await _save(conn, book, commit)
            return result

        return await self._link.change(work)

    # --- what only reads ---

    async def known(self, ids: Sequence[str]) -> set[str]:
        return {r.loaded(row[0]) for row in await self._link.statement(sql.KNOWN, ([r.stored(each) for each in ids],))}

    async def entry(self, capture_id: str) -> Entry | None:
        found = await self.entries({"ids": [capture_id]}, limit=1)
        return found[0] if found else None

    async def entries(self, where: Filter, *, limit: int = 100, newest_first: bool = True) -> list[Entry]:
        text, values = conditions(where, "%s", "= ANY(%s)", list)
        order = "captured DESC, seq DESC" if newest_first else "captured, seq"
        query = f"SELECT {', '.join(r.ENTRY)} FROM captures WHERE {text} ORDER BY {order} LIMIT %s"  # noqa: S608 - marks only
        found = await self._link.statement(query, (*values, max(0, limit)))
        now = self._clock()
        return [r.entry_of(row, now) for row in found]

    async def attempts(self, capture_id: str) -> list[AttemptLog]:
        return list(map(r.attempt_of, await self._link.statement(sql.ATTEMPTS, (r.stored(capture_id),))))

    async def dead_letters(self, ids: Sequence[str]) -> list[DeadLetter]:
        return list(map(r.letter_of, await self._link.statement(sql.LETTERS, ([r.stored(each) for each in ids],))))

    async def stats(self, now: float) -> AuditStats:
        ((counts, *figures),) = await self._link.statement(sql.STATS, {"now": now})
        return AuditStats({state: (counts or {}).get(state, 0) for state in STATES}, *figures)


async def _save(conn: Connection, book: Book, commit: Commit) -> None:
    """Queue what the book has noted: it travels together with the commit."""
    if book.log:
        last = book.log[-1]
        commit.witness = r.stored(last.id), last.kind, r.stored(last.owner)
    if book.new:
        new = (r.arriving(arrival, held, book.now) for arrival, held in book.new.values())
        await conn.execute(sql.NEW, (sql.packed(r.ARRIVING, new),))
    if book.changed:
        await conn.execute(sql.CHANGE, (sql.packed(sql.CHANGE_COLUMNS, map(r.changing, book.changed.values())),))
    if book.log:
        await conn.execute(sql.LOG, (sql.packed(r.LOG, map(r.logged, book.log)),))
    settled = [held for held in book.processed.values() if held]
    reopened = [r.stored(each) for each, held in book.processed.items() if held is None]
    letters = [letter for letter in book.letters.values() if letter]
    unwritten = [r.stored(each) for each, letter in book.letters.items() if letter is None]
    if settled:
        await conn.execute(sql.PROCESSED, (sql.packed(r.PROCESSED, map(r.processed, settled)),))
    if reopened:
        await conn.execute(sql.UNPROCESSED, (reopened,))
    for letter in letters:
        await conn.execute(sql.LETTER, r.lettered(letter))
    if unwritten:
        await conn.execute(sql.NO_LETTER, (unwritten,))
    if book.callbacks:
        await conn.execute(sql.CALLBACK, (sql.packed(r.QUEUED, book.callbacks),))
