"""An HTTP/2 connection to a server (RFC 9113): what mitmproxy's lacks when attempts fail and servers go away.

Stock ends every stream at the first GOAWAY, although the server goes on answering those it has accepted; cannot take
an attempt back; forgets requests that wait for a free stream when the connection ends; swallows 1xx answers; keeps an
entry for each request for as long as the connection lives; and sends requests before the server has said a word, so
that one that is frozen may have got them, and one that takes few streams refuses what is too many. (mitmproxy 12.2)
"""

from __future__ import annotations

from collections.abc import Callable

import h2.errors
import h2.events
import h2.exceptions
from h2.connection import ConnectionState
from hyperframe.frame import Frame, GoAwayFrame
from mitmproxy.http import Headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    HttpEvent,
    RegisterHttpConnection,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http2 import Http2Client

from holdfast.engine.commands import AttemptAbandoned, InterimResponse, PeerTook
from holdfast.engine.windows import Windows, buffered
from holdfast.policy.failure import NO_HTTP2

NOT_PROCESSED = "HTTP/2 stream not processed"
"""Begins the message of an error after which the server has certainly not acted (RFC 9113, section 8.7)."""
_OF_A_STREAM = (
    h2.events.ResponseReceived,
    h2.events.InformationalResponseReceived,
    h2.events.DataReceived,
    h2.events.TrailersReceived,
    h2.events.StreamEnded,
    h2.events.StreamReset,
)


