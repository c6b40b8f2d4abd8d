"""One request upstream for a key at a time."""

from __future__ import annotations

import asyncio

from holdfast.caching.coalescing import Coalescing


async def test_the_first_fills_and_the_others_wait_for_its_end() -> None:
    """However it ends; and only its owner ends it."""
    fills = Coalescing(lambda: 0.0)
    assert fills.begin("a", "one", 5.0) is None
    event = fills.begin("a", "one", 5.0)
    assert event is not None
    assert fills.begin("b", "two", 5.0) is None
    waiting = asyncio.create_task(fills.wait(event, 5.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    fills.end("a", "another")
    assert not waiting.done()
    fills.end("a", "one")
    await asyncio.wait_for(waiting, 1.0)
    assert fills.begin("a", "one", 5.0) is None


async def test_nobody_waits_longer_than_was_said() -> None:
    """A fill that hangs holds nobody."""
    fills = Coalescing(lambda: 0.0)
    fills.begin("a", "one", 5.0)
    event = fills.begin("a", "one", 5.0)
    assert event is not None
    await asyncio.wait_for(fills.wait(event, 0.01), 1.0)
    assert not event.is_set()
