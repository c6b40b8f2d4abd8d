"""What to let go when memory is short: S3-FIFO (Yang et al., SOSP 2023), by bytes.

New entries wait in a small queue, a tenth of the room. What was asked for while it waited moves on to the main queue;
what was not goes, and is remembered by name alone: if it comes back soon, it goes to the main queue at once. So a scan
of things that are never asked for again cannot push out what is in use, and a hit costs no more than a count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

_SMALL_SHARE = 0.1
_MOST_USES = 3  # more would keep what was once popular for too long
_FEWEST_GHOSTS = 64


class Shelved:
    """What every entry on the shelf has: how large it is, and how often it was used lately."""

    __slots__ = ("in_main", "size", "uses")

    def __init__(self) -> None:
        self.size = 0
        self.uses = 0
        self.in_main = False

    def used(self) -> None:
        if self.uses < _MOST_USES:
            self.uses += 1


class Shelf[E: Shelved]:
    """Entries by key, and the order in which they go. `bytes` is what they take together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._small_bytes = 0
        self._small: OrderedDict[str, E] = OrderedDict()
        self._main: OrderedDict[str, E] = OrderedDict()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self.entries: dict[str, E] = {}

    def add(self, key: str, entry: E) -> None:
        """Of an entry that is not there yet."""
        entry.in_main = self._ghosts.pop(hash(key), 0) is None
        (self._main if entry.in_main else self._small)[key] = entry
        self.entries[key] = entry
        self._count(entry, entry.size)

    def resize(self, entry: E, size: int) -> None:
        """Of an entry that is there."""
        self._count(entry, size - entry.size)
        entry.size = size

    def remove(self, key: str) -> None:
        """Does nothing if it is not there."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            (self._main if entry.in_main else self._small).pop(key)
            self._count(entry, -entry.size)

    def make_room(self, size: int, keep: str = "") -> Iterator[str]:
        """Let entries go until there is room for so many bytes more; yields their keys. `keep` is left alone."""
        while self.bytes + size > self.max_bytes and (len(self.entries) > 1 or keep not in self.entries):
            key = self._next(keep)
            if key is None:
                return
            self.remove(key)
            yield key

    def clear(self) -> None:
        for queue in (self._small, self._main, self._ghosts, self.entries):
            queue.clear()
        self.bytes = self._small_bytes = 0

    def _count(self, entry: E, size: int) -> None:
        self.bytes += size
        if not entry.in_main:
            self._small_bytes += size

    def _next(self, keep: str) -> str | None:
        """The key of the entry that goes next. Ends, since each step moves one on or takes one of its uses."""
        while self.entries:
            small_first = self._small_bytes > self.max_bytes * _SMALL_SHARE or not self._main
            queue = self._small if small_first and self._small else self._main
            key, entry = next(iter(queue.items()))
            if key != keep and not entry.uses:
                if queue is self._small:
                    self._remember(key)
                return key
            queue.pop(key)
            if queue is self._small:
                self._small_bytes -= entry.size
                entry.in_main = True
            entry.uses = max(0, entry.uses - 1)
            self._main[key] = entry
        return None

    def _remember(self, key: str) -> None:
        self._ghosts[hash(key)] = None
        while len(self._ghosts) > max(len(self.entries), _FEWEST_GHOSTS):
            self._ghosts.popitem(last=False)
