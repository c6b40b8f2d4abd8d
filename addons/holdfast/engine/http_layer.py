"""The HTTP layer of one client connection: stock, but for streams of ours and connections that can be given up.

A connection that is given up leaves `connections` at once: whatever still arrives from it is dropped here, so that
nothing of an abandoned attempt can reach the next one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    Http1Server,
    HttpLayer,
    HTTPMode,
    RegisterHttpConnection,
)

from holdfast.engine.leg import Leg
from holdfast.engine.stream import GiveUpConnection, ResilientStream
from holdfast.engine.timers import TimerFired

if TYPE_CHECKING:
    from mitmproxy.proxy.layer import Layer


logger = logging.getLogger(__name__)
HEADER_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nProxy-Status: holdfast; error=http_request_denied\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)


class ResilientLayer(HttpLayer):
    """`HttpLayer` for reverse mode whose streams retry, time out and answer for a dead upstream."""

    def __init__(self, context: Context, leg: Leg) -> None:
        super().__init__(context, HTTPMode.transparent)
        self.leg = leg

    def make_stream(self, stream_id: int) -> CommandGenerator[None]:
        """A stream of ours for a new request."""
        stream = ResilientStream(self.context.fork(), stream_id, self.leg)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, TimerFired):
            yield from self._timer_fired(event)
        elif isinstance(event, events.ConnectionEvent) and self._given_up(event.connection):
            return
        else:
            yield from super()._handle_event(event)
            if isinstance(event, events.DataReceived) and event.connection is self.context.client:
                yield from self._bound_header()

    def _bound_header(self) -> CommandGenerator[None]:
        """Stock collects a request header without end for as long as it comes (RFC 6585, section 5: 431)."""
        reader = self.connections.get(self.context.client)
        if not isinstance(reader, Http1Server) or reader.state != reader.read_headers:
            return
        if len(reader.buf) > self.leg.limits.max_header:
            logger.warning("request header too large", extra={"limit": self.leg.limits.max_header})
            yield commands.SendData(self.context.client, HEADER_TOO_LARGE)
            yield commands.CloseConnection(self.context.client)
            reader.state = reader.done

    def event_to_child(self, child: Layer, event: events.Event) -> CommandGenerator[None]:
        """As stock, and `GiveUpConnection` is carried out here."""
        for command in super().event_to_child(child, event):
            if isinstance(command, GiveUpConnection):
                yield from self._give_up(command.connection)
            else:
                yield command

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> CommandGenerator[None]:
        """As stock, but an earlier failure to connect is no reason not to try again."""
        for connection in [c for c in self.connections if c.error and c not in self.waiting_for_establishment]:
            if isinstance(connection, Server):
                del self.connections[connection]
        yield from super().get_connection(event, reuse=reuse)

    def register_connection(self, command: RegisterHttpConnection) -> CommandGenerator[None]:
        """As stock, but a connection that nobody waits for any more is closed."""
        if command.connection in self.waiting_for_establishment:
            yield from super().register_connection(command)
        elif not command.err:
            yield commands.CloseConnection(command.connection)

    def _given_up(self, connection: Connection) -> bool:
        return isinstance(connection, Server) and connection not in self.connections

    def _timer_fired(self, event: TimerFired) -> CommandGenerator[None]:
        stream = self.streams.get(event.stream_id)
        if not isinstance(stream, ResilientStream) or event.generation != stream.timer_generation:
            return
        waiting = self._waiting_for(stream)
        if waiting is None:
            yield from self.event_to_child(stream, event)
            return
        command, connection = waiting
        stream.connect_timed_out = True
        # Other streams of an HTTP/2 client may wait for the same connection, each with a limit of its own.
        others = self.waiting_for_establishment[connection]
        others.remove(command)
        if not others:
            yield from self._give_up(connection)
        del self.command_sources[command]
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(command, (None, "timed out")))

    def _waiting_for(self, stream: ResilientStream) -> tuple[GetHttpConnection, Connection] | None:
        """The connection that is being opened for this stream, if it waits for one."""
        for connection, waiting in self.waiting_for_establishment.items():
            for command in waiting:
                if self.command_sources.get(command) is stream:
                    return command, connection
        return None

    def _give_up(self, connection: Connection) -> CommandGenerator[None]:
        self.connections.pop(connection, None)
        self.waiting_for_establishment.pop(connection, None)
        yield commands.CloseConnection(connection)
