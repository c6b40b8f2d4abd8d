"""Opens an outbox file for writing: makes it, completes or begins a rescue, refuses what belongs to somebody else."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import apsw

from holdfast.errors import StoreUnavailable
from holdfast.outbox import wal
from holdfast.outbox.database import (
    APPLICATION_ID,
    BUSY_MS,
    DAMAGE,
    PAGE_SIZE,
    SCHEMA_VERSION,
    check_place,
    connect,
    create_schema,
    make_private_file,
    refusal,
    sync_folder,
)
from holdfast.outbox.record import CaptureRow, capture_intact
from holdfast.outbox.rescue import Rescue, finish, is_ours, rescue
from holdfast.outbox.slots import was_outbox

# A file that ends too early, or a bad sector: what can be read of it is worth more than waiting for the rest.
_UNREADABLE = (
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_CORRUPTFS,
    apsw.SQLITE_IOERR_DATA,
)
_FORMATS = (b"", b"\x01\x01", b"\x02\x02")  # nothing yet, with a rollback journal, as it begins, and with a log
_TABLES = {"captures", "ledger"}
_NO_VERSION = 50  # no format will have a higher number; what has one is garbled
_SOME_CAPTURES = """
SELECT * FROM captures WHERE seq IN ((SELECT min(seq) FROM captures), (SELECT max(seq) FROM captures))
"""
_MISSING_CAPTURE = """
SELECT EXISTS (SELECT 1 FROM ledger NOT INDEXED
    WHERE state = 'pending' AND NOT EXISTS (SELECT 1 FROM captures WHERE captures.seq = ledger.seq))
"""
# Reads the whole ledger: a row that is no longer what was written could otherwise drop out of the pending ones.
_WRONG_ROW = """
SELECT EXISTS (SELECT 1 FROM ledger NOT INDEXED WHERE checksum IS NOT ledger_checksum(
    seq, id, created, route, method, path, error, status, state, settled, size, revision))
"""


def open_database(path: Path, now: float, *, damaged: bool = False) -> tuple[apsw.Connection, Rescue | None]:
    """A sound outbox, and what was salvaged if it was not, or is known to be `damaged`. The slot's lock must be held.

    StoreUnavailable, with what to do about it, if there can be none at this place.
    """
    check_place(path)
    try:
        finish(path, now)
        if not path.exists():
            make_private_file(path)
            sync_folder(path.parent)
        elif damaged or _is_cut_short(path) or _log_is_damaged(path):
            return _rescued(path, now)
        try:
            return _checked(path), None
        except (*DAMAGE, apsw.IOError) as error:
            if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) not in _UNREADABLE:
                raise
            return _rescued(path, now)
    except (apsw.Error, OSError) as error:
        advice = "free space on its disk" if refusal(error).reason == "disk_full" else "see to its disk and its folder"
        raise StoreUnavailable(f"the outbox {path} cannot be opened ({error}): {advice}") from error


def _rescued(path: Path, now: float) -> tuple[apsw.Connection, Rescue]:
    if not was_outbox(path) and not is_ours(path):
        raise StoreUnavailable(f"{path} is not an outbox: let `outbox` name another file")
    done = rescue(path, now)
    return _checked(path), done


def _is_cut_short(path: Path) -> bool:
    """SQLite would take such a file for a new database, and write over it."""
    size = path.stat().st_size
    return size < PAGE_SIZE and (size > 0 or was_outbox(path))


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _log_is_damaged(path: Path) -> bool:
    return wal.is_damaged(wal.read_log(_log(path), PAGE_SIZE))


def _checked(path: Path) -> apsw.Connection:
    try:
        _check_owner(path)
        db = connect(path)
    except apsw.SQLError as error:
        raise apsw.CorruptError("the header makes no sense") from error
    try:
        if db.pragma("application_id") == 0:
            create_schema(db)
        _check_rows(db)
    except apsw.SQLError as error:
        db.close()
        raise apsw.CorruptError("a table is missing") from error
    except BaseException:
        db.close()
        raise
    return db


def _check_rows(db: apsw.Connection) -> None:
    """CorruptError if anything is wrong that would keep a whole record from being found.

    Values are read later, one by one: what is wrong with them costs only themselves.
    """
    if db.execute(_WRONG_ROW).get:
        raise apsw.CorruptError("a row has the wrong checksum")
    # The same for its indexes: a pending record that its index does not name would never be sent.
    if (verdict := db.execute("PRAGMA integrity_check(ledger)").get) != "ok":
        raise apsw.CorruptError(f"the ledger is not sound: {verdict}")
    if db.execute(_MISSING_CAPTURE).get:
        raise apsw.CorruptError("a record is missing")
    # A tree may be sound, and the wrong one.
    if not all(capture_intact(cast(CaptureRow, row)) for row in db.execute(_SOME_CAPTURES).fetchall()):
        raise apsw.CorruptError("the records make no sense")


def _format(path: Path) -> bytes:
    """The two bytes of the header that say who may write: a wrong one makes the file read-only for SQLite."""
    with path.open("rb") as file:
        return file.read(20)[18:]


def _check_owner(path: Path) -> None:
    """StoreUnavailable if the file is somebody else's: before anything is written to it."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        db.set_busy_timeout(BUSY_MS)  # whoever looks at it first after a crash keeps all others out for a moment
        owner, version = db.pragma("application_id"), db.pragma("user_version")
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema").fetchall()}
        makes_sense = _format(path) in _FORMATS
        is_new = not names and owner == 0 and path.stat().st_size <= PAGE_SIZE and makes_sense
        if owner == APPLICATION_ID and (not names or not makes_sense or version > _NO_VERSION):
            raise apsw.CorruptError("the header is overwritten")
        if owner != APPLICATION_ID and not is_new:
            if was_outbox(path) or names >= _TABLES:
                raise apsw.CorruptError("the header is overwritten")
            raise StoreUnavailable(f"{path} is another program's database: let `outbox` name another file")
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(f"{path} was written by a newer Holdfast (format {version}): upgrade this one")
        if names and db.pragma("page_size") != PAGE_SIZE:
            raise StoreUnavailable(f"{path} has pages of another size than an outbox: let `outbox` name another file")
    finally:
        if _log(path).exists() and _log(path).stat().st_size:
            # A damaged outbox's is for the rescue to read, another program's is not our affair; an empty one can go.
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.close()
