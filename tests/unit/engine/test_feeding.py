"""feeding: what is dealt with where it arrives, and what goes to whoever waits for it, in the order of its coming."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.engine.speedups.feeding import LARGEST, feed_client, feed_directly


class Taker:
    """Takes what comes while it is willing."""

    def __init__(self) -> None:
        self.willing = True
        self.took: list[bytes] = []

    def __call__(self, data: bytes) -> bool:
        if self.willing:
            self.took.append(data)
        return self.willing


@pytest.fixture
async def reader() -> asyncio.StreamReader:
    """One that nobody waits for."""
    return asyncio.StreamReader()


async def waiting(reader: asyncio.StreamReader) -> asyncio.Task[bytes]:
    """Somebody waits for it now."""
    task = asyncio.create_task(asyncio.wait_for(reader.read(LARGEST * 2), 10))
    await asyncio.sleep(0)
    return task


async def test_what_somebody_waits_for_is_taken_on_the_spot(reader: asyncio.StreamReader) -> None:
    """And whoever waits goes on waiting, until the end."""
    feed_directly(reader, take := Taker())
    task = await waiting(reader)
    for data in (b"a", b"b", b"x" * LARGEST):
        reader.feed_data(data)
    assert take.took == [b"a", b"b", b"x" * LARGEST]
    await asyncio.sleep(0)
    assert not task.done()
    reader.feed_eof()
    assert await task == b""


async def test_what_nobody_waits_for_is_kept_in_order(reader: asyncio.StreamReader) -> None:
    """It must not overtake what is there already, nor come before that has been dealt with."""
    feed_directly(reader, take := Taker())
    reader.feed_data(b"a")
    task = await waiting(reader)  # has what is there, and is through
    reader.feed_data(b"b")
    assert await task == b"a"
    assert await reader.read(9) == b"b"
    assert take.took == []


async def test_what_is_not_taken_wakes_whoever_waits_and_what_follows_stays_behind_it(
    reader: asyncio.StreamReader,
) -> None:
    """`take` said no once; it is not asked again before that has been read."""
    feed_directly(reader, take := Taker())
    task = await waiting(reader)
    take.willing = False
    reader.feed_data(b"a")
    take.willing = True
    reader.feed_data(b"b")
    assert await task == b"ab"
    task = await waiting(reader)
    reader.feed_data(b"c")
    assert take.took == [b"c"]
    reader.feed_eof()
    assert await task == b""


async def test_what_is_large_goes_by_the_task(reader: asyncio.StreamReader) -> None:
    """Which reads it in pieces, and waits between them."""
    feed_directly(reader, take := Taker())
    task = await waiting(reader)
    reader.feed_data(b"x" * (LARGEST + 1))
    reader.feed_data(b"y")
    assert await task == b"x" * (LARGEST + 1) + b"y"
    assert take.took == []


async def test_somebody_who_has_gone_waits_no_more(reader: asyncio.StreamReader) -> None:
    """What comes is kept for the next."""
    feed_directly(reader, take := Taker())
    task = await waiting(reader)
    task.cancel()
    reader.feed_data(b"a")
    assert take.took == []
    assert await reader.read(9) == b"a"


async def test_what_a_client_sends_goes_to_its_handler(reader: asyncio.StreamReader) -> None:
    """With the connection that it came on. What is read in another way is left alone."""
    took: list[tuple[object, bytes]] = []
    handler: Any = SimpleNamespace(
        client="client",
        transports={"client": SimpleNamespace(reader=reader)},
        take=lambda connection, data: took.append((connection, data)) or True,
    )
    feed_client(handler)
    task = await waiting(reader)
    reader.feed_data(b"a")
    assert took == [("client", b"a")]
    reader.feed_eof()
    assert await task == b""
    handler.transports["client"].reader = other = SimpleNamespace(feed_data=None)
    feed_client(handler)
    assert other.feed_data is None
