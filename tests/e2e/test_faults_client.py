"""Faults at the client, with real clients: what they see, what is told of it, and what they leave behind."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e.harness import PROBLEM, Gateway, addon, profile, until
from tests.e2e.raw import RawClient
from tests.unit.testing.h2_client import H2Client

pytestmark = pytest.mark.asyncio(loop_scope="module")
HELD = Answer(200, [("Content-Type", "text/plain"), ("Cache-Control", "max-age=60")], b"0123456789" * 40)
STREAMED = Answer(200, [("Content-Type", "text/plain")], b"0123456789" * 20_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[MisbehavingOrigin]:
    """An upstream in good health."""
    async with MisbehavingOrigin(lambda request: STREAMED if "large" in request.target else HELD) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, origin: MisbehavingOrigin) -> AsyncIterator[Gateway]:
    """One for all tests; what is longer than 64 KiB is passed on as it comes."""
    made = addon(profile(origin.url, limits__buffer_body="64KiB"), "faults", seed=7)
    made["addons"].insert(2, "cache")
    async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as running:
        yield running


async def put(gateway: Gateway, **rule: Any) -> None:
    """This rule alone."""
    answer = await gateway.admin("/faults", "PUT", json={"rules": [rule], "seed": 7})
    assert answer.status_code == 200, answer.text


async def curl(gateway: Gateway, path: str, *args: str) -> tuple[int, bytes]:
    """Its exit code and the body it got."""
    command = ["curl", "-s", "--max-time", "5", *args, f"{gateway.url}{path}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out


def last_line(gateway: Gateway) -> str:
    """Of the access log."""
    return [line for line in gateway.log().splitlines() if "INFO request " in line][-1]


@pytest.mark.parametrize("path", ["/held", "/large"])
async def test_another_answer_is_sent_and_says_whose_it_is(gateway: Gateway, path: str) -> None:
    """Status, body and header fields are the rule's; `Proxy-Status` has what the upstream said; the next goes well."""
    await put(gateway, fault="status", status=429, headers={"Retry-After": "7"}, times=1, name="busy")
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.get(f"{path}?status")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert answer.headers["content-type"] == PROBLEM
        assert answer.headers["holdfast-fault"] == "busy; kind=status; at=client"
        told = answer.headers["proxy-status"]
        assert 'received-status=200; details="injected by the fault busy"; holdfast-fate=failed' in told
        assert answer.json()["fault"] == "busy"
        again = await client.get(f"{path}?status")
        assert (again.status_code, "holdfast-fault" in again.headers) == (200, False)
    line = next(line for line in gateway.log().splitlines()[::-1] if "fault:busy" in line)
    assert "status=429 fate=failed" in line
    assert 'faults="busy (status at client)"' in line


