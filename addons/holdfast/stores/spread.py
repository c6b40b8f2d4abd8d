"""The memory store of one of several processes, which share the work: a purge at one is a purge at all.

Each keeps what it has fetched itself, so that a response may be fetched once for each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from msgspec import Raw

from holdfast.errors import StoreUnavailable
from holdfast.stores import Purged, PurgedInPart
from holdfast.stores.memory import MemoryStore

_KIND = "purge"


class Siblings(Protocol):
    """The other processes, `count` with this one."""

    count: int

    def answer(self, kind: str, function: Callable[[Raw], Awaitable[object]]) -> None:
        """What is to be done when another one asks for it."""

    async def tell(self, kind: str, payload: object) -> None:
        """Have all others do it; StoreUnavailable if some have not."""


class SpreadMemoryStore(MemoryStore):
    """As the one of a single process, but for purges."""

    def __init__(self, max_bytes: int, clock: Callable[[], float], siblings: Siblings) -> None:
        super().__init__(max_bytes, clock)
        self._siblings = siblings
        siblings.answer(_KIND, self._purged)

    async def purge(self, tags: Sequence[str], *, soft: bool) -> Purged:
        """Here at once; StoreUnavailable, naming them, if some of the others have not said that they have done it."""
        purged = await super().purge(tags, soft=soft)
        try:
            await self._siblings.tell(_KIND, (list(tags), soft))
        except StoreUnavailable as error:
            raise PurgedInPart(f"not every worker has purged, so do it again: {error}") from error
        return purged

    async def _purged(self, payload: Raw) -> None:
        tags, soft = msgspec.msgpack.decode(payload, type=tuple[list[str], bool])
        await super().purge(tags, soft=soft)
