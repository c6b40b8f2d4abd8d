"""Reads a SQLite write-ahead log by itself: which pages it holds, and whether a committed part of it is damaged.

SQLite takes the first frame with a wrong checksum for the end of the log. That is right after a crash, but it also
drops whole committed transactions behind one damaged frame without a word, so that is looked for here.
File format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER = 32
FRAME_HEADER = 24
_ORDERS = {0x377F0683: ">", 0x377F0682: "<"}
_NATIVE = ">" if sys.byteorder == "big" else "<"


@dataclass(frozen=True, slots=True)
class Frame:
    """One page as a transaction left it.

    `current`: of the log's present generation, not left over from before the log was begun anew. `intact`: current,
    and its checksum is right. `commit`: current, and the last of its transaction. `offset`: of the page in the log.
    """

    page: int
    current: bool
    intact: bool
    commit: bool
    offset: int


def read_frames(path: Path, page_size: int) -> list[Frame]:
    """All frames of a log, oldest first; none if there is no log."""
    if not path.is_file():
        return []
    with path.open("rb") as log:
        header = log.read(HEADER)
        if len(header) < HEADER:
            return []
        order = _ORDERS.get(int.from_bytes(header[:4]), _NATIVE)
        stored = _stored(header)
        salt = header[16:24] if _sums(order, (0, 0), header[:24]) == stored else None
        return list(_frames(log, order, salt, stored, page_size))


def _frames(log: BinaryIO, order: str, salt: bytes | None, seed: tuple[int, int], page_size: int) -> Iterator[Frame]:
    offset = HEADER + FRAME_HEADER
    while len(block := log.read(FRAME_HEADER + page_size)) == FRAME_HEADER + page_size:
        salt = salt or block[8:16]  # with a damaged header, the first frame says which generation this is
        stored = _stored(block[:FRAME_HEADER])
        current = block[8:16] == salt
        # The checksum runs on from the frame before, so each can be checked by what stands in its predecessor.
        intact = current and _sums(order, _sums(order, seed, block[:8]), block[FRAME_HEADER:]) == stored
        page, size_after = struct.unpack(">2I", block[:8])
        yield Frame(page, current, intact, current and size_after > 0, offset)
        seed = stored
        offset += len(block)


def _stored(header: bytes) -> tuple[int, int]:
    first, second = struct.unpack(">2I", header[-8:])
    return first, second


def _sums(order: str, seed: tuple[int, int], data: bytes) -> tuple[int, int]:
    first, second = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for left, right in zip(words[::2], words[1::2], strict=True):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second


def is_damaged(frames: list[Frame]) -> bool:
    """Whether SQLite would drop transactions that were committed.

    A transaction is begun only when the one before is on the disk. So a wrong frame in the last transaction is what a
    crash leaves, while a wrong frame with the end of a later transaction behind it was damaged afterwards.
    """
    wrong = next((index for index, frame in enumerate(frames) if not frame.intact), len(frames))
    own_commit = next((index for index in range(wrong, len(frames)) if frames[index].commit), len(frames))
    return any(frame.commit and frame.intact for frame in frames[own_commit + 1 :])
