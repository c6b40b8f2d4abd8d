"""`order: true`: a request does not overtake a capture of its key, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, addon, profile, until
from tests.e2e.test_http2 import http2_client

LARGE = os.urandom(200_000)


def ordered(upstream: str, *, sink: dict[str, Any] | None = None, **interceptor: Any) -> dict[str, Any]:
    """A profile that keeps the order of keys, tries once, and streams what is larger than 64 KiB."""
    made = profile(upstream, limits={"buffer_body": "64KiB"}, upstream__retry={"attempts": 1, "budget": None})
    addon(made, "interceptor", order=True, **interceptor)
    return addon(made, "failure_sink", **(sink or {}))


def client_of(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, timeout=15)


async def test_a_younger_request_of_the_key_is_stored_behind_and_others_go_on(tmp_path: Path) -> None:
    """Also after `kill -9`, and over HTTP/2; safe methods never wait. Once nothing waits, requests are sent again."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=ordered(origin.url, answer=202)) as gateway:
        async with client_of(gateway) as client:
            assert (await client.put("/a", content=b"0")).status_code == 200
            async with origin.refusing():
                first = await client.put("/a", content=b"1")
                assert first.status_code == 202
            origin.forget()
            second = await client.put("/a?other=query", content=b"2")
            assert (second.status_code, second.headers["location"][:20]) == (202, "/.holdfast/captures/")
            assert (await client.put("/b", content=b"3")).status_code == 200
            assert (await client.get("/a")).status_code == 200
        gateway.kill()
        async with await gateway.start(), client_of(gateway) as client, http2_client(gateway) as other:
            third = await other.post("/a", content=b"4")
            assert third.status_code == 202
            assert [(r.method, r.target) for r in origin.requests] == [("PUT", "/b"), ("GET", "/a")]
            stored = await gateway.exported()
            ids = [answer.headers["holdfast-capture-id"] for answer in (first, second, third)]
            assert list(stored) == ids  # in the order of storing, which is that of publishing
            assert [stored[each]["error"] for each in ids] == ["connection_refused", "queued", "queued"]
            assert stored[ids[1]]["attempts"] == []
            await gateway.cli("captures", "discard", ids[0], "--yes")
            assert (await client.put("/a", content=b"5")).status_code == 202
            await gateway.cli("captures", "discard", "--yes")
            assert (await client.put("/a", content=b"6")).status_code == 200


async def test_published_is_settled_where_nobody_replays(tmp_path: Path) -> None:
    """The broker has it, and there is no replayer in the chain to ask."""
    sink = {"broker": f"file://{tmp_path}/published.jsonl"}
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=ordered(origin.url, sink=sink)) as gateway,
        client_of(gateway) as client,
    ):
        async with origin.refusing():
            assert (await client.put("/a", content=b"1")).status_code == 503

        async def sent() -> bool:
            return (await client.put("/a", content=b"2")).status_code == 200

        await until(sent, what="the capture to be published and the key to be free")


async def test_the_key_may_be_a_value_in_the_body(tmp_path: Path) -> None:
    """Whatever the path; where there is no such value it is the path. `answer: 503` names the capture too."""
    sink = {"key": "json:$.order.id", "spool": {"max_body": "1MiB"}}
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=ordered(origin.url, sink=sink)) as gateway:
        async with client_of(gateway) as client:
            async with origin.refusing():
                assert (await client.post("/new", json={"order": {"id": 7}})).status_code == 503
                assert (await client.post("/plain", content=b"no JSON")).status_code == 503
            queued = await client.post("/pay", json={"paid": True, "order": {"id": 7}})
            assert (queued.status_code, queued.headers["retry-after"]) == (503, "5")
            assert queued.headers["holdfast-capture-id"] in {each["id"] for each in await gateway.captures()}
            assert (await client.post("/pay", json={"order": {"id": 8}})).status_code == 200
            assert (await client.post("/new", json={"order": {"name": 7}})).status_code == 200
            assert (await client.post("/plain", json={"order": {"id": 9}})).status_code == 200
            assert (await client.post("/plain", json={})).status_code == 503
            # Too large to hold: its path is its key, whatever is in it.
            assert (await client.post("/large", content=LARGE)).status_code == 200
            large = await client.post("/plain", content=LARGE)
            assert large.status_code == 503
            envelope = (await gateway.exported())[large.headers["holdfast-capture-id"]]
            assert (envelope["error"], raw.body_of(envelope)) == ("queued", LARGE)
        assert all(received.target in ("/pay", "/new", "/plain", "/large") for received in origin.requests)
        assert len(origin.requests) == 4


async def test_what_cannot_be_stored_behind_does_not_overtake(tmp_path: Path) -> None:
    """At the bound, and for a body that cannot be kept, the client is told; no server gets the request."""
    sink = {"max_records": 1}
    made = ordered("http://127.0.0.1:1", sink=sink, answer=202, full=429)
    async with MisbehavingOrigin() as origin:
        made["upstream"]["servers"] = [origin.url]
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:
            async with origin.refusing():
                assert (await client.put("/a", content=b"1")).status_code == 202
            refused = await client.put("/a", content=b"2")
            assert (refused.status_code, refused.headers["holdfast-capture"]) == (429, "failed; reason=outbox_full")
            large = await client.put("/a", content=LARGE)
            assert (large.status_code, large.headers["holdfast-capture"]) == (413, "failed; reason=too_large")
            assert not origin.requests
            assert (await client.put("/b", content=LARGE)).status_code == 200


async def test_live_requests_and_replays_arrive_in_one_order(tmp_path: Path, seed: int) -> None:
    """One client on one key, the origin away in the middle: what is captured is replayed before what comes later."""
    async with MisbehavingOrigin() as origin:
        made = ordered(origin.url, answer=202)
        made["addons"].insert(3, {"replayer": {"audit": str(tmp_path / "audit.db")}})
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:
            statuses: list[int] = []

            async def put(times: int) -> None:
                for _ in range(times):
                    answer = await client.put("/a", content=b"%d" % len(statuses))
                    statuses.append(answer.status_code)

            await put(1 + seed % 4)
            async with origin.refusing():
                await put(5)

            async def live_again() -> bool:
                await put(1)
                return statuses[-1] == 200

            await until(live_again, within=30, what="the captures to be delivered and a live request to pass")
            await put(3)
            assert set(statuses) == {200, 202}
            arrived = list(dict.fromkeys(int(each.body) for each in origin.requests if each.complete))
            assert arrived == list(range(len(statuses)))


async def test_clients_that_wait_for_their_answers_are_never_overtaken(tmp_path: Path, seed: int) -> None:
    """Many keys at once while the origin comes and goes: whatever was captured first, nothing of its key passes it."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=ordered(origin.url)) as gateway:
        sent: dict[str, list[int]] = {f"/{name}": [] for name in "abcd"}
        refused = asyncio.Event()

        async def one(path: str) -> None:
            async with client_of(gateway) as client:
                for number in range(12):
                    answer = await client.put(path, content=b"%d" % number)
                    if answer.status_code == 200:
                        sent[path].append(number)
                    else:
                        refused.set()

        clients = [asyncio.create_task(one(path)) for path in sent]
        await until(lambda: sum(map(len, sent.values())) > seed % 20, every=0.001)
        async with origin.refusing(), asyncio.timeout(10):
            await refused.wait()
        await asyncio.gather(*clients)
        stored = [each["path"] for each in await gateway.captures()]
        waiting = {path: stored.count(path) for path in sent}
        for path, numbers in sent.items():
            assert numbers == list(range(12 - waiting[path])), path
