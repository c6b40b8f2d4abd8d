"""An HTTP/2 connection to a client (RFC 9113): what mitmproxy's lacks where the client is nobody's friend.

Stock ends the whole connection at a malformed request, answers with a page of its own, takes requests whose length is
not that of their body, which are two requests to an HTTP/1 server behind, and bears with any number of frames that cost
their sender nothing. This one also passes interim answers on, and forgets what has ended. (mitmproxy 12.2)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container

import h2.events
from h2.config import H2Configuration
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    RequestEndOfMessage,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http2 import Http2Connection, Http2Server

from holdfast.engine.commands import InterimResponse, PeerTook
from holdfast.engine.leg import Leg
from holdfast.engine.lingering import Lingering, peer_of
from holdfast.engine.timers import OF_THE_CONNECTION, Alarm, TimerFired
from holdfast.engine.windows import Windows, buffered
from holdfast.policy.allowance import Allowance
from holdfast.policy.request_faults import (
    CANNOT_PASS,
    HEADER_TOO_LARGE,
    UNREADABLE,
    Fault,
    fault_answer,
    http2_fault,
    trailer_fault,
)

logger = logging.getLogger(__name__)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first (RFC 9113, section 3.4)."""
FIELD_OVERHEAD = 32
"""What a field counts beyond its bytes (RFC 9113, section 6.5.2)."""
FREE_FRAMES, FREE_FRAMES_A_SECOND = 1000, 100
"""Frames that ask for nothing, such as pings, before the connection is ended (RFC 9113, section 10.5)."""
RESET = 5
"""What a request that is taken back counts: 200 of them at once, and 20 a second (CVE-2023-44487)."""
_IDLE_CHATTER = (
    h2.events.RemoteSettingsChanged,
    h2.events.SettingsAcknowledged,
    h2.events.PingReceived,
    h2.events.PingAckReceived,
    h2.events.PriorityUpdated,
    h2.events.UnknownFrameReceived,
)


