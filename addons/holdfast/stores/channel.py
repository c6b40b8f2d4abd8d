"""The channel on which Redis tells of purges, and until when one may rely on having heard of all of them.

**Trust is a lease.** A ping is sent on the channel itself, carrying the purge clock that was read just before. Its echo
comes behind every purge up to that clock, so it proves that all of them have been heard; from the moment the ping was
*sent*, that holds for `LEASE` seconds. Without an echo the lease runs out by itself, whatever the reason: a cut cable,
a frozen Redis, a busy gateway.

A purge names the clock that it found. If that is not where the purge before it left the clock, one has been missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from redis.exceptions import RedisError

from holdfast.stores.redis_link import RedisLink, Refused, Unreachable
from holdfast.stores.redis_nodes import Node

log = logging.getLogger(__name__)

LEASE = 1.0
_PAUSE = 0.1  # before the next attempt to listen


class Listener(Protocol):
    """What hears of purges."""

    def synced(self, clock: int) -> None:
        """From here on every purge will be heard of; `clock` is where the purge clock is now."""

    def purged(self, tags: Sequence[str], value: int, *, soft: bool) -> None:
        """Somebody has purged these tags, which were given this value of the clock."""


class Channel:
    """One connection that listens. `trusted_until` is a time of the monotonic clock, to be compared on every use."""

    def __init__(
        self, link: RedisLink, listener: Listener, monotonic: Callable[[], float] = time.monotonic, lease: float = LEASE
    ) -> None:
        self.trusted_until = 0.0
        self.losses = 0  # how often the channel ended, or a purge was missed
        self._link = link
        self._listener = listener
        self._monotonic = monotonic
        self._lease = lease
        self._connection: Any = None
        self._home: Node | None = None  # in a cluster the node can change
        self._synced = False
        self._trusted = asyncio.Event()
        self._clock = 0  # where the last purge that was heard of has left it
        self._pings: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        link.listeners.append(self._ping)

    async def start(self) -> None:
        """Listen, and wait a little for the first echo: most gateways start with a Redis that is there."""
        self._listening = asyncio.create_task(self._listen(), name="redis channel")
        if self._link.trouble:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._link.timeout):
                await self._trusted.wait()

    async def stop(self) -> None:
        self._link.listeners.remove(self._ping)
        tasks = [*self._pings, *([self._listening] if self._listening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._distrust()

    # --- the connection ---

    async def _listen(self) -> None:
        while True:
            try:
                if not self._link.trouble:
                    await self._follow()
            except (RedisError, OSError, TimeoutError, Unreachable, Refused) as error:
                log.info("the channel of purges is lost", extra={"reason": str(error) or type(error).__name__})
            except Exception:
                log.exception("listening for purges has failed")
            await asyncio.sleep(_PAUSE)

    async def _follow(self) -> None:
        """Until the connection ends, or nothing was heard for as long as the lease."""
        node = self._home = self._link.nodes.of(self._link.keys.purges)
        connection: Any = node.connection()
        try:
            async with asyncio.timeout(self._lease):
                await connection.connect()
                await connection.send_command("SUBSCRIBE", self._link.keys.channel)
                await connection.read_response()
            self._connection = connection
            await self._sync()
            while True:
                async with asyncio.timeout(self._lease):
                    message = await connection.read_response()
                await self._heard(message)
        finally:
            self._distrust()
            self.losses += 1
            await connection.disconnect(nowait=True)

    async def _sync(self) -> None:
        """We listen already: whatever is purged after this look at the clock will be heard."""
        self._synced = False
        await self._link.check()
        self._clock = self._link.clock
        self._listener.synced(self._clock)
        self._synced = True
        self._ping(self._clock)

    async def _heard(self, message: Any) -> None:
        kind = message[0] if isinstance(message, list) and message else b""
        if kind == b"pong":
            sent, clock = message[1].split()
            if int(clock) > self._clock:
                log.warning("a purge was not heard of, the memory level is cleared", extra={"clock": int(clock)})
                self.losses += 1
                await self._sync()
            elif self._synced:
                self.trusted_until = max(self.trusted_until, float(sent) + self._lease)
                self._trusted.set()
        elif kind == b"message":
            await self._purged(message[2])

    async def _purged(self, data: bytes) -> None:
        try:
            before, value, kind, *tags = msgspec.msgpack.decode(data, type=tuple[int | str, ...])
        except (msgspec.DecodeError, ValueError):
            await self._sync()
            return
        before, value = int(before), int(value)
        if before > self._clock or before == 0:
            self.losses += 1
            await self._sync()
        self._clock = max(self._clock, value + 1)
        self._listener.purged([str(tag) for tag in tags], value, soft=kind == "s")

    def _ping(self, clock: int) -> None:
        """With each beat, while Redis answers."""
        if self._connection is None or self._pings or self._home is not self._link.nodes.of(self._link.keys.purges):
            return  # what cannot be pinged in order loses its lease
        task = asyncio.create_task(self._send(f"{self._monotonic()!r} {clock}"), name="redis ping")
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)

    async def _send(self, text: str) -> None:
        connection = self._connection
        with contextlib.suppress(RedisError, OSError, TimeoutError, AttributeError):  # the reader sees it end
            async with asyncio.timeout(self._lease):
                await connection.send_command("PING", text)

    def _distrust(self) -> None:
        self.trusted_until = 0.0
        self._synced = False
        self._connection = None
