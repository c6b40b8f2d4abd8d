"""Clients that take their time: a header, a handshake or a body that does not come to its end is not waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.frames import CONTINUATION, HEADERS, PREFACE, REQUEST, FrameClient, block, data, frame, headers
from tests.e2e.harness import PROBLEM, Gateway, profile, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE = 0.5
HELD = 100_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """A gateway with little patience."""
    async with MisbehavingOrigin() as origin:
        limits = {"header_timeout": "500ms", "body_timeout": "500ms", "buffer_body": str(HELD)}
        made = profile(origin.url, limits=limits)
        async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as gateway:
            yield gateway, origin
            assert "Traceback" not in gateway.log(100_000)


@pytest.fixture
def gateway(running: tuple[Gateway, MisbehavingOrigin]) -> Gateway:
    """The gateway."""
    return running[0]


@pytest.fixture
def origin(running: tuple[Gateway, MisbehavingOrigin]) -> MisbehavingOrigin:
    """The upstream behind it, well and with nothing received."""
    running[1].forget()
    running[1].plan = Answer()
    return running[1]


def now() -> float:
    return asyncio.get_running_loop().time()


async def drip(client: raw.RawClient, pieces: bytes, pace: float = 0.05) -> None:
    """A byte at a time, for as long as anybody takes them."""
    with contextlib.suppress(ConnectionError):
        for byte in pieces:
            await client.send(bytes([byte]))
            await asyncio.sleep(pace)


async def test_a_header_that_comes_a_byte_at_a_time_is_not_waited_for(
    gateway: Gateway, origin: MisbehavingOrigin
) -> None:
    """limits.header_timeout counts from its first byte, however steadily the others follow: 408, and the end."""
    async with raw.RawClient(gateway.port) as client:
        began = now()
        sending = asyncio.create_task(drip(client, b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X-Header: y\r\n" * 20))
        answer = await client.answer(within=5)
        assert PATIENCE * 0.9 < now() - began < PATIENCE + 3
        assert (answer.status, answer.header("content-type")) == (408, PROBLEM)
        assert (answer.header("connection"), answer.json()["fault"]) == ("close", "header_timeout")
        assert await client.ends(5) == b""
        await sending
    assert origin.requests == []


async def test_a_second_header_is_not_waited_for_either(gateway: Gateway) -> None:
    """On a connection that has served a request before, pipelined or not."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("GET", "/") + b"GET / HT")
        assert (await client.answer()).status == 200
        assert (await client.answer(within=5)).status == 408
        assert await client.ends(5) == b""


async def test_a_connection_that_waits_between_requests_is_left_alone(gateway: Gateway) -> None:
    """Not a byte of a header has come: no 408 nobody asked for. An empty line is none (RFC 9112, section 2.2)."""
    async with raw.RawClient(gateway.port) as client:
        assert (await client.request("GET", "/")).status == 200
        await asyncio.sleep(PATIENCE * 2)
        assert await client.is_kept()
        assert (await client.request("GET", "/")).status == 200
        await client.send(b"\r\n")
        await asyncio.sleep(PATIENCE * 2)
        assert (await client.request("GET", "/")).status == 200


HELLO = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(161)
HANDSHAKES = {
    "half a hello": HELLO[:40],
    "a hello that is none": b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
    "a hello of zeros": HELLO,
    "half the preface of HTTP/2": PREFACE[:10],
}


@pytest.mark.parametrize("sent", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_a_handshake_that_comes_to_no_end_ends_the_connection(gateway: Gateway, sent: bytes) -> None:
    """TLS that never comes about, and HTTP/2 that does not begin."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(sent)
        await client.ends(PATIENCE + 2)
    assert max(map(len, gateway.log(1000).splitlines())) < 2000


POST = [(":method", "POST"), *REQUEST[1:]]
UNFINISHED = {
    "half a frame's header": headers(REQUEST, 105)[:5],
    "half a header frame": headers(REQUEST, 105)[:20],
    "a header that is to be continued": frame(HEADERS, 1, 105, block(REQUEST)),
    "a continuation that is to be continued": frame(HEADERS, 1, 105, block(REQUEST)) + frame(CONTINUATION, 0, 105),
}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
async def test_an_http2_header_that_comes_to_no_end_ends_the_connection(gateway: Gateway, sent: bytes) -> None:
    """No other frame can come before its end, so there is nothing to be saved."""
    async with FrameClient(gateway.port) as client:
        await client.begin()
        assert await client.is_served(101)
        await asyncio.sleep(PATIENCE * 1.5)
        assert await client.is_served(103)
        await client.send(sent)
        heard = await client.end(PATIENCE + 2)
    assert heard.goaway == "ENHANCE_YOUR_CALM"


BODIES = {
    "length, held": raw.head("POST", "/", length=1000) + b"abc",
    "chunks, held": raw.head("POST", "/", [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n",
    "length, streamed": raw.head("POST", "/", length=2 * HELD) + bytes(HELD + 10),
    "chunks, streamed": raw.head("POST", "/", [("Transfer-Encoding", "chunked")])
    + b"30000\r\n"
    + bytes(0x30000)
    + b"\r\n",
}


@pytest.mark.parametrize("sent", BODIES.values(), ids=BODIES)
async def test_a_body_that_stops_coming_is_answered(gateway: Gateway, origin: MisbehavingOrigin, sent: bytes) -> None:
    """limits.body_timeout: 408, and behind the gateway nothing, or what anybody can see is not whole."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(sent)
        assert (await client.answer(within=PATIENCE + 2)).status == 408
        assert await client.ends(5) == b""
    await asyncio.sleep(0.1)
    assert not [received for received in origin.requests if received.complete]
    assert await gateway.captures() == []


@pytest.mark.parametrize("size", [3, 2 * HELD], ids=["held", "streamed"])
async def test_an_http2_body_that_stops_coming_is_answered_on_its_stream(
    gateway: Gateway, origin: MisbehavingOrigin, size: int
) -> None:
    """408 and a reset; the other streams go on."""
    async with FrameClient(gateway.port) as client:
        await client.begin()
        pieces = [data(bytes(min(16_000, size - sent)), end=False) for sent in range(0, size, 16_000)]
        await client.send(headers(POST, end=False) + b"".join(pieces))
        heard = await client.until(1, PATIENCE + 2)
        assert heard.statuses[1] == 408
        await until(lambda: client.is_served(99), within=2)
        assert heard.resets.get(1) in ("CANCEL", "NO_ERROR")
    await asyncio.sleep(0.1)
    assert [received.target for received in origin.requests if received.complete] == ["/next"]


async def test_slow_but_steady_bodies_are_served(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """The limit is for silence, not for the whole."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("POST", "/", length=5))
        for byte in b"hello":
            await asyncio.sleep(PATIENCE / 2)
            await client.send(bytes([byte]))
        assert (await client.answer()).status == 200
    assert origin.requests[0].body == b"hello"
