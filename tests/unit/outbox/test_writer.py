"""Group commit: one sync for all that wait, one refusal for each that fails, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from holdfast.errors import CaptureRefused
from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord, writer
from holdfast.outbox.ledger import Ledger
from tests.unit.outbox.records import contents, make_record


@pytest.fixture(autouse=True)
def _not_tidied(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the time to tidy comes in the middle of a test, and that is a commit too."""
    monkeypatch.setattr(writer, "_TIDY_EVERY", 3600.0)


class Gate:
    """Holds every commit up while it is closed, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.commits = 0
        commit = Ledger.commit

        def held_up(ledger: Ledger) -> None:
            self.reached.set()
            assert self.open.wait(20)
            self.commits += 1
            commit(ledger)

        monkeypatch.setattr(Ledger, "commit", held_up)

    async def close(self, outbox: Outbox) -> asyncio.Task[None]:
        """Close it, with one append inside."""
        self.open.clear()
        self.reached.clear()
        inside = asyncio.create_task(outbox.append(make_record()))
        await asyncio.to_thread(self.reached.wait, 10)
        return inside


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, outbox: Outbox) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


async def reasons(*appends: asyncio.Future[None]) -> list[str]:
    """What became of each: "" or the reason of the refusal."""
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    return [outcome.reason if isinstance(outcome, CaptureRefused) else str(outcome or "") for outcome in outcomes]


def appends(outbox: Outbox, *records: OutboxRecord) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(outbox.append(record)) for record in records]


async def test_what_waits_is_committed_together(outbox: Outbox, gate: Gate) -> None:
    """Requests that fail at once share one sync."""
    inside = await gate.close(outbox)
    waiting = appends(outbox, *(make_record() for _ in range(100)))
    await asyncio.sleep(0)
    gate.open.set()
    assert await reasons(inside, *waiting) == [""] * 101
    assert gate.commits == 2
    assert outbox.stats().pending == 101


async def test_one_bad_record_fails_alone(outbox: Outbox, gate: Gate) -> None:
    """Its neighbours in the transaction go in all the same."""
    inside = await gate.close(outbox)
    good = [make_record() for _ in range(50)]
    twice = make_record(id=good[3].id)
    never = make_record(created=math.nan)
    waiting = appends(outbox, *good[:20], twice, *good[20:30], never, *good[30:])
    await asyncio.sleep(0)
    gate.open.set()
    outcome = await reasons(inside, *waiting)
    assert [index for index, reason in enumerate(outcome) if reason] == [21, 32]
    assert {reason for reason in outcome if reason} == {"outbox_unavailable"}
    assert [contents(outbox.get(record.id)) for record in good] == [contents(record) for record in good]


async def test_a_full_outbox_refuses_only_what_does_not_fit(open_outbox: Callable[..., Outbox]) -> None:
    """Of one group, so many are stored as there is room for."""
    outbox = open_outbox(max_records=5)
    outcome = await reasons(*appends(outbox, *(make_record() for _ in range(8))))
    assert outcome == [""] * 5 + ["outbox_full"] * 3


async def test_a_full_queue_refuses_at_once(
    open_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded while the disk hangs: by records and by bytes."""
    outbox = open_outbox(queue_records=3, queue_bytes=20_000)
    gate = Gate(monkeypatch)
    inside = await gate.close(outbox)
    large = appends(outbox, make_record(b"x" * 15_000), make_record(b"x" * 15_000))
    small = appends(outbox, *(make_record() for _ in range(3)))
    await asyncio.sleep(0)
    gate.open.set()
    assert await reasons(inside, *large, *small) == ["", "", "outbox_busy", "", "", "outbox_busy"]


