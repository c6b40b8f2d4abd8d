"""One database file for each process: `holdfast.db`, and for further processes `holdfast.1.db`, `holdfast.2.db`, ...

A slot belongs to whoever holds the lock on `<file>.lock`, for life; the kernel lets go of it when the process ends,
however it ends. Lock files are never deleted: a second process could otherwise lock a file that has no name any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from holdfast.errors import StoreUnavailable

_MOST = 1024


class Slot:
    """A locked slot. `path` is its database."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle

    def mark(self) -> None:
        """Note, for people and for `was_outbox`, whose file this is."""
        text = f"outbox {self.path.name}, last opened by process {os.getpid()}\n".encode()
        with contextlib.suppress(OSError):  # on a full disk it has to do without
            os.pwrite(self._handle, text, 0)
            os.ftruncate(self._handle, len(text))

    def release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def slot_path(path: Path, number: int) -> Path:
    """The database of a slot: number 0 has the name that was asked for."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}") if number else path


def lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def was_outbox(database: Path) -> bool:
    """Whether an outbox was opened under this name before."""
    try:
        return lock_path(database).stat().st_size > 0
    except OSError:
        return False


def try_lock(database: Path) -> Slot | None:
    """The slot of this database, or None if it is somebody's. StoreUnavailable if it cannot be locked at all."""
    lock = lock_path(database)
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the lock {lock} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise StoreUnavailable(f"{lock} cannot be locked ({error.strerror}): use a local file system") from error
    return Slot(database, handle)


def claim(path: Path) -> Slot:
    """The first slot that is nobody's."""
    for number in range(_MOST):
        if slot := try_lock(slot_path(path, number)):
            return slot
    raise StoreUnavailable(f"all {_MOST} slots of the outbox {path} are taken by running processes")


def existing(path: Path) -> list[Path]:
    """The databases of all slots, in the order of their numbers."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d{{1,4}}){re.escape(path.suffix)}")
    numbers = {0: path} if path.exists() else {}
    for each in path.parent.glob("*") if path.parent.is_dir() else ():
        if match := pattern.fullmatch(each.name):
            numbers[int(match[1])] = each
    return [numbers[number] for number in sorted(numbers)]


def leftovers(path: Path, wanted: Callable[[Path], bool]) -> Iterator[Slot]:
    """Locks, one after another, the slots whose process is gone. Whoever iterates keeps or releases each."""
    for database in existing(path):
        if lock_path(database).exists() and wanted(database) and (slot := try_lock(database)):
            yield slot
