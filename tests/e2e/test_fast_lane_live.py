"""The fast lane beside what changes: purges, options, addons, profiles, faults, slow readers, a stop."""

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin, Received
from tests.e2e.cached import FRESH, access_lines, cached, keep
from tests.e2e.harness import Front, Gateway, until
from tests.e2e.live import change, quiet
from tests.e2e.raw import RawClient, head

HITS, OPEN = ("holdfast_fast_lane_hits_total",), ("holdfast_fast_lane_open",)
pytestmark = pytest.mark.skipif(os.environ.get("HOLDFAST_ENGINE") == "plain", reason="there is no fast lane then")
LENGTHS = {"/fast": 4, "/short": 3000, "/long": 6_000}
STAMP = '''
class Stamp:
    """Puts its mark on every answer."""

    def response(self, flow):
        flow.response.headers["X-Stamp"] = "seen"
'''


class Place:
    """A gateway with the lane, a client of it, and an origin that says how often it was asked."""

    def __init__(self, origin: MisbehavingOrigin, gateway: Gateway, client: RawClient) -> None:
        self.origin, self.gateway, self.client = origin, gateway, client

    async def get(self, path: str = "/a", *fields: tuple[str, str]) -> Any:
        """One answer."""
        return await self.client.request("GET", path, fields)

    async def warm(self, path: str = "/a") -> None:
        """Filled, learned, and answered by the lane."""
        for _ in range(2):
            await self.get(path)
        before = await self.hits()
        await self.get(path)
        assert await self.hits() == before + 1

    async def by_lane(self, path: str) -> float:
        """Of three that ask the same, how many the lane has answered."""
        before = await self.hits()
        for _ in range(3):
            await self.get(path)
        return await self.hits() - before

    async def hits(self) -> float:
        """Of the lane."""
        return (await self.gateway.metrics())[HITS]

    async def is_open(self) -> bool:
        """Whether the lane is."""
        return (await self.gateway.metrics())[OPEN] == 1


type Placing = AsyncIterator[Place]


@asynccontextmanager
async def place(folder: Path, plan: Any, *, front: Front = "run", args: Sequence[str] = (), **settings: Any) -> Placing:
    """Ready."""
    folder.mkdir(exist_ok=True)
    (folder / "stamping.py").write_text(STAMP)
    times = {"upstream__response_timeout": "9s", "upstream__deadline": "9s"}
    async with MisbehavingOrigin(plan) as origin:
        made = quiet(cached(origin.url, changes=times, **settings))
        gateway = Gateway(folder, origin.url, made=made, args=args, front=front)
        async with gateway, RawClient(gateway.port) as client:
            yield Place(origin, gateway, client)


