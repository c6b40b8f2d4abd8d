"""What mitmproxy's handler of a client connection does not do: read no faster than the other side takes.

Stock waits for sockets only. What a stream keeps while it waits for a hook, or for the window of an HTTP/2 client, has
no bound. It also opens at most five connections to a server per client, which an HTTP/2 client before an HTTP/1 server
needs more of. (mitmproxy 12.2)
"""

from __future__ import annotations

import asyncio
import select
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Protocol

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Connection
from mitmproxy.proxy.server import ConnectionHandler

MAX_CONNECTIONS = 256
"""To one server, for one client; an HTTP/2 client has at most 100 requests under way."""
LOOK_AGAIN = 0.02
"""Seconds. A reader is so slow that asking costs nothing beside it."""
AT_ONCE = 256 * 1024
"""Bytes of answers to requests that have come in one piece; the others are paced."""
_UNWRITTEN = 64 * 1024


class Congestible(Protocol):
    """The HTTP layer."""

    def may_be_congested(self) -> bool:
        """Whether it is worth asking for each connection."""

    def congested(self, reading: Connection) -> bool:
        """Whether nothing more should be read from this connection for now."""


def pace(handler: ConnectionHandler, layer: Congestible) -> None:
    """Have this handler read with regard to the layer."""
    handler.max_conns = defaultdict(lambda: asyncio.Semaphore(MAX_CONNECTIONS))
    drain: Callable[[], Awaitable[None]] = handler.drain_writers

    async def drain_writers() -> None:
        await drain()
        if not layer.may_be_congested():
            return
        task = asyncio.current_task()
        reading = next((c for c, io in handler.transports.items() if io.handler is task), None)
        while reading and layer.congested(reading):  # noqa: ASYNC110  # many things end it, and it is rare
            await asyncio.sleep(LOOK_AGAIN)

    handler.drain_writers = drain_writers  # type: ignore[method-assign]


def client_connection(client_id: str) -> ConnectionHandler | None:
    """The live connection of this client, None once it is gone."""
    proxyserver = ctx.master.addons.get("proxyserver")
    return proxyserver.connections.get(client_id) if isinstance(proxyserver, Proxyserver) else None


def is_slow(connection: Connection, client_id: str) -> bool:
    """Whether the socket does not take what is written to it."""
    handler = client_connection(client_id)
    io = handler.transports.get(connection) if handler else None
    writer = io.writer if io else None
    return isinstance(writer, asyncio.StreamWriter) and writer.transport.get_write_buffer_size() > _UNWRITTEN


def has_ended(idle: Connection, client_id: str) -> bool:
    """Whether something has come on a connection that nothing is expected on: its end, which nobody has read yet."""
    handler = client_connection(client_id)
    io = handler.transports.get(idle) if handler else None
    if io is None or not isinstance(io.writer, asyncio.StreamWriter):
        return False
    number = io.writer.get_extra_info("socket").fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))
