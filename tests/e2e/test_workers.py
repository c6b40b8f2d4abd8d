"""`--workers 2`: two processes on one port that look like one gateway, whoever is asked and whatever ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e import crew
from tests.e2e.cached import access_lines, cached, keep
from tests.e2e.harness import Gateway, until
from tests.e2e.live import Made, write
from tests.e2e.raw import RawClient

HOST = "gateway.test"  # what raw clients call it
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Pair:
    """A gateway of two workers, its origin, and a connection to each."""

    gateway: Gateway
    made: Made
    origin: MisbehavingOrigin
    one: RawClient
    other: RawClient

    async def both(self, path: str) -> list[str]:
        """What the cache says of this path at each of them."""
        answers = [await crew.get(client, path) for client in (self.one, self.other)]
        assert [each.status for each in answers] == [200, 200]
        return ["hit" if ";hit" in (each.header("cache-status") or "") else "miss" for each in answers]

    async def warm(self, path: str) -> None:
        """Each has stored it."""
        await self.both(path)
        assert await self.both(path) == ["hit", "hit"]


def plan(request: Received) -> Answer:
    """Everything may be stored, under a tag of its own."""
    return keep(b"ok", ("Surrogate-Key", request.target.split("/")[1]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Made, MisbehavingOrigin]]:
    """One for all tests of this module."""
    folder = tmp_path_factory.mktemp("workers")
    async with MisbehavingOrigin(plan) as origin:
        made = cached(origin.url, store="memory://?max=64MiB", faults={})
        async with Gateway(folder, made=made, args=["--workers", "2"]) as started:
            await crew.all_serve(started)
            yield started, made, origin


@pytest_asyncio.fixture(loop_scope="module")
async def pair(gateway: tuple[Gateway, Made, MisbehavingOrigin]) -> AsyncIterator[Pair]:
    """With a connection to each worker of the moment."""
    started, made, origin = gateway
    await crew.all_serve(started)
    async with crew.one_at_each(started) as (one, other):
        yield Pair(started, made, origin, one, other)


async def counted(gateway: Gateway) -> int:
    """Requests of clients, over all labels but those of the health page."""
    found = await gateway.metrics()
    return round(sum(v for k, v in found.items() if k[0] == "holdfast_requests_total" and "route=health" not in k))


# -- as one ---------------------------------------------------------------------------------------------------------


async def test_a_scrape_counts_what_every_worker_has_served(pair: Pair) -> None:
    """The sum is the number of requests sent; the log says by whom each was served."""
    before = await counted(pair.gateway)
    for number in range(10):
        await crew.get(pair.one if number % 3 else pair.other, f"/sum/{number}")
    assert await counted(pair.gateway) == before + 10
    found = await pair.gateway.metrics()
    assert [found["holdfast_worker_up", f"worker={n}"] for n in (1, 2)] == [1, 1]
    assert found["holdfast_build_info", *_info(found)] == 1
    assert {line["worker"] for line in access_lines(pair.gateway) if line["path"].startswith("/sum/")} == {1, 2}


def _info(found: dict[tuple[str, ...], float]) -> tuple[str, ...]:
    return next(key[1:] for key in found if key[0] == "holdfast_build_info")


async def test_a_purge_reaches_the_memory_of_every_worker(pair: Pair) -> None:
    """By tag, by URL and of everything; whichever worker is asked, and also where the client itself asks by POST."""
    for named in ({"tags": ["tagged"]}, {"urls": [f"http://{HOST}/tagged/1"]}, {"all": True}):
        await pair.warm("/tagged/1")
        assert (await pair.gateway.admin("/purge", "POST", json=named)).status_code == 200
        assert await pair.both("/tagged/1") == ["miss", "miss"]
    await pair.warm("/posted/1")
    assert (await crew.get(pair.one, "/posted/1", "POST")).status == 200
    assert await pair.both("/posted/1") == ["miss", "miss"]


async def test_faults_act_in_every_worker_and_are_counted_together(pair: Pair) -> None:
    """Also in one that is started after they were set."""
    await pair.gateway.inject({"fault": "status", "status": 418, "path": "/teapot", "at": "client"})
    assert [(await crew.get(c, "/teapot")).status for c in (pair.one, pair.other)] == [418, 418]
    assert await pair.gateway.fired() == 2
    crew.kill((await crew.workers(pair.gateway))[1])
    await _restarted(pair.gateway, 2, 1)
    async with crew.one_at_each(pair.gateway) as (_, new):
        assert (await crew.get(new, "/teapot")).status == 418
    await pair.gateway.inject()


async def test_a_changed_profile_holds_in_every_worker(pair: Pair) -> None:
    """By one SIGHUP to the parent; also in one that is started again later, and not what was refused meanwhile."""
    pair.made["admin"] = {"listen": f"127.0.0.1:{pair.gateway.admin_port}", "health_path": "/up"}
    pair.made["listen"], pair.made["watch"] = f"127.0.0.1:{pair.gateway.port}", False
    write(pair.gateway, pair.made)
    pair.gateway.send(crew.signal.SIGHUP)

    async def everywhere() -> bool:
        return all([(await crew.get(c, "/up")).body.startswith(b'{"status"') for c in (pair.one, pair.other)])

    await until(everywhere, within=10, what="both to follow")
    Path(pair.gateway.profile).write_text("version: 7\n")
    before = await crew.workers(pair.gateway)
    crew.kill(before[1])
    await _restarted(pair.gateway, 2, before[1]["restarts"] + 1)
    client = RawClient(pair.gateway.port)
    for _ in range(10):
        async with client:
            assert (await crew.get(client, "/up")).body.startswith(b'{"status"')
    pair.made["admin"]["health_path"] = "/health"
    write(pair.gateway, pair.made)
    pair.gateway.send(crew.signal.SIGHUP)

    async def back() -> bool:
        return (await crew.get(pair.one, "/health")).body.startswith(b'{"status"')

    await until(back, within=10, what="the first to follow")


# -- ends -----------------------------------------------------------------------------------------------------------


async def _restarted(gateway: Gateway, number: int, times: int) -> None:
    async def found() -> bool:
        with contextlib.suppress(httpx.TransportError, KeyError, ValueError):
            worker = (await crew.workers(gateway))[number - 1]
            return worker["restarts"] >= times and worker["status"] == "serving"
        return False

    await until(found, within=25, what=f"worker {number} to be started again")


@pytest.mark.parametrize("number", [2, 1])
async def test_a_worker_that_is_killed_under_load_is_started_again(pair: Pair, number: int) -> None:
    """The other goes on; no counter goes backwards; what it had promised is there. Also where it is the one to lead."""
    before = await crew.workers(pair.gateway)
    at, seen, ids, broken = await counted(pair.gateway), list[int](), list[str](), 0
    over = asyncio.Event()

    async def load(client: RawClient) -> None:
        nonlocal broken
        try:
            for n in range(10_000):
                if over.is_set():
                    return
                answer = await crew.get(client, f"/load/{n}", "POST")
                assert answer.status == 503
                ids.append(str(answer.capture_id))
        except (OSError, EOFError):
            broken += 1

    async def watch() -> None:
        while not over.is_set():
            with contextlib.suppress(httpx.TransportError):
                seen.append(await counted(pair.gateway))
            await asyncio.sleep(0.05)

    async with pair.origin.refusing():
        running = [asyncio.create_task(each) for each in (load(pair.one), load(pair.other), watch())]
        await until(lambda: len(ids) > 20, within=20)
        crew.kill(before[number - 1])
        left = len(ids)
        await until(lambda: len(ids) > left + 20, within=20, what="the other to go on")
        await _restarted(pair.gateway, number, before[number - 1]["restarts"] + 1)
        over.set()
        await asyncio.gather(*running)
    assert broken == 1
    assert seen == sorted(seen)
    assert seen[-1] > at
    listed = {each["id"] for each in await pair.gateway.captures("--limit", "10000")}
    assert set(ids) <= listed
    answer = await pair.gateway.admin(f"/captures?limit={len(ids)}")
    assert len(answer.json()["captures"]) == min(len(ids), 1000)


async def test_the_start_of_all_this_was_the_parents(pair: Pair) -> None:
    """Prometheus and `holdfast top` must not take a worker's start for the gateway's."""
    frame = json.loads(await pair.gateway.cli("top", "--once", "--json", "--interval", "200ms"))
    assert frame["gateway"]["uptime_seconds"] > 1
    found = await pair.gateway.metrics()
    assert found["holdfast_worker_restarts_total", "worker=1"] >= 1
    assert (await pair.gateway.admin("/")).status_code == 200
