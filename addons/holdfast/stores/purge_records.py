"""The purge clock and the records of one process: which tag was purged when, hard and soft."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from holdfast.stores import EVERYTHING, url_tag


class Verdict(Enum):
    """What the purges so far have done to an entry."""

    USABLE = "usable"
    STALE = "stale"
    GONE = "gone"


class PurgeRecords:
    """`clock` only grows. `version` changes with every purge: what was judged at a version need not be judged again."""

    def __init__(self, clock: int = 1) -> None:
        self.clock = clock
        self.version = 0
        self._hard: dict[str, int] = {}
        self._soft: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._hard) + len(self._soft)

    def note(self, tags: Iterable[str], *, soft: bool, at: int | None = None) -> None:
        """A purge of these tags; `at` is the clock's value where it was decided elsewhere."""
        value = self.clock if at is None else at
        records = self._soft if soft else self._hard
        for tag in tags:
            records[tag] = max(value, records.get(tag, value))
        self.clock = max(self.clock, value + 1)
        self.version += 1

    def verdict(self, key: str, tags: Sequence[str], as_of: int) -> Verdict:
        """Of an entry of this key with these tags of its own, whose fill noted `as_of`."""
        found = Verdict.USABLE
        for tag in (EVERYTHING, url_tag(key), *tags):
            if self._hard.get(tag, -1) >= as_of:
                return Verdict.GONE
            if self._soft.get(tag, -1) >= as_of:
                found = Verdict.STALE
        return found

    def forget(self, before: int) -> None:
        """Drop the records below a value. Only safe once nothing that they hit is kept or can still come."""
        self._hard = {tag: value for tag, value in self._hard.items() if value >= before}
        self._soft = {tag: value for tag, value in self._soft.items() if value >= before}

    def clear(self, clock: int) -> None:
        """Without entries there is nothing left to invalidate."""
        self._hard.clear()
        self._soft.clear()
        self.clock = clock
        self.version += 1
