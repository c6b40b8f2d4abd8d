"""Clients that keep their connection and say nothing cost no more than they cost mitmproxy alone."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, accepts, until
from tests.services.process import free_port, leash

HELD, BARE = 500, 200
SLACK = 1.3  # the allocator's pages are not divided evenly
ASK = b"GET /api/users HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_idle_connections_are_held_and_take_no_more_memory_than_mitmproxys(tmp_path: Path) -> None:
    """Five hundred clients have asked once and wait; another is answered meanwhile, and some of them once more."""
    async with MisbehavingOrigin() as origin:
        async with Gateway(tmp_path, origin.url, made="minimal") as gateway:
            ours = await per_connection(gateway.port, gateway.pid, HELD)
        async with bare(origin.url) as (port, pid):
            theirs = await per_connection(port, pid, BARE)
    print(f"bytes per connection: {ours:.0f}, mitmdump alone {theirs:.0f}")
    assert ours <= theirs * SLACK


async def per_connection(port: int, pid: int, count: int) -> float:
    """Bytes that each of so many idle connections takes of this process."""
    async with held(port, 50):
        pass  # what the first ones bring along is not theirs alone
    before = private_memory(pid)
    async with held(port, count) as clients:
        after = private_memory(pid)
        async with raw.RawClient(port) as another:
            assert (await another.request("GET", "/api/users")).status == 200
        for reader, writer in clients[::25]:
            await ask(reader, writer)
    return (after - before) / count


@contextlib.asynccontextmanager
async def held(port: int, count: int) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """So many connections, on each of which one request has been answered."""
    clients = []
    try:
        for _ in range(count):
            clients.append(await asyncio.open_connection("127.0.0.1", port))
            await ask(*clients[-1])
        yield clients
    finally:
        for _, writer in clients:
            writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, and its whole answer."""
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))


@contextlib.asynccontextmanager
async def bare(upstream: str) -> AsyncIterator[tuple[int, int]]:
    """mitmdump without anything of ours: its port and its process."""
    port, tool = free_port(), str(Path(sys.executable).parent / "mitmdump")
    options = ["--mode", f"reverse:{upstream}", "--listen-host", "127.0.0.1", "--listen-port", str(port)]
    process = subprocess.Popen([*leash(), tool, *options, "--quiet"], stdin=subprocess.DEVNULL)
    try:
        await until(lambda: accepts(port), within=30, what="mitmdump to listen")
        yield port, process.pid
    finally:
        process.kill()
        process.wait(10)


def private_memory(pid: int) -> int:
    """Bytes of a process that are no file's."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))
