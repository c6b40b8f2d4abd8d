"""Gateways' stores on a Redis that a test breaks, and traffic that measures how long each call takes meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions
from holdfast.stores.redis import RedisStore
from holdfast.stores.tiered import Mode, TieredStore
from tests.contract.responses import PLAIN, make_response

TIMEOUT = 0.1
BOUND = 2 * TIMEOUT + 0.6  # two questions at most, and what is to be done besides
_TICK = 0.01


@asynccontextmanager
async def gateway(url: str) -> AsyncIterator[TieredStore]:
    """With a memory level, started."""
    store = open_store(url, StoreOptions(timeout=TIMEOUT), time.time)
    assert isinstance(store, TieredStore)
    await store.start()
    yield store
    await store.stop()


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[RedisStore]:
    """Without a memory level, started."""
    store = open_store(f"{url}?memory=0", StoreOptions(timeout=TIMEOUT), time.time)
    assert isinstance(store, RedisStore)
    await store.start()
    yield store
    await store.stop()


async def until(condition: Callable[[], bool | Awaitable[bool]], within: float = 20.0) -> float:
    """Wait for it; returns after how many seconds it came."""
    began = time.monotonic()
    while time.monotonic() < began + within:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return time.monotonic() - began
        await asyncio.sleep(0.01)
    raise AssertionError(f"did not happen within {within} s")


async def until_mode(store: TieredStore, mode: Mode, within: float = 20.0) -> float:
    return await until(lambda: store.mode() is mode, within)


class Load:
    """Calls of every kind but purges, on many keys, one after the other in several tasks."""

    def __init__(self, store: TieredStore | RedisStore) -> None:
        self.store = store
        self.calls = 0
        self.degraded: set[str] = set()
        self.refusals: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._numbers = count()
        self._slowest = 0.0
        self._late = 0.0

    @property
    def slowest(self) -> float:
        """Seconds that a call took, without what it was late because the machine stood still or did something else."""
        return max(0.0, self._slowest - self._late)

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(each) for each in (self._watch(), *(self._go() for _ in range(4)))]
        await asyncio.sleep(0.2)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    async def _go(self) -> None:
        while True:
            key = f"load-{next(self._numbers) % 500}"
            found = await self._timed(self.store.get(key, PLAIN))
            if found.degraded:
                self.degraded.add(found.degraded)
            if found.response is None:
                token = await self._timed(self.store.lock(key, seconds=1))
                response = make_response(found.as_of, b"x" * 500, tags=("t",))
                refusal = await self._timed(self.store.put(key, response, keep=60))
                self.refusals |= {refusal} if refusal else set()
                if token:
                    await self._timed(self.store.unlock(key, token))
            else:
                await self._timed(self.store.touch(key, found.response, keep=60))
            await asyncio.sleep(0.002)

    async def _watch(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_TICK)
            self._late = max(self._late, time.monotonic() - began - _TICK)

    async def _timed[T](self, call: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            return await call
        finally:
            self.calls += 1
            self._slowest = max(self._slowest, time.monotonic() - began)