async def test_a_disk_that_hangs_is_not_waited_for_for_ever(
    open_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets its answer; what was not begun by then is not stored behind its back."""
    outbox = open_outbox(commit_timeout=0.1)
    gate = Gate(monkeypatch)
    inside = await gate.close(outbox)
    late = make_record()
    assert await reasons(inside, *appends(outbox, late)) == ["outbox_busy"] * 2
    gate.open.set()
    await outbox.append(make_record())
    assert outbox.get(late.id) is None
    assert outbox.stats().pending == 2  # the one that was inside, and the last


async def test_a_caller_that_goes_away_does_not_break_the_group(outbox: Outbox, gate: Gate) -> None:
    """Cancelled before its turn it is not stored, cancelled during the commit it may be."""
    inside = await gate.close(outbox)
    gone, stays = make_record(), make_record()
    waiting = appends(outbox, gone, stays)
    await asyncio.sleep(0)
    inside.cancel()
    waiting[0].cancel()
    await asyncio.sleep(0)
    gate.open.set()
    await waiting[1]
    assert outbox.get(gone.id) is None
    assert outbox.get(stays.id)


def test_a_loop_that_is_closed_does_not_stop_the_writer(outbox: Outbox, gate: Gate) -> None:
    """The next loop, and a plain thread, are served as before."""

    async def leave() -> None:
        await gate.close(outbox)

    asyncio.run(leave())
    gate.open.set()
    asyncio.run(outbox.append(make_record()))
    outbox.append_sync(make_record())
    assert outbox.stats().pending in (2, 3)


def test_after_close_every_append_is_refused(outbox: Outbox) -> None:
    """And closing twice is allowed."""
    outbox.close()
    outbox.close()
    with pytest.raises(CaptureRefused) as refused:
        outbox.append_sync(make_record())
    assert refused.value.reason == "outbox_unavailable"


async def test_close_commits_what_waits(outbox: Outbox, gate: Gate, path: Path) -> None:
    """Nothing that was taken is dropped at the end."""
    inside = await gate.close(outbox)
    waiting = appends(outbox, *(make_record() for _ in range(10)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(outbox.close))
    gate.open.set()
    assert await reasons(inside, *waiting) == [""] * 11
    await closing


def test_a_record_without_a_uuid_is_refused(outbox: Outbox) -> None:
    """Nothing could find it again."""
    with pytest.raises(CaptureRefused, match="UUID"):
        outbox.append_sync(make_record(id="1'; DROP TABLE captures"))


async def test_a_lock_of_another_process_is_waited_for_once_for_the_group(outbox: Outbox, path: Path) -> None:
    """Trying its halves would wait as often again."""
    ledger = outbox._writer._ledger
    assert ledger
    ledger.db.set_busy_timeout(100)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert await reasons(*appends(outbox, *(make_record() for _ in range(50)))) == ["outbox_busy"] * 50
    assert time.monotonic() - began < 1.0
    other.execute("ROLLBACK")
    other.close()
    await outbox.append(make_record())


# --- a disk that fails ---


def limit_pages(outbox: Outbox, more: int) -> None:
    ledger = outbox._writer._ledger
    assert ledger
    ledger.db.pragma("max_page_count", int(str(ledger.db.pragma("page_count"))) + more)


async def test_a_full_disk_refuses_and_recovers(outbox: Outbox) -> None:
    """`disk_full` while there is no room for a record, and business as usual once there is."""
    before = make_record()
    await outbox.append(before)
    limit_pages(outbox, 20)
    small = [make_record() for _ in range(3)]
    outcome = await reasons(*appends(outbox, small[0], make_record(b"x" * 200_000), *small[1:]))
    assert outcome == ["", "disk_full", "", ""]
    limit_pages(outbox, 1_000_000)
    await outbox.append(make_record(b"x" * 200_000))
    assert outbox.stats().pending == 5
    assert all(outbox.get(record.id) for record in (before, *small))


async def test_a_failed_sync_refuses_and_the_file_is_opened_anew(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an I/O error nothing that the connection remembers is relied on."""
    kept = make_record()
    await outbox.append(kept)
    ledger = outbox._writer._ledger

    def failing(_: Ledger) -> None:
        raise apsw.IOError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", failing)
        assert await reasons(*appends(outbox, make_record())) == ["outbox_unavailable"]
    await outbox.append(make_record())
    assert outbox._writer._ledger is not ledger
    assert outbox.get(kept.id)
    assert outbox.stats().pending == 2


async def test_whatever_goes_wrong_the_writer_lives(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its thread nothing would be captured any more."""

    def broken(_: Ledger) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "begin", broken)
        assert await reasons(*appends(outbox, make_record())) == ["outbox_unavailable"]
    await outbox.append(make_record())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs; a full database is tested without it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


async def test_a_really_full_disk_refuses_and_recovers(small_disk: Path) -> None:
    """The same with a file system that says no."""
    outbox = Outbox.open(small_disk / "holdfast.db", OutboxLimits())
    kept = []
    for _ in range(100):
        record = make_record(os.urandom(50_000))
        if (await reasons(*appends(outbox, record))) == ["disk_full"]:
            break
        kept.append(record)
    assert 5 < len(kept) < 40
    assert [contents(outbox.get(record.id)) for record in kept] == [contents(record) for record in kept]
    outbox.close()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    outbox = Outbox.open(small_disk / "holdfast.db", OutboxLimits())
    await outbox.append(make_record(b"x" * 50_000))
    assert outbox.stats().pending == len(kept) + 1
    assert outbox.stats().rescues == 0
    outbox.close()