def at_origin() -> Callable[[Received], Answer]:
    """Bodies count, but for those of some paths."""
    count = itertools.count(1)
    fixed = {
        "/slow": Answer(body=b"slow", delay=0.3),
        "/fast": keep(b"fast"),
        "/short": keep(b"s" * 3000),
        "/long": keep(b"l" * 6_000),
        "/huge": keep(b"h" * 300_000),
    }
    return lambda received: fixed.get(received.target) or keep(b"%d" % next(count), ("Surrogate-Key", "red"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> Placing:
    """One for the tests that change nothing but what is stored."""
    async with place(tmp_path_factory.mktemp("lane"), at_origin()) as found:
        yield found


@pytest.mark.asyncio(loop_scope="module")
async def test_a_purge_is_seen_by_the_very_next_request(shared: Place) -> None:
    """By tag, by URL, of all; hard and soft; and by an unsafe request."""
    at, url = shared, "http://gateway.test/a"
    purges = ({"tags": ["red"]}, {"urls": [url]}, {"all": True}, {"tags": ["red"], "soft": True})
    for number, wanted in enumerate(purges, start=1):
        await at.warm()
        assert (await at.get()).body == b"%d" % number
        (await at.gateway.admin("/purge", "POST", json=wanted)).raise_for_status()
        fresh = await at.get()
        assert fresh.body == b"%d" % (number + 1) and ";hit" not in (fresh.header("cache-status") or "")
    await at.warm()
    await at.client.request("DELETE", "/a")
    assert (await at.get()).body == b"7"


async def test_who_needs_to_see_hits_closes_it_while_that_is_so(tmp_path: Path) -> None:
    """Somebody else's addon, `fast_lane: false` everywhere or for a route; and a route's new name counts at once."""
    async with place(tmp_path, at_origin()) as at:
        await at.warm()
        await change(at.gateway, lambda made: made["addons"].append({"use": "stamping:Stamp", "name": "stamp"}))
        assert not await at.is_open()
        assert await at.by_lane("/a") == 0 and (await at.get()).header("x-stamp") == "seen"
        await change(at.gateway, lambda made: made["addons"].pop())
        assert await at.is_open() and (await at.get()).header("x-stamp") is None
        await at.warm()
        await change(at.gateway, lambda made: _cache(made).update(fast_lane=False))
        assert await at.by_lane("/a") == 0
        off = {"fast_lane": True, "routes": {"other": {"fast_lane": False}}}
        await change(at.gateway, lambda made: _cache(made).update(off))
        await at.warm("/api/users")
        assert await at.by_lane("/a") == 0

        def rename(made: Any) -> None:
            made["addons"][0]["router"]["routes"][1]["name"] = "people"

        await change(at.gateway, rename)
        assert await at.by_lane("/api/users") == 2
        routes = [line["route"] for line in access_lines(at.gateway) if line["path"] == "/api/users"]
        assert routes == ["users"] * 3 + ["people"] * 3


async def test_faults_for_clients_hold_for_hits(tmp_path: Path) -> None:
    """A fault is made between the gateway and its client, whoever has answered."""
    async with place(tmp_path, at_origin(), faults={}) as at:
        assert await at.by_lane("/a") == 0
        await at.gateway.inject({"at": "client", "fault": "status", "status": 418})
        assert (await at.get()).status == 418


@pytest.mark.asyncio(loop_scope="module")
async def test_answers_come_in_the_order_of_the_requests(shared: Place) -> None:
    """Hits behind a slow one wait for it, though they could be had at once."""
    await shared.warm("/fast")
    data = (head("GET", "/fast") + head("GET", "/slow")) * 2 + head("GET", "/fast") * 3
    await shared.client.send(data[:-7])
    await asyncio.sleep(0.1)
    await shared.client.send(data[-7:])
    bodies = [(await shared.client.answer()).body for _ in range(7)]
    assert bodies == [b"fast", b"slow", b"fast", b"slow", b"fast", b"fast", b"fast"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_that_asks_a_thousand_times_and_reads_slowly_gets_all_its_answers(shared: Place) -> None:
    """In order and whole."""
    for path in LENGTHS:
        await shared.warm(path)
    async with RawClient(shared.gateway.port, receive_buffer=4096) as slow:
        wanted = [[*LENGTHS][number * number % 3] for number in range(1000)]
        sending = asyncio.create_task(_send(slow, b"".join(head("GET", path) for path in wanted)))
        await asyncio.sleep(0.2)
        for path in wanted:
            answer = await slow.answer()
            assert (answer.body[:1], len(answer.body)) == (path[1:2].encode(), LENGTHS[path])
        await sending
        assert await slow.is_kept()


@pytest.mark.asyncio(loop_scope="module")
async def test_what_waits_for_a_client_that_does_not_read_is_bounded(shared: Place) -> None:
    """However many hits it asks for: here four hundred megabytes."""
    await shared.warm("/huge")
    before = shared.gateway.memory()
    async with RawClient(shared.gateway.port, receive_buffer=4096) as slow:
        sending = asyncio.create_task(_send(slow, head("GET", "/huge") * 1300))
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert shared.gateway.memory() < before + 100_000_000
        sending.cancel()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_with_tls_gets_hits_of_its_own_scheme(shared: Place) -> None:
    """One after the other and many at once; those without TLS have others."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    trusting.set_alpn_protocols(["http/1.1"])
    await shared.warm("/fast")
    before = await shared.hits()
    async with RawClient(shared.gateway.port) as secure:
        await secure.writer.start_tls(trusting, server_hostname="gateway.test")
        for data, number in ((head("GET", "/fast"), 1),) * 4 + ((head("GET", "/fast") * 30, 30),):
            await secure.send(data)
            for _ in range(number):
                answer = await secure.answer()
                assert answer.body == b"fast" and "https://gateway.test/fast" in (answer.header("cache-status") or "")
    assert await shared.hits() == before + 32


@pytest.mark.asyncio(loop_scope="module")
async def test_a_thousand_connections_get_their_hits(shared: Place) -> None:
    """Each its own answer, with an id of its own."""
    await shared.warm("/fast")
    before, ids = await shared.hits(), set[str | None]()
    for _ in range(5):
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawClient(shared.gateway.port)) for _ in range(200)]
            for client in clients:
                await client.send(head("GET", "/fast"))
            ids |= {(await client.answer()).header("x-request-id") for client in clients}
    assert len(ids) == 1000 and await shared.hits() == before + 1000


async def test_under_mitmdump_an_option_that_changes_answers_closes_it(tmp_path: Path) -> None:
    """`mitmdump -s addons/main.py` has the lane as well; `modify_headers` must hold for every answer."""
    async with place(tmp_path / "one", at_origin(), front="mitmdump") as at:
        await at.warm()
    args = ["--set", "modify_headers=/~s/X-Mine/yes"]
    async with place(tmp_path / "two", at_origin(), front="mitmdump", args=args) as at:
        assert await at.by_lane("/a") == 0 and not await at.is_open()
        assert (await at.get()).header("x-mine") == "yes"


async def test_mitmweb_shows_hits_as_flows(tmp_path: Path) -> None:
    """Its view is an onlooker."""
    async with place(tmp_path, at_origin(), front="mitmweb") as at:
        assert await at.by_lane("/a") == 0 and not await at.is_open()


async def test_a_plain_engine_has_no_fast_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLDFAST_ENGINE=plain leaves out what only makes it faster."""
    monkeypatch.setenv("HOLDFAST_ENGINE", "plain")
    async with place(tmp_path, at_origin()) as at:
        assert await at.by_lane("/a") == 0 and not await at.is_open()


async def test_what_is_stale_is_answered_while_it_is_fetched_anew_once(tmp_path: Path) -> None:
    """By the lane too; then the new one is there for everybody."""
    swr = ("Cache-Control", "max-age=1, stale-while-revalidate=600")
    plan = [
        Answer(headers=[swr, ("Age", "5")], body=b"old"),
        Answer(headers=[FRESH], body=b"new", delay=1.5),
    ]
    async with place(tmp_path, plan) as at:
        await at.get()
        before = await at.hits()
        answers = [await at.get() for _ in range(20)]
        assert {answer.body for answer in answers} == {b"old"}
        assert await at.hits() >= before + 15
        assert all("ttl=-" in (answer.header("cache-status") or "") for answer in answers)
        assert all(
            "holdfast-fate=stale" in (answer.header("proxy-status") or "") or answer.header("proxy-status")
            for answer in answers
        )

        async def is_new() -> bool:
            return (await at.get()).body == b"new"

        await until(is_new, within=10, what="the new one")
        assert len(at.origin.requests) == 2


async def test_a_stopping_gateway_says_so_to_those_it_had_hits_for(tmp_path: Path) -> None:
    """While it drains, answers end their connections."""
    plan = {"/slow": Answer(delay=0.8), "*": keep()}
    async with place(tmp_path, plan) as at:
        await at.warm()
        async with RawClient(at.gateway.port) as other:
            await other.send(head("GET", "/slow"))
            await at.origin.wait_for(2)
            ending = asyncio.create_task(at.gateway.terminate())
            await until(lambda: "stopping" in at.gateway.log(), what="the stop")
            answer = await at.get()
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert (await other.answer()).status == 200
            assert await ending == 0


def _cache(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(each["cache"] for each in made["addons"] if isinstance(each, dict) and "cache" in each)
    return found


async def _send(client: RawClient, data: bytes) -> None:
    for start in range(0, len(data), 20_000):
        client.writer.write(data[start : start + 20_000])
        await client.writer.drain()
