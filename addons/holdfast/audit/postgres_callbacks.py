"""The queue of callbacks in PostgreSQL, for any number of machines that take from it at once."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.audit import Callback
from holdfast.audit import postgres_sql as sql
from holdfast.audit import rows as r
from holdfast.audit.postgres_link import Link
from holdfast.audit.rules import check


class PostgresCallbacks:
    """`CallbackQueue` over the connections of an audit."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def due(self, now: float, limit: int, lease_seconds: float) -> list[Callback]:
        """If the answer is lost with the connection, what was taken is due again when its lease ends."""
        check("due", (now, now + lease_seconds), (limit,))
        found = await self._link.statement(sql.TAKE, (now, max(0, limit), now + lease_seconds))
        return list(map(r.callback_of, found))

    async def done(self, ids: Sequence[int]) -> None:
        await self._link.statement(sql.DONE, (list(ids),))

    async def later(self, id: int, due: float, error: str) -> None:  # noqa: A002
        check(id, (due,))
        await self._link.statement(sql.LATER, {"id": id, "due": due, "error": r.stored(error)})

    async def given_up(self, id: int, error: str) -> None:  # noqa: A002
        await self._link.statement(sql.GIVEN_UP, (r.stored(error), id))
