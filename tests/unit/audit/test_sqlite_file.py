"""The SQLite file of the audit: what is not one, disks that fail, other processes, and calls that wait together."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from holdfast.audit import Record
from holdfast.audit.sqlite import SqliteAudit
from holdfast.audit.sqlite_file import APPLICATION_ID, STEPS
from holdfast.errors import StoreUnavailable
from tests.contract.audit_cases import arrival, arrivals, attempt, settled

type Open = Callable[..., SqliteAudit]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
async def make(path: Path) -> AsyncIterator[Open]:
    """Makes audits, not opened, of this path unless another is named; they are closed at the end."""
    made: list[SqliteAudit] = []

    def make_one(where: Path = path, timeout: float = 15.0) -> SqliteAudit:
        made.append(SqliteAudit(where, time.time, timeout=timeout))
        return made[-1]

    yield make_one
    for audit in made:
        await audit.close()


@pytest.fixture
async def audit(make: Open) -> SqliteAudit:
    audit = make()
    await audit.open()
    return audit


def db_of(audit: SqliteAudit) -> apsw.Connection:
    db = audit._thread._db
    assert db
    return db


async def hold(audit: SqliteAudit) -> tuple[threading.Event, asyncio.Future[bool]]:
    """Keeps the thread in the middle of a transaction until the event is set; and the call that does it."""
    begun, held = threading.Event(), threading.Event()
    holding = asyncio.ensure_future(audit._thread.do(lambda db: begun.set() or held.wait(10)))
    holding.add_done_callback(lambda done: done.exception())
    await asyncio.to_thread(begun.wait, 10)
    return held, holding


async def refusal(audit: SqliteAudit) -> str:
    with pytest.raises(StoreUnavailable) as error:
        await audit.open()
    return str(error.value)


# --- what is opened ---


async def test_a_commit_is_on_the_disk(audit: SqliteAudit, path: Path) -> None:
    """A write-ahead log that is synced with each commit; only its owner may read it."""
    db = db_of(audit)
    settings = {name: db.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")}
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "user_version": len(STEPS)}
    await audit.arrive([arrival("a")], "me", 60)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


async def test_a_file_that_is_newer_than_the_code_is_not_touched(audit: SqliteAudit, make: Open, path: Path) -> None:
    """What to do is said."""
    await audit.arrive([arrival("a")], "me", 60)
    db_of(audit).pragma("user_version", 99)
    await audit.close()
    before = path.read_bytes()
    assert await refusal(make()) == f"{path} was written by a newer Holdfast (format 99): upgrade this one"
    assert path.read_bytes() == before


async def test_a_file_that_is_older_than_the_code_is_brought_to_its_form(make: Open, path: Path) -> None:
    """With what is in it."""
    db = apsw.Connection(str(path))
    db.execute(STEPS[0])
    db.execute("PRAGMA user_version = 1")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    columns = (
        "id, lane, key, route, method, path, error, captured, arrived, traceparent, redrive, due, owner, claim_until"
    )
    db.execute(f"INSERT INTO captures ({columns}) VALUES ('a', 1, 'k', '', '', '', '', 5, 5, '', 2, 0, 'me', 0)")
    db.close()
    audit = make()
    await audit.open()
    assert db_of(audit).pragma("user_version") == len(STEPS)
    assert await audit.record([settled("a", callback=("http://receiver", b"{}"))], "me") == [True]
    assert [one.event_id for one in await audit.callbacks.due(time.time(), 10, 60)] == ["a-2"]


async def test_what_is_no_audit_is_not_touched(make: Open, path: Path) -> None:
    """A text, the beginning of a database, another program's database, a folder."""
    for content, why in (
        (b"precious", "not a database"),
        (b"SQLite format 3", "not a database"),
        (b"SQLite format 3\0" + b"x" * 4096, "not a database"),
    ):
        path.write_bytes(content)
        assert why in await refusal(make())
        assert path.read_bytes() == content
    path.unlink()
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE precious (a)")
    db.close()
    assert "another program's database: let `audit` name another file" in await refusal(make())
    folder = path.with_name("folder")
    folder.mkdir()
    assert "is not a file" in await refusal(make(folder))


