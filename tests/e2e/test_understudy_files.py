"""Recordings across a `kill -9`, offline, and where unsafe requests are answered from them, too."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from pathlib import Path

import httpx
import yaml

from holdfast.testing import Answer, MisbehavingOrigin, Received
from tests.e2e.harness import ROUTER, Gateway, profile, until

SIZE = 5000
JSON = ("Content-Type", "application/json")


def whole(file: Path) -> bool:
    """A head, and below it the JSON that it was."""
    head, body = yaml.safe_load_all(file.read_text())
    return bool(head["status"] == 200 and len(body["filler"]) == SIZE and head["written"])


async def test_a_killed_gateway_leaves_no_broken_file(tmp_path: Path) -> None:
    """Whenever it happens; what is left over is not taken for a recording, and the next one goes on."""
    numbers, dice = itertools.count(), random.Random(6)

    def ever_new(received: Received) -> Answer:
        return Answer(headers=[JSON], body=json.dumps({"n": next(numbers), "filler": "x" * SIZE}).encode())

    async with MisbehavingOrigin(ever_new) as origin:
        made = profile(origin.url)
        made["addons"].append("understudy")
        async with Gateway(tmp_path, made=made) as gateway:
            for again in (True, False):
                await _ask_until_killed(gateway, dice.uniform(0.2, 0.5))
                files = list((tmp_path / "understudy").rglob("*.yaml"))
                assert files
                assert all(whole(file) for file in files)
                if again:
                    await gateway.start()
                    async with origin.refusing(), httpx.AsyncClient(base_url=gateway.url) as client:
                        assert len((await client.get("/api/users/0")).json()["filler"]) == SIZE


async def _ask_until_killed(gateway: Gateway, seconds: float) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=5) as client:

        async def ask() -> None:
            with contextlib.suppress(httpx.TransportError):
                for number in itertools.count():
                    await client.get(f"/api/users/{number % 5}")

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        await until(lambda: list(gateway.folder.glob("understudy/user/*.yaml")), what="the first recording")
        await asyncio.sleep(seconds)
        gateway.kill()
        await asyncio.gather(*asking)


async def test_offline_and_at_play(tmp_path: Path) -> None:
    """`answer: always` asks no server, and is fed by hand; `unsafe: answer` answers a POST, and nothing is captured.

    Under `mitmdump`, as it is used to look at what happens.
    """
    folder = tmp_path / "understudy"
    async with MisbehavingOrigin(Answer(201, [JSON], b'{"id": 9}')) as origin:
        made = profile(origin.url)
        made["addons"][0] = ROUTER
        settings = {"methods": ["GET", "POST"], "unsafe": "answer", "routes": {"user": {"answer": "always"}}}
        made["addons"].append({"understudy": settings})
        gateway = Gateway(tmp_path, origin.url, front="mitmdump", made=made)
        async with gateway, httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
            missing = await client.get("/api/users/1")
            assert (missing.status_code, missing.headers["holdfast-understudy"]) == (504, "user; missing")
            assert "user/get.api.users.1.yaml" in missing.json()["detail"]
            (folder / "user").mkdir(parents=True)
            by_hand = 'status: 200\nheaders: {content-type: application/json}\n---\n{"name": "Ada"}\n'
            (folder / "user" / "get.api.users.1.yaml").write_text(by_hand)
            found = await client.get("/api/users/1")
            assert (found.json(), found.headers["holdfast-understudy"]) == ({"name": "Ada"}, "user; edited")
            assert "error=" not in found.headers["proxy-status"]
            assert not origin.requests
            assert (await client.post("/api/users", content=b"{}")).status_code == 201
            await until((folder / "users" / "post.api.users.yaml").exists, what="the recording")
            async with origin.refusing():
                played = await client.post("/api/users", content=b"{}")
            assert (played.status_code, played.json()) == (201, {"id": 9})
            assert "holdfast-capture-id" not in played.headers
            assert await gateway.captures() == []
