"""Time that can be moved, for the chain and for the event loop that it runs on.

The loop's own clock moves too: what waits by `asyncio.sleep` or `call_later` wakes up when its time has come in the
moved time. Threads and the operating system are not moved; what they do takes as long as it takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

PIECES = 50
"""A wait is moved through in so many pieces, so that what happens every second happens more than once."""
PAUSE = 0.002
"""Real seconds between two moves: what has become due gets its turn."""
LEAP = 0.1
"""Seconds by which a hurried clock moves each time at least: fifty times as fast as a real one."""
GROWTH = 0.01
"""The share of the time that it has gone already by which it moves, where that is more: a day takes seconds."""


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be moved forward."""

    moved = 0.0

    def time(self) -> float:
        """The monotonic clock, and what it was moved by."""
        return super().time() + self.moved


class Clock:
    """The clock of a loop that runs. `hurry` while a server lets the gateway wait, `relax` when that has ended."""

    def __init__(self, loop: MovableLoop) -> None:
        self._loop = loop
        self._ticking: asyncio.TimerHandle | None = None
        self._gone = 0.0  # in this hurry

    def monotonic(self) -> float:
        """Seconds, the same as the loop's."""
        return self._loop.time()

    def wall(self) -> float:
        """Epoch seconds."""
        return time.time() + self._loop.moved

    async def pass_by(self, seconds: float) -> None:
        """Move on by so many seconds; what becomes due meanwhile is done."""
        for _ in range(PIECES):
            self._loop.moved += seconds / PIECES
            await asyncio.sleep(PAUSE)

    def hurry(self) -> None:
        """From now on time goes fast."""
        if self._ticking is None:
            self._gone = 0.0
            self._ticking = self._loop.call_later(PAUSE, self._tick)

    def relax(self) -> None:
        """From now on time goes as usual."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    def _tick(self) -> None:
        leap = max(LEAP, self._gone * GROWTH)
        self._gone += leap
        self._loop.moved += leap
        self._ticking = self._loop.call_later(PAUSE, self._tick)


async def in_real_time[T](work: Awaitable[T], seconds: float) -> T:
    """What comes of it; TimeoutError when it takes longer than so many seconds that nobody has moved."""
    task = asyncio.ensure_future(work)
    until = time.monotonic() + seconds
    try:
        while not task.done():
            if time.monotonic() > until:
                raise TimeoutError
            await asyncio.wait([task], timeout=PAUSE)
        return task.result()
    finally:
        task.cancel()
