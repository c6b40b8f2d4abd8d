"""A TCP connection that can be cut, held still or made slow, between a client and a real server.

async with Cable(server.port) as cable:
    ...                     # talk to 127.0.0.1:{cable.port}
    cable.cut()             # connections end, new ones are refused
    cable.hold()            # connections stay, nothing passes any more
    cable.delay = 0.08      # seconds that each piece takes, in each direction
    await cable.mend()
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

LOOPBACK = "127.0.0.1"


class Cable:
    """Forwards to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        self._open = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    async def mend(self) -> None:
        """As new; the port stays the same."""
        self._open.set()
        self.delay = 0.0
        if self._server is None:
            self._server = await asyncio.start_server(self._forward, LOOPBACK, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()  # let the forwarders see it

    def hold(self) -> None:
        self._open.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
            self._writers |= {writer, far_writer}
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)
