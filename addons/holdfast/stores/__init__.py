"""Where responses are kept: a Protocol, and what implements it (memory, Redis, a memory level in front of Redis).

**The purge clock.** Every store has a number that only grows. A fill notes it before anything is asked of the origin
(`Lookup.as_of`), and the entry keeps it. A purge gives each of its tags the clock's value and then moves the clock on,
before it is answered. An entry is usable while every one of its tags was purged before the entry's `as_of`: so a purge
costs the same whatever it hits, and a fill that began before it can never undo it. Every entry has two tags beside its
own: `*` (everything) and `url:` with its primary key. A soft purge does the same on a second record, and makes stale.
An `as_of` that is older than the clock really was is safe (at worst the fill is not used); one that is newer is not.

    memory      entries in this process, bounded by bytes
    redis       entries shared by all gateways
    tiered      a memory level in front of Redis, coherent by a channel of invalidations
    opening     a store from a profile's URL
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.errors import StoreUnavailable
from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import Selecting

EVERYTHING = "*"


def url_tag(key: str) -> str:
    """The tag of all variants of one primary key."""
    return f"url:{key}"


@dataclass(slots=True)  # one for each request, and a frozen one takes three times as long to make
class Lookup:
    """What a store knows of a key. `response` is None for a miss; `soft` says that a soft purge has hit it.

    `as_of` is the purge clock now, which a fill that follows must note. `level` tells where it was found: `memory` or
    `redis`. `degraded` is why the store could not be asked as it should be; the answer is a miss then, or what the
    memory level has. `variants` is how many responses the key has, 0 where that is not known.
    """

    response: StoredResponse | None
    as_of: int
    soft: bool = False
    level: str = ""
    degraded: str = ""
    variants: int = 0


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge has done. `keys` is how many tags or URLs it named; `entries` is None where counting costs."""

    keys: int
    soft: bool
    entries: int | None = None


class PurgedInPart(StoreUnavailable):
    """Some processes have purged, others have not said so: it has to be done again."""


def why_not_purged(error: StoreUnavailable) -> str:
    """For people."""
    return str(error) if isinstance(error, PurgedInPart) else f"nothing was purged: {error}"


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How a store is just now; `detail` is a sentence for people.

    `mode` is `full`; `shared only` while the memory level cannot be trusted, because the channel is lost; `memory only`
    while Redis cannot be used; `none` where that leaves nothing. `figures` are numbers by name, for pages and metrics.
    """

    ok: bool
    detail: str
    mode: str = "full"
    figures: Mapping[str, float] = field(default_factory=dict)


Heard = Callable[[Sequence[str]], None]


class Store(Protocol):
    """What waits is async, bounded in time, and never raises for an outage: it says so in what it returns.

    Only `purge` raises StoreUnavailable: a purge that did not happen must not be answered.
    """

    def lookup(self, key: str, request: Fields) -> Lookup | None:
        """`get`, if that can be answered from this process's memory at once; None if it takes more."""

    def repeat(self, key: str, selecting: Selecting) -> Lookup | None:
        """`lookup` for whoever remembers what the very same request selected (`StoredResponse.selecting`).

        None: it takes more, or other responses of the key name other fields in Vary by now.
        """

    async def get(self, key: str, request: Fields, *, fresh_enough: float | None = None) -> Lookup:
        """The stored response of this primary key that a request with these header fields selects (RFC 9111, 4.1).

        A response from the memory level that had arrived before `fresh_enough` (epoch seconds) is not enough: the
        shared level is asked for a newer one, as another gateway may have stored.
        """

    async def put(self, key: str, response: StoredResponse, *, keep: float) -> str:
        """Keep it for `keep` seconds. Returns why it was not kept; empty if it was."""

    async def touch(self, key: str, response: StoredResponse, *, keep: float) -> str:
        """Replace the variant that has the same `selecting` with this one of the same body (after a 304)."""

    async def purge(self, tags: Sequence[str], *, soft: bool) -> Purged:
        """Make unusable (or stale) whatever carries one of these tags and was begun before now."""

    def on_purge(self, heard: Heard) -> None:
        """Call this with the tags of every purge that the store hears of, its own and others', maybe twice."""

    async def lock(self, key: str, *, seconds: float) -> str | None:
        """A token if nobody else is filling this key, across processes; None if somebody is.

        Without the store everybody gets a token: filling twice is better than not at all.
        """

    async def unlock(self, key: str, token: str) -> None:
        """Give it back, if it is still ours."""

    async def entries(self) -> tuple[int, int] | None:
        """(entries, bytes), None where that is not known."""

    def health(self) -> StoreHealth:
        """What is known without asking anything: cheap enough for every scrape."""

    async def start(self) -> None:
        """Connect; an outage is not an error."""

    async def stop(self) -> None:
        """Let go of everything."""
