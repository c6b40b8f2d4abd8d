"""Begins a damaged outbox anew: the old file is put aside, and what is whole in it is carried over.

1. The rows are carved out of the old file into `<name>.salvaging`, which is thrown away if this stops half-way.
2. It becomes `<name>.salvaged`: from here on the move is certain, and `finish` completes it after a crash.
3. The old -wal, -shm, -journal and database get `.corrupt-<time>` names, in this order: an old log beside a new
   database would be replayed into it.
4. The salvaged file takes the database's name.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

import apsw

from holdfast.errors import StoreUnavailable
from holdfast.outbox import carve
from holdfast.outbox.database import (
    APPLICATION_ID,
    SQLITE_MAGIC,
    connect,
    create_schema,
    make_private_file,
    sync_folder,
)
from holdfast.outbox.record import from_capture, ledger_row

log = logging.getLogger(__name__)
_ROWS_AT_ONCE = 500

_PUT_CAPTURE = "INSERT OR IGNORE INTO captures VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
# A state is right if it is of the newest revision found; revision 0 stands for a row whose state was not found.
_PUT_LEDGER = """
INSERT OR IGNORE INTO ledger VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (seq) DO UPDATE
SET state = excluded.state, settled = excluded.settled, size = excluded.size, revision = excluded.revision,
    checksum = excluded.checksum
WHERE excluded.revision > ledger.revision AND excluded.id = ledger.id
"""
# Of a settled record nothing is missed. One that was to be sent stays as a sign, in quarantine, that its value is lost.
_DROP_SETTLED = """
DELETE FROM ledger WHERE state IN ('sent', 'discarded') AND NOT EXISTS (SELECT 1 FROM captures c WHERE c.seq=ledger.seq)
"""
_KEEP_LOST = """
UPDATE ledger SET state = 'quarantined', revision = revision + 1, checksum = ledger_checksum(seq, id, created, route,
    method, path, error, status, 'quarantined', settled, size, revision + 1)
WHERE NOT EXISTS (SELECT 1 FROM captures c WHERE c.seq = ledger.seq)
"""


@dataclass(frozen=True, slots=True)
class Rescue:
    """What came of it: records carried over, records known to be lost, where the damaged file is now."""

    saved: int
    lost: int
    aside: Path


def is_ours(path: Path) -> bool:
    """Whether the file was an outbox, as far as its header still tells, or a row of one is found in it."""
    with path.open("rb") as file:
        header = file.read(100)
    if header.startswith(SQLITE_MAGIC) and header[68:72] == APPLICATION_ID.to_bytes(4):
        return True
    pages = carve.Pages(path)
    try:
        return next(carve.captures(pages), None) is not None
    finally:
        pages.close()


def rescue(path: Path, now: float) -> Rescue:
    """Put the damaged file aside and leave a sound one with all its whole records in its place.

    StoreUnavailable if the copy cannot be written; the damaged file then stays as it is.
    """
    log.warning("outbox is damaged, salvaging", extra={"file": str(path)})
    salvaging, salvaged = _beside(path, ".salvaging"), _beside(path, ".salvaged")
    _forget(salvaging)
    try:
        saved, lost = _copy(path, salvaging)
        os.rename(salvaging, salvaged)
        sync_folder(path.parent)
        aside = finish(path, now)
    except (apsw.Error, OSError) as error:
        raise StoreUnavailable(
            f"the outbox {path} is damaged and its records could not be copied to a new file ({error}): "
            f"free space in {path.parent}, or move the file away to begin with an empty one"
        ) from error
    log.warning(
        "outbox was damaged and begun anew, some captures may be lost",
        extra={"file": str(path), "saved": saved, "known_lost": lost, "damaged_file": str(aside)},
    )
    return Rescue(saved, lost, aside)


def finish(path: Path, now: float) -> Path:
    """Complete a rescue that came as far as its second step; does nothing if there is none."""
    salvaged = _beside(path, ".salvaged")
    aside = _free_name(path, f".corrupt-{int(now)}")
    if salvaged.exists():
        for suffix in ("-wal", "-shm", "-journal", ""):
            old = _beside(path, suffix)
            if old.exists():
                os.rename(old, _beside(aside, suffix))
        os.rename(salvaged, path)
        sync_folder(path.parent)
    return aside


def _copy(path: Path, target: Path) -> tuple[int, int]:
    make_private_file(target)
    pages = carve.Pages(path)
    db = connect(target)
    try:
        create_schema(db)
        _copy_captures(pages, db)
        _copy_ledger(pages, db)
        with db:
            db.execute(_DROP_SETTLED)
            db.execute(_KEEP_LOST)
            lost = db.changes()
            saved: int = db.execute("SELECT count(*) FROM captures").get
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
        pages.close()
    return saved, lost


def _copy_captures(pages: carve.Pages, db: apsw.Connection) -> None:
    for batch in batched(carve.captures(pages), _ROWS_AT_ONCE):
        with db:
            for row in batch:
                db.execute(_PUT_CAPTURE, row)
                record = from_capture(row)
                db.execute(_PUT_LEDGER, ledger_row(record, record.seq, record.size, revision=0))


def _copy_ledger(pages: carve.Pages, db: apsw.Connection) -> None:
    for batch in batched(carve.ledger(pages), _ROWS_AT_ONCE):
        with db:
            db.executemany(_PUT_LEDGER, batch)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _free_name(path: Path, suffix: str) -> Path:
    name, count = _beside(path, suffix), 1
    while name.exists():
        name, count = _beside(path, f"{suffix}-{count}"), count + 1
    return name


def _forget(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal", ""):
        _beside(path, suffix).unlink(missing_ok=True)
