"""Outcomes on their way to whoever asked for them: posted to the `callback_url` of a route, signed, at least once.

What is to be sent is in a queue on the disk, which is taken from under a lease: after a crash it is sent again. The id
of a message is that of the outcome, so that a receiver knows what it has had. URLs come from the profile alone; nothing
in a request, in a record or in an answer decides where anything is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from typing import Literal

from holdfast.audit import Callback, CallbackQueue
from holdfast.errors import StoreUnavailable
from holdfast.notifying.posting import NotTaken, Post, shown
from holdfast.policy.replaying.schedule import Exponential
from holdfast.policy.signature import sign

logger = logging.getLogger(__name__)
TRIES = 10
SCHEDULE = Exponential(base=5.0, factor=2.28, longest=3600.0, jitter="equal")  # the ninth pause is the hour
AT_ONCE = 10
LEASE = 120.0  # seconds; a try takes a few
LOOK_EVERY = 1.0
Delivery = Literal["sent", "failed", "given_up"]


class Callbacks:
    """Runs until it is cancelled or stopped. ValueError without a key: a callback is always signed."""

    def __init__(
        self,
        queue: CallbackQueue,
        keys: Sequence[bytes],
        post: Post,
        clock: Callable[[], float],
        *,
        count: Callable[[Delivery], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not keys:
            raise ValueError("callbacks need a key to be signed with: set HOLDFAST_WEBHOOK_KEY")
        self.keys = keys  # those that hold from now on
        self.trouble = ""  # why the queue cannot be used just now
        self._queue = queue
        self._post = post
        self._clock = clock
        self._count = count
        self._jitter = jitter
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something has been put into the queue."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is on its way has ended."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """An outage of the queue is sat out."""
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                busy = await self.turn()
            except StoreUnavailable as error:
                if not self.trouble:
                    logger.warning("callbacks are held up", extra={"reason": str(error)})
                self.trouble, busy = str(error), False
            except Exception as error:  # the task must live: without it no outcome is told any more
                logger.exception("callbacks failed")
                self.trouble, busy = f"{type(error).__name__}: {error}", False
            else:
                self.trouble = ""
            if not busy:
                await self._rest()

    async def turn(self) -> bool:
        """Try what is due; whether there was anything."""
        due = await self._queue.due(self._clock(), AT_ONCE, LEASE)
        # One receiver that hangs keeps the others for no longer than one try.
        ended = await asyncio.gather(*(self._try(each) for each in due), return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return bool(due)

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _try(self, callback: Callback) -> None:
        try:
            fields = sign(self.keys, callback.event_id, int(self._clock()), callback.document)
        except ValueError as error:  # it would be the same the next time
            await self._queue.given_up(callback.id, str(error))
            self._count("given_up")
            return
        try:
            await self._post(callback.url, fields, callback.document)
        except NotTaken as error:
            await self._failed(callback, error)
        else:
            await self._queue.done([callback.id])
            self._count("sent")

    async def _failed(self, callback: Callback, error: NotTaken) -> None:
        tries = callback.tries + 1
        told = {"event": callback.event_id, "to": shown(callback.url), "reason": str(error), "tries": tries}
        if error.final or tries >= TRIES:
            await self._queue.given_up(callback.id, str(error))
            self._count("given_up")
            logger.warning("callback given up", extra=told)
            return
        await self._queue.later(callback.id, self._clock() + SCHEDULE.delay(tries, self._jitter()), str(error))
        self._count("failed")

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._wake.wait()
