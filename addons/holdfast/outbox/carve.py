"""Finds the outbox's rows in a damaged file, page by page, without trusting anything that SQLite would need.

Every page that looks like a leaf of a table is read cell by cell; what comes out is checked by the rows' own
checksums, so a wrong guess costs time and nothing else. File format: https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from holdfast.outbox.database import PAGE_SIZE
from holdfast.outbox.record import CaptureRow, LedgerRow, capture_intact, ledger_intact
from holdfast.outbox.wal import read_log

type Value = int | float | str | bytes | None

_LEAF = 0x0D  # a leaf page of a table
_POINTERS_PER_MAP = PAGE_SIZE // 5
_FREE = 2  # the pointer map's word for a page that is not in use
_CAPTURE_COLUMNS, _LEDGER_COLUMNS = 12, 13


class Pages:
    """The pages of a database and of its log; number 1 is the first."""

    def __init__(self, path: Path) -> None:
        log = path.with_name(path.name + "-wal")
        self._frames = [frame for frame in read_log(log, PAGE_SIZE).frames if frame.current]
        self._latest = {frame.page: frame.offset for frame in self._frames}
        self.count = -(-path.stat().st_size // PAGE_SIZE)
        self.bytes = (self.count + len(self._frames)) * PAGE_SIZE
        self._database = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC) if self._frames else -1

    def close(self) -> None:
        os.close(self._database)
        if self._frames:
            os.close(self._log)

    def latest(self, number: int) -> bytes:
        """The page as the last transaction left it; short or empty where the file ends."""
        offset = self._latest.get(number)
        return self._from_file(number) if offset is None else os.pread(self._log, PAGE_SIZE, offset)

    def images(self) -> Iterator[tuple[int, bytes]]:
        """Every version there is of every page: what the newest one lost, an older one may still have."""
        for number in range(1, self.count + 1):
            yield number, self._from_file(number)
        for frame in self._frames:
            yield frame.page, os.pread(self._log, PAGE_SIZE, frame.offset)

    def is_free(self, number: int) -> bool:
        """Whether the pointer map calls the page unused: what stands in it was deleted."""
        index = (number - 2) % (_POINTERS_PER_MAP + 1)
        entry = self.latest(number - index)[(index - 1) * 5 :][:5] if number > 2 and index else b""
        return entry == bytes((_FREE, 0, 0, 0, 0))

    def _from_file(self, number: int) -> bytes:
        try:
            return os.pread(self._database, PAGE_SIZE, (number - 1) * PAGE_SIZE)
        except OSError:  # a bad sector costs its own page only
            return b""


def captures(pages: Pages) -> Iterator[CaptureRow]:
    """Intact rows of `captures`; one may come more than once."""
    for seq, values in _rows(pages, _CAPTURE_COLUMNS):
        row = cast(CaptureRow, (seq, values[1], _real(values[2]), *values[3:]))
        if _is_text(*row[3:8], row[1]) and all(isinstance(each, bytes) for each in row[9:]) and capture_intact(row):
            yield row


def ledger(pages: Pages) -> Iterator[LedgerRow]:
    """Intact rows of `ledger`; one may come more than once, in several revisions."""
    for seq, values in _rows(pages, _LEDGER_COLUMNS):
        row = (seq, values[1], _real(values[2]), *values[3:9], _real(values[9]), *values[10:])
        whole = cast(LedgerRow, row)
        if _is_text(*row[3:7], row[1], row[8]) and ledger_intact(whole):
            yield whole


def _real(value: Value) -> Value:
    return float(value) if isinstance(value, int) else value  # SQLite stores a whole real number as an integer


def _is_text(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


def _rows(pages: Pages, columns: int) -> Iterator[tuple[int, list[Value]]]:
    for number, page in pages.images():
        start = 100 if number == 1 else 0
        if len(page) <= start + 8 or page[start] != _LEAF or pages.is_free(number):
            continue
        count = int.from_bytes(page[start + 3 : start + 5])
        pointers = page[start + 8 : start + 8 + 2 * count]  # fewer than it says, where the file is cut off
        for index in range(0, len(pointers) - 1, 2):
            try:
                seq, payload = _cell(pages, page, int.from_bytes(pointers[index : index + 2]), columns)
                yield seq, _decode(payload, columns)
            except (ValueError, IndexError, struct.error):
                continue  # not a cell, or a broken one


def _cell(pages: Pages, page: bytes, offset: int, columns: int) -> tuple[int, bytes]:
    """The row id of a cell and its payload, put together from the overflow pages. ValueError if it makes no sense."""
    length, offset = _varint(page, offset)
    seq, offset = _varint(page, offset)
    local = _local(length)
    payload = page[offset : offset + local]
    if not 0 < length <= pages.bytes or len(payload) < local or len(_serials(payload)[0]) != columns:
        raise ValueError("not one of our cells")
    if local == length:
        return seq, payload
    parts = [payload]
    following, missing = int.from_bytes(page[offset + local : offset + local + 4]), length - local
    while missing > 0:
        more = pages.latest(following) if following else b""
        parts.append(more[4 : 4 + missing])
        if not parts[-1]:
            raise ValueError("the chain of pages is cut")
        missing -= len(parts[-1])
        following = int.from_bytes(more[:4])
    return seq, b"".join(parts)


def _local(length: int) -> int:
    """How much of a payload is in the leaf itself (section 1.6 of the format, table leaves)."""
    largest, least = PAGE_SIZE - 35, (PAGE_SIZE - 12) * 32 // 255 - 23
    if length <= largest:
        return length
    wanted = least + (length - least) % (PAGE_SIZE - 4)
    return wanted if wanted <= largest else least


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    value = value << 8 | data[offset + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, offset + 9


def _serials(payload: bytes) -> tuple[list[int], int]:
    """The types of a row's columns, and where its contents begin."""
    end, offset = _varint(payload, 0)
    types = []
    while offset < end:
        kind, offset = _varint(payload, offset)
        types.append(kind)
    return types, end


_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _decode(payload: bytes, columns: int) -> list[Value]:
    kinds, offset = _serials(payload)
    if len(kinds) != columns:
        raise ValueError("another table's row")
    values = []
    for kind in kinds:
        value, offset = _value(kind, payload, offset)
        values.append(value)
    if offset != len(payload):
        raise ValueError("the row has another length than it says")
    return values


def _value(kind: int, payload: bytes, offset: int) -> tuple[Value, int]:
    if kind in _INTEGERS:
        end = offset + _INTEGERS[kind]
        return int.from_bytes(payload[offset:end], signed=True), end
    if kind == 7:
        return struct.unpack_from(">d", payload, offset)[0], offset + 8
    if kind >= 12:
        end = offset + (kind - 12) // 2
        raw = payload[offset:end]
        return (raw.decode() if kind % 2 else raw), end
    if kind in (8, 9):
        return kind - 8, offset
    if kind == 0:
        return None, offset
    raise ValueError("a kind of value that does not exist")
