"""The purge clock and its records in Redis: what they cost, when they go, and what happens when they are lost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.stores import EVERYTHING
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions
from holdfast.stores.redis import RedisStore
from holdfast.stores.redis_record import encode, encode_names, encode_tags
from holdfast.stores.redis_scripts import PUT
from holdfast.stores.tiered import Mode
from tests.contract.responses import PLAIN, body_of, fill, make_response
from tests.integration.redis_load import bare, gateway, until, until_mode
from tests.services.redis import RedisServer


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of one's own."""
    assert redis_url
    with RedisServer(tmp_path / "redis", RedisServer.free_port()) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """Without a memory level."""
    async with bare(server.url) as started:
        yield started


def commands(server: RedisServer) -> int:
    """How many commands Redis has run so far, those within scripts included; without INFO, which asks."""
    with server.client() as client:
        stats: Any = client.info("commandstats")
    return sum(each["calls"] for name, each in stats.items() if name not in ("cmdstat_info", "cmdstat_client|setinfo"))


async def stop_beating(store: RedisStore) -> None:
    """So that only what a test does is counted."""
    assert store.link._beating
    store.link._beating.cancel()
    await asyncio.gather(store.link._beating, return_exceptions=True)


async def put_many(server: RedisServer, store: RedisStore, count: int, tag: str) -> None:
    """Entries with a tag, quicker than one by one."""
    as_of = (await store.get("any", PLAIN)).as_of
    response = make_response(as_of, b"x" * 50, tags=(tag,))
    variant, _ = encode(response, time.time() + 600)
    with server.client() as client:
        script = client.script_load(PUT)
        for start in range(0, count, 2000):
            pipe = client.pipeline(transaction=False)
            for number in range(start, min(start + 2000, count)):
                entry = store.keys.entry(f"key-{number}")
                arguments = ("f", variant, encode_names(()), encode_tags((tag,)), 600_000, 66, 4, "", b"")
                pipe.evalsha(script, 1, entry, *arguments)
            pipe.execute()


@pytest.mark.parametrize("soft", [False, True])
async def test_a_purge_costs_the_same_whatever_it_hits(server: RedisServer, store: RedisStore, soft: bool) -> None:
    """A tag of 100,000 entries takes as many commands as one of ten."""
    await put_many(server, store, 10, "few")
    await put_many(server, store, 100_000, "many")
    await fill(store, "hit", tags=("many",))
    await stop_beating(store)
    costs = {}
    for tag in ("few", "many"):
        before = commands(server)
        await store.purge([tag], soft=soft)
        costs[tag] = commands(server) - before
    assert costs["many"] == costs["few"] < 15
    found = await store.get("hit", PLAIN)
    assert found.soft if soft else found.response is None
    assert await body_of(store, "key-99999") == (b"x" * 50 if soft else None)


async def test_a_hit_is_one_round_trip(store: RedisStore) -> None:
    """Also with Vary and tags, from the second look at a key on; for whoever has not filled it two at first."""
    gzip = ((b"accept-encoding", b"gzip"),)
    await fill(store, "k", tags=("a", "b"), vary="accept-encoding", request=gzip)
    await stop_beating(store)

    async def trips(reader: RedisStore) -> int:
        before = reader.link.calls
        assert await body_of(reader, "k", gzip) == b"hello"
        return reader.link.calls - before

    assert await trips(store) == 1
    store._hints.clear()
    assert [await trips(store), await trips(store)] == [2, 1]
    await fill(store, "plain")
    before = store.link.calls
    await store.get("plain", PLAIN)
    await store.get("unknown", PLAIN)
    assert store.link.calls - before == 2


# --- pruning ---


async def test_the_records_stay_bounded_and_nothing_purged_comes_back(server: RedisServer) -> None:
    """The oldest go first, and whatever was begun before them goes with them."""
    store = open_store(f"{server.url}?memory=0", StoreOptions(max_records=50), time.time)
    assert isinstance(store, RedisStore)
    await store.start()
    await fill(store, "purged", tags=("first",))
    await fill(store, "old", tags=("other",))
    await store.purge(["first"], soft=False)
    for number in range(200):
        await store.purge([f"t{number}", f"u{number}"], soft=bool(number % 2))
        if number == 195:
            await fill(store, "recent")
    with server.client() as client:
        assert client.zcard(store.keys.purges) <= 60
    assert await body_of(store, "purged") is None
    assert await body_of(store, "old") is None
    assert await body_of(store, "recent") == b"hello"
    await store.stop()


async def test_records_older_than_anything_kept_are_dropped(server: RedisServer) -> None:
    """A purge takes care of it."""
    store = open_store(f"{server.url}?memory=0", StoreOptions(longest=0.3), time.time)
    assert isinstance(store, RedisStore)
    await store.start()
    await store.purge([f"t{number}" for number in range(15)], soft=False)
    assert (await store.get("k", PLAIN)).as_of
    await asyncio.sleep(0.4)
    await store.purge(["last"], soft=False)
    with server.client() as client:
        assert client.zcard(store.keys.purges) == 4  # the clock, the process, everything, the last one
    await fill(store, "k")
    assert await body_of(store, "k") == b"hello"
    await store.stop()


