"""Bytes that are dealt with where they arrive, and not by the task that waits for them.

To wake that task costs a future, a turn of the event loop and a step of the task, for each piece of each message. It is
left to wait where it would have nothing else to do: it reads, and then waits until what it caused has been written,
which is at once while nothing is held up. (asyncio of Python 3.12 and 3.13)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from holdfast.engine.speedups.inline import InlineConnection

LARGEST = 64 * 1024
"""Bytes. What is more goes by the task, in pieces of this size."""


def feed_directly(reader: asyncio.StreamReader, take: Callable[[bytes], bool]) -> None:
    """Offer to `take` what comes while somebody waits for it. False: it goes to whoever waits."""
    inner: Any = reader  # whose state has no public name
    feed = inner.feed_data

    def feed_data(data: bytes) -> None:
        waiter = inner._waiter
        waits = waiter is not None and not waiter.done() and not inner._buffer
        if not (waits and len(data) <= LARGEST and take(data)):
            feed(data)

    inner.feed_data = feed_data


def feed_client(handler: InlineConnection) -> None:
    """What this handler's client sends, to the handler."""
    client = handler.client
    reader = handler.transports[client].reader
    if isinstance(reader, asyncio.StreamReader):
        feed_directly(reader, lambda data: handler.take(client, data))
