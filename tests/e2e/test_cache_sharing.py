"""Who shares an answer with whom: many requests for one cold key, HTTP/2 clients, and those who want to poison it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.cached import cached, caching, keep, status_of
from tests.e2e.harness import Gateway
from tests.e2e.raw import RawClient
from tests.e2e.test_http2 import http2_client


async def test_a_hundred_requests_for_a_cold_key_ask_once(tmp_path: Path) -> None:
    """RFC 9211, section 2.6: collapsed forwarding."""
    async with caching(tmp_path, keep(b"hello", delay=0.2)) as (origin, _, client):
        answers = await asyncio.gather(*(client.get("/a") for _ in range(100)))
        assert {(a.status_code, a.content) for a in answers} == {(200, b"hello")}
        assert len(origin.requests) == 1
        assert sum("collapsed" in a.headers["cache-status"] for a in answers) >= 90
        assert len({a.headers["x-request-id"] for a in answers}) == 100


async def test_what_cannot_be_stored_is_not_queued_for(tmp_path: Path) -> None:
    """Ten requests of 0.4 s for what is `no-store` take less than four seconds."""
    answer = Answer(headers=[("Cache-Control", "no-store")], delay=0.4)
    changes = {"upstream__response_timeout": "5s", "upstream__deadline": "10s"}
    async with caching(tmp_path, answer, changes=changes) as (origin, _, client):
        for _ in range(2):
            began = time.monotonic()
            answers = await asyncio.gather(*(client.get("/a") for _ in range(10)))
            assert [a.status_code for a in answers] == [200] * 10
            assert time.monotonic() - began < 3.0
        assert len(origin.requests) == 20


async def test_a_slow_leader_holds_the_others_no_longer_than_coalesce(tmp_path: Path) -> None:
    """`coalesce`: then each asks for itself."""
    plan = [keep(b"slow", delay=3.0), keep(b"quick")]
    changes = {"upstream__response_timeout": "5s", "upstream__deadline": "10s"}
    async with caching(tmp_path, plan, coalesce="200ms", changes=changes) as (origin, _, client):
        leader = asyncio.create_task(client.get("/a"))
        await origin.wait_for(1)
        began = time.monotonic()
        answers = await asyncio.gather(*(client.get("/a") for _ in range(5)))
        assert {a.content for a in answers} == {b"quick"}
        assert time.monotonic() - began < 2.5
        assert (await leader).content == b"slow"


async def test_a_leader_whose_client_leaves_hangs_nobody(tmp_path: Path) -> None:
    """The others go on, at once or when `coalesce` is over."""
    plan = [keep(b"slow", delay=0.8), keep(b"quick")]
    changes = {"upstream__response_timeout": "5s", "upstream__deadline": "10s"}
    async with caching(tmp_path, plan, coalesce="5s", changes=changes) as (origin, gateway, client):
        host = [("Host", f"127.0.0.1:{gateway.port}")]
        async with RawClient(gateway.port) as leader:
            lines = ["GET /a HTTP/1.1", *(f"{k}: {v}" for k, v in host), "", ""]
            await leader.send("\r\n".join(lines).encode())
            await origin.wait_for(1)
            followers = asyncio.gather(*(client.get("/a") for _ in range(5)))
            await asyncio.sleep(0.2)
            leader.leave()
        answers = await asyncio.wait_for(followers, 3)
        assert {a.status_code for a in answers} == {200}
        assert len({a.content for a in answers}) == 1


async def test_a_leader_that_fails_takes_nobody_with_it(tmp_path: Path) -> None:
    """Each of the others asks for itself."""
    plan = [Answer(500, delay=0.2), keep(b"good")]
    async with caching(tmp_path, plan) as (_, _, client):
        leader = asyncio.create_task(client.get("/a"))
        await asyncio.sleep(0.05)
        answers = await asyncio.gather(*(client.get("/a") for _ in range(5)))
        assert (await leader).status_code == 500
        assert {a.content for a in answers} == {b"good"}


async def test_clients_of_both_protocols_share_what_is_stored(tmp_path: Path) -> None:
    """The key has no protocol; the scheme is part of it, so HTTP/2 over TLS has its own."""
    async with MisbehavingOrigin(keep(b"hello")) as origin:
        async with Gateway(tmp_path, made=cached(origin.url)) as gateway, http2_client(gateway) as client:
            first, second = await client.get("/a"), await client.get("/a")
            assert (first.http_version, status_of(first), status_of(second)) == ("HTTP/2", "miss", "hit")
            assert second.content == b"hello"
            many = await asyncio.gather(*(client.get("/a") for _ in range(50)))
            assert {status_of(each) for each in many} == {"hit"}
        assert len(origin.requests) == 1


def gullible(received: Received) -> Answer:
    """Answers with everything that it was told: whoever gets another's answer has been poisoned."""
    evil = [f"{k}={v}" for k, v in received.headers if "evil" in v.lower()]
    evil += [received.target] if "evil" in received.target else []
    evil += [received.body.decode()] if received.body else []
    return keep(("told " + " ".join(evil)).encode())


