"""How a file is opened: which SQLite, which settings, and what is said when it cannot be."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox import Outbox, OutboxLimits
from holdfast.outbox.database import check_sqlite, connect, has_wal_reset_bug, refusal

LIMITS = OutboxLimits()


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ("3.6.23", False),
        ("3.7.0", True),
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.0", True),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.54.1", False),
        ("4.0.0", False),
    ],
)
def test_a_sqlite_with_the_wal_reset_bug_is_known(version: str, bug: bool) -> None:
    """Fixed in 3.51.3, and in the backports 3.50.7 and 3.44.6."""
    assert has_wal_reset_bug(version) is bug


def test_a_sqlite_that_may_lose_records_is_refused() -> None:
    """With a sentence that says what to upgrade."""
    with pytest.raises(StoreUnavailable, match=r"3\.40\.1.*upgrade `apsw`"):
        check_sqlite("3.40.1")


def test_a_commit_is_on_the_disk(outbox: Outbox) -> None:
    """A write-ahead log, synced at every commit; pages that can be given back; text that cannot run code."""
    db = connect(outbox.path)
    found = {name: db.pragma(name) for name in ("journal_mode", "synchronous", "auto_vacuum", "trusted_schema")}
    db.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2, "trusted_schema": 0}


def test_only_the_owner_may_read_what_was_captured(outbox: Outbox, tmp_path: Path) -> None:
    """Requests hold secrets, so every file of the outbox has mode 600."""
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"holdfast.db", "holdfast.db-wal", "holdfast.db.lock"} <= modes.keys()


def another_database(path: Path) -> None:
    db = sqlite3.connect(path)
    db.executescript("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1);")
    db.close()


def newer_format(path: Path) -> None:
    Outbox.open(path, LIMITS).close()
    db = apsw.Connection(str(path))
    db.pragma("user_version", 2)
    db.close()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.mkdir(), "is not a file"),
        (lambda path: path.write_text("version: 1\n" * 99), "is not an outbox: let `outbox` name another file"),
        (lambda path: path.write_text("x\n"), "is not an outbox"),
        (another_database, "is another program's database"),
        (newer_format, "newer Holdfast"),
    ],
)
def test_a_file_that_is_not_ours_is_left_alone(prepare: Callable[[Path], object], message: str, path: Path) -> None:
    """Refused with what to do, and not a byte of it is changed."""
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreUnavailable, match=message):
        Outbox.open(path, LIMITS)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_the_log_of_another_program_is_left_alone_too(path: Path, tmp_path: Path) -> None:
    """To look into a database must not bring its log into it, which is what SQLite does when it is closed."""
    theirs = sqlite3.connect(tmp_path / "theirs.db")
    theirs.executescript("PRAGMA journal_mode=wal; CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1);")
    names = {"holdfast.db": "theirs.db", "holdfast.db-wal": "theirs.db-wal"}
    before = {mine: path.with_name(other).read_bytes() for mine, other in names.items()}
    theirs.close()
    for name, content in before.items():
        path.with_name(name).write_bytes(content)
    with pytest.raises(StoreUnavailable, match="is another program's database"):
        Outbox.open(path, LIMITS)
    assert {name: path.with_name(name).read_bytes() for name in names} == before


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Making it could hide a volume that is not mounted."""
    with pytest.raises(StoreUnavailable, match="nowhere does not exist: create it"):
        Outbox.open(tmp_path / "nowhere" / "holdfast.db", LIMITS)


def test_a_folder_that_takes_no_files_is_named() -> None:
    """/proc is one for everybody, root included."""
    with pytest.raises(StoreUnavailable, match="/proc"):
        Outbox.open("/proc/holdfast.db", LIMITS)


def test_after_a_refused_start_the_place_is_free(path: Path) -> None:
    """The lock is let go, so that the next try can succeed."""
    path.write_text("not a database, but long enough to be taken for one")
    with pytest.raises(StoreUnavailable):
        Outbox.open(path, LIMITS)
    path.unlink()
    outbox = Outbox.open(path, LIMITS)
    assert outbox.path == path
    outbox.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (apsw.FullError("full"), "disk_full"),
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(122, "Disk quota exceeded"), "disk_full"),
        (apsw.IOError("read"), "outbox_unavailable"),
        (apsw.TooBigError("big"), "too_large"),
        (apsw.BusyError("busy"), "outbox_busy"),
        (apsw.CorruptError("corrupt"), "outbox_unavailable"),
        (apsw.ConstraintError("twice"), "outbox_unavailable"),
        (CaptureRefused("outbox_full"), "outbox_full"),
    ],
)
def test_an_error_of_the_database_becomes_the_reason_of_a_refusal(error: Exception, reason: str) -> None:
    """The token that the client gets and the metrics count."""
    assert refusal(error).reason == reason


def test_a_file_that_another_process_recovers_is_waited_for(path: Path, open_outbox: Callable[..., Outbox]) -> None:
    """Whoever looks at it first after a crash, such as the command line, keeps everybody else out for a moment."""
    open_outbox().close()
    recovering = connect(path)
    recovering.pragma("locking_mode", "exclusive")
    recovering.execute("BEGIN EXCLUSIVE; PRAGMA user_version = 1; COMMIT")
    with pytest.raises(apsw.BusyError):
        apsw.Connection(str(path)).pragma("user_version")
    done = threading.Timer(0.3, recovering.close)
    done.start()
    try:
        assert open_outbox().stats().pending == 0
    finally:
        done.join()
