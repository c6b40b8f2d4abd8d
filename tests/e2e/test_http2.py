"""HTTP/2 clients: failures of one stream are answered on it, and neither its neighbours nor the connection suffer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import pytest

from holdfast.testing import Answer, Break, Garbage, MisbehavingOrigin, Received, Step
from tests.e2e.harness import PROBLEM, Gateway, profile, until

FAILURES = [
    (Break("request", "reset"), "error=connection_terminated"),
    (Break("request", "hang"), "error=http_response_timeout"),
    (Break("body", "fin"), "error=http_response_incomplete"),
    (Break("body", "hang"), "error=connection_read_timeout"),
    (Garbage(), "error=http_protocol_error"),
    (Answer(503), "received-status=503"),
]


@pytest.fixture
async def origin() -> AsyncIterator[MisbehavingOrigin]:
    """An HTTP/1.1 upstream."""
    async with MisbehavingOrigin() as running:
        yield running


@pytest.fixture
async def gateway(tmp_path: Path, origin: MisbehavingOrigin) -> AsyncIterator[Gateway]:
    """A gateway before it."""
    async with Gateway(tmp_path, origin.url) as running:
        yield running


class OnlyHttp2(ssl.SSLContext):
    """Offers h2 alone: httpx offers http/1.1 first, and mitmproxy takes a client's first choice."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


def http2_client(gateway: Gateway) -> httpx.AsyncClient:
    """One HTTP/2 connection over TLS; the gateway's certificate is mitmproxy's own."""
    context = OnlyHttp2(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    limits = httpx.Limits(max_connections=1)
    base = f"https://127.0.0.1:{gateway.port}"
    return httpx.AsyncClient(http1=False, http2=True, verify=context, base_url=base, limits=limits, timeout=15)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP/2 client of the gateway."""
    async with http2_client(gateway) as made:
        yield made


async def test_failures_are_answered_on_their_stream_and_the_connection_goes_on(
    gateway: Gateway, origin: MisbehavingOrigin, client: httpx.AsyncClient
) -> None:
    """One after the other on one connection, each followed by a request that succeeds."""
    ports = set()
    for plan, status in FAILURES:
        for method in ("GET", "POST"):
            origin.forget()
            origin.plan = plan
            answer = await client.request(method, "/api/users", content=b"\x00body" if method == "POST" else None)
            assert answer.http_version == "HTTP/2"
            assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
            assert status in answer.headers["proxy-status"]
            assert answer.json()["capture_id"] == answer.headers["holdfast-capture-id"]
            assert "connection" not in answer.headers
            assert len(origin.requests) == (3 if method == "GET" else 1)
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            origin.plan = Answer(body=b"well")
            assert (await client.get("/api/users")).text == "well"
    async with origin.refusing():
        refused = await client.post("/api/users", content=b"x")
        assert "error=connection_refused" in refused.headers["proxy-status"]
    assert (await client.get("/api/users")).status_code == 200
    assert len(ports) == 1
    assert len(await gateway.captures()) == len(FAILURES) * 2 + 1


async def test_streams_side_by_side_do_not_disturb_each_other(tmp_path: Path, origin: MisbehavingOrigin) -> None:
    """Sixty at once, every kind of failure among them, each with an answer of its own."""

    def plan(received: Received) -> Step:
        number = int(received.target.rpartition("/")[2])
        return FAILURES[number % 10][0] if number % 10 < len(FAILURES) else Answer(body=received.target.encode())

    origin.plan = plan

    async def ask(number: int) -> None:
        answer = await client.get(f"/api/{number}")
        if number % 10 < len(FAILURES):
            assert FAILURES[number % 10][1] in answer.headers["proxy-status"], number
        else:
            assert (answer.status_code, answer.text) == (200, f"/api/{number}")

    made = profile(
        origin.url, upstream__connect_timeout="5s", upstream__response_timeout="1s", upstream__deadline="12s"
    )
    async with Gateway(tmp_path, origin.url, made=made) as gateway, http2_client(gateway) as client:
        await client.get("/api/9")  # the connection is there before the crowd
        await asyncio.gather(*(ask(number) for number in range(60)))


@pytest.mark.parametrize("door", ["refusing", "full_backlog"])
async def test_every_stream_that_waits_for_a_connection_is_answered(
    origin: MisbehavingOrigin, client: httpx.AsyncClient, door: str
) -> None:
    """Several of them wait for one and the same connection, and it does not come about."""
    await client.get("/warm")
    async with getattr(origin, door)():
        answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(10)))
    token = "error=connection_refused" if door == "refusing" else "error=connection_timeout"
    assert all(token in answer.headers["proxy-status"] for answer in answers)
    assert len({answer.headers["holdfast-capture-id"] for answer in answers}) == 10
    assert (await client.get("/well")).status_code == 200


async def test_a_stream_that_is_cancelled_leaves_the_others_alone(
    gateway: Gateway, origin: MisbehavingOrigin, client: httpx.AsyncClient
) -> None:
    """The client takes back a request that hangs; the connection goes on."""
    origin.plan = {"/hangs": Answer(delay=30), "*": Answer(body=b"well")}
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/hangs", timeout=0.1)
    assert (await client.get("/well")).text == "well"


async def test_a_large_upload_that_fails_is_answered_once(tmp_path: Path) -> None:
    """Streamed to nobody: 503 without an id, and the next stream is served."""
    made = profile("http://127.0.0.1:1", limits={"buffer_body": "64KiB"})
    async with Gateway(tmp_path, made=made) as gateway, http2_client(gateway) as client:
        answer = await client.post("/large", content=bytes(2**20))
        assert (answer.status_code, answer.headers["holdfast-capture"]) == (503, "failed; reason=too_large")
        assert (await client.post("/small", content=b"x")).headers["holdfast-capture-id"]


async def test_a_stop_lets_streams_in_flight_finish(
    gateway: Gateway, origin: MisbehavingOrigin, client: httpx.AsyncClient
) -> None:
    """SIGTERM while two of them wait for the upstream."""
    await client.get("/warm")
    origin.plan = Answer(body=b"slow", delay=0.2)
    asked = [asyncio.create_task(client.get(f"/{number}")) for number in range(2)]
    await until(lambda: len(origin.requests) == 3, what="both requests to arrive")
    code = await gateway.terminate()
    assert [(await task).text for task in asked] == ["slow", "slow"]
    assert code == 0
