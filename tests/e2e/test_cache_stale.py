"""Stale answers on the wire: while they are fetched anew, and in place of an upstream that fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.cached import access_lines, cached, caching, fates, keep, parameters, status_of
from tests.e2e.harness import Gateway, until

BREAKER = {"changes": {"upstream__breaker": {"max_fails": 1, "fail_timeout": "30s"}}}


async def test_fifty_requests_for_what_is_stale_cause_one_refresh(tmp_path: Path) -> None:
    """RFC 5861, section 3: all are answered at once, one fetches it anew, and access log and metrics show it."""
    number = 0

    def plan(received: Received) -> Answer:
        nonlocal number
        number += 1
        return keep(
            b"%d" % number, cache_control="max-age=1, stale-while-revalidate=60", delay=1.5 if number > 1 else 0.0
        )

    changes = {"upstream__response_timeout": "5s", "upstream__deadline": "10s"}
    async with caching(tmp_path, plan, changes=changes) as (origin, gateway, client):
        await client.get("/a")
        await asyncio.sleep(1.1)
        answers = await asyncio.gather(*(client.get("/a") for _ in range(50)))
        assert {a.content for a in answers} == {b"1"}
        assert {status_of(a) for a in answers} == {"hit"}
        await until(lambda: any(line.get("refresh") for line in access_lines(gateway)), what="the refresh's log line")
        refreshes = [line for line in access_lines(gateway) if line.get("refresh")]
        assert [(line["attempts"], line["fate"], line["status"]) for line in refreshes] == [(1, "ok", 200)]
        assert len(origin.requests) == 2
        assert (await fates(gateway))["stale"] == 50
        assert (await gateway.metrics())["holdfast_cache_requests_total", "result=stale"] == 50
        assert (await client.get("/a")).content == b"2"


async def test_grace_does_for_all_what_the_origin_does_not_say(tmp_path: Path) -> None:
    """`grace`."""
    plan = [keep(b"1", cache_control="max-age=1"), keep(b"2", cache_control="max-age=60")]
    async with caching(tmp_path, plan, grace="60s") as (origin, _, client):
        await client.get("/a")
        await asyncio.sleep(1.1)
        stale = await client.get("/a")
        assert (stale.content, stale.headers["cache-status"].split(";")[-1]) == (b"1", "detail=grace")
        await origin.wait_for(2)

        async def anew() -> bool:
            return (await client.get("/a")).content == b"2"

        await until(anew)


GOOD = keep(b"good", cache_control="max-age=0, stale-if-error=60")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def failing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, httpx.AsyncClient]]:
    """An upstream that is well, and failures that are asked for."""
    async with caching(tmp_path_factory.mktemp("failing"), GOOD, faults={}) as (_, gateway, client):
        yield gateway, client


async def stays_good(gateway: Gateway, client: httpx.AsyncClient, path: str) -> None:
    """Ten requests for what is stored there, while the upstream fails: the fate is `stale`, nothing is captured."""
    before = await fates(gateway)
    answers = [await client.get(path) for _ in range(10)]
    assert [(a.status_code, a.content) for a in answers] == [(200, b"good")] * 10
    assert all("detail=stale-if-error" in parameters(a) for a in answers)
    assert all("holdfast-fate=stale" in a.headers["proxy-status"] for a in answers)
    assert all("holdfast-capture-id" not in a.headers for a in answers)
    assert await fates(gateway) == {**before, "stale": before.get("stale", 0) + 10}
    assert await gateway.captures() == []


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        ({"fault": "status", "status": 500}, 1),
        ({"fault": "status", "status": 502}, 3),
        ({"fault": "status", "status": 503}, 3),
        ({"fault": "status", "status": 504}, 3),
        ({"fault": "reset"}, 3),
        ({"fault": "hang"}, 3),
        ({"fault": "truncate"}, 3),
        ({"fault": "refuse"}, 3),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_stale_answer_takes_the_place_of_a_failure(
    failing: tuple[Gateway, httpx.AsyncClient], fault: dict[str, Any], attempts: int
) -> None:
    """RFC 5861, section 4: what is stored stays; the upstream is asked by the first, and then left alone."""
    gateway, client = failing
    path = "/" + "-".join(map(str, fault.values()))
    await gateway.inject()
    assert (await client.get(path)).content == b"good"
    await gateway.inject(fault)
    await stays_good(gateway, client, path)
    assert await gateway.fired() == attempts


@pytest.mark.parametrize("broken", [Break("half-header", "fin"), None], ids=["half a header", "nobody listens"])
async def test_a_stale_answer_takes_the_place_of_a_broken_server(tmp_path: Path, broken: Any) -> None:
    """The same with a server that is really broken, or gone."""
    async with caching(tmp_path, [GOOD, broken or GOOD]) as (origin, gateway, client):
        await client.get("/a")
        origin.forget()
        async with contextlib.AsyncExitStack() as stack:
            if broken is None:
                await stack.enter_async_context(origin.refusing())
            await stays_good(gateway, client, "/a")
            assert len(origin.requests) == (3 if broken else 0)


async def test_an_open_circuit_is_a_failure_too(tmp_path: Path) -> None:
    """Another URL has opened it; what is stored answers without a request."""
    rule = {"fault": "status", "at": "upstream", "path": "/b"}
    async with caching(tmp_path, GOOD, faults={"rules": [rule]}, **BREAKER) as (origin, _, client):
        await client.get("/a")
        await client.get("/b")
        origin.forget()
        answer = await client.get("/a")
        assert (answer.content, answer.headers["cache-status"].count("stale-if-error")) == (b"good", 1)
        assert origin.requests == []


async def test_a_recovered_upstream_is_asked_again(tmp_path: Path) -> None:
    """The back-off ends by itself: one second after the first failure."""
    good = keep(b"good", cache_control="max-age=0, stale-if-error=60")
    plan = [good, Answer(503), Answer(503), Answer(503), keep(b"new")]
    async with caching(tmp_path, plan) as (origin, _, client):
        await client.get("/a")
        assert (await client.get("/a")).content == b"good"

        async def anew() -> bool:
            return (await client.get("/a")).content == b"new"

        await until(anew, within=5, every=0.1)
        assert len(origin.requests) == 5


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache"])
async def test_what_must_be_validated_is_never_served_stale(tmp_path: Path, directive: str) -> None:
    """RFC 9111, section 5.2.2.2: the failure is told, and captured."""
    good = keep(b"good", ("ETag", '"1"'), cache_control=f"max-age=0, stale-if-error=60, {directive}")
    async with caching(tmp_path, [good, Answer(503)], grace="60s") as (_, gateway, client):
        await client.get("/a")
        answer = await client.get("/a")
        assert answer.status_code == 503
        assert "holdfast-capture-id" in answer.headers
        assert (await fates(gateway)) == {"ok": 1, "captured": 1}


async def test_a_failed_refresh_costs_nobody_anything(tmp_path: Path) -> None:
    """The stored answer stays, nothing is captured, and the dying origin is asked a bounded number of times."""
    good = keep(b"good", cache_control="max-age=1, stale-while-revalidate=60")
    async with caching(tmp_path, good, faults={}) as (_, gateway, client):
        await client.get("/a")
        await gateway.inject({"fault": "reset"})
        await asyncio.sleep(1.1)
        began = time.monotonic()
        for _ in range(10):
            answers = await asyncio.gather(*(client.get("/a") for _ in range(10)))
            assert {(a.status_code, a.content) for a in answers} == {(200, b"good")}
        seconds = int(time.monotonic() - began)
        assert 1 <= await gateway.fired() <= 3 * (1 + seconds)  # three attempts, at most once a second
        assert await gateway.captures() == []


async def test_an_error_is_stored_only_if_the_origin_says_so_and_never_over_a_good_copy(tmp_path: Path) -> None:
    """A 500 with a lifetime does not take the place of what may still answer."""
    good = keep(b"good", cache_control="max-age=0, stale-if-error=60")
    bad = keep(b"bad", cache_control="max-age=60", status=500)
    async with caching(tmp_path, [good, bad]) as (_, _, client):
        await client.get("/a")
        assert [(await client.get("/a")).content for _ in range(3)] == [b"good"] * 3


async def test_a_capture_comes_only_where_nothing_is_stored(tmp_path: Path) -> None:
    """The chain's order: cache, then interceptor."""
    async with MisbehavingOrigin() as origin:
        url = origin.url
    async with Gateway(tmp_path, made=cached(url)) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.get("/a")
        assert (answer.status_code, status_of(answer)) == (503, "miss")
        assert len(await gateway.captures()) == 1
