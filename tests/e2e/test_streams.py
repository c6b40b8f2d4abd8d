"""WebSockets and server-sent events: passed untouched, kept open, and never captured half."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, TextMessage

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw, sockets
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.test_http2 import http2_client
from tests.services.process import free_port


def made(*ports: int, **changes: Any) -> dict[str, Any]:
    """The harness's profile in front of these ports."""
    return profile("", upstream__servers=[f"http://127.0.0.1:{port}" for port in ports], **changes)


async def fates(gateway: Gateway) -> set[str]:
    """Of the requests that have ended."""
    figures = await gateway.metrics()
    return {part for key in figures if key[0] == "holdfast_requests_total" for part in key if part.startswith("fate=")}


async def test_a_websocket_passes_whatever_it_carries(tmp_path: Path) -> None:
    """Text, binary, fragments, compression, pings, a subprotocol, and silence beyond every time limit."""
    async with sockets.server() as server, Gateway(tmp_path, made=made(server.port)) as gateway:
        async with sockets.client(gateway.port, "/socket?a=1", ("chat",)) as client:
            accepted = await client.next()
            assert isinstance(accepted, AcceptConnection)
            assert accepted.subprotocol == "chat"
            assert server.handshakes[0].target == "/socket?a=1"
            await client.send(TextMessage(data="héllo"))
            assert await client.message() == "héllo"
            large = bytes(range(256)) * 8192  # 2 MiB
            await client.send(BytesMessage(data=large))
            assert await client.message() == large
            await client.send(TextMessage(data="in ", message_finished=False))
            await client.send(TextMessage(data="parts"))
            assert await client.message() == "in parts"
            await asyncio.sleep(0.8)
            await client.send(Ping(payload=b"still there?"))
            assert await client.next() == Pong(payload=b"still there?")
            await client.send(CloseConnection(code=4001, reason="enough"))
            closed = await client.next()
            assert isinstance(closed, CloseConnection)
            assert closed.code == 4001
        await until(lambda: server.closed == [4001], what="the server to be told")
        assert not await gateway.captures()


async def test_a_websocket_that_its_server_closes_is_closed_the_same_way(tmp_path: Path) -> None:
    """Code and reason."""
    async with (
        sockets.server() as server,
        Gateway(tmp_path, made=made(server.port)) as gateway,
        sockets.client(gateway.port) as client,
    ):
        assert isinstance(await client.next(), AcceptConnection)
        await server.sockets[0].send(CloseConnection(code=1012, reason="restart"))
        closed = await client.next()
        assert isinstance(closed, CloseConnection)
        assert (closed.code, closed.reason) == (1012, "restart")


async def test_a_websocket_whose_peer_vanishes_does_not_end_well_for_the_other(tmp_path: Path) -> None:
    """1006: there was no close frame. Nothing is captured, and the gateway serves on."""
    async with sockets.server() as server, Gateway(tmp_path, made=made(server.port)) as gateway:
        async with sockets.client(gateway.port) as client:
            assert isinstance(await client.next(), AcceptConnection)
            server.sockets[0].writer.transport.abort()
            assert getattr(await client.next(), "code", None) == 1006
        async with sockets.client(gateway.port) as client:
            assert isinstance(await client.next(), AcceptConnection)
            client.writer.transport.abort()
        await until(lambda: 1006 in server.closed, what="the server to be told")
        assert not await gateway.captures()


async def test_a_handshake_is_tried_on_another_server(tmp_path: Path) -> None:
    """It is a GET; until it is answered nothing has begun."""
    async with sockets.server() as server, Gateway(tmp_path, made=made(free_port(), server.port)) as gateway:
        for _ in range(4):
            async with sockets.client(gateway.port) as client:
                assert isinstance(await client.next(), AcceptConnection)
                await client.send(TextMessage(data="x"))
                assert await client.message() == "x"
        assert "fate=retried" in await fates(gateway)


async def test_a_handshake_that_failed_is_not_captured(tmp_path: Path) -> None:
    """A replay could not carry the conversation that was to follow: the answer says so."""
    async with Gateway(tmp_path, made=made(free_port())) as gateway, raw.RawClient(gateway.port) as client:
        wanted = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        answer = await client.request("GET", "/socket", [*wanted, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
        assert (answer.status, answer.capture_id) == (503, None)
        assert answer.header("holdfast-capture") == "failed; reason=upgrade"
        assert await client.is_kept()
        assert not await gateway.captures()


async def test_a_handshake_that_the_server_refuses_is_its_answer(tmp_path: Path) -> None:
    """403 is no failure."""
    async with sockets.server() as server, Gateway(tmp_path, made=made(server.port)) as gateway:
        server.refuse = 403
        async with sockets.client(gateway.port) as client:
            assert getattr(await client.next(), "status_code", None) == 403
        assert await fates(gateway) == {"fate=ok"}


EVENTS = [b"data: %d\n\n" % number for number in range(4)]


def stream(**more: Any) -> Answer:
    """Server-sent events with pauses longer than `read_timeout`."""
    kind = [("Content-Type", "text/event-stream")]
    return Answer(headers=kind, body=b"".join(EVENTS), chunked=True, pieces=4, pace=0.5, **more)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_events_arrive_one_by_one_whoever_speaks_what(tmp_path: Path, protocol: Any) -> None:
    """The second comes half a second after the first, not together with it at the end."""
    async with MisbehavingOrigin(stream(), protocol=protocol) as origin:
        url = origin.url if protocol == "http/1.1" else origin.url.replace("http", "h2c")
        async with Gateway(tmp_path, made=profile(url)) as gateway:
            for client in (http2_client(gateway), httpx.AsyncClient(base_url=gateway.url, timeout=10)):
                loop, arrived = asyncio.get_running_loop(), []
                async with client, client.stream("GET", "/events") as answer:
                    async for piece in answer.aiter_bytes():
                        arrived.append((loop.time(), piece))
                assert b"".join(piece for _, piece in arrived) == b"".join(EVENTS)
                assert len(arrived) == 4
                assert arrived[-1][0] - arrived[0][0] > 1.0
            assert not await gateway.captures()


async def test_a_stream_of_events_that_breaks_is_broken_for_the_client_too(tmp_path: Path) -> None:
    """So that it connects again; what it has read cannot be taken back, and nothing is captured."""
    broken = Break("body", "fin", stream())
    async with MisbehavingOrigin(broken) as origin, Gateway(tmp_path, made=profile(origin.url)) as gateway:
        for client in (http2_client(gateway), httpx.AsyncClient(base_url=gateway.url, timeout=10)):
            async with client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get("/events")
        assert not await gateway.captures()
        assert await fates(gateway) == {"fate=failed"}


async def test_a_stream_of_events_that_never_began_is_a_failed_request(tmp_path: Path) -> None:
    """Nothing of it had been passed on: it is retried, and answered like any other."""
    plan = [Break("request", "reset"), stream()]
    async with MisbehavingOrigin(plan) as origin, Gateway(tmp_path, made=profile(origin.url)) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
            assert (await client.get("/events")).content == b"".join(EVENTS)
        assert await fates(gateway) == {"fate=retried"}
