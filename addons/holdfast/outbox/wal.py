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
    and its salt and its checksum are right. `commit`: current, and the last of its transaction. `offset`: of the page
    in the log.
    """

    page: int
    current: bool
    intact: bool
    commit: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Log:
    """All frames of a log, oldest first. Where the header is not `sound`, SQLite ignores every one of them."""

    frames: list[Frame]
    sound: bool


def read_log(path: Path, page_size: int) -> Log:
    """What is in a log; without frames if there is none."""
    if not path.is_file():
        return Log([], sound=True)
    with path.open("rb") as log:
        header = log.read(HEADER)
        if len(header) < HEADER:
            return Log([], sound=not header)
        seed = _stored(header)
        order = _ORDERS.get(int.from_bytes(header[:4]))
        if order and _sums(order, (0, 0), header[:24]) == seed:
            return Log(list(_frames(log, order, header[16:24], seed, page_size)), sound=True)
        # Any of its bytes may be the wrong one, so nothing of it is believed but that this machine wrote it.
        salt = _generation(log, seed, page_size)
        log.seek(HEADER)
        return Log(list(_frames(log, _NATIVE, salt, seed, page_size)), sound=False)


def _blocks(log: BinaryIO, page_size: int) -> Iterator[bytes]:
    while len(block := log.read(FRAME_HEADER + page_size)) == FRAME_HEADER + page_size:
        yield block


def _frames(log: BinaryIO, order: str, salt: bytes, seed: tuple[int, int], page_size: int) -> Iterator[Frame]:
    current = False
    for index, block in enumerate(_blocks(log, page_size)):
        salted = block[8:16] == salt
        # The checksum runs on from the frame before, so each can be checked by what stands in its predecessor. It
        # leaves the salt out: a frame that goes on from a current one is of the same generation, whatever its salt.
        follows = (salted or current) and _is_intact(order, seed, block)
        current = salted or follows
        page, size_after = struct.unpack(">2I", block[:8])
        offset = HEADER + index * len(block) + FRAME_HEADER
        yield Frame(page, current, salted and follows, current and size_after > 0, offset)
        seed = _stored(block[:FRAME_HEADER])


def _generation(log: BinaryIO, seed: tuple[int, int], page_size: int) -> bytes:
    """The salt of the present generation, by the first frame that is whole: it stands before what older ones left."""
    for block in _blocks(log, page_size):
        if _is_intact(_NATIVE, seed, block):
            return block[8:16]
        seed = _stored(block[:FRAME_HEADER])
    return b""


def _is_intact(order: str, seed: tuple[int, int], block: bytes) -> bool:
    """Whether a frame has the right checksum and is of a page; zeros have the sum of zeros, and there is no page 0."""
    right = _sums(order, _sums(order, seed, block[:8]), block[FRAME_HEADER:]) == _stored(block[:FRAME_HEADER])
    return right and any(block[:4])


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


def is_damaged(log: Log) -> bool:
    """Whether SQLite would drop transactions that were committed.

    A transaction is begun only when the one before is on the disk, and the first only when the header is. So a wrong
    frame in the last transaction is what a crash leaves, while a wrong frame with the end of a later transaction
    behind it was damaged afterwards, and so was a wrong header with the end of any transaction behind it.
    """
    frames, own_commit = log.frames, -1
    if log.sound:
        wrong = next((index for index, frame in enumerate(frames) if not frame.intact), len(frames))
        own_commit = next((index for index in range(wrong, len(frames)) if frames[index].commit), len(frames))
    return any(frame.commit and frame.intact for frame in frames[own_commit + 1 :])
