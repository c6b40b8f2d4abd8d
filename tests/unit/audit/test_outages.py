"""A PostgreSQL that stops, hangs, crashes, or is cut off in the middle of a commit; and how its tables are made."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from holdfast.audit import Audit, Record
from holdfast.audit.migrating import REVISIONS
from holdfast.audit.opening import open_audit
from holdfast.audit.postgres import PostgresAudit
from holdfast.errors import StoreUnavailable
from tests.contract.audit_cases import arrival, arrivals, attempt, settled
from tests.services.postgres import PostgresServer

TIMEOUT = 2.0
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def shared(postgres_url: str) -> Iterator[PostgresServer]:
    """A server that may be broken. Where there is a PostgreSQL to test with there is one to start."""
    assert postgres_url
    folder = Path(tempfile.mkdtemp(prefix="holdfast-audit-"))
    folder.chmod(0o711)  # the server runs as another user
    try:
        with PostgresServer(folder / "postgres", PostgresServer.free_port()) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def server(shared: PostgresServer) -> PostgresServer:
    """It runs, and has no tables."""
    resume(shared)
    if shared.pid is None:
        shared.start().wait_ready()
    await on(shared.url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return shared


@pytest.fixture
async def audit(server: PostgresServer) -> AsyncIterator[Audit]:
    audit = PostgresAudit(server.url, time.time, timeout=TIMEOUT)
    await audit.open()
    yield audit
    await audit.close()


def send_all(server: PostgresServer, number: signal.Signals) -> None:
    """To the server and each of its processes, which are in groups of their own."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)  # it shall not make new ones meanwhile
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text(encoding="ascii").split()
    for pid in (*map(int, children), server.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def resume(server: PostgresServer) -> None:
    if server.pid is not None:
        send_all(server, signal.SIGCONT)


async def on(url: str, *statements: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        for statement in statements:
            found = await conn.execute(statement)  # type: ignore[arg-type]
        return await found.fetchall() if found.description else []


async def refused(audit: Audit) -> str:
    """What calls of all kinds say, which must be soon."""
    told = ""
    for asked in (
        audit.arrive([arrival("x")], "me", 60),
        audit.claim(["a"], "me", 60),
        audit.record([settled("a")], "me"),
        audit.stats(time.time()),
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as error:
            await asked
        assert time.monotonic() - began < TIMEOUT * 2 + 1
        told = str(error.value)
    return told


# --- servers that are away ---


async def test_a_server_that_is_stopped_is_an_outage_and_then_none(server: PostgresServer, audit: Audit) -> None:
    """Told within the bound; what was there is there again, and nothing of what was refused."""
    await audit.arrive([arrival("a")], "me", 600)
    server.stop()
    assert f":{server.port}/postgres" in await refused(audit)
    server.start().wait_ready()
    assert await audit.known(["a", "x"]) == {"a"}
    assert await audit.record([settled("a")], "me") == [True]


async def test_a_restart_between_two_calls_is_not_noticed(server: PostgresServer, audit: Audit) -> None:
    """Connections that have ended are not used."""
    for name in ("a", "b", "c"):
        await asyncio.gather(*(audit.known([name]) for _ in range(8)))
        server.stop()
        server.start().wait_ready()
        assert (await audit.arrive(arrivals(name), "me", 600))[0].claimed


async def test_a_server_that_hangs_is_an_outage_and_then_none(server: PostgresServer, audit: Audit) -> None:
    """Its connections are open and say nothing: they are given up at the deadline."""
    await audit.arrive(arrivals("a", "b"), "me", 600)
    send_all(server, signal.SIGSTOP)
    try:
        assert "audit at PostgreSQL" in await refused(audit)
    finally:
        resume(server)
    assert await audit.record([settled("b")], "me") == [True]
    assert await audit.known(["a", "b"]) == {"a", "b"}


async def test_a_server_that_is_not_there_at_the_start_may_come_later(server: PostgresServer) -> None:
    """`open` says so within the bound and can be called again; `close` too, any number of times."""
    server.stop()
    audit = PostgresAudit(server.url, time.time, timeout=TIMEOUT)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"{HOST}:{server.port}"):
        await audit.open()
    assert time.monotonic() - began < TIMEOUT * 2
    with pytest.raises(StoreUnavailable, match="closed"):
        await audit.known(["a"])
    server.start().wait_ready()
    await audit.open()
    assert await audit.known(["a"]) == set()
    await audit.close()
    await audit.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await audit.known(["a"])


async def test_locks_that_are_not_given_back_are_an_outage(server: PostgresServer, audit: Audit) -> None:
    """Bounded, whoever holds them."""
    await audit.arrive([arrival("a")], "me", 600)
    async with await psycopg.AsyncConnection.connect(server.url) as conn:
        await conn.execute("SELECT * FROM captures FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            await audit.record([settled("a")], "me")
    assert await audit.record([settled("a")], "me") == [True]


@pytest.mark.timeout(180)
async def test_what_was_returned_survives_crashes_of_the_server(server: PostgresServer, audit: Audit) -> None:
    """`kill -9` while three owners record: none of it is lost, and none of it has happened twice."""
    told: dict[str, list[str]] = {"recorded": [], "unknown": []}
    ending = asyncio.Event()

    async def owner(name: str) -> None:
        mine = PostgresAudit(server.url, time.time, timeout=TIMEOUT * 5)
        await mine.open()
        for number in range(1_000_000):
            ids = [f"{name}-{number}-{each}" for each in range(20)]
            with contextlib.suppress(StoreUnavailable):
                await mine.arrive(arrivals(*ids), name, 600)
            records = [Record(id=each, attempt=attempt(), outcome="delivered") for each in ids]
            try:
                effects = await mine.record(records, name)
                told["recorded"] += [each for each, took in zip(ids, effects, strict=True) if took]
            except StoreUnavailable:
                told["unknown"] += ids
            if ending.is_set():
                break
        await mine.close()

    async with asyncio.TaskGroup() as group:
        for name in ("ann", "bob", "cid"):
            group.create_task(owner(name))
        for _ in range(4):
            before = len(told["recorded"])
            async with asyncio.timeout(30):
                while len(told["recorded"]) < before + 200:
                    await asyncio.sleep(0.01)
            send_all(server, signal.SIGKILL)
            await asyncio.to_thread(server.kill)
            server.start()
            await asyncio.to_thread(server.wait_ready)
        ending.set()
    assert set(told["recorded"]) <= {row[0] for row in await on(server.url, "SELECT event_id FROM processed_events")}
    twice = "SELECT event_id FROM audit_log WHERE kind = 'attempt' AND effective GROUP BY 1 HAVING count(*) > 1"
    assert await on(server.url, twice) == []
    late = {row[0] for row in await on(server.url, "SELECT event_id FROM audit_log WHERE NOT effective")}
    assert not late & set(told["recorded"]), "a repeated call must not be told that it came too late"


# --- commits whose answer is lost ---


class Severed:
    """A way to a server that is cut around the first `mark` that passes: before it, or before its answer."""

    def __init__(self, target: int, *, before: bool, mark: bytes = b"COMMIT") -> None:
        self.target, self.before, self.mark = target, before, mark
        self.armed = False
        self.port = 0

    async def __aenter__(self) -> Severed:
        self.server = await asyncio.start_server(self._forward, HOST, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
        back = asyncio.create_task(self._pump_back(far_reader, writer))
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                if self.armed and self.mark in data:
                    self.armed = False
                    back.cancel()
                    await asyncio.wait([back])
                    if not self.before:
                        far_writer.write(data)
                        await far_reader.read(1)  # it is done, and nobody is told
                    break
                far_writer.write(data)
        far_writer.transport.abort()
        writer.transport.abort()

    async def _pump_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 20):
                writer.write(data)
        writer.close()


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
async def test_a_call_whose_commit_was_cut_off_has_its_effect_once(server: PostgresServer, before: bool) -> None:
    """Whether the server had it or not is found out: the caller is told what became of it, and it is not done twice."""
    async with Severed(server.port, before=before) as way:
        audit = PostgresAudit(server.url.replace(str(server.port), str(way.port)), time.time, timeout=TIMEOUT)
        await audit.open()
        for number in range(5):
            a, b = f"a{number}", f"b{number}"
            way.armed = True
            assert [one.claimed for one in await audit.arrive(arrivals(a, b), "me", 600)] == [True, True]
            way.armed = True
            assert (await audit.claim([a], "me", 600))[0].claimed
            way.armed = True
            told = [Record(id=a, attempt=attempt(), outcome="dead"), Record(id=b, attempt=attempt(), due=1.0)]
            assert await audit.record(told, "me") == [True, True]
            way.armed = True
            assert await audit.reopen([a]) == {a: 1}
            way.armed = True
            assert await audit.settle([a, b], "discarded", "by hand") == 2
            assert not way.armed
            assert [len(await audit.attempts(name)) for name in (a, b)] == [1, 1]
        await audit.close()
    kinds = await on(server.url, "SELECT kind, count(*) FROM audit_log GROUP BY 1 ORDER BY 1")
    assert kinds == [("arrived", 10), ("attempt", 10), ("reopened", 5), ("settled", 15)]


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
async def test_a_callback_whose_answer_was_cut_off_has_failed_once(server: PostgresServer, before: bool) -> None:
    """What is said of it is said again; it is one try all the same, and forgotten is forgotten."""
    async with Severed(server.port, before=before, mark=b"callbacks") as way:
        audit = PostgresAudit(server.url.replace(str(server.port), str(way.port)), time.time, timeout=TIMEOUT)
        await audit.open()
        await audit.arrive([arrival("a"), arrival("b", "other")], "me", 600)
        await audit.record([settled(name, callback=("http://receiver", b"{}")) for name in "ab"], "me")
        one, other = await audit.callbacks.due(time.time(), 10, 600)
        way.armed = True
        await audit.callbacks.later(one.id, 5.0, "http_503")
        way.armed = True
        await audit.callbacks.given_up(other.id, "http_410")
        query = "SELECT state, tries, due < 6, last_error FROM callbacks ORDER BY id"
        assert not way.armed
        assert await on(server.url, query) == [("waiting", 1, True, "http_503"), ("given_up", 1, False, "http_410")]
        way.armed = True
        await audit.callbacks.done([one.id, other.id])
        assert not way.armed
        await audit.close()
    assert await on(server.url, "SELECT id FROM callbacks") == []


# --- tables ---


async def test_tables_of_an_older_version_are_brought_to_the_newest(server: PostgresServer, audit: Audit) -> None:
    """With what is in them."""
    await audit.arrive([arrival("a")], "me", 60)
    await on(server.url, "DROP TABLE callbacks", "UPDATE holdfast_audit_version SET version_num = '0001'")
    newer = PostgresAudit(server.url, time.time, timeout=TIMEOUT)
    await newer.open()
    assert await newer.record([settled("a", callback=("http://receiver", b"{}"))], "me") == [True]
    assert [one.event_id for one in await newer.callbacks.due(time.time(), 10, 60)] == ["a-0"]
    await newer.close()


async def test_several_that_start_at_once_make_the_tables_once(server: PostgresServer) -> None:
    """One of them does it, the others wait; a second start finds nothing to do."""
    audits = [open_audit(server.url, time.time) for _ in range(6)]
    await asyncio.gather(*(one.open() for one in audits))
    await asyncio.gather(*(one.arrive([arrival("a")], f"o{number}", 60) for number, one in enumerate(audits)))
    await asyncio.gather(*(one.close() for one in audits))
    assert await on(server.url, "SELECT id FROM captures") == [("a",)]
    assert await on(server.url, "SELECT version_num FROM holdfast_audit_version") == [(REVISIONS[-1],)]


async def test_several_processes_that_start_at_once_make_the_tables_once(server: PostgresServer) -> None:
    """Replayers of several machines."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    person = str(Path(__file__).with_name("person.py"))
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, person, server.url, "1", "0", env=environment)
        for _ in range(4)
    ]
    assert [await process.wait() for process in processes] == [0] * 4
    assert await on(server.url, "SELECT version_num FROM holdfast_audit_version") == [(REVISIONS[-1],)]


async def test_tables_of_a_newer_version_are_not_touched(server: PostgresServer, audit: Audit) -> None:
    """What to do is said."""
    await audit.arrive([arrival("a")], "me", 60)
    await on(server.url, "UPDATE holdfast_audit_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match=r"newer Holdfast \(version 9999\): upgrade this one"):
        await PostgresAudit(server.url, time.time).open()
    assert await on(server.url, "SELECT id FROM captures") == [("a",)]


async def test_a_user_who_may_not_make_tables_is_told_what_to_grant(server: PostgresServer) -> None:
    """And one who may not use them, once they are there."""
    await on(
        server.url, "DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN", "GRANT USAGE ON SCHEMA public TO guest"
    )
    guest = server.url.replace("postgres@", "guest@")
    with pytest.raises(StoreUnavailable, match="GRANT CREATE ON SCHEMA"):
        await PostgresAudit(guest, time.time).open()
    owner = PostgresAudit(server.url, time.time)
    await owner.open()
    await owner.close()
    with pytest.raises(StoreUnavailable, match="let its user own the tables"):
        await PostgresAudit(guest, time.time).open()


async def test_a_database_that_is_not_there_is_named_without_the_password(server: PostgresServer) -> None:
    """Nor is the password in anything else that is shown."""
    url = server.url.replace("postgres@", "postgres:hush%2Fed@").replace("/postgres", "/nowhere")
    audit = PostgresAudit(url, time.time, timeout=TIMEOUT)
    with pytest.raises(StoreUnavailable, match="nowhere") as error:
        await audit.open()
    assert "hush" not in str(error.value)
    assert "hush" not in repr(audit)


def test_without_its_packages_postgresql_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them is missing; SQLite needs none of them."""
    for missing in ("psycopg", "psycopg_pool", "alembic"):
        with monkeypatch.context() as patch:
            for module in [name for name in sys.modules if name.startswith(("holdfast.audit.", "psycopg_pool"))]:
                patch.delitem(sys.modules, module)
            patch.setitem(sys.modules, missing, None)
            importlib.import_module("holdfast.audit.sqlite")
            with pytest.raises(StoreUnavailable, match=r'pip install "holdfast\[postgres\]"'):
                importlib.import_module("holdfast.audit.postgres")
