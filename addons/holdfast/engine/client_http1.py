"""An HTTP/1 connection to a client: what mitmproxy's reader and writer lack.

Stock takes requests that can be read in two ways, answers those that it does not take with a page of its own, waits for
a header and collects it without end, takes a client that has said all it wants to say for one that has gone, ends with
an exception at trailers, writes a response that came over HTTP/2 without any framing, and chunks to clients of
HTTP/1.0, who cannot read them. (mitmproxy 12.2)
"""

from __future__ import annotations

import h11
from h11._readers import ChunkedReader
from mitmproxy.connection import ConnectionState
from mitmproxy.http import Request, Response
from mitmproxy.net.http import status_codes
from mitmproxy.net.http.http1 import assemble_response_head, read_request_head
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    Http1Server,
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http1 import make_body_reader

from holdfast.engine.chunks import Chunks
from holdfast.engine.commands import InterimResponse
from holdfast.engine.framing import is_plain_http1, size_of, stays_open
from holdfast.engine.heads import request_of
from holdfast.engine.leg import Leg
from holdfast.engine.lingering import Lingering, peer_of
from holdfast.engine.pacing import AT_ONCE, LOOK_AGAIN, is_slow
from holdfast.engine.request_head import HeadBuffer, lines_of
from holdfast.engine.timers import OF_THE_CONNECTION, Alarm, TimerFired
from holdfast.engine.whole import WholeRequest, WholeResponse
from holdfast.policy.request_faults import (
    BAD_BODY,
    CANNOT_PASS,
    HEADER_TIMEOUT,
    HEADER_TOO_LARGE,
    TARGET_TOO_LONG,
    UNREADABLE,
    Fault,
    fault_answer,
    http1_fault,
)


