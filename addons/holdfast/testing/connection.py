"""One connection of a `MisbehavingOrigin`: reads a request, does what the step says, ends as it was told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time

from holdfast.testing.certificate import Certificate
from holdfast.testing.steps import Answer, Break, Garbage, How, Received, Step

LONGEST_LINE = 4 * 1024 * 1024
PIECE = 64 * 1024
MOMENT = 0.02
"""Seconds before a reset: it throws away what the client has not read yet, and cuts short its connect()."""


class Connection:
    """One accepted connection, past its TLS handshake if there is one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    @classmethod
    async def open(cls, client: socket.socket, tls: Certificate | None, number: int) -> Connection:
        """Wrap an accepted socket; raises OSError when the client does not want our certificate."""
        loop = asyncio.get_running_loop()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = tls.server_context() if tls else None
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=context)
        # So that drain() means: the kernel has it. (asyncio's TLS transport would never resume from a limit of 0.)
        transport.set_write_buffer_limits(high=1 if tls else 0, low=0)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop), number)

    async def read_head(self) -> Received:
        """The next request's first part; raises EOFError when the client has left."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Received(self.number, method, target, fields, at=time.time())

    async def read_body(self, received: Received) -> None:
        """Read on into `received`, which holds what has arrived also when the rest never comes."""
        if received.header("expect").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in received.header("transfer-encoding").lower():
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await self._read_exactly(received, size)
                await self.reader.readexactly(2)
            await self.reader.readuntil(b"\r\n")
        else:
            await self._read_exactly(received, int(received.header("content-length", "0")))
        received.complete = True

    async def _read_exactly(self, received: Received, size: int) -> None:
        pieces = [received.body]
        try:
            while size:
                piece = await self.reader.read(min(size, PIECE))
                if not piece:
                    raise EOFError("the client left in the middle of its request")
                size -= len(piece)
                pieces.append(piece)
        finally:
            received.body = b"".join(pieces)

    async def act(self, step: Step, received: Received) -> bool:
        """Do what the step says; true if the connection is kept."""
        match step:
            case Answer():
                await self._answer(step, bodiless=received.method == "HEAD")
                return not (step.hang_up or step.announce)
            case Break():
                await self.send(step.sent())
                await self._break(step.how)
            case Garbage():
                await self.send(step.data)
        return False

    async def _answer(self, step: Answer, *, bodiless: bool) -> None:
        await asyncio.sleep(step.delay)
        await self.send(step.interim)
        await self.send(step.head())
        if bodiless:
            return
        for piece in step.body_pieces():
            await asyncio.sleep(step.pace)
            await self.send(piece)

    async def send(self, data: bytes) -> None:
        """Hand bytes to the kernel."""
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def _break(self, how: How) -> None:
        if how == "hang":
            await self._hang()
        elif how == "reset":
            await asyncio.sleep(MOMENT)
        self.end(how)

    async def _hang(self) -> None:
        """Read on and say nothing until the client leaves."""
        while await self.reader.read(PIECE):
            pass

    def end(self, how: How) -> None:
        """Close by a reset, or else by a FIN; with TLS neither says goodbye first."""
        if self.writer.is_closing():
            return
        if how == "reset":
            _linger_not(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()


async def break_socket(client: socket.socket, how: How) -> None:
    """End a connection of which nothing has been read, in one of the three ways; closes the socket."""
    with client:
        if how == "fin":
            client.shutdown(socket.SHUT_WR)  # closing with bytes unread would be a reset
        if how == "reset":
            await asyncio.sleep(MOMENT)
            _linger_not(client)
        else:
            await _until_gone(client)


async def _until_gone(client: socket.socket) -> None:
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(client, PIECE):
            pass


def _linger_not(client: socket.socket) -> None:
    """Make close() send a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
