"""One request upstream for a key at a time: whoever comes meanwhile waits for its outcome, for a while."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 10_000


class Coalescing:
    """The fills of this process. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way: dict[str, _UnderWay] = {}
        self._pointless: OrderedDict[str, float] = OrderedDict()

    def begin(self, key: str, owner: object, patience: float) -> asyncio.Event | None:
        """None: nobody fills this key, and `owner` does from now on. Otherwise what to `wait` for.

        A fill that takes longer than `patience`, in seconds, is not waited for any more: the next one takes its place.
        """
        if self.is_pointless(key):
            return _DONE
        now, known = self._clock(), self._under_way.get(key)
        if known and now < known.until:
            return known.over
        if known:
            known.over.set()
        self._under_way[key] = _UnderWay(owner, now + patience)
        return None

    async def wait(self, event: asyncio.Event, within: float) -> None:
        """Until the fill has ended, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await event.wait()

    def end(self, key: str, owner: object) -> None:
        """The fill has ended, however it has."""
        known = self._under_way.get(key)
        if known and known.owner is owner:
            del self._under_way[key]
            known.over.set()

    def is_pointless(self, key: str) -> bool:
        """Whether that has been noted, and not too long ago."""
        return self._clock() < self._pointless.get(key, 0.0)

    def note_pointless(self, key: str, seconds: float) -> None:
        """What comes for this key cannot be stored: for so long nobody need wait for anybody."""
        self._pointless[key] = self._clock() + seconds
        self._pointless.move_to_end(key)
        while len(self._pointless) > _REMEMBERED:
            self._pointless.popitem(last=False)


class _UnderWay:
    __slots__ = ("over", "owner", "until")

    def __init__(self, owner: object, until: float) -> None:
        self.owner = owner
        self.until = until
        self.over = asyncio.Event()


_DONE = asyncio.Event()
_DONE.set()