class ClientHttp1(Http1Server):
    """One request after the other."""

    buf: HeadBuffer

    def __init__(self, context: Context, leg: Leg) -> None:
        super().__init__(context)
        self.buf = HeadBuffer()
        self._leg = leg
        self._alarm = Alarm(leg.timers, context.client.id, OF_THE_CONNECTION, "http1")
        self._pause = Alarm(leg.timers, context.client.id, OF_THE_CONNECTION, "pace")
        self._answered = 0  # bytes, to requests that had come in one piece
        self._reading = False
        self._header_begun = False
        self._finished = False  # the client will send no more, but may still read
        self._flooded = False  # it has sent more behind its request than is kept
        self._lingering = Lingering(self.conn, self._alarm)
        self.head = b""  # of the last request, as it came
        self.in_one_piece = False  # whether whoever hears of requests takes them so

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """As stock. It never waits for a reply, so there is nothing to be paused."""
        return super().handle_event(event) if self.debug is not None else self._handle_event(event)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, HttpEvent):
            return self.send(event)
        if isinstance(event, TimerFired):
            return self._timer_fired(event)
        if isinstance(event, events.DataReceived) and self.state != self.passthrough:
            self.buf += event.data  # type: ignore[misc]  # h11's says that it may be anybody's
        return self.state(event)

    def _timer_fired(self, event: TimerFired) -> CommandGenerator[None]:
        if self.state == self.linger:
            yield from self._lingering.handle(event)
        elif self._pause.rang(event):
            self._pause.disarm()
            if self.state == self.read_headers:
                self._pace()
                yield from self.state(events.DataReceived(self.conn, b""))
        elif self.state == self.read_headers and self._alarm.rang(event):
            yield from self._refuse(HEADER_TIMEOUT)

    # -- the header -------------------------------------------------------------------------------------------------

    def begin_header(self) -> None:
        """The first byte of a header has come: `limits.header_timeout` runs."""
        if not self._header_begun:
            self._header_begun = True
            self._alarm.arm(self._leg.client.header_timeout)

    def end_header(self) -> None:
        """It is whole, or somebody else's."""
        self._header_begun = False
        self._alarm.disarm()

    @property
    def is_idle(self) -> bool:
        """Whether the next byte would be the first of a request."""
        return self.state == self.read_headers and not self.buf._data

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """As stock, within bounds of time and size, and by the rules of `policy.request_faults`."""
        if isinstance(event, events.ConnectionClosed):
            if self.is_paced and not self._was_reset:
                self._finished = True
            else:
                yield from self._close()
            return
        if self._reading:
            return  # one after the other, and not one within the other: there may be thousands in one piece
        self._reading = True
        try:
            while not self.is_paced and (yield from self._read_request(event)):
                self._pace()
        finally:
            self._reading = False

    def _read_request(self, event: events.ConnectionEvent) -> CommandGenerator[bool]:
        """Whether it has been answered already, and more has come."""
        head = self.buf.maybe_extract_head()
        if head is None:
            yield from self._await_header()
            return False
        self.end_header()
        self.head = head
        fault = HEADER_TOO_LARGE if len(head) > self._leg.client.max_header else http1_fault(head)
        if not fault:
            try:
                self.request = request_of(head)
                size = size_of(self.request)
            except ValueError:
                fault = UNREADABLE
        if fault:
            yield from self._refuse_request(fault, head)
            return False
        assert self.request
        if self.in_one_piece and size is not None and 0 <= size <= len(self.buf):
            return (yield from self._receive_whole(self.request, size))
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, size == 0))
        if self.state == self.read_headers:  # else it has been refused
            reader = make_body_reader(size)
            self.body_reader = Chunks() if isinstance(reader, ChunkedReader) else reader  # type: ignore[assignment]
            self.state = self.read_body
            yield from self.state(event)
        return self._may_read_on

    def _receive_whole(self, request: Request, size: int) -> CommandGenerator[bool]:
        content = bytes(self.buf.maybe_extract_at_most(size) or b"") if size else b""
        self.state = self.read_body
        yield ReceiveHttp(WholeRequest(self.stream_id, request, content))
        if self.state == self.read_body:
            yield from self.mark_done(request=True)
        return self._may_read_on

    @property
    def _may_read_on(self) -> bool:
        return self.state == self.read_headers and bool(self.buf)

    @property
    def is_paced(self) -> bool:
        """Whether what has come is left alone until the client has taken what it was sent."""
        return self._pause.is_armed

    def _pace(self) -> None:
        """Requests that are all there already are answered no faster than the client reads."""
        slow = is_slow(self.conn, self.conn.id)
        if slow or self._answered > AT_ONCE:
            self._answered = 0
            self._pause.arm(LOOK_AGAIN if slow else 0.0)

    def _await_header(self) -> CommandGenerator[None]:
        if self._finished:
            yield from self._close()
        elif len(self.buf) > self._leg.client.max_header:
            yield from self._refuse(TARGET_TOO_LONG if self.buf.in_first_line else HEADER_TOO_LARGE)
        elif self.buf.begins_oddly:
            yield from self._refuse(UNREADABLE)
        elif self.buf:
            self.begin_header()

    def _refuse_request(self, fault: Fault, head: bytes) -> CommandGenerator[None]:
        """Refuse it, and have it seen as far as it can be: in the metrics, the access log and mitmproxy's views."""
        yield from self._refuse(fault, bodiless=head.startswith(b"HEAD "))
        try:
            self.request = read_request_head(lines_of(head))
        except (ValueError, IndexError):
            return
        yield ReceiveHttp(RequestHeaders(self.stream_id, self.request, end_stream=False))
        message = f"HTTP request refused: {fault.sentence}"
        yield ReceiveHttp(RequestProtocolError(self.stream_id, message, ErrorCode.GENERIC_CLIENT_ERROR))

    # -- the body ---------------------------------------------------------------------------------------------------

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, in larger pieces; a body that is none is answered, and trailers end nothing."""
        data, ended, fault = self._take_body(ended=self._finished or isinstance(event, events.ConnectionClosed))
        if data:
            yield ReceiveHttp(RequestData(self.stream_id, data))
        if self.state != self.read_body:
            return  # the answer to this piece was the last
        if fault:
            yield from self._bad_body(fault, gone=isinstance(event, events.ConnectionClosed))
        elif ended:
            yield ReceiveHttp(RequestEndOfMessage(self.stream_id))
            yield from self.mark_done(request=True)
            if self.state == self.read_headers and self.buf:
                self._pace()
                yield from self.state(events.DataReceived(self.conn, b""))

    def _take_body(self, *, ended: bool) -> tuple[bytes, bool, h11.ProtocolError | None]:
        """What there is of it, whether it is whole, and what is wrong. `ended`: nothing more will come."""
        pieces: list[bytes] = []
        try:
            while (part := self.body_reader(self.buf)) is not None:
                if isinstance(part, h11.EndOfMessage):
                    return b"".join(pieces), True, None
                pieces.append(bytes(part.data))
            if ended:
                self.body_reader.read_eof()
        except h11.ProtocolError as e:
            return b"".join(pieces), False, e
        return b"".join(pieces), False, None

    def _bad_body(self, fault: h11.ProtocolError, *, gone: bool) -> CommandGenerator[None]:
        """Whatever has gone upstream is broken off there too, so that nobody takes it for whole."""
        stream_id = self.stream_id
        if self.response or not self._can_answer or (gone and self._was_reset):
            yield from self._close()
        else:
            yield from self._refuse(BAD_BODY, bodiless=self.request is not None and self.request.method == "HEAD")
        # The words tell the access log whose fault it was.
        text = f"HTTP/1 protocol error: {fault}" if gone else f"HTTP request refused: {fault}"
        yield ReceiveHttp(RequestProtocolError(stream_id, text, ErrorCode.GENERIC_CLIENT_ERROR))

    # -- between request and response -------------------------------------------------------------------------------

    def wait(self, event: events.Event) -> CommandGenerator[None]:
        """As stock, but who has sent all it wants to send is still waiting for its answer (RFC 9112, section 9.6).

        One that has gone altogether is found out when something is written to it.
        """
        if isinstance(event, events.ConnectionClosed):
            if self._was_reset:
                yield from super().wait(event)
            else:
                self._finished = True
        elif self._flooded or len(self.buf) > self._leg.client.buffer_body + self._leg.client.max_header:
            self._flooded, self.buf = True, HeadBuffer()

    def mark_done(self, *, request: bool = False, response: bool = False) -> CommandGenerator[None]:
        """As stock; the connection also ends where nothing more can come, or what came has been thrown away.

        Who has read the end of a request looks after what has come behind it.
        """
        both = (request or self.request_done) and (response or self.response_done)
        if both and self._flooded:
            yield from self._close()
            return
        if both and self.request and self.response and stays_open(self.request, self.response):
            self.request_done = self.response_done = False
            self.request = self.response = None
            self.stream_id += 2
            self.state = self.read_headers
            if self.buf and response:
                self._pace()
                yield from self.state(events.DataReceived(self.conn, b""))
        else:
            yield from super().mark_done(request=request, response=response)
        if self._finished and self.state == self.read_headers and not self.buf:
            yield from self._close()

    # -- the response -----------------------------------------------------------------------------------------------

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """As stock, but for interim answers, for trailers, which HTTP/1 does not get, for framing, and for errors."""
        if event.stream_id != self.stream_id or isinstance(event, ResponseTrailers) or self.state == self.linger:
            return
        if isinstance(event, InterimResponse):
            if event.status not in (100, 101):  # mitmproxy has answered `Expect` itself
                yield from self._interim(Response.make(event.status, b"", event.headers))
            return
        if isinstance(event, ResponseProtocolError):
            yield from self._break_off(event)
            return
        if type(event) is WholeResponse:
            yield from self._send_whole(event)
            return
        if isinstance(event, ResponseHeaders):
            assert self.request
            if event.response.status_code == 100:
                yield from self._interim(event.response)
                return
            event = ResponseHeaders(
                event.stream_id, framed(event.response, self.request.http_version, event.end_stream), event.end_stream
            )
        yield from super().send(event)

    def _send_whole(self, event: WholeResponse) -> CommandGenerator[None]:
        response = event.response
        plain = is_plain_http1(response.data) and response.data.status_code >= 200
        if not plain or not self.request or self.request.data.http_version != b"HTTP/1.1":
            for part in event.parts():
                yield from self.send(part)
            return
        self.response = response
        raw = assemble_response_head(response) + event.content
        self._answered += len(raw)
        yield commands.SendData(self.conn, raw)
        yield from self.mark_done(response=True)

    def _interim(self, answer: Response) -> CommandGenerator[None]:
        """HTTP/1.0 knows none (RFC 9110, section 15.2)."""
        if self.request and self.request.http_version == "HTTP/1.1":
            answer.headers.pop("content-length", None)
            yield commands.SendData(self.conn, assemble_response_head(answer))

    def _break_off(self, event: ResponseProtocolError) -> CommandGenerator[None]:
        status = event.code.http_status_code()
        if not self._can_answer:
            return
        if self.response or status is None:
            yield commands.CloseConnection(self.conn)
        else:
            yield from self._refuse(plain_fault(status))

    # -- the end ----------------------------------------------------------------------------------------------------

    def linger(self, event: events.Event) -> CommandGenerator[None]:
        """The last answer has been given."""
        self.buf = HeadBuffer()
        yield from self._lingering.handle(event)

    def _refuse(self, fault: Fault, *, bodiless: bool = False) -> CommandGenerator[None]:
        """Say why, and nothing more on this connection."""
        self._leg.malformed(fault.token, peer_of(self.conn))
        self.end_header()
        self.state = self.linger
        if self._can_answer:
            answer = fault_answer(fault)
            fields = [(name.encode(), value.encode()) for name, value in answer.headers]
            response = Response.make(answer.status, answer.body, fields)
            yield commands.SendData(self.conn, assemble_response_head(response) + (b"" if bodiless else answer.body))
        yield from self._lingering.begin()

    def _close(self) -> CommandGenerator[None]:
        self.end_header()
        self._pause.disarm()
        self.state = self.done
        yield commands.CloseConnection(self.conn)

    @property
    def _can_answer(self) -> bool:
        return bool(self.conn.state & ConnectionState.CAN_WRITE)

    @property
    def _was_reset(self) -> bool:
        return self._leg.timers.was_reset(self.conn)


def plain_fault(status: int) -> Fault:
    """For an error of which mitmproxy knows only the kind."""
    return CANNOT_PASS if status >= 500 else Fault(UNREADABLE.token, UNREADABLE.sentence, status)


def framed(response: Response, client_version: str, ends_with_headers: bool) -> Response:
    """The response with a body that an HTTP/1 client can find the end of (RFC 9112, section 6.3)."""
    chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
    to_convert = response.is_http2 or response.is_http3
    old_client = client_version == "HTTP/1.0"
    if not to_convert and not (chunked and old_client):
        return response
    copy = response.copy()
    if to_convert:
        copy.http_version = "HTTP/1.1"
        copy.reason = status_codes.RESPONSES.get(copy.status_code, "")
    if old_client:
        copy.headers.pop("transfer-encoding", None)
    bodiless = ends_with_headers or copy.status_code < 200 or copy.status_code in (204, 304)
    if not bodiless and "content-length" not in copy.headers:
        held = response.raw_content
        if held is not None:
            copy.headers["content-length"] = str(len(held))
        elif not old_client:
            copy.headers["transfer-encoding"] = "chunked"
    return copy
