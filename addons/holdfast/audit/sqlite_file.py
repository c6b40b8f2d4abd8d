"""The audit's SQLite file: its tables, step by step, and how it is opened so that a commit is on the disk."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import apsw

from holdfast.errors import StoreUnavailable
from holdfast.outbox.database import DAMAGE, SQLITE_MAGIC, check_sqlite, make_private_file, sync_folder

APPLICATION_ID = 0x484F4C41  # "HOLA": not an outbox
BUSY_MS = 4000  # another process (the command line) may hold the write lock this long

# Once published a step is never changed: a file is as many steps along as its `user_version` says.
STEPS = (
    """
CREATE TABLE captures (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, lane INTEGER NOT NULL, key TEXT NOT NULL, route TEXT NOT NULL,
  method TEXT NOT NULL, path TEXT NOT NULL, error TEXT NOT NULL, captured REAL NOT NULL, arrived REAL NOT NULL,
  status INTEGER, traceparent TEXT NOT NULL, redrive INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'open',
  reason TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL,
  place TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL, claim_until REAL NOT NULL, last_status INTEGER, last_error TEXT,
  settled_at REAL
) STRICT;
CREATE INDEX captures_open ON captures (lane, seq) WHERE state = 'open';
CREATE INDEX captures_claimed ON captures (lane) WHERE state = 'open' AND claim_until > 0;
CREATE INDEX captures_due ON captures (due) WHERE state = 'open';
CREATE INDEX captures_captured ON captures (captured, seq);
CREATE INDEX captures_state ON captures (state, captured, seq);
CREATE INDEX captures_route ON captures (route, captured, seq);
CREATE INDEX captures_key ON captures (lane, captured, seq);
CREATE TABLE processed_events (
  event_id TEXT PRIMARY KEY REFERENCES captures (id) ON DELETE CASCADE, outcome TEXT NOT NULL, reason TEXT NOT NULL,
  processed_at REAL NOT NULL, attempts INTEGER NOT NULL, status INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX processed_events_at ON processed_events (processed_at);
CREATE TABLE audit_log (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
  owner TEXT NOT NULL, server TEXT NOT NULL, error TEXT, status INTEGER, duration_ms REAL NOT NULL,
  headers TEXT NOT NULL, body BLOB NOT NULL, body_truncated INTEGER NOT NULL, traceparent TEXT NOT NULL,
  outcome TEXT NOT NULL, reason TEXT NOT NULL, effective INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_log_event ON audit_log (event_id, sequence);
CREATE TABLE dead_letters (
  event_id TEXT PRIMARY KEY REFERENCES captures (id) ON DELETE CASCADE, message_key TEXT NOT NULL, value BLOB NOT NULL,
  headers TEXT NOT NULL
) STRICT;
""",
    # No reference to `captures`: what waits to be posted stays when its capture is pruned.
    """
CREATE TABLE callbacks (
  id INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, redrive INTEGER NOT NULL, url TEXT NOT NULL,
  document BLOB NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL,
  last_error TEXT, UNIQUE (event_id, redrive)
) STRICT;
CREATE INDEX callbacks_due ON callbacks (due, id) WHERE state = 'waiting';
CREATE INDEX callbacks_given_up ON callbacks (event_id) WHERE state = 'given_up';
""",
)


def open_file(path: Path, *, create: bool) -> apsw.Connection:
    """A connection to the audit of this path, its tables of the newest form. StoreUnavailable, with what to do."""
    check_sqlite(apsw.sqlite_lib_version())
    _check_place(path, create=create)
    try:
        if not path.exists():
            make_private_file(path)
            sync_folder(path.parent)
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(BUSY_MS)
            _check_owner(db, path)
            _make_durable(db, path)
            _migrate(db)
        except BaseException:
            db.close()
            raise
    except (apsw.Error, OSError, UnicodeDecodeError) as error:
        raise unavailable(error, path) from error
    return db


def _check_place(path: Path, *, create: bool) -> None:
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StoreUnavailable(f"the folder {folder} of the audit does not exist: create it, or choose another `audit`")
    if not path.exists():
        if not create:
            raise StoreUnavailable(f"the audit {path} is gone: put it back, or restart to begin a new one")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the audit's folder {folder} is not writable: give this user permission there")
        return
    if not stat.S_ISREG(path.stat().st_mode):
        raise StoreUnavailable(f"{path} is not a file: let `audit` name a file")
    if not os.access(path, os.R_OK | os.W_OK) or not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"the audit {path} is not writable: give this user read and write permission on it and on its folder"
        )
    with path.open("rb") as file:
        begin = file.read(len(SQLITE_MAGIC))
    if begin not in (b"", SQLITE_MAGIC):  # of a short file SQLite would make a new database
        raise StoreUnavailable(f"{path} is not a database: let `audit` name another file")


def _check_owner(db: apsw.Connection, path: Path) -> None:
    """Before anything is written to it."""
    with db:  # one moment for all that is looked at: another process may be making the tables
        owner, version = db.pragma("application_id"), db.pragma("user_version")
        is_empty = not db.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema)").get
    if owner != APPLICATION_ID and not (is_empty and owner == 0 and version == 0):
        raise StoreUnavailable(f"{path} is another program's database: let `audit` name another file")
    if version > len(STEPS):
        raise StoreUnavailable(f"{path} was written by a newer Holdfast (format {version}): upgrade this one")


def _make_durable(db: apsw.Connection, path: Path) -> None:
    settings: dict[str, str | int] = {"journal_mode": "wal", "synchronous": "full", "foreign_keys": 1}
    settings |= {"fullfsync": 1, "checkpoint_fullfsync": 1}  # for macOS, whose fsync stops at the drive
    settings |= {"mmap_size": 0, "temp_store": "memory", "cache_size": -32768, "journal_size_limit": 64 << 20}
    for name, value in settings.items():
        db.pragma(name, value)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    if db.pragma("journal_mode") != "wal" or db.pragma("synchronous") != 2:
        raise StoreUnavailable(f"{path}: this file system cannot hold a write-ahead log; use a local one")


def _migrate(db: apsw.Connection) -> None:
    if db.pragma("user_version") == len(STEPS):
        return
    db.execute("BEGIN IMMEDIATE")  # of several processes that start at once, one does it
    try:
        for number in range(db.pragma("user_version"), len(STEPS)):
            db.execute(STEPS[number])
            db.pragma("user_version", number + 1)
        db.pragma("application_id", APPLICATION_ID)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def unavailable(error: Exception, path: Path, db: apsw.Connection | None = None) -> StoreUnavailable:
    """What to say, and what to do, for an error of SQLite or of the system; the cause is for the caller to chain."""
    number = error.errno if isinstance(error, OSError) else db.system_errno if db and _is_io(error) else 0
    if isinstance(error, apsw.FullError) or number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreUnavailable(f"the disk of the audit {path} is full: free space on it")
    if isinstance(error, apsw.NotADBError):
        return StoreUnavailable(f"{path} is not a database: let `audit` name another file")
    if isinstance(error, DAMAGE):
        return StoreUnavailable(
            f"the audit {path} is damaged ({error}): put a copy back, or move it away and restart to begin a new one"
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreUnavailable(f"the audit {path} is locked by another process for too long: see what has it open")
    if isinstance(error, apsw.ReadOnlyError) or number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreUnavailable(f"the audit {path} cannot be written: give this user write permission there")
    return StoreUnavailable(f"the audit {path} cannot be used ({error}): see to its disk and its folder")


def _is_io(error: Exception) -> bool:
    return isinstance(error, apsw.IOError | apsw.CantOpenError)
