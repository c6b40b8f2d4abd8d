"""One connection to a server, from its opening to its end, whoever is served by it.

In mitmproxy a connection is opened and read by the handler of the client that asked for it, and ends with it. This one
is read by a task of its own. What it reads goes to the handler that has it; while nobody has it, its own layers are
asked: a TLS session ticket is taken, anything else means that it is to be closed. (mitmproxy 12.2)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import time
from typing import TYPE_CHECKING

from mitmproxy import ctx
from mitmproxy.addonmanager import traverse
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.server import ConnectionHandler, ConnectionIO
from mitmproxy.proxy.server_hooks import (
    ServerConnectedHook,
    ServerConnectErrorHook,
    ServerConnectHook,
    ServerConnectionHookData,
    ServerDisconnectedHook,
)
from mitmproxy.utils import asyncio_utils, human

from holdfast.engine.connections import UpstreamConnection
from holdfast.engine.speedups.feeding import feed_directly
from holdfast.engine.speedups.inline import may_take
from holdfast.engine.upstream_http1 import UpstreamHttp1
from holdfast.engine.upstream_http2 import UpstreamHttp2

if TYPE_CHECKING:
    from holdfast.engine.keepalive.sharing import Share
    from holdfast.engine.keepalive.turns import Slot

logger = logging.getLogger("mitmproxy.proxy.server")  # where mitmproxy says the same of its own


class Line:
    """An open connection. `share` is the part of the pool that has it, None: nobody does.

    `outermost` and `upstream` are the ends of its stack of layers. `own`: it stays with the client it was opened for.
    `place`: what else there is at its server.
    """

    __slots__ = (
        "_listening",
        "_poll",
        "_pool",
        "figures",
        "generation",
        "io",
        "outermost",
        "own",
        "place",
        "share",
        "upstream",
    )

    def __init__(self, share: Share, outermost: Layer, upstream: UpstreamConnection, io: ConnectionIO) -> None:
        self.share: Share | None = share
        self.outermost = outermost
        self.upstream = upstream
        self.io = io
        self.own = False
        self._pool = share.pool
        self.generation = share.pool.generation
        self.figures = share.pool.figures_of(upstream.endpoint)
        self.place = share.pool.place(upstream.endpoint)
        self._listening = False
        self._poll = select.poll()
        assert isinstance(io.writer, asyncio.StreamWriter)
        self._poll.register(io.writer.get_extra_info("socket").fileno(), select.POLLIN)
        if share.pool.direct and isinstance(io.reader, asyncio.StreamReader):
            feed_directly(io.reader, self._take)

    @property
    def server(self) -> Server:
        """As addons know it."""
        return self.upstream.context.server

    @property
    def idle(self) -> bool:
        """Whether it could take a request of any client: the last one has been answered to its end."""
        http = self.upstream.http
        return isinstance(http, UpstreamHttp1) and http.idle and not http.bound and not self.own

    @property
    def quiet(self) -> bool:
        """Whether nothing has come from the server that nobody has looked at yet, be it its end."""
        task, writer = self.io.handler, self.io.writer
        assert isinstance(writer, asyncio.StreamWriter)
        if not task or task.cancelling() or getattr(self.io.reader, "_buffer", True) or writer.transport.is_closing():
            return False
        return not self._poll.poll(0)

    @property
    def movable(self) -> bool:
        """Whether it can go to somebody else: nothing of what comes next has been read for whoever has it now."""
        return self._listening and self.idle

    def close(self, why: str) -> None:
        """It ends, and whoever has it is told."""
        self.server.state = ConnectionState.CLOSED
        if self.io.handler:
            self.io.handler.cancel(why)

    def ended(self) -> None:
        """Nobody has it any more."""
        if self.share:
            self.share.handler.transports.pop(self.server, None)
        self._pool.ended(self)

    async def read(self) -> None:
        """Until it ends, as mitmproxy's `handle_connection`."""
        cancelled, server, reader = False, self.server, self.io.reader
        assert isinstance(reader, asyncio.StreamReader)
        while not cancelled:
            self._listening = True
            try:
                data = await reader.read(65535)
            except OSError:
                break
            except asyncio.CancelledError:
                cancelled = True
                break
            finally:
                self._listening = False
            if not data:
                break
            await self._tell(events.DataReceived(server, data))
            cancelled = await self._pause()
        server.state = ConnectionState.CLOSED if cancelled else server.state & ~ConnectionState.CAN_READ
        await self._tell(events.ConnectionClosed(server))
        if server.state is ConnectionState.CAN_WRITE:
            await _until_cancelled()

    def _take(self, data: bytes) -> bool:
        """What has come, at once, if whoever has it is of the quick kind; see `speedups.feeding`."""
        quick = may_take(self.share.handler) if self.share else None
        if not quick or not self._listening:
            return False
        self._listening = False
        try:
            taken = quick.take(self.server, data)
        finally:
            self._listening = True
        if taken and self.idle and self.share:
            self._pool.put(self)
        return taken

    async def _pause(self) -> bool:
        """Before the next read: until the client has taken what came. Whether the connection is to be closed."""
        if self.idle and self.share:
            self._pool.put(self)  # the answer is whole: however slowly the client reads it, the next is another's
            return False
        try:
            if self.share:
                await self.share.handler.drain_writers()
        except asyncio.CancelledError:
            return True
        return False

    async def _tell(self, event: events.ConnectionEvent) -> None:
        if self.share:
            await self.share.handler.server_event(event)
            return
        for command in self.outermost.handle_event(event):
            if isinstance(command, commands.SendData):
                assert isinstance(self.io.writer, asyncio.StreamWriter)
                self.io.writer.write(command.data)
            elif isinstance(command, commands.Log):
                logger.log(command.level, command.message)
            else:
                self.close("closed while it was idle")