async def test_nothing_is_kept_longer_than_purges_are_remembered(server: RedisServer, store: RedisStore) -> None:
    """Whatever the caller asks for."""
    store.options = replace(store.options, longest=100.0)
    await fill(store, "k", keep=1e6)
    with server.client() as client:
        assert 0 < client.ttl(store.keys.entry("k")) <= 100


# --- loss ---


async def lose_by_flush(server: RedisServer, store: RedisStore) -> None:
    with server.client() as client:
        kept = {key: client.dump(key) for key in client.keys(f"{store.keys.prefix}:e:*")}
        client.flushall()
        for key, value in kept.items():
            client.restore(key, 60_000, value)


async def lose_by_eviction(server: RedisServer, store: RedisStore) -> None:
    with server.client() as client:
        client.delete(store.keys.purges)


async def lose_by_snapshot(server: RedisServer, store: RedisStore) -> None:
    """Redis is restarted from a snapshot that is older than the purge."""
    server.kill()
    server.start().wait_ready()

    async def is_back() -> bool:
        return not (await store.get("any", PLAIN)).degraded

    await until(is_back)


@pytest.mark.parametrize("lose", [lose_by_flush, lose_by_eviction, lose_by_snapshot])
async def test_what_was_purged_does_not_come_back_when_the_purge_is_lost(
    server: RedisServer, store: RedisStore, lose: Any
) -> None:
    """With the records everything stored before becomes unusable, fills under way included."""
    await fill(store, "purged", tags=("t",))
    await fill(store, "innocent")
    under_way = make_response((await store.get("late", PLAIN)).as_of, tags=("t",))
    with server.client() as client:
        client.save()
    await store.purge(["t"], soft=False)
    await lose(server, store)
    for key in ("purged", "innocent"):
        assert await body_of(store, key) is None
    await store.put("late", under_way, keep=60)
    assert await body_of(store, "late") is None
    await fill(store, "purged", b"new", tags=("t",))
    assert await body_of(store, "purged") == b"new"


async def test_a_restart_between_two_look_ups_is_noticed_at_once(server: RedisServer, store: RedisStore) -> None:
    """Not only by the next beat: a new process does not know the scripts, however quietly one has reconnected."""
    await stop_beating(store)
    await fill(store, "k", tags=("t",))
    with server.client() as client:
        client.save()
    await store.purge(["t"], soft=False)
    before = store.link.clock
    server.kill()
    server.start().wait_ready()
    await store.link.nodes.of(store.keys.purges).drop_idle()
    found = await store.get("k", PLAIN)
    assert (found.response, found.degraded) == (None, "")
    assert found.as_of > before + 1
    assert await body_of(store, "k") is None


async def test_another_gateway_hears_that_everything_was_lost(server: RedisServer) -> None:
    """Its memory level is worth no more than Redis."""
    async with gateway(server.url) as one, gateway(server.url) as other:
        await fill(one, "k")
        assert await body_of(other, "k") == b"hello"
        await lose_by_eviction(server, one.redis)
        await until(lambda: other.lookup("k", PLAIN) is None and one.lookup("k", PLAIN) is None)
        assert one.mode() is other.mode() is Mode.FULL


async def test_a_policy_that_may_evict_the_records_is_told(redis_url: str, tmp_path: Path) -> None:
    """An operator can do something about it; it works all the same."""
    assert redis_url
    options = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]
    with RedisServer(tmp_path / "lru", RedisServer.free_port(), options) as server:
        async with gateway(server.url) as store:
            assert "allkeys-lru" in store.health().detail
            assert store.health().ok
    async with gateway(f"{redis_url}?prefix=test-{uuid.uuid4().hex}") as store:
        assert "maxmemory" not in store.health().detail


async def test_a_redis_that_evicts_at_random_serves_nothing_purged(redis_url: str, tmp_path: Path) -> None:
    """allkeys-random, far too small: the records are evicted again and again."""
    assert redis_url
    options = ["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random", "--maxmemory-samples", "1"]
    with RedisServer(tmp_path / "random", RedisServer.free_port(), options) as server:
        async with bare(server.url) as store:
            for turn in range(60):
                await fill(store, "k", b"old", tags=("t",))
                await store.purge(["t" if turn % 2 else EVERYTHING], soft=False)
                for number in range(20):
                    found = await store.get(f"{turn}-{number}", PLAIN)
                    await store.put(f"{turn}-{number}", make_response(found.as_of, b"x" * 5000), keep=60)
                assert await body_of(store, "k") is None
            evicted: Any = server.client().info("stats")
            assert evicted["evicted_keys"] > 100


async def test_stores_of_different_prefixes_have_nothing_in_common(server: RedisServer) -> None:
    """Several gateways' caches may share a Redis."""
    async with gateway(f"{server.url}?prefix=one") as one, gateway(f"{server.url}?prefix=two") as two:
        await fill(one, "k", b"one")
        await fill(two, "k", b"two")
        await one.purge([EVERYTHING], soft=False)
        assert await body_of(one, "k") is None
        assert await body_of(two, "k") == b"two"
        await until_mode(two, Mode.FULL)
