"""Asking the stores from a command of mitmproxy, which has to have its answer at once.

They are asked on a thread with an event loop of its own. The gateway's stands still meanwhile, so that is bounded.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from holdfast.captures.opening import Places, opened
from holdfast.captures.view import Captures
from holdfast.errors import StoreUnavailable

PATIENCE = 1.5  # seconds: less than most timeouts of those whose requests are under way


def ask[T](places: Places, question: Callable[[Captures], Awaitable[T]], patience: float = PATIENCE) -> T:
    """What it says. StoreUnavailable where a store does not answer in time."""
    told: Future[T] = Future()

    async def answer() -> T:
        async with opened(places) as captures:
            return await question(captures)

    def work() -> None:
        try:
            told.set_result(asyncio.run(answer()))
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is waited for
            told.set_exception(error)

    threading.Thread(target=work, name="holdfast commands", daemon=True).start()
    try:
        return told.result(patience)
    except TimeoutError:
        raise StoreUnavailable(f"the stores of captures did not answer within {patience:g} s") from None
