"""`cache.rewarm`: what a purge touched is fetched anew, paced, most requested first."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from holdfast.testing import Answer
from holdfast.testing.received import Received
from tests.e2e.cached import access_lines, caching, keep, status_of
from tests.e2e.harness import until


def tagged(received: Received) -> Answer:
    """All under one tag, apart from one."""
    other = received.target == "/other"
    fields = [("Surrogate-Key", "other" if other else "all"), ("Vary", "Accept-Language")]
    return keep(f"{received.target} {received.headers}".encode(), *fields)


async def test_the_most_requested_is_fetched_first_at_the_rate(tmp_path: Path) -> None:
    """Five a second, four of the five; with what selects them, and nobody's credentials."""
    async with caching(tmp_path, tagged, rewarm={"rate": 5, "most": 4}) as (origin, gateway, client):
        for wanted in range(1, 6):
            for _ in range(wanted):
                await client.get(f"/{wanted}", headers={"Accept-Language": "de", "Cookie": "me=1", "X-Me": "me"})
        await client.get("/other")
        before = len(origin.requests)
        began = time.monotonic()
        await gateway.admin("/purge", "POST", json={"tags": ["all"]})
        await origin.wait_for(before + 4)
        assert time.monotonic() - began > 0.5
        fetched = origin.requests[before:]
        assert [received.target for received in fetched] == ["/5", "/4", "/3", "/2"]
        assert {received.header("accept-language") for received in fetched} == {"de"}
        assert not any(received.header("x-me") or received.header("cookie") for received in fetched)
        await until(lambda: sum(bool(line.get("refresh")) for line in access_lines(gateway)) == 4)
        for path, status in (("/5", "hit"), ("/2", "hit"), ("/1", "miss"), ("/other", "miss")):
            answer = await client.get(path, headers={"Accept-Language": "de"})
            assert (path, status_of(answer)) == (path, status)
        assert (await gateway.metrics())["holdfast_rewarmed_total",] == 4


async def test_a_failing_upstream_is_not_asked_for_the_rest(tmp_path: Path) -> None:
    """It is fetched when somebody asks for it."""
    async with caching(tmp_path, tagged, rewarm={"rate": 100}) as (origin, gateway, client):
        for path in ("/1", "/2", "/3"):
            await client.get(path)
        before = len(origin.requests)
        origin.plan = Answer(500)
        await gateway.admin("/purge", "POST", json={"all": True})
        await until(lambda: any(line.get("refresh") for line in access_lines(gateway)))
        await asyncio.sleep(0.2)
        assert len(origin.requests) == before + 1


async def test_a_soft_purge_is_warmed_by_validation(tmp_path: Path) -> None:
    """What is stored still answers, and the origin says that it is still good."""

    def plan(received: Received) -> Answer:
        if received.header("if-none-match"):
            return Answer(304, headers=[("ETag", '"1"'), ("Cache-Control", "max-age=60")])
        return keep(b"ok", ("ETag", '"1"'), ("Surrogate-Key", "all"))

    async with caching(tmp_path, plan, rewarm={"rate": 100}) as (origin, gateway, client):
        await client.get("/a")
        await gateway.admin("/purge", "POST", json={"tags": ["all"], "soft": True})
        await origin.wait_for(2)

        async def is_fresh() -> bool:
            told = await gateway.admin("/explain", params={"url": f"{gateway.url}/a"})
            return bool(told.json()["details"]["cache"]["decision"] == "Fresh")

        await until(is_fresh)
        assert status_of(await client.get("/a")) == "hit"
        assert len(origin.requests) == 2


async def test_nothing_is_fetched_unless_the_profile_says_so(tmp_path: Path) -> None:
    """Off by default; and a reload switches it on and off."""
    async with caching(tmp_path, tagged) as (origin, gateway, client):
        await client.get("/1")
        await gateway.admin("/purge", "POST", json={"all": True})
        await asyncio.sleep(0.2)
        assert len(origin.requests) == 1
