"""Which offset of a partition may be committed, whatever order its messages are settled in. Pure."""

from __future__ import annotations

from collections import deque


class Offsets:
    """One partition, from its assignment on.

    Offsets are given out in ascending order, with gaps where Kafka has none for us (compaction, the markers and the
    aborted messages of transactions). What may be committed is the lowest that is not settled, or else the one behind
    the last that was seen. It never falls, and neither do commits.
    """

    def __init__(self) -> None:
        self._order: deque[int] = deque()  # given out and not below `low`, settled or not
        self._open: set[int] = set()
        self._end = -1  # one behind the last that was seen; -1: none yet
        self._asked = -1  # the highest that was asked to be committed, or else where we began
        self._confirmed = -1

    @property
    def low(self) -> int | None:
        """What may be committed; None while nothing has been seen."""
        if self._order:
            return self._order[0]
        return self._end if self._end >= 0 else None

    @property
    def open(self) -> int:
        """How many are not settled."""
        return len(self._open)

    def follows(self, offset: int) -> bool:
        """Whether `give` would take it: it lies behind all that was seen."""
        return offset >= self._end

    def give(self, offset: int) -> None:
        """It is given out. ValueError for one that was passed already."""
        if not self.follows(offset):
            raise ValueError(f"offset {offset} comes after {self._end - 1}")
        self._begin(offset)
        self._order.append(offset)
        self._open.add(offset)
        self._end = offset + 1

    def reach(self, offset: int) -> None:
        """There is nothing before this offset that was not given out."""
        self._begin(offset)
        self._end = max(self._end, offset)

    def settle(self, offset: int) -> bool:
        """Whether it was given out and not settled before."""
        if offset not in self._open:
            return False
        self._open.remove(offset)
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        return True

    def to_commit(self) -> int | None:
        """What is to be committed now, None if nothing new. The answer is due to `confirm` or `fail`."""
        low = self.low
        if low is None or low <= self._asked:
            return None
        self._asked = low
        return low

    def confirm(self, offset: int) -> None:
        """Kafka has it."""
        self._confirmed = max(self._confirmed, offset)

    def fail(self) -> None:
        """Kafka does not have what was asked last: ask again, by then perhaps for more."""
        self._asked = self._confirmed

    def _begin(self, offset: int) -> None:
        if self._end < 0:  # this is where Kafka has us begin, so it need not be told
            self._asked = self._confirmed = offset