class UpstreamHttp2(Http2Client):
    """Many requests at once, as soon as the server's SETTINGS are there: then the connection is reported as open.

    `clock` is monotonic seconds, `backlog` how much of a client's stream it has not taken.
    """

    def __init__(self, context: Context, clock: Callable[[], float], backlog: Callable[[int], int]) -> None:
        super().__init__(context)
        self._clock = clock
        self.windows = Windows(self.h2_conn, lambda ours: backlog(self.their_stream_id.get(ours, 0)))
        self._leaving = False  # no new request: the server is going away, or it has gone silent
        self._heard_at = clock()
        self._half_done: set[int] = set()  # our streams of which one direction has ended
        # h2 ends the connection at a GOAWAY. What the server has accepted before is still answered.
        self.h2_conn._frame_dispatch_table[GoAwayFrame] = _going_away

    @property
    def idle(self) -> bool:
        """Whether another request may go out now."""
        if self._leaving or not self.conn.connected or self.h2_conn.state_machine.state is ConnectionState.CLOSED:
            return False
        if self.h2_conn.highest_outbound_stream_id > 2**31 - 3 or not self._settled:
            return False
        return self.h2_conn.open_outbound_streams < self.h2_conn.remote_settings.max_concurrent_streams

    @property
    def _settled(self) -> bool:
        """Whether the server has said how many streams it takes (RFC 9113, section 3.4: its first frame)."""
        return self.provisional_max_concurrency is None

    def backlog(self, theirs: int) -> int:
        """Bytes of this client's stream that the server has not made room for."""
        return buffered(self.h2_conn, self.our_stream_id.get(theirs, 0))

    # -- from the streams -------------------------------------------------------------------------------------------

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, AttemptAbandoned):
            yield from self._abandon(event.stream_id, event.waited)
        elif isinstance(event, PeerTook):
            if self.windows.open():
                yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        elif isinstance(event, HttpEvent):
            yield from self._send(event)
        else:
            if isinstance(event, events.DataReceived):
                self._heard_at = self._clock()
            yield from super()._handle_event(event)
        if self._leaving and not self.streams and not self.stream_queue and self.conn.connected:
            yield from self._leave()

    def _send(self, event: HttpEvent) -> CommandGenerator[None]:
        theirs = event.stream_id
        known = theirs in self.our_stream_id or theirs in self.stream_queue
        if not known and not isinstance(event, RequestHeaders):
            return  # late: the attempt it belongs to has ended
        if isinstance(event, RequestProtocolError) and theirs in self.stream_queue:
            del self.stream_queue[theirs]
            return
        if isinstance(event, RequestHeaders) and (self._leaving or not self.conn.connected):
            yield self._unprocessed(theirs)
            return
        yield from super()._handle_event(event)
        ours = self.our_stream_id.get(theirs)
        if ours is None:
            return
        if isinstance(event, RequestEndOfMessage):
            self._side_done(ours)
        elif isinstance(event, RequestProtocolError):
            self._forget(ours)

    def _abandon(self, theirs: int, waited: float) -> CommandGenerator[None]:
        """Take an attempt back. A connection that has gone silent gets no new requests."""
        self.stream_queue.pop(theirs, None)
        ours = self.our_stream_id.get(theirs)
        if ours is None:
            return
        # A new connection too many costs little, a request on one that is frozen a whole timeout.
        if waited and self._clock() - self._heard_at >= waited / 2:
            self._leaving = True
        if not self.is_closed(ours):
            self.h2_conn.reset_stream(ours, h2.errors.ErrorCodes.CANCEL)
            yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        self._forget(ours)

    # -- from the server --------------------------------------------------------------------------------------------

    def _handle_event2(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; a frame that may not be sent ends the connection at its first bytes (RFC 9113, section 4.2)."""
        yield from super()._handle_event2(event)
        if isinstance(event, events.DataReceived) and self.conn.connected:
            fault = _unreadable(bytes(self.h2_conn.incoming_buffer._data[:9]), self.h2_conn.max_inbound_frame_size)
            if fault:
                yield from self.protocol_error(fault, h2.errors.ErrorCodes.FRAME_SIZE_ERROR)

    def handle_h2_event(self, event: h2.events.Event) -> CommandGenerator[bool]:
        """As stock, but for what is late, for refusals, for the server's leaving and for interim answers."""
        if isinstance(event, _OF_A_STREAM) and event.stream_id not in self.their_stream_id:
            if isinstance(event, h2.events.DataReceived):
                self.h2_conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return False
        if isinstance(event, h2.events.InformationalResponseReceived):
            yield from self._interim(event)
            return False
        if isinstance(event, h2.events.ConnectionTerminated):
            yield from self._going_away(event)
            return False
        if isinstance(event, h2.events.StreamReset):
            yield from self._reset(event)
            return False
        known = self._settled
        done = yield from super().handle_h2_event(event)
        if self._settled and not known:
            yield RegisterHttpConnection(self.conn, None)
        if isinstance(event, h2.events.StreamEnded):
            self.streams.pop(event.stream_id, None)
            self._side_done(event.stream_id)
        return done

    def _interim(self, event: h2.events.InformationalResponseReceived) -> CommandGenerator[None]:
        fields = Headers([(name, value) for name, value in event.headers if not name.startswith(b":")])
        status = dict(event.headers).get(b":status", b"")
        if status.isdigit():
            yield ReceiveHttp(InterimResponse(event.stream_id, int(status), fields))

    def _reset(self, event: h2.events.StreamReset) -> CommandGenerator[None]:
        ours = event.stream_id
        try:
            name = h2.errors.ErrorCodes(event.error_code).name
        except ValueError:
            name = str(event.error_code)
        if ours in self.streams:
            refused = name == "REFUSED_STREAM"
            text = f"{NOT_PROCESSED}: {name}" if refused else f"stream reset by server ({name})"
            yield from self._fail(ours, text)
        self._forget(ours)

    def _going_away(self, event: h2.events.ConnectionTerminated) -> CommandGenerator[None]:
        """RFC 9113, section 6.8: streams above the last one were not processed, the others are still answered."""
        self._leaving = True
        last = event.last_stream_id or 0
        for ours in [ours for ours in self.streams if ours > last]:
            if not self.is_closed(ours):
                self.h2_conn.reset_stream(ours, h2.errors.ErrorCodes.CANCEL)
            yield from self._fail(ours, f"{NOT_PROCESSED}: GOAWAY")
        # h2 maps the ids of what follows; these never had one of ours.
        waiting = list(self.stream_queue)
        self.stream_queue.clear()
        for theirs in waiting:
            yield from self._report_unsent(theirs)

    def close_connection(self, msg: str) -> CommandGenerator[None]:
        """As stock, which fails at the second stream if the first lets go; and requests that never left are told so."""
        waiting = list(self.stream_queue)
        self.stream_queue.clear()
        yield commands.CloseConnection(self.conn)
        self._handle_event = self.done  # type: ignore[method-assign]
        if not self._settled:
            yield RegisterHttpConnection(self.conn, msg)
        for ours in list(self.streams):
            if ours in self.streams:
                yield from self._fail(ours, msg)
        for theirs in waiting:
            yield from self._report_unsent(theirs)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _report_unsent(self, theirs: int) -> CommandGenerator[None]:
        # The caller translates our stream ids into the client's; this request has none of ours yet, so give it one
        # that no stream on the wire can have.
        ours = -theirs
        self.their_stream_id[ours] = theirs
        yield ReceiveHttp(ResponseProtocolError(ours, NOT_PROCESSED, ErrorCode.GENERIC_SERVER_ERROR))
        del self.their_stream_id[ours]

    def _fail(self, ours: int, text: str) -> CommandGenerator[None]:
        # The stream may try again at once, on this connection: by then the old number must not be its own any more.
        self.our_stream_id.pop(self.their_stream_id[ours], None)
        self.streams.pop(ours, None)
        yield ReceiveHttp(ResponseProtocolError(ours, text, ErrorCode.GENERIC_SERVER_ERROR))
        self._forget(ours)

    def _unprocessed(self, theirs: int) -> ReceiveHttp:
        return ReceiveHttp(ResponseProtocolError(theirs, NOT_PROCESSED, ErrorCode.GENERIC_SERVER_ERROR))

    def _leave(self) -> CommandGenerator[None]:
        yield from self.close_connection("the upstream is going away")

    def _side_done(self, ours: int) -> None:
        if ours in self._half_done:
            self._forget(ours)
        else:
            self._half_done.add(ours)

    def _forget(self, ours: int) -> None:
        theirs = self.their_stream_id.pop(ours, None)
        if theirs is not None and self.our_stream_id.get(theirs) == ours:
            del self.our_stream_id[theirs]
        self._half_done.discard(ours)
        self.streams.pop(ours, None)


def _unreadable(begun: bytes, limit: int) -> str | None:
    """What is wrong with the frame that has begun to arrive. h2 looks at its length only once it is all there."""
    if begun.startswith(b"HTTP/"):
        return NO_HTTP2
    too_long = len(begun) >= 9 and int.from_bytes(begun[:3], "big") > limit
    return "the upstream sent a frame that is too long" if too_long else None


def _going_away(frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
    event = h2.events.ConnectionTerminated()
    event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
    event.additional_data = frame.additional_data or None
    return [], [event]
