"""A WebSocket server and client on wsproto, for tests: what each side saw, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate


class Socket:
    """One side of a WebSocket."""

    def __init__(self, wire: WSConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.wire, self.reader, self.writer = wire, reader, writer
        self.seen: list[Event] = []

    async def send(self, event: Event) -> None:
        """Hand an event to the kernel."""
        self.writer.write(self.wire.send(event))
        await self.writer.drain()

    async def read(self) -> bool:
        """Take what has come; false at the end of the connection."""
        data = await self.reader.read(65536)
        self.wire.receive_data(data or None)
        self.seen += self.wire.events()
        return bool(data)

    async def next(self, within: float = 5.0) -> Event:
        """The next event; EOFError at the end of the connection, TimeoutError if there is none."""
        async with asyncio.timeout(within):
            while not self.seen:
                if not await self.read() and not self.seen:
                    raise EOFError
        return self.seen.pop(0)

    async def message(self, within: float = 5.0) -> str | bytes:
        """The next whole message."""
        parts: list[str | bytes] = []
        while True:
            event = await self.next(within)
            if not isinstance(event, Message):
                raise AssertionError(f"no message but {event!r}")
            parts.append(bytes(event.data) if isinstance(event, BytesMessage) else event.data)
            if event.message_finished:
                return b"".join(parts) if isinstance(event, BytesMessage) else "".join(parts)  # type: ignore[arg-type]


@dataclass
class Server:
    """Sends every message back; `handshakes` are the requests it got."""

    port: int = 0
    handshakes: list[Request] = field(default_factory=list)
    closed: list[int | None] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    refuse: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        socket = Socket(WSConnection(ConnectionType.SERVER), reader, writer)
        self.sockets.append(socket)
        with contextlib.suppress(EOFError, ConnectionError):
            while await self._answer(socket, await socket.next(within=30)):
                pass
        writer.close()

    async def _answer(self, socket: Socket, event: Event) -> bool:
        match event:
            case Request():
                self.handshakes.append(event)
                if self.refuse:
                    await socket.send(RejectConnection(status_code=self.refuse, has_body=False))
                    return False
                chosen = event.subprotocols[0] if event.subprotocols else None
                await socket.send(AcceptConnection(subprotocol=chosen, extensions=[PerMessageDeflate()]))
            case TextMessage() | BytesMessage():
                await socket.send(type(event)(data=event.data, message_finished=event.message_finished))
            case Ping():
                await socket.send(event.response())
            case CloseConnection():
                self.closed.append(event.code)
                if event.code != 1006:  # that one was made up by wsproto: nothing has come
                    await socket.send(event.response())
                return False
        return True


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """On a free port of loopback."""
    made = Server()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made
        for socket in made.sockets:
            socket.writer.close()


@contextlib.asynccontextmanager
async def client(port: int, target: str = "/socket", protocols: tuple[str, ...] = ()) -> AsyncIterator[Socket]:
    """Connected, its handshake sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    socket = Socket(WSConnection(ConnectionType.CLIENT), reader, writer)
    wanted = Request(host="h.test", target=target, subprotocols=list(protocols), extensions=[PerMessageDeflate()])
    await socket.send(wanted)
    try:
        yield socket
    finally:
        writer.close()


__all__ = ["AcceptConnection", "CloseConnection", "Ping", "Pong", "Server", "Socket", "client", "server"]
