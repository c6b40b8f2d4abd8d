"""Several servers, their circuit breakers, health checks, the retry budget: with real origins that die and return."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, addon, profile, until

BREAKER = {"max_fails": 3, "fail_timeout": "30s"}


def behind(*servers: Any, **changes: Any) -> dict[str, Any]:
    """A profile with these servers."""
    return profile("", upstream__servers=list(servers), **changes)


async def test_one_of_two_servers_dies_and_nobody_notices(tmp_path: Path) -> None:
    """GETs under load, while one origin refuses, answers 503, resets, freezes, comes back: no client sees an error."""
    async with MisbehavingOrigin() as one, MisbehavingOrigin() as two:
        made = behind(one.url, two.url, upstream__breaker=BREAKER)
        async with Gateway(tmp_path, made=made) as gateway, httpx.AsyncClient(timeout=10) as client:
            seen: list[int] = []
            stop = asyncio.Event()

            async def ask() -> None:
                while not stop.is_set():
                    seen.append((await client.get(f"http://127.0.0.1:{gateway.port}/api/users")).status_code)

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            for plan in (Answer(503), Break("request", "reset"), Break("request", "hang"), Break("body", "fin")):
                one.plan = plan
                await two.wait_for(len(two.requests) + 50, within=15)
                one.plan = Answer()
                await two.wait_for(len(two.requests) + 10, within=15)
            async with one.refusing():
                await two.wait_for(len(two.requests) + 50, within=15)
            stop.set()
            await asyncio.gather(*asking)
            assert set(seen) == {200}
            assert await gateway.captures() == []


async def test_an_open_circuit_answers_at_once_and_the_server_is_back_within_seconds(tmp_path: Path) -> None:
    """All open: an immediate, honest answer. A server that accepts again is not left alone for fail_timeout."""
    async with MisbehavingOrigin() as origin:
        made = behind(origin.url, upstream__breaker=BREAKER)
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            async with origin.refusing():
                for _ in range(3):
                    answer = await client.request("GET", "/api/users")
                    assert (answer.header("proxy-status") or "").startswith("holdfast; error=connection_refused")
                refused = await client.request("GET", "/api/users")
                assert refused.status == 503
                assert (refused.header("proxy-status") or "").startswith("holdfast; error=destination_unavailable")
                assert "not-retried=breaker" in (refused.header("proxy-status") or "")
                assert int(refused.header("retry-after") or 0) >= 25
                assert refused.capture_id is not None
                assert (await gateway.exported())[refused.capture_id]["backend_url"] == origin.url
                health = (await gateway.admin("/health")).json()
                assert health["upstream"][origin.url]["circuit"] == "open"
                figures = await gateway.metrics()
                opened = [v for k, v in figures.items() if k[0] == "holdfast_upstream_open"]
                assert opened == [1.0]

            async def served() -> bool:
                return (await client.request("GET", "/api/users")).status == 200

            await until(served, within=6, every=0.2, what="the server to be asked again")


async def test_a_circuit_that_5xx_answers_opened_keeps_its_time(tmp_path: Path) -> None:
    """It accepts connections, which says nothing of its health: one probe after fail_timeout, and no other request."""
    async with MisbehavingOrigin() as origin:
        made = addon(behind(origin.url, upstream__breaker={"max_fails": 3, "fail_timeout": "3s"}), "faults")
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await gateway.inject({"fault": "status", "status": 503})
            for _ in range(8):
                assert (await client.request("POST", "/api/users", body=b"{}")).status == 503
            assert await gateway.fired() == 3  # the others were answered by the open circuit
            await gateway.inject()

            async def served() -> bool:
                return (await client.request("GET", "/api/users")).status == 200

            await until(served, within=8, every=0.1, what="the probe to be let through")
            assert len(origin.requests) == 1


async def test_a_post_goes_to_another_server_only_if_it_never_reached_the_first(tmp_path: Path) -> None:
    """Promise 3, across servers."""
    async with (
        MisbehavingOrigin() as one,
        MisbehavingOrigin() as two,
        Gateway(tmp_path, made=behind(one.url, two.url)) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        async with one.refusing():
            for _ in range(4):
                assert (await client.request("POST", "/api/users", body=b"{}")).status == 200
        assert len(two.requests) == 4
        one.plan = two.plan = Break("request", "reset")
        one.forget()
        two.forget()
        answer = await client.request("POST", "/api/users", body=b"{}")
        assert answer.status == 503
        assert "not-retried=method" in (answer.header("proxy-status") or "")
        assert len(one.requests) + len(two.requests) == 1


async def test_weights_and_backups(tmp_path: Path) -> None:
    """Three to one; the backup only when both others are gone."""
    async with MisbehavingOrigin() as heavy, MisbehavingOrigin() as light, MisbehavingOrigin() as spare:
        made = behind({"url": heavy.url, "weight": 3}, light.url, {"url": spare.url, "backup": True})
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            for _ in range(20):
                assert (await client.request("GET", "/api/users")).status == 200
            assert (len(heavy.requests), len(light.requests), len(spare.requests)) == (15, 5, 0)
            async with heavy.refusing(), light.refusing():
                assert (await client.request("GET", "/api/users")).status == 200
            assert len(spare.requests) == 1


async def test_a_dead_backend_is_not_hit_three_times_as_hard(tmp_path: Path) -> None:
    """The budget: retries are at most a share of live requests, and a few a second for quiet services."""
    async with MisbehavingOrigin(Answer(503)) as origin:
        made = behind(origin.url, upstream__retry__budget="20%")
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answers = [await client.request("GET", "/api/users") for _ in range(200)]
            assert {answer.status for answer in answers} == {503}
            # 20 % of 200, and 3 a second over a window of 10.
            assert 200 < len(origin.requests) <= 200 + 40 + 30
            reasons = {
                (a.header("proxy-status") or "").rpartition("not-retried=")[2].partition(";")[0] for a in answers
            }
            assert reasons == {"attempts", "budget"}
            figures = await gateway.metrics()
            refused = {k: v for k, v in figures.items() if k[0] == "holdfast_not_retried_total"}
            assert sum(refused.values()) == 200


@pytest.mark.parametrize("sick", [Answer(500), Break("request", "hang")])
async def test_a_health_check_takes_a_server_out_and_in_again(tmp_path: Path, sick: Any) -> None:
    """Before any client has met it."""
    async with MisbehavingOrigin() as one, MisbehavingOrigin() as two:
        checks = {"path": "/live", "interval": "100ms", "timeout": "300ms"}
        made = behind(one.url, two.url, upstream__health_check=checks)
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            one.plan = sick

            async def open_servers() -> list[float]:
                figures = await gateway.metrics()
                return sorted(v for k, v in figures.items() if k[0] == "holdfast_upstream_open")

            async def taken_out() -> bool:
                return await open_servers() == [0.0, 1.0]

            await until(taken_out, within=8, what="the sick server to be taken out")
            one.forget()
            for _ in range(6):
                assert (await client.request("GET", "/api/users")).status == 200
            assert all(request.target == "/live" for request in one.requests)
            one.plan = Answer()

            async def taken_in() -> bool:
                return await open_servers() == [0.0, 0.0]

            await until(taken_in, within=8, what="it to be taken in again")


async def test_a_circuit_that_opens_between_two_attempts_loses_no_request(tmp_path: Path) -> None:
    """The 503 has been let go for another attempt, for which there is no server any more: it is captured."""
    async with MisbehavingOrigin(Answer(503)) as origin:
        made = behind(origin.url, upstream__breaker={"max_fails": 4, "fail_timeout": "30s"})
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answers = [await client.request("GET", "/api/users") for _ in range(4)]
            assert [answer.status for answer in answers] == [503] * 4
            assert all(answer.capture_id for answer in answers)
            assert len(await gateway.captures()) == 4
