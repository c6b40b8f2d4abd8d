"""The HTTP layer of one client connection: stock, but for streams of ours and the connections they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpEvent,
    RegisterHttpConnection,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    SendHttp,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode

from holdfast.engine.client_http1 import ClientHttp1
from holdfast.engine.client_http2 import PREFACE, ClientHttp2
from holdfast.engine.commands import (
    AbandonAttempt,
    GetUpstream,
    Pause,
    PauseEnded,
    PeerTook,
    Rest,
    TurnCame,
)
from holdfast.engine.faulty_stream import FaultyStream
from holdfast.engine.leg import Leg
from holdfast.engine.pacing import is_slow
from holdfast.engine.server_side import ServerSide
from holdfast.engine.shortcut import Shortcut
from holdfast.engine.stream import ResilientStream
from holdfast.engine.timers import OF_THE_CONNECTION, TimerFired
from holdfast.engine.upstream_http1 import UpstreamHttp1
from holdfast.engine.upstream_http2 import UpstreamHttp2
from holdfast.engine.whole import WholeRequest
from holdfast.engine.whole_stream import WholeStream
from holdfast.engine.windows import LOW, STREAM_WINDOW
from holdfast.policy.failure import NO_TURN

if TYPE_CHECKING:
    from mitmproxy.proxy.layer import Layer


_DONE = (None,)  # the reply to a hook
_OF_THE_LAYER = (DropStream, GetHttpConnection, RegisterHttpConnection, AbandonAttempt, Pause)


class ResilientLayer(ServerSide):
    """`HttpLayer` for reverse mode whose streams retry, time out and answer for a dead upstream."""

    def __init__(self, context: Context, leg: Leg) -> None:
        super().__init__(context, leg)
        self._pauses: dict[FaultyStream, Pause] = {}
        self._first = b""  # of a client that has not said yet which HTTP it speaks
        self._undecided = False
        self.shortcut: Shortcut | None = None  # of this connection, if there is one
        self.ask: Callable[[commands.StartHook], Rest | None] | None = None  # the addons, on the spot

    # -- the client -------------------------------------------------------------------------------------------------

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """As stock. It waits for no reply itself, so there is nothing to be paused."""
        return super().handle_event(event) if self.debug is not None else self._handle_event(event)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if type(event) is events.DataReceived and event.connection is self.context.client:
            yield from self._from_client(event)
        elif type(event) is events.HookCompleted:
            yield from self.event_to_child(self.command_sources.pop(event.command), event)
        elif isinstance(event, events.Start):
            yield from self._begin()
        elif isinstance(event, TimerFired):
            yield from self._timer_fired(event)
        elif isinstance(event, TurnCame):
            yield from self.get_connection(event.wanted)
        elif isinstance(event, events.ConnectionEvent) and self._given_up(event.connection):
            return
        elif isinstance(event, events.ConnectionClosed) and self.context.client.timestamp_end:
            yield from self._client_gone()
        else:
            yield from super()._handle_event(event)
            if isinstance(event, events.ConnectionClosed) and event.connection is self.context.client:
                yield from self._client_left()
        if self._has_windows():
            yield from self._open_windows()

    def _begin(self) -> CommandGenerator[None]:
        client = self.context.client
        if client.alpn == b"h2":
            self.connections[client] = ClientHttp2(self.context.fork(), self.leg, self._towards_server)
        else:
            self.connections[client] = http1 = ClientHttp1(self.context.fork(), self.leg)
            http1.in_one_piece = self.ask is not None
            self._undecided = True
        yield from super()._handle_event(events.Start())

    def _from_client(self, event: events.DataReceived) -> CommandGenerator[None]:
        if self.shortcut and self.shortcut.from_layer:
            answers, rest = self.shortcut.take(event.data)
            if answers:
                yield commands.SendData(event.connection, b"".join(answers))
            if not rest:
                return
            event = events.DataReceived(event.connection, rest)
        if self._undecided:
            yield from self._decide(event)
        else:
            yield from super()._handle_event(event)

    def is_between_requests(self) -> bool:
        """Whether the client speaks HTTP/1, and nothing of a request or an answer is under way."""
        if self.streams or self._first:
            return False
        http = self.connections.get(self.context.client)
        return type(http) is ClientHttp1 and http.is_idle

    @property
    def request_head(self) -> bytes:
        """The header of the last request of an HTTP/1 client, as it came."""
        http = self.connections[self.context.client]
        return http.head if isinstance(http, ClientHttp1) else b""

    def _decide(self, event: events.DataReceived) -> CommandGenerator[None]:
        """HTTP/2 without having agreed on it: prior knowledge, by its preface (RFC 9113, section 3.3)."""
        first = self._first + event.data
        client = self.context.client
        http1 = self.connections[client]
        assert isinstance(http1, ClientHttp1)
        if len(first) < len(PREFACE) and PREFACE.startswith(first):
            self._first = first
            http1.begin_header()
            return
        self._undecided, self._first = False, b""
        if first.startswith(PREFACE):
            http1.end_header()
            client.alpn = b"h2"
            self.connections[client] = ClientHttp2(self.context.fork(), self.leg, self._towards_server)
            yield from self.event_to_child(self.connections[client], events.Start())
        yield from super()._handle_event(events.DataReceived(client, first))

    def _client_gone(self) -> CommandGenerator[None]:
        """It had stopped sending, which is no reason to stop; then writing to it failed, and all is being closed.

        The stream must not take the end of its upstream connection for a failure that it could mend.
        """
        for stream_id, stream in list(self.streams.items()):
            gone = RequestProtocolError(stream_id, "Client disconnected.", ErrorCode.CLIENT_DISCONNECTED)
            yield from self.event_to_child(stream, gone)
            if isinstance(stream, FaultyStream):
                yield from self._end_pause(stream, "gone")

    def _client_left(self) -> CommandGenerator[None]:
        """It will send no more: what pauses until then goes on."""
        for stream in [stream for stream, pause in self._pauses.items() if pause.until_gone]:
            yield from self._end_pause(stream, "gone")

    def make_stream(self, stream_id: int) -> CommandGenerator[None]:
        """A stream of ours for a new request."""
        made = FaultyStream if self.leg.faults else WholeStream if self.ask else ResilientStream
        stream = made(self.context.fork(), stream_id, self.leg)
        if self.ask:
            stream.at_once = self._at_once
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def event_to_child(self, child: Layer, event: events.Event) -> CommandGenerator[None]:
        """As stock, but what is sent to a connection that is gone is dropped, and attempts can be abandoned."""
        for command in child.handle_event(event):
            kind = type(command)
            if kind is commands.SendData:
                yield command
                continue
            if command.blocking or kind is commands.RequestWakeup:
                self.command_sources[command] = child
            if kind is SendHttp:
                connection = self.connections.get(command.connection)  # type: ignore[attr-defined]
                if connection is not None:  # else it has been closed meanwhile
                    yield from self.event_to_child(connection, command.event)  # type: ignore[attr-defined]
            elif kind is ReceiveHttp:
                yield from self._received(command.event)  # type: ignore[attr-defined]
            elif isinstance(command, _OF_THE_LAYER):
                yield from self._asked(child, command)
            else:
                yield command

    def _asked(self, child: Layer, command: commands.Command) -> CommandGenerator[None]:
        match command:
            case DropStream():
                self.streams.pop(command.stream_id, None)
            case GetHttpConnection():
                yield from self.get_connection(command)
            case RegisterHttpConnection():
                yield from self.register_connection(command)
            case AbandonAttempt():
                yield from self._abandon(command)
            case Pause():
                assert isinstance(child, FaultyStream)
                self._pauses[child] = command
                child.pause_alarm.arm(command.seconds)

    def _at_once(self, command: commands.Command) -> object:
        if isinstance(command, commands.StartHook):
            assert self.ask
            return self.ask(command) or _DONE
        if type(command) is GetUpstream and not (command.sought or (self.share and self.share.pool.bounded)):
            command.sought = True
            server = self._kept(command)
            return ((server, None),) if server else command
        return command

    def _received(self, event: HttpEvent) -> CommandGenerator[None]:
        if type(event) is WholeRequest and self.leg.faults:
            for part in event.parts():
                yield from self._received(part)
            return
        if type(event) is RequestHeaders or type(event) is WholeRequest:
            yield from self.make_stream(event.stream_id)
        stream = self.streams.get(event.stream_id)
        if stream is not None:  # else it has ended already
            yield from self.event_to_child(stream, event)
            if isinstance(event, RequestProtocolError) and isinstance(stream, FaultyStream):
                yield from self._end_pause(stream, "gone")

    # -- slow peers -------------------------------------------------------------------------------------------------

    def towards_client(self, stream_id: int) -> int:
        """Bytes of this stream's response that have come and not gone out."""
        client = self.connections[self.context.client]
        held = client.backlog(stream_id) if isinstance(client, ClientHttp2) else 0
        return held + self._queued(stream_id, ResponseData)

    def _towards_server(self, stream_id: int) -> int:
        stream = self.streams.get(stream_id)
        upstream = self._upstreams.get(stream.context.server) if stream else None
        held = upstream.http.backlog(stream_id) if upstream and isinstance(upstream.http, UpstreamHttp2) else 0
        return held + self._queued(stream_id, RequestData)

    def _queued(self, stream_id: int, kind: type[RequestData | ResponseData]) -> int:
        """What a stream that waits, for a hook or for a connection, has been sent meanwhile."""
        stream = self.streams.get(stream_id)
        return sum(len(event.data) for event in stream._paused_event_queue if isinstance(event, kind)) if stream else 0

    def _has_windows(self) -> bool:
        """Whether anybody here speaks HTTP/2."""
        for upstream in self._upstreams.values():
            if type(upstream.http) is UpstreamHttp2:
                return True
        return type(self.connections.get(self.context.client)) is not ClientHttp1

    def _open_windows(self) -> CommandGenerator[None]:
        """Let those senders go on who were waiting for the other side."""
        client = self.connections.get(self.context.client)
        if isinstance(client, ClientHttp2) and client.windows.held:
            yield from self.event_to_child(client, PeerTook(0))
        held = [server for server, upstream in self._upstreams.items() if _holds_windows(upstream.http)]
        for server in held:
            if server in self.connections:
                yield from self.event_to_child(self.connections[server], PeerTook(0))

    def may_be_congested(self) -> bool:
        """Whether anything has come that has not gone out, or may have: what HTTP/2 keeps is looked at one by one."""
        if self._has_windows():
            return True
        for stream in self.streams.values():
            if stream._paused_event_queue:
                return True
        client = self.connections[self.context.client]
        assert type(client) is ClientHttp1
        return client.is_paced

    def congested(self, reading: Connection) -> bool:
        """Whether nothing more should be read from this connection for now: what came has not gone out.

        Only where it carries one exchange at a time; HTTP/2 has windows for it.
        """
        upstream = self._upstreams.get(reading) if isinstance(reading, Server) else None
        if upstream:
            http = upstream.http
            busy = isinstance(http, UpstreamHttp1) and http.stream_id is not None
            return busy and self.towards_client(http.stream_id) >= STREAM_WINDOW  # type: ignore[union-attr,arg-type]
        client = self.connections.get(reading)
        if not isinstance(client, ClientHttp1):
            return False
        return client.is_paced or self._towards_server(client.stream_id) >= STREAM_WINDOW

    # -- time -------------------------------------------------------------------------------------------------------

    def _timer_fired(self, event: TimerFired) -> CommandGenerator[None]:
        if event.stream_id == OF_THE_CONNECTION:
            yield from self.event_to_child(self.connections[self.context.client], event)
            return
        stream = self.streams.get(event.stream_id)
        if not isinstance(stream, ResilientStream):
            return
        if self._client_is_slow(event.stream_id):
            stream.note_progress()  # it is not the server that is late
        if isinstance(stream, FaultyStream) and stream in self._pauses:
            over, late = stream.pause_alarm.rang(event), stream.upstream_alarm.rang(event)
            if over or late:
                yield from self._end_pause(stream, "over" if over else "late")
                return
        if self.share and stream.upstream_alarm.rang(event):
            for wanted in [each for each in self.share.waiting if self.command_sources.get(each) is stream]:
                self.share.wait_no_more(wanted)
                stream.upstream_alarm.disarm()
                del self.command_sources[wanted]
                yield from self.event_to_child(stream, GetHttpConnectionCompleted(wanted, (None, NO_TURN.detail)))
                return
        waiting = self._waiting_for(stream) if stream.upstream_alarm.rang(event) else None
        if waiting is None:
            yield from self.event_to_child(stream, event)
            return
        command, connection = waiting
        stream.connect_timed_out = True
        # Other streams of an HTTP/2 client may wait for the same connection, each with a limit of its own.
        others = self.waiting_for_establishment[connection]
        others.remove(command)
        if not others:
            yield from self._close(connection)
        del self.command_sources[command]
        yield from self.event_to_child(stream, GetHttpConnectionCompleted(command, (None, "timed out")))

    def _end_pause(self, stream: FaultyStream, reply: str) -> CommandGenerator[None]:
        """If it pauses."""
        command = self._pauses.pop(stream, None)
        if command:
            stream.pause_alarm.disarm()
            del self.command_sources[command]
            yield from self.event_to_child(stream, PauseEnded(command, reply))

    def _client_is_slow(self, stream_id: int) -> bool:
        client = self.context.client
        return self.towards_client(stream_id) >= LOW or is_slow(client, client.id)

    def _waiting_for(self, stream: ResilientStream) -> tuple[GetHttpConnection, Connection] | None:
        """The connection that is being opened for this stream, if it waits for one."""
        for connection, waiting in self.waiting_for_establishment.items():
            for command in waiting:
                if self.command_sources.get(command) is stream:
                    return command, connection
        return None


def _holds_windows(http: object) -> bool:
    return type(http) is UpstreamHttp2 and http.windows.held
