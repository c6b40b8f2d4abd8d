"""Bodies that are too large to hold, kept on disk while they are passed on, so that a failed request can be captured.

A body is written beside the upload and thrown away as soon as the upstream has answered. The files have no name:
whatever ends the process, nothing is left behind. They need no fsync: what makes a capture durable is the outbox.
"""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import MutableMapping
from io import FileIO
from pathlib import Path

logger = logging.getLogger(__name__)


class SpoolRoom:
    """The disk space for all bodies: at most `max_body` bytes each and `max_total` bytes together, in `folder`."""

    def __init__(self, folder: Path, max_body: int, max_total: int) -> None:
        self.used = 0
        self._open: MutableMapping[str, Spool] = weakref.WeakValueDictionary()
        self.follow(folder, max_body, max_total)

    def follow(self, folder: Path, max_body: int, max_total: int) -> None:
        """These hold from now on; what is there already stays where it is."""
        self._folder = folder
        self._max_body = max_body
        self._max_total = max_total

    def could_take(self, size: int) -> bool:
        """Whether a body of so many bytes is within the bound of one."""
        return size <= self._max_body

    def open(self, flow_id: str) -> Spool | None:
        """A spool for the body of this flow; None if the disk does not take one."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            spool = Spool(self)
        except OSError as e:
            logger.warning("body not spooled", extra={"error": str(e)})
            return None
        self._open[flow_id] = spool
        return spool

    def of(self, flow_id: str) -> Spool | None:
        """The spool of this flow, if it has one that holds the whole body."""
        spool = self._open.get(flow_id)
        return spool if spool and spool.good and spool.whole else None

    def _make_file(self) -> FileIO:
        return tempfile.TemporaryFile(dir=self._folder, buffering=0)

    def _take(self, size: int, spool: Spool) -> bool:
        if spool.size + size > self._max_body or self.used + size > self._max_total:
            return False
        self.used += size
        return True


class Spool:
    """One body. It is `good` until a piece of it could not be kept; then nothing of it is.

    `whole`: its end has come.
    """

    def __init__(self, room: SpoolRoom) -> None:
        self.size = 0
        self.good = True
        self.whole = False
        self._room = room
        self._file = room._make_file()

    def write(self, data: bytes) -> bool:
        """Keep a piece; False once the body is larger than allowed or the disk is full."""
        if self.good and self._room._take(len(data), self):
            self.size += len(data)
            try:
                self._write_all(data)
            except OSError as e:
                logger.warning("body not spooled", extra={"error": str(e)})
                self.close()
        else:
            self.close()
        return self.good

    def read(self) -> bytes:
        """All of it. OSError if the disk fails."""
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Give the space back; more than once does no harm."""
        self._room.used -= self.size
        self.size, self.good = 0, False
        self._file.close()

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def __del__(self) -> None:
        self._room.used -= self.size
