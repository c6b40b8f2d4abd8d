"""What the tests of the audit share: a place of one's own in either store, captures, and a look at the tables."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest

from holdfast.audit import Arrival, AttemptLog, Audit, Outcome, Record
from holdfast.audit.opening import open_audit
from holdfast.testing import FixedClock

STORES = ("sqlite", "postgres")
HOUR = 3600.0
ODD = "a\x00b\x1a0000\ud800ключ🔑'\"\\%s$1?\n"  # what some store or some way of writing it would stumble over


@dataclass
class Place:
    """An empty store that several may open at once, each with connections of its own."""

    url: str
    clock: FixedClock
    opened: list[Audit] = field(default_factory=list)

    async def open(self) -> Audit:
        audit = open_audit(self.url, self.clock)
        self.opened.append(audit)
        await audit.open()
        return audit

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds in the tables; both stores understand the ones of these tests."""
        if self.url.startswith("postgresql"):
            async with await psycopg.AsyncConnection.connect(self.url) as conn:
                return await (await conn.execute(query)).fetchall()  # type: ignore[arg-type]
        db = apsw.Connection(self.url, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()


@asynccontextmanager
async def a_place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Of the store that the test is run with (`request.param`)."""
    clock = FixedClock(1_800_000_000.0)
    if request.param == "sqlite":
        place = Place(str(tmp_path / "audit.db"), clock)
        yield place
        for audit in place.opened:
            await audit.close()
        return
    server, schema = request.getfixturevalue("postgres_url"), f"test_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as conn:
        await conn.execute(f"CREATE SCHEMA {schema}")
        place = Place(f"{server}?options=-csearch_path%3D{schema}", clock)
        yield place
        for audit in place.opened:
            await audit.close()
        await conn.execute(f"DROP SCHEMA {schema} CASCADE")


def arrival(name: str, key: str = "k", **changes: Any) -> Arrival:
    """A capture whose details do not matter."""
    told: dict[str, Any] = {"route": "user", "method": "PUT", "path": f"/{key}", "error": "http_503", "captured": 5.0}
    return Arrival(name, key, **(told | changes))


def arrivals(*names: str, key: str = "") -> list[Arrival]:
    """Each of a key of its own, or all of this one."""
    return [arrival(name, key or name) for name in names]


def attempt(at: float = 10.0, **changes: Any) -> AttemptLog:
    """A replay that was answered with 503."""
    return AttemptLog(**({"at": at, "server": "http://origin:1", "status": 503, "duration_ms": 1.5} | changes))


def settled(name: str, outcome: Outcome = "delivered", **changes: Any) -> Record:
    return Record(id=name, outcome=outcome, **changes)


async def state_of(audit: Audit, name: str) -> str:
    found = await audit.entry(name)
    return found.state if found else "unknown"


@pytest.fixture(params=STORES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(request, tmp_path) as one:
        yield one


@pytest.fixture
async def audit(place: Place) -> Audit:
    return await place.open()


@pytest.fixture
def clock(place: Place) -> FixedClock:
    return place.clock
