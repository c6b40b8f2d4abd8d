"""SIGTERM: what is in flight finishes, nothing new is let in, and what was captured is on disk."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Front, Gateway, accepts, profile, until

SLOW = Answer(body=b"worth the wait", delay=1.2)


@pytest.mark.parametrize("front", ["run", "mitmdump", "mitmweb"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_in_flight_finishes(tmp_path: Path, front: Front, number: signal.Signals) -> None:
    """Its client gets the answer; meanwhile the gateway is not ready and lets nobody in; then it exits with 0."""
    async with MisbehavingOrigin(SLOW) as origin:
        made = profile(origin.url, upstream__response_timeout="5s", upstream__deadline="8s")
        async with Gateway(tmp_path, origin.url, front=front, made=made) as gateway:
            async with raw.RawClient(gateway.port) as client:
                asked = asyncio.create_task(client.request("GET", "/slow"))
                await origin.wait_for(1)
                gateway.send(number)
                await until(lambda: not_ready(gateway), within=1, what="/readyz to say 503")
                assert not await accepts(gateway.port)
                assert not asked.done()
                assert (await gateway.admin("/healthz")).status_code == 200
                answer = await asked
            assert (answer.status, answer.body) == (200, b"worth the wait")
            assert await gateway.ended(5) == 0


async def not_ready(gateway: Gateway) -> bool:
    """/readyz answers, and with 503."""
    return (await gateway.admin("/readyz")).status_code == 503


async def test_a_request_that_takes_too_long_does_not_keep_the_gateway(tmp_path: Path) -> None:
    """`shutdown_grace` bounds the wait; the exit code says it was an orderly stop all the same."""
    async with MisbehavingOrigin(Answer(delay=30)) as origin:
        made = profile(origin.url, upstream__response_timeout="60s", upstream__deadline="60s", shutdown_grace="500ms")
        async with Gateway(tmp_path, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/slow"))
            await origin.wait_for(1)
            began = asyncio.get_running_loop().time()
            assert await gateway.terminate(10) == 0
            assert asyncio.get_running_loop().time() - began < 5


async def test_an_idle_gateway_stops_at_once(tmp_path: Path) -> None:
    """Idle keep-alive connections are no requests in flight."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, origin.url) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        assert (await client.request("GET", "/api/users")).status == 200
        began = asyncio.get_running_loop().time()
        assert await gateway.terminate(10) == 0
        assert asyncio.get_running_loop().time() - began < 3


async def test_what_fails_during_the_stop_is_still_captured(tmp_path: Path) -> None:
    """The upstream goes away while the gateway drains: the promise holds to the end, and afterwards."""
    async with MisbehavingOrigin(Answer(503, delay=0.8)) as origin:
        made = profile(origin.url, upstream__response_timeout="5s", upstream__deadline="8s")
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            clients = [raw.RawClient(gateway.port) for _ in range(10)]
            for client in clients:
                await client.__aenter__()
            asked = [asyncio.create_task(c.request("POST", "/api/users", body=b"kept")) for c in clients]
            await origin.wait_for(10)
            code = await gateway.terminate()
            answers = await asyncio.gather(*asked)
            for client in clients:
                client.leave()
            assert code == 0
            ids = {answer.capture_id for answer in answers}
            assert None not in ids
            assert {capture["id"] for capture in await gateway.captures()} == ids


async def test_a_kept_connection_is_told_that_it_ends(tmp_path: Path) -> None:
    """An answer during the stop carries `Connection: close`, so that its client does not run into a reset."""
    async with MisbehavingOrigin(Answer(delay=0.5)) as origin:
        made = profile(origin.url, upstream__response_timeout="5s", upstream__deadline="8s")
        async with Gateway(tmp_path, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/slow"))
            await origin.wait_for(1)
            gateway.send(signal.SIGTERM)
            answer = await client.answer()
            assert (answer.header("connection") or "").lower() == "close"
            assert await client.ends(5) == b""
            assert await gateway.ended(5) == 0
