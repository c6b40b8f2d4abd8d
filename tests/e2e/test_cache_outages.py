"""Redis killed, frozen, restarted, read-only, full or cut off under traffic: requests go on, and it comes back alone.

Two gateways share a Redis of the tests' own; a third one reaches it through a cable that can be cut.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.cached import keep, parameters, status_of
from tests.e2e.harness import Gateway, run_cli, until
from tests.e2e.test_cache_two_gateways import Side, Versions, gateways, naming
from tests.services.cable import Cable
from tests.services.process import free_port
from tests.services.redis import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND = 3.0  # seconds: a question to Redis or two of 0.1 s each, and what a busy machine adds


@dataclass
class Running:
    """What the tests of this file share; each leaves it as it found it."""

    server: RedisServer
    cable: Cable
    origin: MisbehavingOrigin
    started: list[Gateway]

    async def mend(self) -> None:
        """Whatever a test has broken."""
        await self.cable.mend()
        await asyncio.to_thread(RedisServer.restart if self.server.pid is None else RedisServer.resume, self.server)
        await asyncio.to_thread(RedisServer.promote, self.server)
        await asyncio.to_thread(make_room, self.server)
        for gateway in self.started:
            if gateway.exit_code is not None:
                await gateway.start()


@dataclass
class Bench:
    """With clients: `a` and `b` have Redis itself, `far` has the cable."""

    running: Running
    a: Side
    b: Side
    far: Side

    @property
    def server(self) -> RedisServer:
        return self.running.server

    @property
    def cable(self) -> Cable:
        return self.running.cable

    @property
    def origin(self) -> MisbehavingOrigin:
        return self.running.origin


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """With the timeouts that a profile has when it says nothing."""
    assert redis_url
    folder = tmp_path_factory.mktemp("outages")
    with RedisServer(folder / "redis", free_port()) as server:
        async with (
            Cable(server.port) as cable,
            MisbehavingOrigin() as origin,
            gateways(folder, origin.url, server.url, server.url, f"redis://127.0.0.1:{cable.port}/0") as started,
        ):
            yield Running(server, cable, origin, started)


@pytest_asyncio.fixture(loop_scope="module")
async def bench(running: Running, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """For each test with a host of its own, and with everything in order."""
    host = f"test-{abs(hash(request.node.name))}.test"
    a, b, far = (Side(gateway, host) for gateway in running.started)
    running.origin.plan = page
    async with a, b, far:
        try:
            for side in (a, b, far):
                await in_order(side)
            running.origin.forget()
            yield Bench(running, a, b, far)
        finally:
            await running.mend()


def page(received: Received) -> Answer:
    """Each path is its own body and its own tag."""
    return keep(received.target.encode(), ("Surrogate-Key", received.target.strip("/")))


def fill_up(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")  # less than an empty Redis has in use


def make_room(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "0")


async def redis_health(side: Side) -> dict[str, Any]:
    """What /health says of Redis. It is never 503: whatever the cache has lost, requests are served."""
    answer = await side.control.get("/health")
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    assert told["status"] == ("ok" if told["redis"]["status"] == "ok" else "degraded")
    return dict(told["redis"])


async def in_order(side: Side, within: float = 10.0) -> None:
    """Wait until /health says that Redis is as it should be."""

    async def is_ok() -> bool:
        return (await redis_health(side))["status"] == "ok"

    await until(is_ok, within=within, what="redis to be ok in /health")


async def failing(side: Side, reason: str, mode: str = "memory only") -> None:
    """Wait until /health says what is wrong."""

    async def is_failing() -> bool:
        told = await redis_health(side)
        return told["status"] == "failing" and reason in told["detail"] and told["mode"] == mode

    await until(is_failing, what=f"/health to say {reason!r}")


async def shared_again(here: Side, there: Side) -> None:
    """What the one stores from now on the other answers."""
    numbers = itertools.count()

    async def is_shared() -> bool:
        path = f"/shared-{next(numbers)}"
        await here.get(path)
        return status_of(await there.get(path)) == "hit"

    await until(is_shared, what="shared hits")


class Traffic:
    """Clients of some gateways that ask for old pages and new ones, and note how long each answer took."""

    def __init__(self, *sides: Side) -> None:
        self.sides = sides
        self.took: list[float] = []
        self.failures: list[str] = []
        self._rng = random.Random(len(sides))
        self._new = itertools.count()
        self._ended = False
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Traffic:
        self._readers = [asyncio.create_task(self._read(side)) for side in self.sides for _ in range(3)]
        await self.more(100)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        await asyncio.gather(*self._readers)

    async def more(self, number: int) -> None:
        """Until so many more answers have come."""
        wanted = len(self.took) + number
        await until(lambda: len(self.took) >= wanted, within=20, what="more answers")

    async def _read(self, side: Side) -> None:
        while not self._ended:
            is_old = self._rng.random() < 0.5
            path = f"/page-{self._rng.randrange(10)}" if is_old else f"/new-{next(self._new) // 4}"
            began = time.monotonic()
            try:
                answer = await side.get(path)
                if (answer.status_code, answer.text) != (200, path):
                    self.failures.append(f"{path}: {answer.status_code} {answer.text}")
            except httpx.HTTPError as error:
                self.failures.append(f"{path}: {error!r}")
            self.took.append(time.monotonic() - began)
            await asyncio.sleep(0.01)


FAULTS: dict[str, tuple[Callable[[RedisServer], None], Callable[[RedisServer], None], str]] = {
    "killed": (RedisServer.kill, RedisServer.restart, "Redis at"),
    "frozen": (RedisServer.pause, RedisServer.resume, "does not answer within"),
    "read-only": (RedisServer.demote, RedisServer.promote, "is a read-only replica"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_outage_fails_no_request_and_ends_by_itself(
    bench: Bench, fault: str, record_property: pytest.RecordProperty
) -> None:
    """Promise 2: each gateway goes on with a memory of its own, and says so in /health and Cache-Status."""
    break_it, mend_it, reason = FAULTS[fault]
    async with Traffic(bench.a, bench.b) as traffic:
        await shared_again(bench.a, bench.b)
        await asyncio.to_thread(break_it, bench.server)
        for side in (bench.a, bench.b):
            await failing(side, reason)
            refused = await side.control.post("/purge", json={"tags": ["page-0"]})
            assert (refused.status_code, "nothing was purged" in refused.text) == (503, True)
            first, second = await side.get("/meanwhile"), await side.get("/meanwhile")
            assert (status_of(first), status_of(second)) == ("miss", "hit")
            (detail,) = [each for each in parameters(first) if each.startswith("detail=")]
            assert reason in detail
            assert await side.level("/meanwhile") != "redis"
        await traffic.more(200)
        await asyncio.to_thread(mend_it, bench.server)
        for side in (bench.a, bench.b):
            await in_order(side)
            await side.purge(tags=["page-0"])
        await shared_again(bench.a, bench.b)
        await shared_again(bench.b, bench.a)
        await traffic.more(100)
    assert traffic.failures == []
    assert max(traffic.took) < BOUND
    record_property("slowest", f"{max(traffic.took):.3f}")


async def test_a_restart_fails_no_request(bench: Bench) -> None:
    """Promise 2: an empty Redis is filled again; nothing waits for it."""
    async with Traffic(bench.a, bench.b) as traffic:
        for _ in range(2):
            await asyncio.to_thread(RedisServer.kill, bench.server)
            await asyncio.to_thread(RedisServer.restart, bench.server)
            await traffic.more(100)
        for side in (bench.a, bench.b):
            await in_order(side)
        await shared_again(bench.a, bench.b)
    assert traffic.failures == []
    assert max(traffic.took) < BOUND


async def test_a_full_redis_keeps_what_it_has_and_takes_purges(bench: Bench) -> None:
    """Promise 2: new responses are kept in memory, old ones stay shared, a purge holds everywhere, /health says it."""
    await bench.a.get("/old")
    async with Traffic(bench.a, bench.b) as traffic:
        await asyncio.to_thread(fill_up, bench.server)
        await traffic.more(100)
        assert status_of(await bench.b.get("/old")) == "hit"
        assert [status_of(await bench.a.get("/new")) for _ in range(2)] == ["miss", "hit"]
        assert [status_of(await bench.b.get("/new")) for _ in range(2)] == ["miss", "hit"]
        await bench.b.purge(tags=["old", "new"])
        assert status_of(await bench.b.get("/old")) == "miss"

        async def purged_there() -> bool:
            return status_of(await bench.a.get("/new")) == "miss"

        await until(purged_there, within=BOUND)
        await failing(bench.a, "is out of memory", mode="full")
        await asyncio.to_thread(make_room, bench.server)
        await shared_again(bench.a, bench.b)
        await shared_again(bench.b, bench.a)
        for side in (bench.a, bench.b):
            await in_order(side)
    assert traffic.failures == []
    assert max(traffic.took) < BOUND


async def test_the_command_says_that_nothing_was_purged(bench: Bench, tmp_path: Path) -> None:
    """`holdfast purge` exits with 1 while Redis is away, and with 0 once it is back."""
    words = ("purge", "--tag", "page-1", "--profile", bench.a.gateway.profile)
    bench.server.pause()
    code, out, err = await run_cli(*words, cwd=tmp_path)
    assert (code, out, "nothing was purged" in err) == (1, "", True)
    bench.server.resume()
    await in_order(bench.a)
    assert (await run_cli(*words, cwd=tmp_path))[:2] == (0, "purged: tag page-1\n")


async def test_a_purge_that_is_taken_holds_for_what_was_stored_without_redis(bench: Bench) -> None:
    """Promise 4: Redis takes a purge again before the gateway has found out that it is back."""
    bench.origin.plan = versions = Versions()
    bench.server.pause()
    for side, path in ((bench.a, "/a"), (bench.b, "/b")):
        await failing(side, "does not answer within")
        assert [(await side.get(path)).text for _ in range(2)] == ["1", "1"]
    await asyncio.sleep(2.5)  # by then it is probed every two seconds
    bench.server.resume()

    async def purged(side: Side, path: str) -> None:
        versions.of[path] = 2
        await side.purge(tags=[path.strip("/")])
        while (await redis_health(side))["status"] != "ok":
            assert (await side.get(path)).text == "2"
        assert (await side.get(path)).text == "2"

    async with asyncio.TaskGroup() as group:
        group.create_task(purged(bench.a, "/a"))
        group.create_task(purged(bench.b, "/b"))


@pytest.mark.parametrize("way", ["frozen", "cut"])
async def test_a_fill_that_lost_redis_keeps_nobody_waiting_afterwards(bench: Bench, way: str) -> None:
    """Promise 2: what is left in Redis of an outage costs no request more than a bound."""
    filler = bench.a if way == "frozen" else bench.far
    bench.origin.plan = [keep(b"ok", delay=0.3), keep(b"ok")]
    filling = asyncio.create_task(filler.get("/page"))
    await bench.origin.wait_for(1)
    (bench.server.pause if way == "frozen" else bench.cable.cut)()
    assert (await filling).status_code == 200
    await failing(filler, "Redis at")
    bench.server.resume()
    await bench.cable.mend()
    await in_order(filler)
    for side in (bench.b, filler):
        began = time.monotonic()
        assert (await side.get("/page")).status_code == 200
        assert time.monotonic() - began < BOUND


@pytest.mark.parametrize(("way", "kinds"), [("cut", ["tag", "url"]), ("hold", ["all"])])
async def test_what_was_purged_elsewhere_is_not_served_by_one_that_was_cut_off(
    bench: Bench, way: str, kinds: list[str]
) -> None:
    """Promise 4: neither from before, nor from meanwhile, nor from a fill that ended later."""
    bench.origin.plan = versions = Versions()
    slow = Versions(delay=1.5, of=versions.of)
    before, meanwhile, late = ([f"/{each}-{kind}" for kind in kinds] for each in ("before", "meanwhile", "late"))
    for path in before:
        assert [(await side.get(path)).text for side in (bench.b, bench.far)] == ["1", "1"]
        assert await bench.far.level(path) == "memory"
    bench.origin.plan = slow
    filling = [asyncio.create_task(bench.far.get(path)) for path in late]
    await until(lambda: slow.asked == set(late))
    bench.origin.plan = versions
    getattr(bench.cable, way)()
    await failing(bench.far, "Redis at")
    for path in meanwhile:
        assert [(await bench.far.get(path)).text for _ in range(2)] == ["1", "1"]
    for path in (*before, *meanwhile, *late):
        versions.of[path] = 2
        await bench.b.purge(**naming(path.split("-")[1], bench.b.host, path))
    for path in before:
        assert (await bench.far.get(path)).text == "2"  # nothing from before is used while it is cut off
    await bench.cable.mend()
    await in_order(bench.far)
    assert {answer.text for answer in await asyncio.gather(*filling)} == {"1"}
    for path in (*before, *meanwhile, *late):
        assert [(await side.get(path)).text for side in (bench.far, bench.b)] == ["2", "2"]


async def test_what_is_stored_outlives_the_gateway(bench: Bench) -> None:
    """docs/cache.md: stored responses in Redis survive a restart, those in memory do not."""
    for end in (bench.far.gateway.terminate, bench.far.gateway.kill):
        await bench.far.get("/page")
        bench.origin.forget()
        ended = end()
        if ended is not None:
            await ended
        await bench.far.gateway.start()
        await in_order(bench.far)
        assert await bench.far.level("/page") == "redis"
        answer = await bench.far.get("/page")
        assert (status_of(answer), answer.text, bench.origin.requests) == ("hit", "/page", [])


async def test_a_gateway_that_starts_without_redis_serves_and_finds_it_later(bench: Bench) -> None:
    """Promise 2: an outage at the start is an outage like others."""
    bench.cable.cut()
    await bench.far.gateway.terminate()
    await bench.far.gateway.start()
    assert [status_of(await bench.far.get("/page")) for _ in range(2)] == ["miss", "hit"]
    await failing(bench.far, "Redis at")
    async with Traffic(bench.far) as traffic:
        await bench.cable.mend()
        await in_order(bench.far)
        await shared_again(bench.far, bench.a)
        await shared_again(bench.a, bench.far)
    assert traffic.failures == []
    assert max(traffic.took) < BOUND
