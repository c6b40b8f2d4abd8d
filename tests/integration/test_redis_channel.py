"""Gateways that share a Redis: a purge on one is seen on all, and a channel that is lost is not trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.stores import EVERYTHING, url_tag
from holdfast.stores.tiered import Mode, TieredStore
from tests.contract.responses import PLAIN, body_of, fill, make_response
from tests.integration.redis_load import Load, gateway, until, until_mode
from tests.services.cable import Cable
from tests.services.redis import RedisServer


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of one's own."""
    assert redis_url
    with RedisServer(tmp_path / "redis", RedisServer.free_port()) as running:
        yield running


@pytest.fixture
async def pair(server: RedisServer) -> AsyncIterator[tuple[TieredStore, TieredStore]]:
    """Two gateways on one Redis."""
    async with gateway(server.url) as one, gateway(server.url) as other:
        yield one, other


def cut_channels(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def test_what_one_fills_another_finds_and_then_has_in_memory(pair: tuple[TieredStore, TieredStore]) -> None:
    """The second look-up asks nobody."""
    one, other = pair
    response = await fill(one, "k", tags=("t",))
    assert [(await other.get("k", PLAIN)).level for _ in range(2)] == ["redis", "memory"]
    found = other.lookup("k", PLAIN)
    assert found and found.response == response


@pytest.mark.parametrize("tag", ["t", EVERYTHING, url_tag("k")])
async def test_a_purge_on_one_is_seen_on_all_within_milliseconds(
    pair: tuple[TieredStore, TieredStore], tag: str
) -> None:
    """Without anybody asking."""
    one, other = pair
    took = []
    for _ in range(50):
        await fill(one, "k", tags=("t",))
        assert await body_of(other, "k") == b"hello"
        await one.purge([tag], soft=False)
        assert one.lookup("k", PLAIN) is None
        took.append(await until(lambda: other.lookup("k", PLAIN) is None))
    assert sorted(took)[25] < 0.1  # one or the other may meet a busy moment of the machine


async def test_a_soft_purge_is_seen_on_all(pair: tuple[TieredStore, TieredStore]) -> None:
    """And what one of them renews is found by the other, when it asks for something fresher than its own copy."""
    one, other = pair
    response = await fill(one, "k", tags=("t",), arrived=1000.0)
    assert await body_of(other, "k") == b"hello"
    await one.purge(["t"], soft=True)

    def is_stale_there() -> bool:
        found = other.lookup("k", PLAIN)
        return bool(found and found.soft)

    await until(is_stale_there)
    renewed = replace(response, as_of=(await one.get("k", PLAIN)).as_of, response_time=2000.0)
    assert await one.touch("k", renewed, keep=60) == ""
    assert (await other.get("k", PLAIN)).soft
    found = await other.get("k", PLAIN, fresh_enough=1500.0)
    assert found.response == renewed
    assert not found.soft
    assert (await other.get("k", PLAIN)).level == "memory"


async def test_a_channel_that_was_cut_is_back_soon_and_the_copies_with_it(
    server: RedisServer, pair: tuple[TieredStore, TieredStore]
) -> None:
    """Nothing was purged meanwhile, which the clock proves."""
    one, other = pair
    await fill(one, "k")
    await body_of(other, "k")
    cut_channels(server)
    await until(lambda: other.mode() is Mode.SHARED)
    assert other.lookup("k", PLAIN) is None
    assert await body_of(other, "k") == b"hello"
    assert await until_mode(other, Mode.FULL) < 4
    found = other.lookup("k", PLAIN)
    assert found and found.level == "memory"


async def test_what_is_purged_while_the_channel_is_cut_is_not_served(
    server: RedisServer, pair: tuple[TieredStore, TieredStore]
) -> None:
    """Neither while it is cut nor afterwards."""
    one, other = pair
    for _ in range(10):
        await fill(one, "k", tags=("t",))
        await fill(one, "innocent")
        assert await body_of(other, "k") == b"hello"
        await body_of(other, "innocent")
        cut_channels(server)
        await until(lambda: other.mode() is Mode.SHARED)
        await one.purge(["t"], soft=False)
        assert await body_of(other, "k") is None
        await until_mode(other, Mode.FULL)
        assert await body_of(other, "k") is None
        assert await body_of(other, "innocent") == b"hello"


async def test_a_fill_during_which_the_channel_was_lost_is_judged_by_redis(
    server: RedisServer, pair: tuple[TieredStore, TieredStore]
) -> None:
    """The memory level cannot know what was purged in between."""
    one, other = pair
    late = make_response((await other.get("late", PLAIN)).as_of, tags=("t",))
    cut_channels(server)
    await until(lambda: other.mode() is Mode.SHARED)
    await one.purge(["t"], soft=False)
    await until_mode(other, Mode.FULL)
    await other.put("late", late, keep=60)
    assert await body_of(other, "late") is None


async def test_a_purge_whose_message_is_lost_is_noticed(
    server: RedisServer, pair: tuple[TieredStore, TieredStore]
) -> None:
    """By the next message or the next echo, whichever is first: they tell where the clock should be."""
    one, other = pair
    await fill(one, "k", tags=("t",))
    assert await body_of(other, "k") == b"hello"
    with server.client() as client:
        purges = one.redis.keys.purges
        clock: Any = client.zscore(purges, "c")
        client.zadd(purges, {"ht": clock, "c": clock + 1})  # as a purge does, without telling anybody
    assert await until(lambda: other.lookup("k", PLAIN) is None) < 4
    assert await body_of(other, "k") is None
    await until_mode(other, Mode.FULL)
    assert other.channel.losses


async def test_a_message_that_makes_no_sense_costs_the_copies_and_nothing_else(
    server: RedisServer, pair: tuple[TieredStore, TieredStore]
) -> None:
    """Anybody can publish."""
    one, other = pair
    with server.client() as client:
        for message in (b"", b"\xff\xff", b"\x93\x01\x02", b"\x94\xa1x\xa1y\xa1h\xa1t"):
            client.publish(one.redis.keys.channel, message)
    await asyncio.sleep(0.3)
    await until_mode(other, Mode.FULL)
    await fill(one, "k", tags=("t",))
    assert await body_of(other, "k") == b"hello"
    await one.purge(["t"], soft=False)
    await until(lambda: other.lookup("k", PLAIN) is None)


async def test_a_gateway_that_slept_does_not_trust_its_memory_when_it_wakes(
    pair: tuple[TieredStore, TieredStore],
) -> None:
    """Trust is a lease: it runs out while nothing of this process runs."""
    one, other = pair
    await fill(one, "k")
    assert await body_of(other, "k") == b"hello"
    time.sleep(1.1)
    assert other.lookup("k", PLAIN) is None
    await until_mode(other, Mode.FULL)


async def test_a_channel_that_keeps_breaking_serves_nothing_purged(server: RedisServer) -> None:
    """Cut every few milliseconds, with purges from elsewhere and load of its own."""
    async with (
        Cable(server.port) as cable,
        gateway(f"redis://127.0.0.1:{cable.port}") as shaky,
        gateway(server.url) as steady,
        Load(shaky),
    ):
        for turn in range(30):
            body = b"%d" % turn
            await fill(steady, "k", body, tags=("t",))
            await body_of(shaky, "k")
            if turn % 3 == 0:
                cable.cut()
                await steady.purge(["t"], soft=False)
                await cable.mend()
            else:
                cut_channels(server)
                await steady.purge(["t"], soft=False)
            await asyncio.sleep(0.01)
            if shaky.mode() is Mode.SHARED:
                assert await body_of(shaky, "k") is None
            await until_mode(shaky, Mode.FULL)
            assert await body_of(shaky, "k") is None
