"""One accepted connection of a `MisbehavingOrigin`: its bytes, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from holdfast.testing.certificate import Certificate
from holdfast.testing.received import Received
from holdfast.testing.steps import How, Step

LONGEST_LINE = 4 * 1024 * 1024
PIECE = 64 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client begins HTTP/2 with (RFC 9113 section 3.4)."""
MOMENT = 0.02
"""Seconds before a reset: it throws away what the client has not read yet, and cuts short its connect()."""
LINGER = 1.0
"""Seconds in which what a client still sends after our FIN is read, lest the kernel answers it with a reset."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a connection needs of its origin: where requests are noted, what to do with them, where to complain."""

    note: Callable[[Received], Awaitable[None]]
    step_for: Callable[[Received], Step]
    complain: Callable[[str], None]


class Wire:
    """A connection past its TLS handshake, if there is one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.muted = False
        """Set, nothing more is sent."""

    @classmethod
    async def open(cls, client: socket.socket, tls: Certificate | None, alpn: tuple[str, ...], number: int) -> Wire:
        """Wrap an accepted socket; raises OSError when the client does not want our certificate."""
        loop = asyncio.get_running_loop()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = tls.server_context(alpn) if tls else None
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=context)
        # So that drain() means: the kernel has it. (asyncio's TLS transport would never resume from a limit of 0.)
        transport.set_write_buffer_limits(high=1 if tls else 0, low=0)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop), number)

    @property
    def negotiated(self) -> str | None:
        """What ALPN agreed on, if it did."""
        tls = self.writer.get_extra_info("ssl_object")
        chosen: str | None = tls.selected_alpn_protocol() if tls is not None else None
        return chosen

    def push(self, data: bytes) -> None:
        """Send as soon as may be; for what must not wait for the client to read."""
        if data and not self.muted and not self.writer.is_closing():
            self.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Hand bytes to the kernel."""
        self.push(data)
        await self.writer.drain()

    async def hang(self) -> None:
        """Read on and say nothing until the client leaves."""
        while await self.reader.read(PIECE):
            pass

    def freeze(self) -> None:
        """Read nothing more, send nothing more."""
        self.muted = True
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def bow_out(self) -> None:
        """Send a FIN now, and close a little later: whoever reads goes on until the end comes."""
        self.muted = True
        with contextlib.suppress(OSError):
            self.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        asyncio.get_running_loop().call_later(LINGER, self.end, "fin")

    def end(self, how: How) -> None:
        """Close by a reset, or else by a FIN; with TLS neither says goodbye first."""
        if self.writer.is_closing():
            return
        if how == "reset":
            _linger_not(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()


async def begins_http2(client: socket.socket) -> bool:
    """Whether a plaintext connection begins with the preface of HTTP/2; takes no byte of it.

    Raises EOFError when the client leaves before that can be said.
    """
    loop = asyncio.get_running_loop()
    while True:
        readable = asyncio.Event()
        loop.add_reader(client, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(client)
        seen = client.recv(len(PREFACE), socket.MSG_PEEK)
        if not seen:
            raise EOFError("the client left before it said anything")
        if seen == PREFACE or not PREFACE.startswith(seen):
            return seen == PREFACE
        await asyncio.sleep(MOMENT)


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
