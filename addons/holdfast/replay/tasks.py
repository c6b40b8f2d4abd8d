"""What is under way beside the loop of the replayer: replays, and errands that may have to wait for others.

Whatever becomes of one of them, the lane of its capture goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from holdfast.errors import HoldfastError
from holdfast.replay.lanes import Held, Lanes

logger = logging.getLogger(__name__)
_AWAY = (HoldfastError, OSError)

Action = Callable[[], Awaitable[None]]


class Tasks:
    """`clock` gives epoch seconds; `ended` is called whenever one has ended."""

    def __init__(self, lanes: Lanes, clock: Callable[[], float], ended: Callable[[], None]) -> None:
        self.sending: dict[asyncio.Task[None], int] = {}  # bytes of each
        self._errands: dict[asyncio.Task[None], int] = {}  # messages of each
        self._lanes = lanes
        self._clock = clock
        self._on_end = ended

    @property
    def bytes(self) -> int:
        """Of all that is being sent, or waits for its outcome to be noted."""
        return sum(self.sending.values())

    @property
    def messages(self) -> int:
        """That errands have, and no lane."""
        return sum(self._errands.values())

    def send(self, action: Action, held: Held) -> None:
        """A replay of this capture."""
        task = self._task(action, held, f"replay {held.arrival.id}")
        self.sending[task] = sum(taken.size for taken in held.takens)

    def errand(self, action: Action, held: Held | None = None, messages: int = 0) -> None:
        """Anything else; about this capture, if any."""
        self._errands[self._task(action, held, "replay errand")] = messages

    async def ended(self, within: float) -> None:
        """Wait for all of them, so many seconds at most."""
        if under_way := [*self.sending, *self._errands]:
            await asyncio.wait(under_way, timeout=within)

    def cancel(self) -> None:
        """All of them."""
        for task in (*self.sending, *self._errands):
            task.cancel()

    def _task(self, action: Action, held: Held | None, name: str) -> asyncio.Task[None]:
        if held:
            held.busy = True
        task = asyncio.create_task(self._watched(action, held), name=name)
        task.add_done_callback(self._ended)
        return task

    async def _watched(self, action: Action, held: Held | None) -> None:
        try:
            await action()
        except Exception as error:  # nothing but this one is to suffer from it
            if not isinstance(error, _AWAY):
                logger.exception("a replay failed")
            if held:
                self._later(held, error)
        finally:
            if held:
                held.busy = False
                if self._lanes.is_forgotten(held):
                    self._lanes.at(held, self._clock())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.sending.pop(task, None)
        self._errands.pop(task, None)
        self._on_end()

    def _later(self, held: Held, error: Exception) -> None:
        """Something on our side did not work: the capture is as it was."""
        held.failures += 1
        held.is_leaving = held.is_back = False
        pause = min(30.0, 0.5 * 2 ** min(held.failures, 6))
        told = {"id": held.arrival.id, "reason": str(error) or type(error).__name__, "seconds": pause}
        logger.warning("replay put off", extra=told)
        self._lanes.at(held, self._clock() + pause)
