"""Records, clocks and damaged files for the tests of the outbox."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import apsw

from holdfast.outbox import OutboxRecord
from holdfast.policy.uuid7 import uuid7

NOW = 1_760_000_000.0


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def new_id() -> str:
    return uuid7(int(time.time() * 1000), os.urandom(10))


def make_record(value: bytes = b'{"schema":1}', **changes: Any) -> OutboxRecord:
    """A record as the failure sink makes it, with a new id."""
    fields: dict[str, Any] = {
        "id": new_id(),
        "created": NOW,
        "key": "/api/users",
        "route": "users",
        "method": "POST",
        "path": "/api/users",
        "error": "connection_refused",
        "status": None,
        "value": value,
        "headers": (("holdfast-schema", b"1"), ("content-type", b"application/json")),
    }
    return OutboxRecord(**{**fields, **changes})


def contents(record: OutboxRecord | None) -> tuple[object, ...]:
    """What must come back as it was given: everything but the state of affairs."""
    assert record is not None
    names = ("id", "created", "key", "route", "method", "path", "error", "status", "value", "headers")
    return tuple(getattr(record, name) for name in names)


def scribble(path: Path, page: int, count: int = 1, seed: int = 1) -> None:
    """Overwrite whole pages (the first is 1) with garbage."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(seed).randbytes(4096 * count))


def pages_of(path: Path, table: str, kind: str = "leaf") -> list[int]:
    """The leaf (or internal, or overflow) pages of a table, by number."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY pageno"
        rows = db.execute(query, (table, kind))
        return [int(str(number)) for (number,) in rows.fetchall()]
    finally:
        db.close()
