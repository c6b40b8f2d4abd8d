"""One outbox file: its SQLite version, its schema, and how it is opened so that a commit is on the disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import apsw

from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox.record import ledger_checksum

APPLICATION_ID = 0x484F4C44  # "HOLD"
SCHEMA_VERSION = 1
PAGE_SIZE = 4096  # fixed, so that a file can be read page by page when nothing else in it makes sense
SQLITE_MAGIC = b"SQLite format 3\x00"
BUSY_MS = 4000  # another process (the command line) may hold the write lock this long

# What comes out of a file whose structure makes no sense, or of text in it that was overwritten.
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, UnicodeDecodeError)

SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE captures (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL, created REAL NOT NULL, key TEXT NOT NULL, route TEXT NOT NULL,
  method TEXT NOT NULL, path TEXT NOT NULL, error TEXT NOT NULL, status INTEGER, headers BLOB NOT NULL,
  checksum BLOB NOT NULL, value BLOB NOT NULL
) STRICT;
CREATE TABLE ledger (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created REAL NOT NULL, route TEXT NOT NULL, method TEXT NOT NULL,
  path TEXT NOT NULL, error TEXT NOT NULL, status INTEGER, state TEXT NOT NULL, settled REAL, size INTEGER NOT NULL,
  revision INTEGER NOT NULL, checksum BLOB NOT NULL
) STRICT;
CREATE INDEX ledger_pending ON ledger (seq) WHERE state = 'pending';
CREATE INDEX ledger_settled ON ledger (settled) WHERE state IN ('sent', 'discarded');
"""


def has_wal_reset_bug(version: str) -> bool:
    """Whether this SQLite may lose committed rows of a WAL database; such a one is not used at all."""
    numbers = tuple(int(part) for part in version.split("."))
    if (3, 44) <= numbers < (3, 45):
        return numbers < (3, 44, 6)
    if (3, 50) <= numbers < (3, 51):
        return numbers < (3, 50, 7)
    return (3, 7) <= numbers < (3, 51, 3)


def check_sqlite(version: str) -> None:
    """StoreUnavailable if the SQLite inside APSW is not to be trusted with a write-ahead log."""
    if has_wal_reset_bug(version):
        raise StoreUnavailable(
            f"APSW carries SQLite {version}, which can lose committed records: upgrade `apsw` to 3.51.3 or later"
        )


def connect(path: Path, *, create: bool = False, read_only: bool = False) -> apsw.Connection:
    """A connection with every setting that durability rests on. Raises what APSW raises."""
    check_sqlite(apsw.sqlite_lib_version())
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    if create:
        flags |= apsw.SQLITE_OPEN_CREATE
    db = apsw.Connection(str(path), flags=flags)
    try:
        db.set_busy_timeout(BUSY_MS)
        db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        _pragmas(db, {"cell_size_check": 1, "mmap_size": 0, "temp_store": "memory", "cache_size": -8192})
        if read_only:
            _pragmas(db, {"query_only": 1})
        else:
            _make_durable(db)
    except BaseException:
        db.close()
        raise
    return db


def _make_durable(db: apsw.Connection) -> None:
    db.create_scalar_function("ledger_checksum", ledger_checksum, deterministic=True)
    # The first two only act on a file that is still empty. Fullfsync is for macOS, whose fsync stops at the drive.
    _pragmas(db, {"page_size": PAGE_SIZE, "auto_vacuum": "incremental"})
    _pragmas(db, {"journal_mode": "wal", "synchronous": "full", "fullfsync": 1, "checkpoint_fullfsync": 1})
    _pragmas(db, {"journal_size_limit": 16 << 20, "wal_autocheckpoint": 1000})
    if db.pragma("journal_mode") != "wal" or db.pragma("synchronous") != 2:
        raise StoreUnavailable(f"{db.filename}: this file system cannot hold a write-ahead log; use a local one")


def _pragmas(db: apsw.Connection, settings: dict[str, str | int]) -> None:
    for name, value in settings.items():
        db.pragma(name, value)


def create_schema(db: apsw.Connection) -> None:
    with db:
        db.execute(SCHEMA)


def check_place(path: Path) -> None:
    """StoreUnavailable, with what to do, if no file can be opened or made here."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"the outbox's folder {folder} does not exist: create it, or choose another `outbox`")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(f"the outbox's folder {folder} is not writable: give this user write permission there")
    if not path.exists():
        return
    if not stat.S_ISREG(path.stat().st_mode):
        raise StoreUnavailable(f"{path} is not a file: let `outbox` name a file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"the outbox {path} is not writable: give this user read and write permission on it")


def make_private_file(path: Path) -> None:
    """An empty file that only its owner may read: requests hold secrets. SQLite gives -wal and -shm the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def sync_folder(folder: Path) -> None:
    """Make names that were created or renamed in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refusal(error: Exception, db: apsw.Connection | None = None) -> CaptureRefused:
    """The refusal that stands for what went wrong while a record was written, its cause chained."""
    if isinstance(error, CaptureRefused):
        return error
    refused = CaptureRefused(_reason(error, db), f"the capture was not stored: {error}")
    refused.__cause__ = error
    return refused


def _reason(error: Exception, db: apsw.Connection | None) -> str:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in full):
        return "disk_full"
    # SQLite reports a full disk as an I/O error where it grows the shared memory, or when the sync finds out.
    if isinstance(error, apsw.IOError) and db is not None and db.system_errno in full:
        return "disk_full"
    if isinstance(error, apsw.TooBigError):
        return "too_large"
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return "outbox_busy"
    return "outbox_unavailable"
