"""The queue of callbacks in the audit's SQLite file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw

from holdfast.audit import Callback
from holdfast.audit import rows as r
from holdfast.audit.rules import check
from holdfast.audit.sqlite_thread import SqliteThread

_ANY = "SELECT EXISTS (SELECT 1 FROM callbacks WHERE state = 'waiting' AND due <= ?)"
_DUE = f"""
SELECT {", ".join(r.CALLBACK)} FROM callbacks WHERE state = 'waiting' AND due <= ? ORDER BY due, id LIMIT ?
"""  # noqa: S608
_LEASE = "UPDATE callbacks SET due = ? WHERE id = ?"  # a lease is a later `due`
_DONE = "DELETE FROM callbacks WHERE id IN (SELECT value FROM json_each(?))"
_LATER = "UPDATE callbacks SET tries = tries + 1, due = ?, last_error = ? WHERE id = ? AND state = 'waiting'"
_GIVEN_UP = """
UPDATE callbacks SET tries = tries + 1, state = 'given_up', last_error = ? WHERE id = ? AND state = 'waiting'
"""


class SqliteCallbacks:
    """`CallbackQueue` on the thread of an audit."""

    def __init__(self, thread: SqliteThread) -> None:
        self._thread = thread

    async def due(self, now: float, limit: int, lease_seconds: float) -> list[Callback]:
        check("due", (now, now + lease_seconds), (limit,))

        def take(db: apsw.Connection) -> list[Callback]:
            found = list(map(r.callback_of, db.execute(_DUE, (now, max(0, limit)))))
            db.executemany(_LEASE, [(now + lease_seconds, each.id) for each in found])
            return found

        # Mostly there is nothing, and looking for that is in nobody's way.
        is_any = await self._thread.do(lambda db: db.execute(_ANY, (now,)).get, writes=False)
        return await self._thread.do(take) if is_any else []

    async def done(self, ids: Sequence[int]) -> None:
        await self._execute(_DONE, json.dumps(list(ids)))

    async def later(self, id: int, due: float, error: str) -> None:  # noqa: A002
        check(id, (due,))
        await self._execute(_LATER, due, r.stored(error), id)

    async def given_up(self, id: int, error: str) -> None:  # noqa: A002
        await self._execute(_GIVEN_UP, r.stored(error), id)

    async def _execute(self, statement: str, *values: Any) -> None:
        await self._thread.do(lambda db: db.execute(statement, values).fetchall())
