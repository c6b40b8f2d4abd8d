"""A memory level in front of Redis, coherent between gateways; and what is left of it while Redis is away.

    full         copies of what was read from or written to Redis are served from memory. The channel tells of every
                 purge within milliseconds; a gateway that is cut off stops trusting its copies within a second.
    shared only  Redis answers, but the channel is lost: every look-up goes to Redis. When the channel is back and the
                 purge clock has not moved, the copies are good again; otherwise they are dropped.
    memory only  Redis cannot be used, so what was purged elsewhere cannot be known. Nothing from before is served, and
                 what is filled from now on lives in a memory of its own, which is dropped when Redis is back.

The two memories are never both in use, so that together they take no more than one of them may. A fill belongs to the
mode it began in: its `as_of` is a value of Redis's clock, which is a time, or one of the own memory's, which is small.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import Enum

from holdfast.errors import StoreUnavailable
from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import Selecting
from holdfast.stores import Heard, Lookup, Purged, StoreHealth
from holdfast.stores.channel import Channel
from holdfast.stores.memory import MemoryStore
from holdfast.stores.redis import RedisStore

log = logging.getLogger(__name__)

_FIRST_SHARED = 2**40  # of Redis's clock: microseconds since 1970, two weeks later


class Mode(Enum):
    """Which levels are in use."""

    FULL = "full"
    SHARED = "shared only"
    ALONE = "memory only"


class TieredStore:
    """`memory` holds the copies; a second one like it what is filled while Redis is away."""

    def __init__(
        self,
        memory: MemoryStore,
        redis: RedisStore,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.redis = redis
        self.channel = Channel(redis.link, self, monotonic)
        self._copies = memory
        self._alone = memory.another()
        self._clock = clock
        self._monotonic = monotonic
        self._mode = Mode.SHARED
        self._heard: list[Heard] = []
        self._clock_heard = 0  # where the purge clock is after the last purge that the channel told of

    def mode(self) -> Mode:
        """As it is at this moment."""
        if self._monotonic() < self.channel.trusted_until:
            mode = Mode.FULL
        else:
            mode = Mode.ALONE if self.redis.link.trouble else Mode.SHARED
        if mode is not self._mode:
            self._change(mode)
        return mode

    # --- at once, from memory ---

    def lookup(self, key: str, request: Fields) -> Lookup | None:
        mode = self.mode()
        if mode is Mode.ALONE:
            return self._degraded(self._alone.lookup(key, request))
        found = self._copies.lookup(key, request) if mode is Mode.FULL else None
        return found if found and found.response else None

    def repeat(self, key: str, selecting: Selecting) -> Lookup | None:
        return self._copies.repeat(key, selecting) if self.mode() is Mode.FULL else None

    # --- what the channel says ---

    def synced(self, clock: int) -> None:
        if clock != self._clock_heard:
            self._copies.clear(clock)
        self._clock_heard = clock

    def purged(self, tags: Sequence[str], value: int, *, soft: bool) -> None:
        self._copies.invalidate(tags, soft=soft, at=value)
        self._clock_heard = max(self._clock_heard, value + 1)
        self._tell(tags)

    # --- the Protocol ---

    async def get(self, key: str, request: Fields, *, fresh_enough: float | None = None) -> Lookup:
        near = self.lookup(key, request)
        if near and (near.response is None or fresh_enough is None or near.response.response_time >= fresh_enough):
            return near
        if near and self.mode() is Mode.ALONE:
            return near
        found = await self.redis.find(key, request)
        far, mode = found.lookup, self.mode()
        if mode is Mode.ALONE:  # it was lost meanwhile
            return self._degraded(self._alone.lookup(key, request))
        if mode is Mode.FULL:
            if far.response:
                left = found.until - self._clock()
                self._copies.insert(key, far.response, left, checked=far.as_of, soft=far.soft)
            near = self.lookup(key, request)
            if near and far.degraded:
                return replace(near, degraded=far.degraded)
            if near and near.response and (not far.response or _is_newer(near.response, far.response)):
                return near  # Redis has let go of it, or could not take it
        return far

    async def put(self, key: str, response: StoredResponse, *, keep: float) -> str:
        return await self._write(key, response, keep, self.redis.put)

    async def touch(self, key: str, response: StoredResponse, *, keep: float) -> str:
        return await self._write(key, response, keep, self.redis.touch)

    async def purge(self, tags: Sequence[str], *, soft: bool) -> Purged:
        try:
            value = await self.redis.purge_at(tags, soft=soft)
        except StoreUnavailable as error:
            # Not answered, and the others know nothing of it; but whoever asked wants it gone here at least.
            self._copies.clear()
            self._alone.invalidate(tags, soft=soft)
            raise StoreUnavailable(f"{error} (purged in this gateway's own memory only)") from error
        self._alone.invalidate(tags, soft=soft)  # Redis may be back without this gateway having found out
        if value:
            self._copies.invalidate(tags, soft=soft, at=value)
        self._tell(tags)  # the channel may be lost, and telling twice does no harm
        return Purged(len(tags), soft)

    def on_purge(self, heard: Heard) -> None:
        self._heard.append(heard)

    async def lock(self, key: str, *, seconds: float) -> str | None:
        level = self._alone if self.mode() is Mode.ALONE else self.redis
        return await level.lock(key, seconds=seconds)

    async def unlock(self, key: str, token: str) -> None:
        await self._alone.unlock(key, token)
        await self.redis.unlock(key, token)

    async def entries(self) -> tuple[int, int] | None:
        return await self._near.entries()

    def health(self) -> StoreHealth:
        mode = self.mode()
        shared = self.redis.health()
        details = {
            Mode.FULL: "purges are heard of",
            Mode.SHARED: "the channel of purges is lost, so the memory level is not used",
            Mode.ALONE: "responses are kept in this gateway's memory until Redis is back",
        }
        figures = {**shared.figures, **self._near.health().figures, "channel_losses": self.channel.losses}
        ok = shared.ok and mode is Mode.FULL
        return StoreHealth(ok, f"{shared.detail}; {details[mode]}", mode=mode.value, figures=figures)

    async def start(self) -> None:
        await self.redis.start()
        await self.channel.start()

    async def stop(self) -> None:
        await self.channel.stop()
        await self.redis.stop()
        self._copies.clear()
        self._alone.clear()

    # --- within ---

    @property
    def _near(self) -> MemoryStore:
        return self._alone if self.mode() is Mode.ALONE else self._copies

    def _degraded(self, found: Lookup) -> Lookup:
        return replace(found, degraded=self.redis.link.trouble)

    def _tell(self, tags: Sequence[str]) -> None:
        for heard in self._heard:
            heard(tags)

    def _change(self, mode: Mode) -> None:
        log.info("the cache changes its mode", extra={"from": self._mode.value, "to": mode.value})
        if Mode.ALONE in (mode, self._mode):
            self._copies.clear()
            self._alone.clear(self._alone.clock + 1)  # so that a fill of the last time alone is not one of this
        self._mode = mode

    async def _write(
        self, key: str, response: StoredResponse, keep: float, write: Callable[..., Awaitable[str]]
    ) -> str:
        began_alone = response.as_of < _FIRST_SHARED
        if self.mode() is Mode.ALONE:
            if not began_alone:
                return "begun before Redis was lost"
            return self._alone.insert(key, response, keep)
        if began_alone:
            return "begun while Redis was away"
        reason = await write(key, response, keep=keep)
        if self.mode() is Mode.FULL and not self._copies.insert(key, response, min(keep, self.redis.options.longest)):
            return ""
        return reason


def _is_newer(one: StoredResponse, other: StoredResponse) -> bool:
    return one.response_time > other.response_time
