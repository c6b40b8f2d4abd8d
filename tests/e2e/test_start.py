"""The first moments of a gateway: no request is ever answered without the chain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Front, Gateway, profile, until

SLOW_ADDON = """
import time

class SlowToLoad:
    def __init__(self):
        time.sleep(0.3)

    async def running(self):
        import asyncio
        await asyncio.sleep(0.3)
"""


@pytest.mark.parametrize("front", ["run", "mitmdump"])
async def test_no_request_is_answered_without_the_chain(tmp_path: Path, front: Front) -> None:
    """Clients knock from before the start, while slow addons load: whatever is answered carries the chain's id.

    Nor does a client that comes before mitmproxy's own addons have started make it end with an error.
    """
    (tmp_path / "slow_addon.py").write_text(SLOW_ADDON)
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url)
        made["addons"].append({"use": "slow_addon:SlowToLoad"})
        gateway = Gateway(tmp_path, origin.url, front=front, made=made)
        answers: list[raw.Answer] = []
        knocking = [asyncio.create_task(knock(gateway, answers)) for _ in range(8)]
        try:
            async with gateway:
                await until(lambda: len(answers) >= 200, within=20, what="200 answers")
                await stop(knocking)
        finally:
            await stop(knocking)
        assert {answer.status for answer in answers} == {200}
        assert all(answer.header("x-request-id") for answer in answers)
        assert all(received.header("x-request-id") for received in origin.requests)


async def knock(gateway: Gateway, answers: list[raw.Answer]) -> None:
    """Connect as soon as somebody listens, ask once, and again."""
    while True:
        try:
            async with raw.RawClient(gateway.port) as client:
                answers.append(await client.request("GET", "/api/users"))
        except ConnectionRefusedError:
            await asyncio.sleep(0.001)


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel them; anything but the cancelling is a fault."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError):
            raise result  # type: ignore[misc]


async def test_readiness_is_not_claimed_before_the_port_is_open(tmp_path: Path) -> None:
    """From the first /readyz of 200 on, connecting never fails."""
    gateway = Gateway(tmp_path).launch()
    try:
        await until(lambda: claims_ready(gateway), within=30, every=0.002, what="/readyz")
        for _ in range(20):
            async with raw.RawClient(gateway.port) as client:
                assert (await client.request("GET", "/health")).header("x-request-id")
    finally:
        gateway.kill()


async def claims_ready(gateway: Gateway) -> bool:
    """What /readyz says, and nothing else."""
    try:
        async with raw.RawClient(gateway.admin_port) as client:
            return (await client.request("GET", "/readyz", [("Host", "127.0.0.1")])).status == 200
    except ConnectionError:
        return False


async def test_a_gateway_starts_while_everything_around_it_is_down(tmp_path: Path) -> None:
    """No upstream, no broker: a warning, not an end; it captures."""
    made = profile("http://127.0.0.1:1")
    made["addons"][-1]["failure_sink"]["broker"] = "kafka://127.0.0.1:1"
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        answer = await client.request("POST", "/api/users", body=b"kept")
        assert answer.capture_id
        health = (await gateway.admin("/health")).json()
        assert health["kafka"]["status"] == "failing"
        assert health["outbox"]["status"] == "ok"