async def test_a_folder_that_is_missing_is_named(make: Open, path: Path) -> None:
    """It is not made: a mount may be missing."""
    assert "does not exist: create it" in await refusal(make(path.parent / "missing" / "audit.db"))
    assert not (path.parent / "missing").exists()


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_what_may_not_be_written_is_named(
    audit: SqliteAudit, make: Open, path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before anything is tried with it. The rights are made up: root has them all."""
    await audit.close()
    forbidden = str(path if what == "file" else path.parent)
    monkeypatch.setattr(os, "access", lambda name, mode: not (mode & os.W_OK and str(name) == forbidden))
    assert "is not writable: give this user" in await refusal(make())


async def test_an_opening_that_failed_can_be_tried_again(make: Open, path: Path) -> None:
    """And `close` may be called twice, or without an opening."""
    audit = make()
    await audit.close()
    path.write_bytes(b"precious")
    await refusal(audit)
    path.unlink()
    await audit.open()
    await audit.open()
    assert await audit.known(["a"]) == set()
    for _ in range(2):
        await audit.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await audit.known(["a"])
    await audit.open()
    assert await audit.known(["a"]) == set()


async def test_many_that_open_a_new_file_at_once_make_it_once(make: Open) -> None:
    """Whoever comes second finds it made."""
    audits = [make() for _ in range(8)]
    await asyncio.gather(*(one.open() for one in audits))
    await asyncio.gather(*(one.arrive([arrival(f"n{number}")], "me", 60) for number, one in enumerate(audits)))
    assert await audits[0].known([f"n{number}" for number in range(8)]) == {f"n{number}" for number in range(8)}


# --- disks that fail ---


async def test_a_full_disk_is_an_outage_and_then_none(audit: SqliteAudit) -> None:
    """Nothing of the call is there; what fits is taken."""
    await audit.arrive(arrivals("a", "b"), "me", 60)
    db = db_of(audit)
    db.pragma("max_page_count", int(str(db.pragma("page_count"))) + 4)
    with pytest.raises(StoreUnavailable, match="is full: free space on it"):
        await audit.record([settled("a"), settled("b", "dead", value=b"x" * 100_000)], "me")
    assert {one.state for one in await audit.entries({})} == {"open"}
    db.pragma("max_page_count", 1_000_000)
    assert await audit.record([settled("a"), settled("b", "dead", value=b"x" * 100_000)], "me") == [True, True]


async def test_a_failed_sync_is_not_done_again_and_the_file_is_opened_anew(
    audit: SqliteAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on the disk all the same: who does it again would be told that it came too late."""
    names = [f"n{number}" for number in range(5)]
    await audit.arrive(arrivals(*names), "me", 60)
    before, runs = db_of(audit), []

    def failing(group: list[object]) -> None:
        runs.append(len(group))
        raise apsw.IOError("disk I/O error")

    held, _ = await hold(audit)
    calls = [asyncio.ensure_future(audit.record([settled(name)], "me")) for name in names]
    await asyncio.sleep(0)
    with monkeypatch.context() as patch:
        patch.setattr(audit._thread, "_transact", failing)
        held.set()
        told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in told] == [StoreUnavailable] * 5
    assert runs == [5], "all of them in one commit, which is tried once"
    assert await audit.record([settled(name) for name in names], "me") == [True] * 5
    assert db_of(audit) is not before


async def test_a_file_that_is_gone_is_not_made_anew(audit: SqliteAudit, path: Path) -> None:
    """It held outcomes: without them everything would be sent again."""
    await audit.arrive([arrival("a")], "me", 60)
    moved = path.with_name("moved")
    for file in path.parent.iterdir():
        file.rename(moved.with_name(file.name.replace("audit", "moved")))
    with pytest.raises(StoreUnavailable, match="is gone: put it back"):
        await audit.record([settled("a")], "me")
    assert not path.exists()


async def test_a_file_that_was_replaced_is_the_one_that_is_used(audit: SqliteAudit, make: Open, path: Path) -> None:
    """What is written to the old one would be lost."""
    await audit.arrive([arrival("a")], "me", 60)
    other = make(path.with_name("other.db"))
    await other.open()
    await other.arrive([arrival("b")], "me", 60)
    await other.close()
    for file in (path, path.with_name("audit.db-wal"), path.with_name("audit.db-shm")):
        file.unlink(missing_ok=True)
    path.with_name("other.db").rename(path)
    assert await audit.known(["a", "b"]) == {"b"}


# --- calls ---


async def test_one_faulty_call_does_not_spoil_the_others_of_its_commit(audit: SqliteAudit) -> None:
    """It gets its error, they get what they would have had by themselves."""
    held, _ = await hold(audit)
    calls = [audit.arrive([arrival(f"n{number}")], "me" if number != 3 else "", 60) for number in range(6)]
    waiting = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    held.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [list, list, list, ValueError, list, list]
    assert len(await audit.entries({})) == 5


async def test_a_call_that_takes_too_long_is_given_up(make: Open) -> None:
    """What had not begun is not done; of what had it is not known."""
    audit = make(timeout=0.2)
    await audit.open()
    held, hanging = await hold(audit)
    waiting = asyncio.ensure_future(audit.arrive([arrival("a")], "me", 60))
    with pytest.raises(StoreUnavailable, match="it is not known whether"):
        await hanging
    with pytest.raises(StoreUnavailable, match="nothing has changed"):
        await waiting
    held.set()
    assert await audit.known(["a"]) == set()


async def test_a_call_that_nobody_waits_for_any_more_is_not_begun(audit: SqliteAudit) -> None:
    """Cancelled while it waits for its turn."""
    held, _ = await hold(audit)
    waiting = asyncio.ensure_future(audit.arrive([arrival("a")], "me", 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    held.set()
    assert await audit.known(["a"]) == set()


async def test_another_process_that_keeps_the_lock_is_an_outage(audit: SqliteAudit, path: Path) -> None:
    """Bounded; who only reads is not in its way."""
    await audit.arrive([arrival("a")], "me", 60)
    db_of(audit).set_busy_timeout(100)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        await audit.record([Record(id="a", attempt=attempt())], "me")
    assert await audit.known(["a"]) == {"a"}
    other.execute("ROLLBACK")
    other.close()
    assert await audit.record([settled("a")], "me") == [True]


async def test_what_waits_is_done_before_the_file_is_let_go(audit: SqliteAudit, make: Open) -> None:
    """Closing loses nothing."""
    calls = [asyncio.ensure_future(audit.arrive(arrivals(f"n{number}"), "me", 60)) for number in range(200)]
    await asyncio.sleep(0)
    await audit.close()
    assert all(one[0].claimed for one in await asyncio.gather(*calls))
    again = make()
    await again.open()
    assert len(await again.entries({}, limit=1000)) == 200
