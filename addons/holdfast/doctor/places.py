"""The folders and files that are written to: outbox, audit, spooled bodies, a broker's file.

Nothing is written to find out: the kernel is asked what may be written, of what kind the file system is and how much
room it has, and a database is read as it lies there.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import apsw

from holdfast.audit.opening import file_of
from holdfast.audit.sqlite_file import APPLICATION_ID as AUDIT_ID
from holdfast.brokers.file import FileBroker
from holdfast.doctor.case import Case
from holdfast.doctor.finding import Finding, Job
from holdfast.errors import StoreUnavailable
from holdfast.outbox import wal
from holdfast.outbox.database import APPLICATION_ID, PAGE_SIZE, SQLITE_MAGIC, check_place, check_sqlite, sync_folder
from holdfast.profile.values import Size

_LITTLE = 16 << 20  # bytes; a record may be as large
_READ_WHOLE = 256 << 20  # a larger database is only looked at, not read from end to end
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "virtiofs"}
_VOLATILE = {"tmpfs", "ramfs", "devtmpfs"}
_LAYERS = {"overlay", "aufs"}


def jobs(case: Case) -> list[Job]:
    made = [Job("sqlite", lambda: [_sqlite(apsw.sqlite_lib_version())])]
    for sink in case.settings("failure_sink"):
        outbox = Path(sink.outbox)
        made.append(Job("outbox", partial(_database, "outbox", outbox, APPLICATION_ID, int(sink.max_bytes))))
        if sink.spool:
            folder = Path(sink.spool.folder or outbox.parent)
            made.append(Job("spool", partial(_room, "spool", folder, int(sink.spool.max_total))))
        if sink.broker.startswith("file://"):
            file = FileBroker(sink.broker.removeprefix("file://"), sink.topic).path
            made.append(Job("broker file", partial(_room, "broker file", file.parent, _LITTLE)))
    for understudy in case.settings("understudy"):
        made.append(Job("understudy", partial(_recordings, Path(understudy.folder))))
    for replayer in case.settings("replayer"):
        if found := file_of(replayer.audit):
            made.append(Job("audit", partial(_database, "audit", found, AUDIT_ID, _LITTLE)))
    return made


def _sqlite(version: str) -> Finding:
    try:
        check_sqlite(version)
    except StoreUnavailable as error:
        told, _, advice = str(error).rpartition(": ")
        return Finding("sqlite", "failing", told, advice)
    return Finding("sqlite", "ok", f"{version}, which keeps what it has committed")


def _room(name: str, folder: Path, room: int) -> list[Finding]:
    return [_folder(name, folder, room)]


def _recordings(folder: Path) -> list[Finding]:
    """They need not survive anything, and are bounded: that they can be written is all."""
    found = _folder("understudy", folder, 0)
    return [found if found.status == "failing" else Finding("understudy", "ok", f"{folder}: {found.found}")]


def _database(name: str, path: Path, owner: int, room: int) -> list[Finding]:
    """An SQLite file and the folder that it lies in, or will."""
    if path.parent.is_dir():
        if refused := _if_read_only(name, path.parent):
            return [refused]
        try:
            check_place(path)
        except StoreUnavailable as error:
            told, _, advice = str(error).replace("outbox", name).rpartition(": ")
            return [Finding(name, "failing", told, advice)]
    used = path.stat().st_size if path.is_file() else 0
    if used and (problem := _why_unsound(path, owner)):
        return [Finding(name, "failing", f"{path} {problem[0]}", problem[1])]
    folder = _folder(name, path.parent, max(0, room - used))
    kept = f"{path}, {Size(used >> 10 << 10)} so far; " if used else f"{path}, not made yet; "
    return [Finding(name, folder.status, kept + folder.found, folder.advice)]


def _folder(name: str, folder: Path, room: int) -> Finding:
    """A folder that is there or will be made; `room` is how many bytes it may have to take."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        return Finding(name, "failing", f"{there} is no folder", f"move it away, or choose another place for {name}")
    if refused := _if_read_only(name, there):
        return refused
    if not os.access(there, os.W_OK | os.X_OK):
        told = f"the folder {there} is not writable by this user ({os.geteuid()})"
        return Finding(name, "failing", told, f"give it write permission there, or choose another place for {name}")
    if refusal := _why_no_promise(there):
        advice = f"choose another place for {name}, on a local disk"
        return Finding(name, "failing", f"the file system of {there} {refusal}", advice)
    kind = file_system(there)
    free = os.statvfs(there)
    left = free.f_bavail * free.f_frsize
    told = f"{_rounded(left)} free on {kind or 'its file system'}"
    if left < _LITTLE:
        return Finding(name, "failing", f"{told}: captures are refused when it is full", "free space there")
    if kind in _VOLATILE:
        advice = "choose a folder on a disk: what is captured has to survive a power cut"
        return Finding(name, "warning", f"{told}, which is memory: a restart of the machine empties it", advice)
    if kind in _LAYERS:
        advice = "mount a volume there: what is captured has to survive the container"
        return Finding(name, "warning", f"{told}, a container's own layer, which goes when the container does", advice)
    if kind in _NETWORK or kind.startswith("fuse."):
        advice = "choose a local disk: locks and flushes of SQLite cannot be relied on over a network"
        return Finding(name, "warning", f"{told}, which is not a local disk", advice)
    if left < room:
        told = f"{told}, and it may grow by {_rounded(room)}"
        return Finding(name, "warning", told, "free space there, or lower its bound in the profile")
    return Finding(name, "ok", told)


