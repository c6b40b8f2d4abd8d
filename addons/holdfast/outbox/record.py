"""What the outbox keeps: the record, its bounds, its figures, and the checksums that tell whole rows from damaged ones.

A record has two rows. `captures` holds what never changes, the value included; `ledger` holds its state and what
lists filter by. Each row ends in a checksum over everything else in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, TypedDict, get_args

import msgspec

State = Literal["pending", "sent", "discarded", "quarantined"]
STATES: tuple[State, ...] = get_args(State)
SETTLED: tuple[State, ...] = ("sent", "discarded")  # nothing more will happen to these, so they may be pruned
ROW_COST = 512  # what two rows and their index entries take on disk besides the contents, roughly

Headers = tuple[tuple[str, bytes], ...]
CaptureRow = tuple[int, str, float, str, str, str, str, str, int | None, bytes, bytes, bytes]
LedgerRow = tuple[int, str, float, str, str, str, str, int | None, State, float | None, int, int, bytes]

_HEADERS = msgspec.msgpack.Decoder(Headers)


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    """A captured request. `status` is of the last upstream answer, `value` the envelope; times in epoch seconds.

    `seq` is the order of storing (0: not stored yet), `sent` when the broker had confirmed it.
    Lists leave out what is large: `key`, `value` and `headers` are empty there.
    """

    id: str
    created: float
    key: str
    route: str
    method: str
    path: str
    error: str
    status: int | None
    value: bytes = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    seq: int = 0
    state: State = "pending"
    sent: float | None = None

    @property
    def size(self) -> int:
        """Bytes it counts for in the bounds: its contents and what its rows cost besides."""
        texts = (self.id, self.key, self.route, self.method, self.path, self.error)
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.value) + headers + sum(map(len, texts)) + ROW_COST


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How much the outbox may hold. Sizes in bytes, times in seconds; the bounds are over records in every state."""

    max_records: int = 1_000_000
    max_bytes: int = 1 << 30
    max_record: int = 32 << 20  # one record's contents
    retention: float = 86400.0  # how long sent and discarded records stay for queries
    queue_records: int = 4096  # waiting for the writer
    queue_bytes: int = 64 << 20
    commit_timeout: float = 5.0  # how long one append may wait for its commit

    def __post_init__(self) -> None:
        for name in ("max_records", "max_bytes", "max_record", "queue_records", "queue_bytes", "commit_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, it is {getattr(self, name)}")
        if not self.retention >= 0:
            raise ValueError(f"retention cannot be negative, it is {self.retention}")


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """Figures of one outbox, or of all slots together.

    `bytes` counts as the bounds do, `file_bytes` is what the files take on disk. The last three count since the start:
    records found damaged, records copied out of a damaged file, and how often that was done.
    """

    pending: int = 0
    sent: int = 0
    discarded: int = 0
    quarantined: int = 0
    bytes: int = 0
    file_bytes: int = 0
    oldest_pending_seconds: float = 0.0
    damaged: int = 0
    salvaged: int = 0
    rescues: int = 0

    @property
    def records(self) -> int:
        return self.pending + self.sent + self.discarded + self.quarantined


class Where(TypedDict, total=False):
    """What a list, an export or a discard may filter by. `since`: captured at or after this epoch second."""

    route: str | None
    status: int | None
    error: str | None
    state: State | None
    since: float | None


def storable(record: OutboxRecord) -> OutboxRecord:
    """The record with text that has no UTF-8 form (a lone surrogate out of a raw path) written as an escape."""
    changed = {}
    for name in ("key", "route", "method", "path", "error"):
        text = getattr(record, name)
        if not text.isascii():
            clean = text.encode("utf-8", "backslashreplace").decode()
            if clean != text:
                changed[name] = clean
    return replace(record, **changed) if changed else record


def capture_row(record: OutboxRecord, seq: int) -> CaptureRow:
    """The row of `captures`: what never changes."""
    headers = msgspec.msgpack.encode(record.headers)
    created, status, value = record.created + 0.0, record.status, record.value
    head = (seq, record.id, created, record.key, record.route, record.method, record.path, record.error)
    return (*head, status, headers, capture_checksum((*head, status, headers), value), value)


def ledger_row(record: OutboxRecord, seq: int, size: int, revision: int = 1) -> LedgerRow:
    """The row of `ledger` of a record that is to be sent."""
    created, status = record.created + 0.0, record.status
    head = (seq, record.id, created, record.route, record.method, record.path, record.error, status)
    return (*head, "pending", None, size, revision, ledger_checksum(*head, "pending", None, size, revision))


def capture_checksum(fields: tuple[object, ...], value: bytes) -> bytes:
    """Over all columns of a row of `captures`; the name of the table is in it, so that no row passes for another."""
    digest = blake2b(msgspec.msgpack.encode(fields), digest_size=16, person=b"captures")
    digest.update(value)
    return digest.digest()


def ledger_checksum(*fields: object) -> bytes:
    """Over all columns of a row of `ledger`; known to SQL as `ledger_checksum`."""
    return blake2b(msgspec.msgpack.encode(fields), digest_size=16, person=b"ledger").digest()


def capture_intact(row: CaptureRow) -> bool:
    value: object = row[11]  # in a damaged row a column may be of any type
    return isinstance(value, bytes) and capture_checksum(row[:10], value) == row[10]


def ledger_intact(row: LedgerRow) -> bool:
    return row[8] in STATES and ledger_checksum(*row[:12]) == row[12]


def from_capture(row: CaptureRow, state: State = "pending", sent: float | None = None) -> OutboxRecord:
    """A whole record, from an intact row of `captures`."""
    seq, id_, created, key, route, method, path, error, status, headers, _, value = row
    pairs = message_headers(headers)
    return OutboxRecord(id_, created, key, route, method, path, error, status, value, pairs, seq, state, sent)


def message_headers(stored: bytes) -> Headers:
    """Those of the broker's message, out of the column of an intact row of `captures`."""
    return _HEADERS.decode(stored)


def from_ledger(row: LedgerRow) -> OutboxRecord:
    """A record without its large parts, from an intact row of `ledger`."""
    seq, id_, created, route, method, path, error, status, state, settled, *_ = row
    sent = settled if state == "sent" else None
    return OutboxRecord(id_, created, "", route, method, path, error, status, b"", (), seq, state, sent)


def filter_bindings(where: Where) -> Mapping[str, str | int | float | None]:
    """Bindings for `FILTER`, every one of them present."""
    return {name: where.get(name) for name in ("route", "status", "error", "state", "since")}  # type: ignore[misc]
