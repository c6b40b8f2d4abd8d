"""Notices on their way to one target: in order, tried again, bounded, and never anybody's concern but their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from typing import Literal

from mitmproxy.utils import asyncio_utils

from holdfast.notifying.posting import NotTaken
from holdfast.notifying.targets import Event, Target

logger = logging.getLogger(__name__)
MOST = 500  # notices that wait for one target
_SPREAD = 0.2  # of a pause: targets that failed together are not asked together
Delivery = Literal["sent", "failed", "dropped"]


class Courier:
    """One target's. `pauses` are the seconds between two tries; `trouble` is why the last try failed, if it did."""

    def __init__(
        self, target: Target, pauses: Sequence[float], count: Callable[[Event, Delivery], None], most: int = MOST
    ) -> None:
        self.target = target
        self.pauses = pauses
        self.trouble = ""
        self._count = count
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(most)
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Notices that nobody has begun to deliver."""
        return self._waiting.qsize()

    def start(self) -> None:
        """On the running loop."""
        self._task = asyncio_utils.create_task(self._run(), name=f"notices to {self.target.name}", keep_ref=True)

    def put(self, event: Event) -> None:
        """Returns at once; at the bound the notice is dropped and counted."""
        if self._closing.is_set():
            self._count(event, "dropped")
            return
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._count(event, "dropped")
            logger.warning("notice dropped", extra={"target": self.target.name, "reason": "too many are waiting"})

    async def close(self, within: float) -> None:
        """Each that waits is tried once more, for so many seconds altogether; the rest is dropped."""
        self._closing.set()
        if self._task:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._waiting.join()
            self._task.cancel()
        while not self._waiting.empty():
            self._count(self._waiting.get_nowait(), "dropped")
            self._waiting.task_done()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.target.close()

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            event = await self._waiting.get()
            try:
                await self._deliver(event)
            except asyncio.CancelledError:
                self._count(event, "dropped")
                raise
            except Exception as error:  # the task must live: without it nobody is told of anything any more
                self.trouble = f"{type(error).__name__}: {error}"
                self._count(event, "failed")
                logger.exception("notice failed", extra={"target": self.target.name})
            finally:
                self._waiting.task_done()

    async def _deliver(self, event: Event) -> None:
        tried = 0
        while True:
            try:
                await self.target.send(event)
            except NotTaken as error:
                self.trouble = str(error)
                tried += 1
                if error.final or tried > len(self.pauses) or self._closing.is_set():
                    self._count(event, "failed")
                    told = {"target": self.target.name, "notice": event.name, "route": event.route, "tries": tried}
                    logger.warning("notice not delivered", extra=told | {"reason": str(error)})
                    return
                await self._pause(self.pauses[tried - 1])
            else:
                self.trouble = ""
                self._count(event, "sent")
                return

    async def _pause(self, seconds: float) -> None:
        """Cut short by a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD)):
                await self._closing.wait()