POISONS = {
    "X-Forwarded-Host": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: evil.test\r\n\r\n",
    "X_Forwarded_Host": "GET /page HTTP/1.1\r\nHost: {host}\r\nX_Forwarded_Host: evil.test\r\n\r\n",
    "X-Host": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-Host: evil.test\r\n\r\n",
    "Forwarded": "GET /page HTTP/1.1\r\nHost: {host}\r\nForwarded: host=evil.test\r\n\r\n",
    "X-Forwarded-Proto": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: evil\r\n\r\n",
    "X-Forwarded-Prefix": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Prefix: /evil\r\n\r\n",
    "X-Original-URL": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-Original-URL: /evil\r\n\r\n",
    "X-Rewrite-URL": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-Rewrite-URL: /evil\r\n\r\n",
    "method override": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-HTTP-Method-Override: EVIL\r\n\r\n",
    "fat GET": "GET /page HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nevil",
    "fat GET in chunks": "GET /page HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
    "4\r\nevil\r\n0\r\n\r\n",
    "another host": "GET /page HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "two hosts": "GET /page HTTP/1.1\r\nHost: {host}\r\nHost: evil.test\r\n\r\n",
    "absolute target": "GET http://evil.test/page HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "host with a user": "GET /page HTTP/1.1\r\nHost: evil@{host}\r\n\r\n",
    "parameter cloaking": "GET /page?utm_x=1;q=evil HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "encoded delimiter": "GET /page?utm_x=1%26q=evil HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "query in the path": "GET /page%3Fq=evil HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "dot segments": "GET /evil/../page HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "encoded dots": "GET /evil/%2e%2e/page HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "fragment": "GET /page#evil HTTP/1.1\r\nHost: {host}\r\n\r\n",
    "folded field": "GET /page HTTP/1.1\r\nHost: {host}\r\nX-A: a\r\n evil\r\n\r\n",
}


async def test_nobody_gets_what_a_poisoner_provoked(tmp_path: Path) -> None:
    """What the key leaves out and the origin reads must not be stored for others; and hits go on."""
    poisoned: dict[str, str] = {}
    async with caching(tmp_path, gullible, query={"ignore": ["utm_*"], "sort": True}) as (origin, gateway, _):
        host = f"127.0.0.1:{gateway.port}"
        for name, poison in POISONS.items():
            await gateway.admin("/purge", "POST", json={"all": True})
            async with RawClient(gateway.port) as poisoner:
                await poisoner.send(poison.format(host=host).encode())
                await poisoner.answer()
            async with httpx.AsyncClient(base_url=gateway.url) as clean:
                for path in ("/page", "/page?utm_x=1", "/page?utm_x=2"):
                    answers = [await clean.get(path) for _ in range(2)]
                    poisoned.update((name, a.text) for a in answers if a.text != "told ")
                    assert status_of(answers[1]) == "hit"
        provoked = [r for r in origin.requests if r.body or "evil" in f"{r.target} {r.headers}".lower()]
        assert len(provoked) > 10  # the poison has passed, so that there was something to be kept away from
    assert poisoned == {}
