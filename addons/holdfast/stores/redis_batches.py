"""Calls to one server that come at about the same time go out together, in one write and one read.

To ask Redis costs this process far more than it costs Redis: a connection, a time limit, a task's turn or two. While
calls are under way, those that come meanwhile wait for the next batch; there is nothing to wait for otherwise. What is
large, or asked in spite of an outage, goes by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

type Command = tuple[Any, ...]
type Send = Callable[[Sequence[Command], float], Awaitable[list[Any]]]

AT_ONCE = 2
"""Batches that are under way: one that waits for a slow answer holds nobody up for long."""
LARGE = 16 * 1024
"""Bytes of one command's argument."""


class Batches:
    """Of one server. `send` carries commands out, within so many seconds; what it raises, each caller is told."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[tuple[Sequence[Command], float, asyncio.Future[list[Any]]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def ask(self, commands: Sequence[Command], bound: float) -> list[Any]:
        """The answers in order."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((commands, bound, answered))
        if len(self._waiting) == 1:
            loop.call_soon(self._go)
        return await answered

    def _go(self) -> None:
        if self._waiting and len(self._under_way) < AT_ONCE:
            taken, self._waiting = self._waiting, []
            task = asyncio.create_task(self._carry_out(taken), name="redis batch")
            self._under_way.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._go()

    async def _carry_out(self, taken: list[tuple[Sequence[Command], float, asyncio.Future[list[Any]]]]) -> None:
        waiting = [each for each in taken if not each[2].done()]  # else its caller has gone
        if not waiting:
            return
        try:
            answers = await self._send(
                [command for commands, _, _ in waiting for command in commands],
                max(bound for _, bound, _ in waiting),
            )
        except BaseException as error:
            for _, _, answered in waiting:
                if isinstance(error, asyncio.CancelledError):
                    answered.cancel()
                elif not answered.done():
                    answered.set_exception(_one_more(error))
            if not isinstance(error, Exception):
                raise
            return
        for commands, _, answered in waiting:
            if not answered.done():
                answered.set_result(answers[: len(commands)])
            del answers[: len(commands)]


def _one_more(error: BaseException) -> BaseException:
    """Another one that says the same, for each task adds to the trace of what it raises; itself, if need be."""
    try:
        return type(error)(*error.args)
    except Exception:  # noqa: BLE001  # it is made of something else than its `args`
        return error


def is_small(commands: Sequence[Command]) -> bool:
    """Whether it may go with others."""
    for command in commands:
        for argument in command:
            if isinstance(argument, bytes | str) and len(argument) > LARGE:
                return False
    return True