async def test_what_is_stored_is_the_true_answer(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """The cache keeps what the upstream said, unmarked; a fault acts on a hit as well."""
    await put(gateway, fault="corrupt", times=2)
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        first, hit, true = [await client.get("/stored") for _ in range(3)]
    assert len(first.content) == len(true.content)
    assert first.content != true.content != hit.content
    assert "hit" in hit.headers["cache-status"]
    assert "holdfast-fault" in hit.headers
    assert "hit" in true.headers["cache-status"]
    assert (true.content, "holdfast-fault" in true.headers) == (HELD.body, False)
    assert len([r for r in origin.requests if r.target == "/stored"]) == 1


@pytest.mark.parametrize("path", ["/held?r", "/large?r"])
async def test_a_connection_is_reset(gateway: Gateway, path: str) -> None:
    """RST, not an orderly end: curl says 56, httpx a read error; nothing of an answer has come."""
    await put(gateway, fault="reset", times=2)
    assert await curl(gateway, path) == (56, b"")
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        with pytest.raises(httpx.ReadError):
            await client.get(path)
    await until(lambda: "status=None fate=failed" in last_line(gateway))
    assert "reason=fault:reset" in last_line(gateway)
    assert (await curl(gateway, path))[0] == 0


@pytest.mark.parametrize("path", ["/held?t", "/large?t"])
async def test_a_body_breaks_off(gateway: Gateway, path: str) -> None:
    """The announced length is not reached: curl says 18, and has exactly what was let through."""
    await put(gateway, fault="truncate", after="100", times=1)
    assert await curl(gateway, path) == (18, HELD.body[:100])
    assert (await curl(gateway, path))[0] == 0


async def test_a_body_of_unknown_length_breaks_off(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """One in chunks has no end then: the last chunk is missing."""
    await put(gateway, fault="truncate", after="10", times=1)
    origin.plan = Answer(200, [], b"z" * 200_000, chunked=True, pieces=4)
    try:
        assert await curl(gateway, "/large?chunked") == (18, b"z" * 10)
    finally:
        origin.plan = lambda request: STREAMED if "large" in request.target else HELD


async def test_a_body_comes_slowly(gateway: Gateway) -> None:
    """400 bytes at 1000 a second."""
    await put(gateway, fault="slow", rate="1000")
    began = time.monotonic()
    assert await curl(gateway, "/held?slow") == (0, HELD.body)
    assert 0.35 < time.monotonic() - began < 3


async def test_an_answer_is_late(gateway: Gateway) -> None:
    """By the delay, give or take the jitter; the log has the time that the client has waited."""
    await put(gateway, fault="latency", delay="300ms", jitter="100ms")
    began = time.monotonic()
    assert await curl(gateway, "/held?late") == (0, HELD.body)
    assert 0.2 <= time.monotonic() - began < 2
    await until(lambda: "(latency at client)" in last_line(gateway))
    took = re.search(r"duration_ms=([0-9.]+)", last_line(gateway))
    assert took
    assert float(took[1]) >= 200
    assert "fate=hit" in last_line(gateway) or "fate=ok" in last_line(gateway)


LASTING: list[dict[str, Any]] = [{"fault": "hang"}, {"fault": "latency", "delay": "1s"}, {"fault": "slow", "rate": 50}]


@pytest.mark.parametrize("rule", LASTING)
@pytest.mark.parametrize("args", [[], ["--http2-prior-knowledge"]])
async def test_a_client_that_leaves_is_let_go(gateway: Gateway, rule: dict[str, Any], args: list[str]) -> None:
    """Nothing waits on for it; one of HTTP/1 that says no more may still read, and is let go with the answer."""
    await put(gateway, **rule)
    code, _ = await curl(gateway, "/held?gone", *args, "--max-time", "0.3")
    assert code == 28
    await until(lambda: connections(gateway) == 0, what="its connection to be closed")
    await until(lambda: f"({rule['fault']} at client)" in last_line(gateway), what="the request to end")


def connections(gateway: Gateway) -> int:
    """To the proxied port, as the kernel sees them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(f[1].split(":")[1], 16) == gateway.port and f[3] in ("01", "08") for f in lines)


async def test_a_stream_of_http2_fails_alone(gateway: Gateway) -> None:
    """A reset is one of the stream: the others of the connection go on (RFC 9113, section 5.4.2)."""
    await put(gateway, fault="reset", path="/broken")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    client = H2Client(reader, writer)
    broken, well = await client.ask("/broken"), await client.ask("/held?h2")
    assert (await client.answer(broken)).reset is not None
    seen = await client.answer(well)
    assert (seen.status, seen.body, seen.reset) == (200, HELD.body, None)
    await put(gateway, fault="truncate", after="5")
    cut = await client.answer(await client.ask("/held?h2"))
    assert (cut.status, cut.body, cut.ended) == (200, HELD.body[:5], False)
    await put(gateway, fault="status", status=503, body="no", headers={"Retry-After": "2"})
    other = await client.answer(await client.ask("/large?h2"))
    assert (other.status, other.body, other.headers["retry-after"], other.ended) == (503, b"no", "2", True)
    writer.close()


async def test_a_call_of_grpc_gets_a_status_of_its_own(gateway: Gateway) -> None:
    """503 is UNAVAILABLE there, and a reset ends the call."""
    await put(gateway, fault="status", status=503)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call = channel.unary_unary("/t.S/Unary")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "injected by the fault status" in (refused.value.details() or "")
        await put(gateway, fault="reset")
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            await call(b"", timeout=5)
        assert broken.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)


async def test_a_slow_answer_is_not_kept_in_memory(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """The upstream is read no faster than the answer goes out."""
    await put(gateway, fault="slow", rate="1000")
    origin.plan = Answer(200, [], b"m" * 60_000_000)
    try:
        async with RawClient(gateway.port) as client:
            before = gateway.memory()
            await client.send(b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.answer_head()).status == 200
            await asyncio.sleep(1)
            assert gateway.memory() - before < 20_000_000
    finally:
        origin.plan = lambda request: STREAMED if "large" in request.target else HELD


async def test_what_the_gateway_says_of_itself_is_spared(gateway: Gateway) -> None:
    """A probe of the proxied port must not take the gateway for dead."""
    await put(gateway, fault="status", status=500)
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.get("/health")).status_code == 200
        assert (await client.head("/held")).status_code == 500