class ClientHttp2(Http2Server):
    """Many requests at once, over TLS or with prior knowledge.

    `backlog` tells how much of a stream its server has not taken.
    """

    # Not stock's: there the validation of header fields is on, and ends the connection.
    h2_conf = H2Configuration(**Http2Connection.h2_conf_defaults, client_side=False)

    def __init__(self, context: Context, leg: Leg, backlog: Callable[[int], int]) -> None:
        super().__init__(context)
        self.windows = Windows(self.h2_conn, backlog)
        self.h2_conf.validate_inbound_headers = False  # `policy.request_faults` does, and answers
        self._leg = leg
        self._max_header = leg.client.max_header
        # Beyond what is announced, so that a header which is only too large can be read and refused.
        self.h2_conn.decoder.max_header_list_size = 4 * self._max_header
        self.h2_conn.local_settings.max_header_list_size = self._max_header
        self.h2_conn.local_settings.acknowledge()
        self._missing: dict[int, int] = {}  # stream -> bytes that its content-length has promised and not brought
        self._whole: list[int] = []  # streams whose request has come to its end in what is being read
        self._allowance = Allowance(FREE_FRAMES, FREE_FRAMES_A_SECOND, leg.clock())
        self._alarm = Alarm(leg.timers, context.client.id, OF_THE_CONNECTION, "http2")
        self._header_begun = False
        self._advanced = False
        self._lingering = Lingering(self.conn, self._alarm)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, TimerFired):
            if self._alarm.rang(event):
                yield from self.protocol_error("a header took too long", ErrorCodes.ENHANCE_YOUR_CALM)
        elif isinstance(event, InterimResponse):
            yield from self._interim(event)
        elif isinstance(event, PeerTook):
            if self.windows.open():
                yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        elif isinstance(event, ResponseProtocolError) and (fault := self._plain_fault(event)):
            yield from self._answer(event.stream_id, fault)
        else:
            self._advanced = False
            yield from super()._handle_event(event)
            if isinstance(event, ResponseEndOfMessage | ResponseProtocolError) and self.is_closed(event.stream_id):
                self.streams.pop(event.stream_id, None)
            if isinstance(event, events.DataReceived) and not self._over:
                self._forget_closed()
                yield from self._watch_header()

    def backlog(self, stream_id: int) -> int:
        """Bytes of this stream that the client has not made room for."""
        return buffered(self.h2_conn, stream_id)

    # -- from the client --------------------------------------------------------------------------------------------

    def handle_h2_event(self, event: h2.events.Event) -> CommandGenerator[bool]:
        """As stock, by the rules of `policy.request_faults`, and while the client's allowance lasts."""
        self._advanced = True
        if not self._allowance.take(_cost(event, self.streams), self._leg.clock()):
            yield from self.protocol_error("too many frames that ask for nothing", ErrorCodes.ENHANCE_YOUR_CALM)
            return True
        if isinstance(event, h2.events.RequestReceived):
            return (yield from self._request(event))
        if isinstance(event, h2.events.TrailersReceived):
            return (yield from self._trailers(event))
        if isinstance(event, h2.events.DataReceived) and event.stream_id in self._missing:
            self._missing[event.stream_id] -= len(event.data)
        if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self._missing.pop(event.stream_id, None)
        if isinstance(event, h2.events.StreamEnded) and event.stream_id in self.streams:
            # Stock forgets the stream if it is closed. That it has been reset may be one of the next events.
            yield ReceiveHttp(RequestEndOfMessage(event.stream_id))
            self._whole.append(event.stream_id)
            return False
        return (yield from super().handle_h2_event(event))

    def _request(self, event: h2.events.RequestReceived) -> CommandGenerator[bool]:
        fields = event.headers
        fault = http2_fault(fields, event.stream_ended is not None)
        if sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields) > self._max_header:
            fault = HEADER_TOO_LARGE
        if not fault:
            length = next((value for name, value in fields if name == b"content-length"), None)
            if length is not None and event.stream_ended is None:
                self._missing[event.stream_id] = int(length)
            return (yield from super().handle_h2_event(event))
        self._leg.malformed(fault.token, peer_of(self.conn))
        yield from self._answer(event.stream_id, fault)
        return False

    def _trailers(self, event: h2.events.TrailersReceived) -> CommandGenerator[bool]:
        """h2 does not compare what has come with what was announced where trailers end a body."""
        missing = self._missing.pop(event.stream_id, 0)
        fault = trailer_fault(event.headers)
        if (fault or missing) and event.stream_id in self.streams:
            text = f"HTTP request refused: {fault.sentence if fault else 'its length is not what was announced'}"
            yield from self._answer(event.stream_id, fault or UNREADABLE)
            yield ReceiveHttp(RequestProtocolError(event.stream_id, text, ErrorCode.GENERIC_CLIENT_ERROR))
            return False
        return (yield from super().handle_h2_event(event))

    def _forget_closed(self) -> None:
        for stream_id in self._whole:
            if self.is_closed(stream_id):
                self.streams.pop(stream_id, None)
        self._whole.clear()

    def _watch_header(self) -> CommandGenerator[None]:
        """What is not whole at the end of a read is waited for, but not for ever, and not at any length."""
        incoming = self.h2_conn.incoming_buffer
        block, rest = incoming._headers_buffer, incoming._data
        if sum(len(frame.data) for frame in block) > 4 * self._max_header:
            yield from self.protocol_error("a header without end", ErrorCodes.ENHANCE_YOUR_CALM)
            return
        if len(rest) >= 3 and int.from_bytes(rest[:3]) > self.h2_conn.max_inbound_frame_size:
            # h2 says so too, but only when it has the whole frame: 16 megabytes.
            yield from self.protocol_error("a frame is too large", ErrorCodes.FRAME_SIZE_ERROR)
            return
        # A frame of the body, type 0, has the body's own limit.
        partial = incoming._preamble_len or block or (rest and (len(rest) < 9 or rest[3] != 0))
        if not partial:
            self._header_begun = False
            self._alarm.disarm()
        elif self._advanced or not self._header_begun:
            self._header_begun = True
            self._alarm.arm(self._leg.client.header_timeout)

    # -- to the client ----------------------------------------------------------------------------------------------

    def _answer(self, stream_id: int, fault: Fault) -> CommandGenerator[None]:
        """Refuse one request; the others go on."""
        self.streams.pop(stream_id, None)
        answer = fault_answer(fault)
        fields = [(n.lower().encode(), v.encode()) for n, v in answer.headers if n != "Connection"]
        if not self.is_open_for_us(stream_id):
            return
        self.h2_conn.send_headers(stream_id, [(b":status", b"%d" % answer.status), *fields])
        self.h2_conn.send_data(stream_id, answer.body, end_stream=True)
        if not self.is_closed(stream_id):
            # The answer is whole, and what the client still sends on this stream is of no use.
            self.h2_conn.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    def _plain_fault(self, event: ResponseProtocolError) -> Fault | None:
        """What to say in place of mitmproxy's page; None where it would say nothing either."""
        status = event.code.http_status_code()
        if status is None or not self.is_open_for_us(event.stream_id):
            return None
        if self.h2_conn.streams[event.stream_id].state_machine.headers_sent:
            return None
        return CANNOT_PASS if status >= 500 else Fault(UNREADABLE.token, UNREADABLE.sentence, status)

    def _interim(self, event: InterimResponse) -> CommandGenerator[None]:
        if event.status == 101 or not self.is_open_for_us(event.stream_id):
            return
        fields = [(name.lower(), value) for name, value in event.headers.fields]
        try:
            self.h2_conn.send_headers(event.stream_id, [(b":status", b"%d" % event.status), *fields])
        except ProtocolError:
            return  # the final answer has begun
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())

    # -- the end ----------------------------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        return self.h2_conn.state_machine.state is ConnectionState.CLOSED

    def protocol_error(self, message: str, error_code: int = ErrorCodes.PROTOCOL_ERROR) -> CommandGenerator[None]:
        """End the connection and say why; the GOAWAY gets through although the client may still be sending."""
        logger.warning("HTTP/2 connection ended", extra={"fault": message, "peer": peer_of(self.conn)})
        if not self._over:  # else h2 has said why itself
            self.h2_conn.close_connection(error_code, message.encode())
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())
        yield from self._lingering.begin()
        self._handle_event = self._lingering.handle  # type: ignore[method-assign]
        running, self.streams = list(self.streams), {}
        for stream_id in running:
            yield ReceiveHttp(RequestProtocolError(stream_id, message, ErrorCode.GENERIC_CLIENT_ERROR))


def _cost(event: h2.events.Event, running: Container[int]) -> float:
    """Of the client's allowance."""
    if isinstance(event, h2.events.StreamReset):
        return RESET if event.stream_id in running else 1
    if isinstance(event, h2.events.DataReceived):
        return 0 if event.data or event.stream_ended else 1
    return 1 if isinstance(event, _IDLE_CHATTER) else 0
