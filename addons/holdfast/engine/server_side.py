"""The servers' side of a client's HTTP layer: which connection a request goes on, and the end of those of no use.

An attempt that is abandoned leaves nothing behind: an HTTP/1 connection is dropped from `connections` at once, an
HTTP/2 stream is reset, so that nothing of it can reach the next attempt.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    RegisterHttpConnection,
)

from holdfast.engine.commands import AbandonAttempt, AttemptAbandoned, GetUpstream
from holdfast.engine.connections import UpstreamConnection, asks_for_http2, no_backlog, open_upstream
from holdfast.engine.leg import Leg
from holdfast.engine.pacing import has_ended
from holdfast.engine.upstream_http1 import UpstreamHttp1
from holdfast.engine.upstream_http2 import UpstreamHttp2

if TYPE_CHECKING:
    from mitmproxy.proxy.layer import Layer

    from holdfast.engine.keepalive.sharing import Share


class ServerSide(HttpLayer):
    """Finds, opens, shares and closes connections to servers. The client, and time, are in `ResilientLayer`."""

    def __init__(self, context: Context, leg: Leg) -> None:
        super().__init__(context, HTTPMode.transparent)
        self.leg = leg
        self.share: Share | None = None  # of the connections to servers, where clients share them
        self._upstreams: dict[Server, UpstreamConnection] = {}

    @abstractmethod
    def towards_client(self, stream_id: int) -> int:
        """Bytes of this stream's response that have come and not gone out."""

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> CommandGenerator[None]:
        """A kept connection to the server that is wanted, or one that is being opened and can be shared, or a new one.

        Stock opens a new connection for each request of an HTTP/2 client to an HTTP/1 server, and hands the error of
        an earlier failure out again.
        """
        assert isinstance(event, GetUpstream)
        if self.share and self.share.must_wait(event):
            return
        kept, event.sought = None if event.sought else self._kept(event), False
        if kept:
            yield from self._complete(event, kept, None)
            return
        if opening := self._opening(event):
            self.waiting_for_establishment[opening].append(event)
            return
        offer_http2 = self.context.client.alpn == b"h2"
        server, outermost, upstream = open_upstream(
            self.context.fork(),
            event,
            offer_http2=offer_http2,
            clock=self.leg.clock,
            backlog=self.towards_client,
        )
        self._upstreams[server] = upstream
        self.connections[server] = outermost
        self.waiting_for_establishment[server].append(event)
        yield from self.event_to_child(outermost, events.Start())

    def _kept(self, wanted: GetUpstream) -> Server | None:
        """A connection that takes it at once: one of ours, or one that another client has no use for just now."""
        self._forget_closed()
        # The one used last is the least likely to have been closed by the server meanwhile.
        for server, upstream in () if wanted.new else reversed(self._upstreams.items()):
            if upstream.leads_to(wanted) and upstream.free and self._usable(server, upstream, wanted):
                self._upstreams[server] = self._upstreams.pop(server)
                wanted.kept = True
                return server
        if not self.share or wanted.new or self._opening(wanted):
            return None
        taken = self.share.take(wanted, asks_for_http2(wanted, offer_http2=self.context.client.alpn == b"h2"))
        wanted.kept = taken is not None
        return taken

    def _opening(self, wanted: GetUpstream) -> Server | None:
        """A connection that is being opened, and may take several requests."""
        for server, upstream in () if wanted.new else self._upstreams.items():
            if upstream.shared and upstream.leads_to(wanted) and server in self.waiting_for_establishment:
                return server
        return None

    def register_connection(self, command: RegisterHttpConnection) -> CommandGenerator[None]:
        """It is open, or has failed: tell those who wait. Nobody does any more: close it."""
        server = command.connection
        assert isinstance(server, Server)
        waiting = self.waiting_for_establishment.pop(server, [])
        if command.err:
            self._upstreams.pop(server, None)
            self.connections.pop(server, None)
        elif not waiting:
            yield from self._close(server)
        for number, wanted in enumerate(waiting):
            if command.err or number == 0 or self._upstreams[server].free:
                yield from self._complete(wanted, server, command.err)
            else:
                yield from self.get_connection(wanted)

    def _complete(self, wanted: GetHttpConnection, server: Server, err: str | None) -> CommandGenerator[None]:
        stream = self.command_sources.pop(wanted)
        reply = (None, err) if err else (server, None)
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(wanted, reply))

    def _usable(self, server: Server, upstream: UpstreamConnection, wanted: GetUpstream) -> bool:
        """Unless the server has closed it, which the event loop will say in a moment."""
        if self.share:
            return self.share.use(upstream, wanted)
        return not (isinstance(upstream.http, UpstreamHttp1) and has_ended(server, self.context.client.id))

    def stack_of(self, server: Connection) -> tuple[Layer, UpstreamConnection] | None:
        """The ends of the layers of this connection, if it is one to a server of ours."""
        upstream = self._upstreams.get(server) if isinstance(server, Server) else None
        return (self.connections[server], upstream) if upstream and server in self.connections else None

    def upstreams(self) -> list[UpstreamConnection]:
        """All connections to servers."""
        return list(self._upstreams.values())

    def take_in(self, outermost: Layer, upstream: UpstreamConnection) -> None:
        """One that another client has used is ours."""
        server = upstream.context.server
        self._upstreams[server], self.connections[server] = upstream, outermost
        upstream.backlog = self.towards_client

    def give_away(self, server: Server) -> None:
        """One of ours, which is idle, is ours no more."""
        self.connections.pop(server, None)
        upstream = self._upstreams.pop(server, None)
        if upstream:
            upstream.backlog = no_backlog

    def _forget_closed(self) -> None:
        for server in [s for s in self._upstreams if s.state is ConnectionState.CLOSED]:
            if server not in self.waiting_for_establishment:
                del self._upstreams[server]
                self.connections.pop(server, None)

    def _given_up(self, connection: Connection) -> bool:
        return isinstance(connection, Server) and connection not in self.connections

    def _abandon(self, command: AbandonAttempt) -> CommandGenerator[None]:
        server = command.connection
        upstream = self._upstreams.get(server) if isinstance(server, Server) else None
        if upstream is None:
            return
        if isinstance(upstream.http, UpstreamHttp2):
            yield from self.event_to_child(
                self.connections[server], AttemptAbandoned(command.stream_id, command.waited)
            )
        elif upstream.http is None or upstream.http.stream_id in (None, command.stream_id):
            yield from self._close(server)

    def _close(self, server: Connection) -> CommandGenerator[None]:
        self.connections.pop(server, None)
        self.waiting_for_establishment.pop(server, None)
        if isinstance(server, Server):
            self._upstreams.pop(server, None)
        yield commands.CloseConnection(server)