async def _until_cancelled() -> None:
    """We may still write, although the server has ended."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return


async def open_line(
    share: Share, command: commands.OpenConnection, outermost: Layer, upstream: UpstreamConnection, slot: Slot
) -> None:
    """Open a connection and read from it to its end, as mitmproxy's `open_connection`, which this stands in for."""
    server = upstream.context.server
    data = ServerConnectionHookData(client=share.handler.client, server=server)
    wanted = _peculiarities(server)
    await share.handler.handle_hook(ServerConnectHook(data))
    own = _peculiarities(server) != wanted or (upstream.endpoint.tls and _tls_is_an_addons_affair())
    streams = await _dial(share.handler, command, data)
    if streams is None:
        return
    task = asyncio.current_task()
    line = Line(share, outermost, upstream, ConnectionIO(task, *streams))
    line.own = own
    try:
        share.open(line)
        await share.handler.handle_hook(ServerConnectedHook(data))
        await share.handler.server_event(events.OpenConnectionCompleted(command, None))
        if isinstance(upstream.http, UpstreamHttp2):
            slot.back()  # which is for one request at a time
        del share, command  # the connection outlives them
        await line.read()
    finally:
        streams[1].close()
        line.ended()
        slot.back()
        logger.info(f"server disconnect {_named(server)}", extra={"client": data.client.peername})  # noqa: G004
        server.timestamp_end = time.time()
        told = ctx.master.addons.handle_lifecycle(ServerDisconnectedHook(data))
        # Apart from this task, which may have been cancelled: an addon that waits for something must not be.
        telling = asyncio_utils.create_task(told, name="server disconnected", keep_ref=True)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(telling)


async def _dial(
    handler: ConnectionHandler, command: commands.OpenConnection, data: ServerConnectionHookData
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """None: it could not be opened, and everybody has been told."""
    server = data.server
    assert server.address
    if server.error:
        address = human.format_address(server.address)
        handler.log(f"server connection to {address} killed before connect: {server.error}")
        await handler.handle_hook(ServerConnectErrorHook(data))
        await handler.server_event(events.OpenConnectionCompleted(command, f"Connection killed: {server.error}"))
        return None
    try:
        server.timestamp_start = time.time()
        reader, writer = await asyncio.open_connection(*server.address, local_addr=server.sockname)
    except (OSError, asyncio.CancelledError) as error:
        server.error = str(error) or "connection cancelled"
        handler.log(f"error establishing server connection: {server.error}")
        await handler.handle_hook(ServerConnectErrorHook(data))
        await handler.server_event(events.OpenConnectionCompleted(command, server.error))
        if isinstance(error, asyncio.CancelledError):
            raise
        return None
    server.timestamp_tcp_setup = time.time()
    server.state = ConnectionState.OPEN
    server.peername, server.sockname = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    handler.log(f"server connect {_named(server)}")
    return reader, writer


def _named(server: Server) -> str:
    assert server.address
    assert server.peername
    address, peer = human.format_address(server.address), human.format_address(server.peername)
    return address if server.address[0] == server.peername[0] else f"{address} ({peer})"


def _peculiarities(server: Server) -> tuple[object, ...]:
    """What an addon may have changed for the sake of the client that the connection is opened for."""
    return server.address, server.sockname, server.via, server.sni, tuple(server.alpn_offers), tuple(server.cipher_list)


def _tls_is_an_addons_affair() -> bool:
    """Whether somebody beside mitmproxy begins TLS with servers: it may be as the client, with a certificate of its."""
    named = (each for each in traverse(ctx.master.addons.chain) if callable(getattr(each, "tls_start_server", None)))
    return any(not isinstance(each, TlsConfig) for each in named)