def _if_read_only(name: str, folder: Path) -> Finding | None:
    """No permission helps there."""
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        return None
    advice = f"mount it writable, or a volume there, or choose another place for {name}"
    return Finding(name, "failing", f"the folder {folder} is on a read-only file system", advice)


def _why_no_promise(folder: Path) -> str:
    """Why what is written there is not safe. A flush and a shared lock on the folder itself change nothing."""
    try:
        sync_folder(folder)
    except OSError as error:
        return f"refuses to flush ({error.strerror})"
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return "" if error.errno == errno.EWOULDBLOCK else f"refuses locks ({error.strerror})"
    finally:
        os.close(handle)
    return ""


def _why_unsound(path: Path, owner: int) -> tuple[str, str] | None:
    """(what is wrong with the database, what to do). Read without a lock and without SQLite's side files."""
    mends = "the gateway salvages what it can when it starts; keep a copy of the file before that"
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(SQLITE_MAGIC):
        return (
            "is no SQLite database, or its beginning is overwritten",
            f"choose another file, or move it away; {mends}",
        )
    found = int.from_bytes(header[68:72])
    if found not in (owner, 0):
        return "is another program's database", "choose another file"
    log = path.with_name(path.name + "-wal")
    if log.exists():  # somebody has it open, or had when it crashed: it is not all there without the log
        damaged = wal.is_damaged(wal.read_log(log, PAGE_SIZE))
        return ("has a damaged write-ahead log", mends) if damaged else None
    if path.stat().st_size > _READ_WHOLE:
        return None
    verdict = _verdict(path)
    return None if verdict == "ok" else (f"is damaged: {verdict}", mends)


def _verdict(path: Path) -> str:
    try:
        uri = f"{path.absolute().as_uri()}?immutable=1"  # makes no files beside it, and waits for nobody
        db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            return str(db.execute("PRAGMA quick_check(1)").get)
        finally:
            db.close()
    except apsw.Error as error:
        return str(error)


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind that holds this path, such as ext4; empty if nobody says."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    kinds: Mapping[str, str] = {
        words[4].encode().decode("unicode_escape"): words[words.index("-") + 1] for words in map(str.split, lines)
    }
    resolved = path.resolve()
    return next((kinds[str(each)] for each in (resolved, *resolved.parents) if str(each) in kinds), "")


def _rounded(size: int) -> str:
    return f"{size >> 30}GiB" if size >= 10 << 30 else str(Size(size >> 20 << 20))
