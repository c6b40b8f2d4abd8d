"""Connections to PostgreSQL: every call bounded in time, tried again where that is safe, its errors translated.

A server that does not answer is not waited for: at the deadline of the call its connection is cut. Where that, or an
outage, happens while a commit is under way, the server is asked on another connection what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from holdfast.errors import StoreUnavailable

type Connection = psycopg.AsyncConnection[tuple[Any, ...]]
type Work[T] = Callable[[Connection, "Commit"], Awaitable[T]]

CONNECTIONS = 8
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
_PAUSE = 0.05
_PORTS = re.compile(r"[0-9,]*")


class Commit:
    """Where a transaction is: `number` is the server's for it, `sent` says that its commit is under way.

    `witness` is what `witnessed` finds if it was committed: (event_id, kind, owner) of a line of `audit_log`. What
    writes no such line is done again after a lost commit, and comes to the same.
    """

    def __init__(self) -> None:
        self.number = ""
        self.sent = False
        self.witness: tuple[str, str, str] | None = None


class Link:
    """A pool of connections to one database; `timeout` in seconds for each call, twice that if a commit is lost."""

    def __init__(self, url: str, timeout: float) -> None:
        self.settings = {"connect_timeout": str(max(2, round(timeout / 2))), **_settings_of(url)}
        self.settings.setdefault("application_name", "holdfast")
        self.timeout = timeout
        self._pool: AsyncConnectionPool[Connection] | None = None

    @property
    def place(self) -> str:
        """host:port/database, for messages."""
        known = self.settings
        host = known.get("host") or known.get("hostaddr") or "localhost"
        return f"{host}:{known.get('port') or 5432}/{known.get('dbname') or ''}"

    async def open(self) -> None:
        """Begin; connections are made when they are needed."""
        if self._pool is None:
            self._pool = AsyncConnectionPool(
                "",
                kwargs={**self.settings, "autocommit": True},
                min_size=0,
                max_size=CONNECTIONS,
                open=False,
                configure=self._configure,
                timeout=self.timeout,
                reconnect_timeout=self.timeout,
                name=f"audit {self.place}",
            )
            await self._pool.open()

    async def close(self) -> None:
        """Let go of the connections."""
        pool, self._pool = self._pool, None
        if pool:
            await pool.close(timeout=self.timeout)

    async def statement(self, query: str, values: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement, which is a transaction by itself. It may be run again, also if it was done."""

        async def work(conn: Connection, _: Commit) -> list[tuple[Any, ...]]:
            found = await conn.execute(query, values)
            return await found.fetchall() if found.description else []

        return await self._run(work, whole=False)

    async def change[T](self, work: Work[T]) -> T:
        """The result of `work` in a transaction, once it is committed. `work` may be run again."""
        return await self._run(work, whole=True)

    async def _run[T](self, work: Work[T], *, whole: bool) -> T:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        while True:
            try:
                return await self._once(work, deadline, whole=whole)
            except (PoolClosed, errors.DiskFull) as error:
                raise self._translated(error) from error
            except (*_AGAIN, *_LOST) as error:  # the transaction is not there: it may be repeated
                if clock() + _PAUSE > deadline:
                    raise self._translated(error) from error
            except (psycopg.Error, OSError) as error:
                raise self._translated(error) from error
            await asyncio.sleep(_PAUSE)

    async def _once[T](self, work: Work[T], deadline: float, *, whole: bool) -> T:
        commit = Commit()
        async with self._connection(deadline) as conn:
            try:
                if not whole:
                    return await work(conn, commit)
                async with conn.pipeline(), conn.transaction():
                    result = await work(conn, commit)
                    commit.sent = True
                return result
            except _LOST as error:
                # An error that the server has answered with leaves the connection open, and has ended the transaction.
                if not (commit.sent and conn.closed):
                    raise
                lost = error
            except errors.ReadOnlySqlTransaction:
                await conn.close()  # the server has become a replica: the next connection may find the new primary
                raise
        if await self._was_committed(commit, lost):
            return result
        raise lost

    @asynccontextmanager
    async def _connection(self, deadline: float) -> AsyncIterator[Connection]:
        """One that is not known to have ended. It is cut at the deadline, a time of the event loop."""
        if (pool := self._pool) is None:
            raise StoreUnavailable("the audit is closed")
        loop = asyncio.get_running_loop()
        while _has_ended(conn := await pool.getconn(timeout=max(0.001, deadline - loop.time()))):
            await conn.close()
            await pool.putconn(conn)
        watchdog = loop.call_at(deadline, cut, conn)
        try:
            yield conn
        finally:
            if conn.info.transaction_status == TransactionStatus.IDLE:
                watchdog.cancel()  # whoever gets it next has a deadline of its own
            with contextlib.suppress(psycopg.Error):
                await pool.putconn(conn)
            watchdog.cancel()

    async def _was_committed(self, commit: Commit, lost: psycopg.Error) -> bool:
        """Whether a commit that was not answered has happened. StoreUnavailable where that cannot be found out."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.timeout
        while clock() < deadline:
            with contextlib.suppress(psycopg.Error, OSError, StoreUnavailable):
                async with self._connection(deadline) as conn:
                    if (found := await _look_for(conn, commit)) is not None:
                        return found
            await asyncio.sleep(_PAUSE)
        raise StoreUnavailable(
            f"{self.name} was lost in the middle of a commit: it is not known whether that was written"
        ) from lost

    @property
    def name(self) -> str:
        return f"the audit at PostgreSQL {self.place}"

    async def _configure(self, conn: Connection) -> None:
        watchdog = asyncio.get_running_loop().call_later(self.timeout, cut, conn)
        milliseconds = str(round(self.timeout * 1000))
        try:
            await conn.execute(
                # Whoever stands still in the middle of a transaction must not keep its locks for longer than a call may
                # take. A planner that has seen an empty table would go on reading all of it when it no longer is.
                """
                SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),
                  set_config('idle_in_transaction_session_timeout', %s, false), set_config('jit', 'off', false),
                  set_config('default_transaction_isolation', 'read committed', false),
                  set_config('enable_seqscan', 'off', false),
                  CASE WHEN current_setting('synchronous_commit') = 'off'
                  THEN set_config('synchronous_commit', 'on', false) END
                """,
                (milliseconds, milliseconds, milliseconds),
            )
        finally:
            watchdog.cancel()

    def _translated(self, error: Exception) -> StoreUnavailable:
        return unavailable(error, self.name, self.timeout, self.settings.get("password", ""))


async def _look_for(conn: Connection, commit: Commit) -> bool | None:
    """None while the server is still at it."""
    try:
        found = await (await conn.execute("SELECT pg_xact_status(%s::xid8)", (commit.number,))).fetchone()
    except errors.InvalidParameterValue:  # it lies in the future: the server has crashed, and begun again before it
        return False
    if found and found[0] == "in progress":
        return None
    if commit.witness is None:
        return False
    # After a crash of the server somebody else's transaction may have the same number: the line tells them apart.
    query = "SELECT 1 FROM audit_log WHERE event_id = %s AND kind = %s AND owner = %s AND xmin::text::bigint = %s"
    low = int(commit.number) & 0xFFFFFFFF
    return await (await conn.execute(query, (*commit.witness, low))).fetchone() is not None


def _settings_of(url: str) -> dict[str, str]:
    """What libpq makes of it. ValueError without the text: what cannot be read may be a password."""
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        found = {"port": "none"}
    # libpq ends user and password at the first slash: then a part of the password is the port.
    cut = "@" in found.get("dbname", "") and "%40" not in url
    if cut or not _PORTS.fullmatch(found.get("port", "")):
        raise ValueError(
            "the audit's postgresql:// URL cannot be read: write postgresql://user:password@host:5432/database, with "
            "%XX for characters of the password that mean something in a URL"
        )
    return found


def unavailable(error: Exception, name: str, timeout: float, password: str) -> StoreUnavailable:
    """What to say, and what to do, for an error of psycopg."""
    if isinstance(error, PoolTimeout | TooManyRequests | errors.QueryCanceled):
        return StoreUnavailable(f"{name} did not answer within {timeout:g} s: see whether it runs and can be reached")
    if isinstance(error, PoolClosed):
        return StoreUnavailable("the audit is closed")
    told = " ".join(str(error).split()) or type(error).__name__
    told = told.replace(password, "***") if password else told
    if isinstance(error, errors.DiskFull):
        return StoreUnavailable(f"{name} has no space left: free space on its disk")
    if isinstance(error, errors.UndefinedTable | errors.InsufficientPrivilege):
        return StoreUnavailable(f"{name} refuses ({told}): let its user own the tables of the audit")
    return StoreUnavailable(f"{name} cannot be used just now ({told})")


def _has_ended(conn: Connection) -> bool:
    """Without asking the server: a connection at rest has nothing to say but that it has ended."""
    if conn.closed:
        return True
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def cut(conn: Connection | psycopg.Connection[Any]) -> None:
    """End it as a lost network does: closing or cancelling would wait for the server."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
