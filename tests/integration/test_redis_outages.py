"""Redis down, hung, slow, restarted, read-only, out of memory: no call takes long, none raises, and it comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.stores.tiered import Mode, TieredStore
from tests.contract.responses import PLAIN, body_of, fill, make_response
from tests.integration.redis_load import BOUND, TIMEOUT, Load, bare, gateway, until, until_mode
from tests.services.cable import Cable
from tests.services.redis import RedisServer


@pytest.fixture
def server(redis_url: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of one's own."""
    assert redis_url
    with RedisServer(tmp_path / "redis", RedisServer.free_port()) as running:
        yield running
        running.resume()


FAULTS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None], str]] = {
    "killed": (RedisServer.kill, RedisServer.restart, "Redis at"),
    "stopped": (RedisServer.stop, RedisServer.restart, "Redis at"),
    "frozen": (RedisServer.pause, RedisServer.resume, "does not answer within"),
    "read-only": (RedisServer.demote, RedisServer.promote, "is a read-only replica"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_outage_costs_no_call_much_and_ends_by_itself(server: RedisServer, fault: str) -> None:
    """Promise 2. The memory level alone serves what is filled meanwhile, and drops it afterwards."""
    break_it, mend_it, reason = FAULTS[fault]
    async with gateway(server.url) as store, Load(store) as load:
        await fill(store, "before", b"before")
        assert store.mode() is Mode.FULL
        await asyncio.to_thread(break_it, server)
        await until_mode(store, Mode.ALONE)
        assert (await store.get("before", PLAIN)).response is None
        await fill(store, "meanwhile", b"meanwhile")
        await asyncio.sleep(1)
        found = await store.get("meanwhile", PLAIN)
        assert (found.response and found.response.body, found.level) == (b"meanwhile", "memory")
        assert reason in found.degraded
        assert not store.health().ok
        assert store.health().mode == "memory only"
        await asyncio.to_thread(mend_it, server)
        assert await until_mode(store, Mode.FULL) < 4
        assert await body_of(store, "meanwhile") is None
        await fill(store, "after", b"after")
        assert not (await store.get("after", PLAIN)).degraded
        assert store.health().ok
    assert load.slowest < BOUND
    assert load.calls > 100


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_a_memory_level_an_outage_is_a_miss(server: RedisServer, fault: str) -> None:
    """With a reason; locks are given to everybody, and nothing is kept."""
    break_it, mend_it, reason = FAULTS[fault]
    async with bare(server.url) as store, Load(store) as load:
        response = await fill(store, "k")
        await asyncio.to_thread(break_it, server)
        await until(lambda: bool(store.link.trouble))
        found = await store.get("k", PLAIN)
        assert found.response is None
        assert reason in found.degraded
        assert await store.put("k", response, keep=60) == found.degraded
        assert await store.lock("k", seconds=60)
        assert await store.lock("k", seconds=60)
        assert (store.health().ok, store.health().mode) == (False, "none")
        await asyncio.to_thread(mend_it, server)
        await until(lambda: not store.link.trouble)
        await fill(store, "k2")
        assert await body_of(store, "k2")
    assert load.slowest < BOUND


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_purge_that_redis_cannot_take_is_not_answered(server: RedisServer, fault: str) -> None:
    """StoreUnavailable, within a bound; what this gateway has of its own is gone all the same."""
    break_it, mend_it, _ = FAULTS[fault]
    async with gateway(server.url) as store:
        await fill(store, "k", tags=("t",))
        await asyncio.to_thread(break_it, server)
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="not purged"):
            await store.purge(["t"], soft=False)
        assert time.monotonic() - began < 2 * BOUND
        found = store.lookup("k", PLAIN)
        assert found is None or found.response is None
        await until_mode(store, Mode.ALONE)
        await fill(store, "alone", tags=("t",))
        with pytest.raises(StoreUnavailable):
            await store.purge(["t"], soft=False)
        assert await body_of(store, "alone") is None
        await asyncio.to_thread(mend_it, server)
        await until_mode(store, Mode.FULL)
        await store.purge(["t"], soft=False)


async def test_a_gateway_starts_without_redis_and_finds_it_later(server: RedisServer) -> None:
    """An outage at start is not an error."""
    server.kill()
    async with gateway(server.url) as store:
        assert store.mode() is Mode.ALONE
        await fill(store, "k")
        await asyncio.to_thread(RedisServer.restart, server)
        await until_mode(store, Mode.FULL)
        await fill(store, "k")
        assert await body_of(store, "k") == b"hello"


async def test_a_hung_redis_is_asked_once_and_not_by_everybody(server: RedisServer) -> None:
    """After the first failure nobody waits."""
    async with bare(server.url) as store:
        server.pause()
        await store.get("k", PLAIN)
        took = []
        for _ in range(5):  # the machine has its moments
            began = time.monotonic()
            await asyncio.gather(*(store.get(f"k{number}", PLAIN) for number in range(500)))
            took.append(time.monotonic() - began)
        assert min(took) < TIMEOUT


async def test_a_slow_redis_is_worth_less_than_none(server: RedisServer) -> None:
    """Answers that come too late are not waited for; it is used again once it is quick."""
    async with Cable(server.port) as cable, gateway(f"redis://127.0.0.1:{cable.port}") as store, Load(store) as load:
        cable.delay = 1.5 * TIMEOUT
        await until_mode(store, Mode.ALONE)
        await asyncio.sleep(1.5)
        assert store.mode() is Mode.ALONE
        cable.delay = 0.0
        await until_mode(store, Mode.FULL)
    assert load.slowest < BOUND


async def test_a_somewhat_slow_redis_is_used(server: RedisServer) -> None:
    """Within the bound it is Redis as usual."""
    async with Cable(server.port) as cable, gateway(f"redis://127.0.0.1:{cable.port}") as store:
        cable.delay = 0.02
        await fill(store, "k")
        await asyncio.sleep(1.5)
        assert store.mode() is Mode.FULL
        assert store.health().figures["outages"] == 0


async def test_an_answer_that_was_not_waited_for_is_not_taken_for_another(server: RedisServer) -> None:
    """A connection with an answer still on its way is not used again."""
    async with Cable(server.port) as cable, bare(f"redis://127.0.0.1:{cable.port}") as store:
        for number in range(10):
            await fill(store, f"k{number}", b"%d" % number)
        for _ in range(3):
            cable.delay = 1.2 * TIMEOUT
            await asyncio.gather(*(store.get(f"k{number}", PLAIN) for number in range(10)))
            cable.delay = 0.0
            await until(lambda: not store.link.trouble)
            for number in range(10):
                assert await body_of(store, f"k{number}") in (b"%d" % number, None)


async def test_out_of_memory_keeps_reads_and_purges_going(server: RedisServer) -> None:
    """Only new entries are refused, and by the memory level not even those."""
    async with gateway(server.url) as store, bare(server.url) as plain, Load(store) as load:
        await fill(store, "k", tags=("t",))
        with server.client() as client:
            client.config_set("maxmemory", "1mb")  # less than an empty Redis has in use
        found = await plain.get("new", PLAIN)
        assert "is out of memory" in await plain.put("new", make_response(found.as_of), keep=60)
        assert await body_of(plain, "k") == b"hello"
        assert await plain.lock("k", seconds=1)
        await fill(store, "kept in memory")
        await asyncio.sleep(1.2)
        assert store.mode() is Mode.FULL
        await plain.purge(["t"], soft=False)
        assert await body_of(plain, "k") is None
        await until(lambda: store.lookup("k", PLAIN) is None)
        assert await body_of(store, "kept in memory") == b"hello"
        assert not load.degraded
    assert load.slowest < BOUND


async def test_what_is_purged_elsewhere_during_an_outage_is_not_served_afterwards(server: RedisServer) -> None:
    """Whatever was in the memory of the one that was cut off, from before or from meanwhile."""
    async with (
        Cable(server.port) as cable,
        gateway(f"redis://127.0.0.1:{cable.port}") as cut_off,
        gateway(server.url) as other,
    ):
        await fill(other, "k", b"old", tags=("t",))
        assert await body_of(cut_off, "k") == b"old"
        cable.cut()
        await until_mode(cut_off, Mode.ALONE)
        await fill(cut_off, "meanwhile", b"old", tags=("t",))
        late = make_response((await cut_off.get("late", PLAIN)).as_of, b"old", tags=("t",))
        await other.purge(["t"], soft=False)
        await cable.mend()
        await until_mode(cut_off, Mode.FULL)
        assert await cut_off.put("late", late, keep=60) == "begun while Redis was away"
        for key in ("k", "meanwhile", "late"):
            assert await body_of(cut_off, key) is None


async def serve(store: TieredStore, body: bytes) -> bool:
    return await body_of(store, "k") == body


@pytest.mark.parametrize("way", ["cut", "hold"])
async def test_a_gateway_that_is_cut_off_stops_trusting_its_memory(server: RedisServer, way: str) -> None:
    """What is purged elsewhere is served for a second at most, and then not again."""
    async with (
        Cable(server.port) as cable,
        gateway(f"redis://127.0.0.1:{cable.port}") as cut_off,
        gateway(server.url) as other,
    ):
        await fill(other, "k", b"old", tags=("t",))
        assert await body_of(cut_off, "k") == b"old"
        getattr(cable, way)()
        await other.purge(["t"], soft=False)
        purged = time.monotonic()
        last = purged
        while time.monotonic() < purged + 2.5:
            asked = time.monotonic()
            if await serve(cut_off, b"old"):
                last = asked
            await asyncio.sleep(0.01)
        assert last - purged < 1.5
        await cable.mend()
        await until_mode(cut_off, Mode.FULL)
        assert not await serve(cut_off, b"old")
