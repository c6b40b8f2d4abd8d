"""`memory://`: responses in this process, bounded by bytes; also the first level of a `TieredStore`.

The core is synchronous: `lookup`, `insert`, `invalidate`. A hit is a dictionary look-up and three comparisons, since a
response that was found usable stays so until the next purge.

**Why the purge records stay few.** A sweep goes over the entries a few at a time, paid for by purges. It drops what a
hard purge has hit and marks what a soft one has, so that once it is through, the records from before it began matter
only to fills that are older still; those are refused from then on (`floor`), and the records dropped.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import Selecting, selecting_values
from holdfast.stores import Heard, Lookup, Purged, StoreHealth
from holdfast.stores.purge_records import PurgeRecords, Verdict
from holdfast.stores.selection import MAX_VARIANTS, Names, best, names_of, with_names
from holdfast.stores.shelf import Shelf, Shelved

_ENTRY_BYTES = 650  # what one entry takes beside its content, measured: two dictionaries, the queue's node, the ghost
_VARIANT_BYTES = 450
_FIELD_BYTES = 2 * sys.getsizeof(b"") + 72  # of a header field: two bytes objects in a tuple
_LARGEST_SHARE = 4  # one entry may take a quarter of the room: a few large ones would leave nothing for the rest
_MOST_RECORDS = 65_536


class _Variant:
    __slots__ = ("expires", "found", "response", "size", "soft", "version")

    def __init__(self, response: StoredResponse, expires: float, size: int, soft: bool) -> None:
        self.response = response
        self.expires = expires
        self.size = size
        self.soft = soft
        self.version = -1  # of the purge records, when it was last found usable
        self.found: Lookup


class _Entry(Shelved):
    __slots__ = ("names", "variants")

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[Names, ...] = ()
        self.variants: dict[Selecting, _Variant] = {}


class MemoryStore:
    """All of it in memory. `clock` gives epoch seconds; `max_bytes` counts header, body and what Python adds."""

    def __init__(self, max_bytes: int, clock: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._shelf: Shelf[_Entry] = Shelf(max_bytes)
        self._entries = self._shelf.entries
        self._clock = clock
        self._records = PurgeRecords()
        self._largest = max_bytes // _LARGEST_SHARE
        self._floor = 0
        self._unswept: list[str] = []
        self._sweep_began: int | None = None
        self._locks: dict[str, tuple[str, float]] = {}
        self._heard: list[Heard] = []
        self.evicted = 0

    def another(self) -> MemoryStore:
        """An empty one with the same bounds."""
        return MemoryStore(self._max_bytes, self._clock)

    @property
    def clock(self) -> int:
        """The purge clock."""
        return self._records.clock

    # --- the synchronous core ---

    def lookup(self, key: str, request: Fields) -> Lookup:
        """What `get` answers, without waiting for anything."""
        entry = self._entries.get(key)
        if entry is None:
            return Lookup(None, self._records.clock)
        if len(entry.names) == 1:
            variant = entry.variants.get(selecting_values(entry.names[0], request))
        else:
            variant = self._chosen(entry, request)
        if variant is None:
            return Lookup(None, self._records.clock, variants=len(entry.variants))
        return self._checked(key, entry, variant)

    def repeat(self, key: str, selecting: Selecting) -> Lookup | None:
        """`lookup` for whoever remembers what the same request selected; None: that is not known to be so any more."""
        entry = self._entries.get(key)
        if entry is None or len(entry.names) != 1:
            return None
        variant = entry.variants.get(selecting)
        return self._checked(key, entry, variant) if variant else None

    def insert(
        self, key: str, response: StoredResponse, keep: float, *, checked: int | None = None, soft: bool = False
    ) -> str:
        """Keep it for `keep` seconds; returns why not, or nothing.

        `checked`: up to which value of the purge clock somebody else has applied the purges (with `soft` the outcome);
        it is the response's own `as_of` for a fill.
        """
        size = _size(response)
        if size + _ENTRY_BYTES + sys.getsizeof(key) > self._largest:
            return "too large for the memory level"
        if keep <= 0:
            return "expired"
        if (response.as_of if checked is None else checked) < self._floor:
            return "begun before too many purges"
        verdict = self._records.verdict(key, response.tags, response.as_of)
        if verdict is Verdict.GONE:
            return "purged since it was asked for"
        known = self._entries.get(key)
        held = known.variants.get(response.selecting) if known else None
        if held and _age(held.response) > _age(response):
            return "a newer one is there"
        soft = soft or verdict is Verdict.STALE
        self._place(key, _Variant(response, self._clock() + keep, size, soft))
        return ""

    def invalidate(self, tags: Sequence[str], *, soft: bool, at: int | None = None) -> None:
        """A purge; `at` is the clock's value where it was decided elsewhere."""
        self._records.note(tags, soft=soft, at=at)
        self._sweep(len(tags))

    def clear(self, clock: int | None = None) -> None:
        """Drop everything, and refuse what was begun, or checked, before `clock`."""
        self._shelf.clear()
        self._records.clear(self._records.clock if clock is None else clock)
        self._floor = self._records.clock
        self._unswept, self._sweep_began = [], None

    # --- the Protocol ---

    async def get(self, key: str, request: Fields, *, fresh_enough: float | None = None) -> Lookup:
        return self.lookup(key, request)

    async def put(self, key: str, response: StoredResponse, *, keep: float) -> str:
        return self.insert(key, response, keep)

    async def touch(self, key: str, response: StoredResponse, *, keep: float) -> str:
        return self.insert(key, response, keep)

    async def purge(self, tags: Sequence[str], *, soft: bool) -> Purged:
        self.invalidate(tags, soft=soft)
        for heard in self._heard:
            heard(tags)
        return Purged(len(tags), soft)

    def on_purge(self, heard: Heard) -> None:
        self._heard.append(heard)

    async def lock(self, key: str, *, seconds: float) -> str | None:
        now = self._clock()
        held = self._locks.get(key)
        if held and held[1] > now:
            return None
        if len(self._locks) > 1024:  # those whose holders never came back
            self._locks = {name: lock for name, lock in self._locks.items() if lock[1] > now}
        token = secrets.token_hex(8)
        self._locks[key] = (token, now + seconds)
        return token

    async def unlock(self, key: str, token: str) -> None:
        if self._locks.get(key, ("",))[0] == token:
            del self._locks[key]

    async def entries(self) -> tuple[int, int] | None:
        return len(self._entries), self._shelf.bytes

    def health(self) -> StoreHealth:
        figures = {
            "entries": len(self._entries),
            "bytes": self._shelf.bytes,
            "max_bytes": self._shelf.max_bytes,
            "evicted": self.evicted,
            "purge_records": len(self._records),
        }
        return StoreHealth(ok=True, detail="in the memory of this process", figures=figures)

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        self.clear()

    # --- within ---

    def _checked(self, key: str, entry: _Entry, variant: _Variant) -> Lookup:
        if self._clock() >= variant.expires:
            self._drop(key, entry, variant)
        elif variant.version == self._records.version or self._judge(key, entry, variant):
            entry.used()
            return variant.found
        return Lookup(None, self._records.clock)

    def _chosen(self, entry: _Entry, request: Fields) -> _Variant | None:
        matching = [entry.variants.get(selecting_values(names, request)) for names in entry.names]
        found = best((variant.response for variant in matching if variant), request)
        return entry.variants[found.selecting] if found else None

    def _judge(self, key: str, entry: _Entry, variant: _Variant) -> bool:
        """Whether the purges so far leave it usable; drops it otherwise."""
        response = variant.response
        verdict = self._records.verdict(key, response.tags, response.as_of)
        if verdict is Verdict.GONE:
            self._drop(key, entry, variant)
            return False
        variant.soft = variant.soft or verdict is Verdict.STALE
        variant.version = self._records.version
        variant.found = Lookup(response, self._records.clock, variant.soft, "memory", variants=len(entry.variants))
        return True

    def _place(self, key: str, variant: _Variant) -> None:
        known = self._entries.get(key)
        entry = known or _Entry()
        selecting = variant.response.selecting
        size = (entry.size or _ENTRY_BYTES + sys.getsizeof(key)) + variant.size
        if selecting in entry.variants:
            size -= entry.variants.pop(selecting).size
        while len(entry.variants) >= MAX_VARIANTS or size > self._largest:
            size -= entry.variants.pop(next(iter(entry.variants))).size  # the one that was there first
        for _ in self._shelf.make_room(size - entry.size, keep=key):
            self.evicted += 1
        entry.names = with_names(entry.names, names_of(selecting))
        entry.variants[selecting] = variant
        for each in entry.variants.values():
            each.version = -1  # what they say of the number of variants has changed
        if known:
            self._shelf.resize(entry, size)
        else:
            entry.size = size
            self._shelf.add(key, entry)

    def _drop(self, key: str, entry: _Entry, variant: _Variant) -> None:
        del entry.variants[variant.response.selecting]
        if entry.variants:
            self._shelf.resize(entry, entry.size - variant.size)
        else:
            self._shelf.remove(key)

    def _sweep(self, purged: int) -> None:
        """Look at some entries; enough of them that a sweep is through before the records have doubled."""
        if self._sweep_began is None:
            if len(self._records) < _MOST_RECORDS // 2:
                return
            self._unswept, self._sweep_began = list(self._entries), self._records.clock
        for _ in range(min(len(self._unswept), 4 + purged * (1 + len(self._entries) // (_MOST_RECORDS // 8)))):
            key = self._unswept.pop()
            if entry := self._entries.get(key):
                for variant in list(entry.variants.values()):
                    self._judge(key, entry, variant)
        if not self._unswept:
            self._floor = max(self._floor, self._sweep_began)
            self._records.forget(self._sweep_began)
            self._sweep_began = None


def _age(response: StoredResponse) -> tuple[int, float]:
    """Of two, the one with the greater is the newer."""
    return response.as_of, response.response_time


def _size(response: StoredResponse) -> int:
    header = sum(len(name) + len(value) + _FIELD_BYTES for name, value in response.headers)
    texts = sum(sys.getsizeof(tag) for tag in response.tags)
    texts += sum(80 + len(name) + len(value or "") * 2 for name, value in response.selecting)
    return _VARIANT_BYTES + len(response.body) + header + texts
