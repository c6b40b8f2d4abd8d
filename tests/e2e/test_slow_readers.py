"""A peer that does not read: what comes for it waits with its sender, not in the gateway's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.e2e.harness import Gateway, profile, until
from tests.unit.testing.h2_client import H2Client

PIECE = b"x" * 65536
WHOLE = 100 * 1024 * 1024
BOUND = 40 * 1024 * 1024


class Hose:
    """An origin that sends as much as it can get rid of, and counts it."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.reading = True


@asynccontextmanager
async def http1_hose(hose: Hose) -> AsyncIterator[str]:
    """Over HTTP/1.1."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WHOLE)
        while hose.sent < WHOLE:
            writer.write(PIECE)
            await writer.drain()
            hose.sent += len(PIECE)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Http2Hose:
    """One connection of HTTP/2, with regard to the windows it is given; it reads uploads only while told to."""

    def __init__(self, hose: Hose, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hose, self.reader, self.writer = hose, reader, writer
        self.wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.downloads: set[int] = set()

    async def serve(self) -> None:
        """To the end of the connection."""
        self.wire.initiate_connection()
        while True:
            for stream in self.downloads:
                self.pour(stream)
            self.writer.write(self.wire.data_to_send())
            await self.writer.drain()
            data = await self.reader.read(65536)
            if not data:
                return
            for event in self.wire.receive_data(data):
                await self.take(event)

    def pour(self, stream: int) -> None:
        """As much as fits into the window."""
        while room := min(self.wire.local_flow_control_window(stream), 16384, WHOLE - self.hose.sent):
            self.wire.send_data(stream, PIECE[:room], end_stream=self.hose.sent + room >= WHOLE)
            self.hose.sent += room

    async def take(self, event: h2.events.Event) -> None:
        """A request without a body is a download, any other an upload."""
        if isinstance(event, h2.events.RequestReceived) and event.stream_ended:
            self.wire.send_headers(event.stream_id, [(":status", "200")])
            self.downloads.add(event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            self.hose.received += len(event.data)
            while not self.hose.reading:
                await asyncio.sleep(0.01)
            self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id not in self.downloads:
            self.wire.send_headers(event.stream_id, [(":status", "204")], end_stream=True)


@asynccontextmanager
async def http2_hose(hose: Hose) -> AsyncIterator[str]:
    """Over HTTP/2 without TLS."""
    server = await asyncio.start_server(lambda r, w: Http2Hose(hose, r, w).serve(), "127.0.0.1", 0)
    async with server:
        yield f"h2c://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def made(upstream: str) -> dict[str, Any]:
    """Time limits that a pause of the client would break if it were taken for the server's."""
    return profile(upstream, upstream__read_timeout="1s", limits={"buffer_body": "64KiB"})


async def settled(count: Any) -> int:
    """The value, once it has not changed for half a second."""
    last = -1
    while (now := count()) != last:
        last = now
        await asyncio.sleep(0.5)
    return last


@pytest.mark.parametrize("hosed", [http1_hose, http2_hose], ids=["HTTP/1.1 upstream", "HTTP/2 upstream"])
async def test_a_download_waits_for_an_http2_client(tmp_path: Path, hosed: Any) -> None:
    """Longer than `read_timeout`, and then all of it comes."""
    hose = Hose()
    async with hosed(hose) as upstream, Gateway(tmp_path, made=made(upstream)) as gateway:
        before = gateway.memory()
        client = H2Client(*await asyncio.open_connection("127.0.0.1", gateway.port))
        client.opens_windows = False
        stream = await client.ask("/")
        await client.until(lambda: len(client.streams[stream].body) > 30_000)
        sent = await settled(lambda: hose.sent)
        assert sent < BOUND
        await asyncio.sleep(1.5)
        assert hose.sent == sent
        assert gateway.peak_memory() - before < BOUND
        wire, seen, taken = client.core, client.streams[stream], 0
        wire.increment_flow_control_window(2**30)
        wire.increment_flow_control_window(2**30, stream)
        client.flush()
        while not seen.ended and await asyncio.wait_for(client.read(), 20):
            taken, seen.body = taken + len(seen.body), b""
        assert (hose.sent, taken, seen.reset) == (WHOLE, WHOLE, None)
        assert gateway.peak_memory() - before < BOUND + 10 * 1024 * 1024
        client.writer.close()


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1 client", "HTTP/2 client"])
async def test_an_upload_waits_for_an_http2_server(tmp_path: Path, http2: bool) -> None:
    """The client is not let run ahead of a server that gives it no room."""
    hose = Hose()
    hose.reading = False
    async with http2_hose(hose) as upstream, Gateway(tmp_path, made=made(upstream)) as gateway:
        before = gateway.memory()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        pushed = 0

        async def push() -> None:
            nonlocal pushed
            if http2:
                client = H2Client(reader, writer)
                stream = await client.ask("/", method="POST", body=b"x", end=False)
                while pushed < WHOLE:
                    await client.upload(stream, PIECE, end=False)
                    await writer.drain()
                    pushed += len(PIECE)
                await client.upload(stream, b"x", end=True)
                await client.answer(stream, 30)
            else:
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % WHOLE)
                while pushed < WHOLE:
                    writer.write(PIECE)
                    await writer.drain()
                    pushed += len(PIECE)
                assert b" 204 " in await reader.readuntil(b"\r\n\r\n")

        pushing = asyncio.create_task(push())
        await until(lambda: hose.received > 0, what="the upload to begin")
        assert await settled(lambda: pushed) < BOUND
        assert gateway.peak_memory() - before < BOUND
        hose.reading = True
        await asyncio.wait_for(pushing, 60)
        assert hose.received >= WHOLE
        writer.close()
