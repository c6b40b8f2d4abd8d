"""All slots of an outbox together, for a process that owns none of them: the command line, the replayer."""

from __future__ import annotations

import builtins
import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self, Unpack

import apsw

from holdfast.errors import StoreUnavailable
from holdfast.outbox import slots
from holdfast.outbox.database import connect
from holdfast.outbox.ledger import move
from holdfast.outbox.queries import Queries
from holdfast.outbox.record import STATES, OutboxRecord, OutboxStats, State, Where
from holdfast.outbox.store import DISCARDABLE, REQUEUABLE, SENDABLE, file_bytes
from holdfast.outbox.waiting import Waiting, forget, make_index


class Sibling:
    """Who waits in a file that another process writes to; the index for it is made if it is not there."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def waiting(self, key: str, after: int, limit: int) -> builtins.list[Waiting]:
        """As `Outbox.waiting`."""
        try:
            return self._queries.waiting(key, after, limit)
        except StoreUnavailable:
            _change(self._queries.path, make_index)
            return self._queries.waiting(key, after, limit)

    def forget(self, key: str, seqs: Iterable[int]) -> None:
        """As `Outbox.forget`, and done when it returns."""
        settled = tuple(seqs)
        _change(self._queries.path, lambda db: forget(db, key, settled))


class OutboxReader:
    """What `Outbox` offers besides storing, over every slot there is, while their owners are at work.

    StoreUnavailable if a file that is there cannot be read. Where there is no outbox yet, nothing is found.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path).absolute()
        self._clock = clock
        self._open: dict[Path, Queries] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for queries in self._open.values():
            queries.close()
        self._open.clear()

    def slots(self) -> builtins.list[Queries]:
        """A reader for each file that there is now; one that was there before is the same object."""
        return [self._open.setdefault(each, Queries(each)) for each in slots.existing(self.path)]

    # --- queries ---

    def get(self, record_id: str) -> OutboxRecord | None:
        """The whole record with this id. Anything that is not a UUID is simply not found."""
        return next((record for queries in self.slots() if (record := queries.get(record_id))), None)

    def list(
        self, *, limit: int = 100, newest_first: bool = True, **where: Unpack[Where]
    ) -> builtins.list[OutboxRecord]:
        """Records without their large parts (key, headers, value)."""
        found = [queries.list(limit=limit, newest_first=newest_first, **where) for queries in self.slots()]
        merged = heapq.merge(*found, key=lambda record: record.seq, reverse=newest_first)
        return [record for record, _ in zip(merged, range(limit), strict=False)]

    def export(self, **where: Unpack[Where]) -> Iterator[OutboxRecord]:
        """Whole records, oldest first, over all slots."""
        return heapq.merge(*(queries.export(**where) for queries in self.slots()), key=lambda record: record.seq)

    def stats(self) -> OutboxStats:
        """Figures, by counting the rows."""
        counts, size = dict.fromkeys(STATES, 0), 0
        oldest = []
        for queries in self.slots():
            for state, records, held in queries.counts():
                counts[state] += records
                size += held
            oldest.append(queries.oldest_pending())
        ages = [max(0.0, self._clock() - created) for created in oldest if created is not None]
        on_disk = sum(file_bytes(queries.path) for queries in self.slots())
        return OutboxStats(**counts, bytes=size, file_bytes=on_disk, oldest_pending_seconds=max(ages, default=0.0))

    # --- changing states ---

    def discard(self, ids: Iterable[str] | None = None, **where: Unpack[Where]) -> int:
        """Give records up that are not sent yet; how many. Those with the ids, or all that the filter finds."""
        return self._move(ids, where, "discarded", DISCARDABLE)

    def requeue(self, ids: Iterable[str] | None = None, **where: Unpack[Where]) -> int:
        """Have records sent (again) that were sent, discarded or quarantined; how many."""
        return self._move(ids, where, "pending", REQUEUABLE)

    def settle(self, queries: Queries, seqs: Sequence[int], to: Literal["sent", "quarantined"]) -> int:
        """Note what became of records of one of the `slots`, by their numbers; how many."""
        return self._move_in(queries.path, builtins.list(seqs), to, SENDABLE if to == "sent" else ("pending",))

    def _move(self, ids: Iterable[str] | None, where: Where, to: State, allowed: tuple[State, ...]) -> int:
        wanted = None if ids is None else builtins.list(ids)
        return sum(
            self._move_in(queries.path, seqs, to, allowed)
            for queries in self.slots()
            for seqs in queries.seqs(wanted, **where)
            if seqs
        )

    def others(self, own: Path, *, published: bool) -> builtins.list[Sibling]:
        """All but the one at `own` in which something is to be sent, or may be `published`."""
        slots = [queries for queries in self.slots() if queries.path != own]
        return [Sibling(queries) for queries in slots if published or queries.newest_pending()]

    def _move_in(self, path: Path, seqs: builtins.list[int], to: State, allowed: tuple[State, ...]) -> int:
        now = self._clock()
        return _change(path, lambda db: sum(records for _, records, _ in move(db, seqs, to, now, allowed)))


def _change[T](path: Path, change: Callable[[apsw.Connection], T]) -> T:
    """In one transaction. StoreUnavailable, and nothing has changed, if that cannot be done."""
    try:
        db = connect(path)
        try:
            db.execute("BEGIN IMMEDIATE")
            changed = change(db)
            db.execute("COMMIT")
        finally:
            db.close()  # rolls back what was not committed
    except (apsw.Error, OSError) as error:
        raise StoreUnavailable(f"the outbox {path} cannot be changed: {error}") from error
    return changed


def read_all(path: str | Path, clock: Callable[[], float] = time.time) -> OutboxReader:
    """A reader over all slots of the outbox at `path`; close it, or use it in a `with`."""
    return OutboxReader(path, clock)
