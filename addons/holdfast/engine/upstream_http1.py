"""An HTTP/1.1 connection to a server: what mitmproxy's reader and writer lack.

Stock takes the first 1xx head for the final response and the client hangs; takes any 101 for a tunnel, and bytes that
are no header for one; collects a response header without end; ends with an exception at trailers after a chunked body;
writes an HTTP/2 client's body without any framing; and closes the connection after each of that client's requests.
(mitmproxy 12.2)
"""

from __future__ import annotations

from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import ConnectionState
from mitmproxy.http import Headers, Request, Response
from mitmproxy.net.http.http1 import assemble_request_head, expected_http_body_size
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    Http1Client,
    HttpEvent,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.layers.http._http1 import make_body_reader

from holdfast.engine.chunks import Chunks
from holdfast.engine.commands import InterimResponse
from holdfast.engine.framing import is_plain_http1, plain_size, stays_open
from holdfast.engine.heads import response_of
from holdfast.engine.whole import WholeRequest, WholeResponse
from holdfast.policy.hop_by_hop import binds
from holdfast.policy.response_faults import MAX_INTERIM, grants_what_was_asked, response_fault

_FIRST = frozenset({RequestHeaders, WholeRequest, RequestProtocolError})
MAX_RESPONSE_HEADER = 256 * 1024


class UpstreamHttp1(Http1Client):
    """One request at a time, then the next, whatever the client speaks."""

    _interims = 0
    _may_be_whole = False  # whoever waits for the response takes it in one piece
    bound = False
    """Whether a client has authenticated itself on this connection, so that no other may use it."""

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """As stock. It never waits for a reply, so there is nothing to be paused."""
        return super().handle_event(event) if self.debug is not None else self._handle_event(event)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, HttpEvent):
            return self.send(event)
        if isinstance(event, events.DataReceived) and self.state != self.passthrough:
            self.buf += event.data
        return self.state(event)

    @property
    def idle(self) -> bool:
        """Whether another request may go out now."""
        return self.conn.connected and self.stream_id is None and self.state == self.read_headers

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """As stock, but for trailers, which only HTTP/2 can carry here, and for what is late for its request."""
        if self.stream_id not in (None, event.stream_id) or isinstance(event, RequestTrailers):
            return
        if self.stream_id is None and type(event) not in _FIRST:
            return
        if type(event) is WholeRequest:
            yield from self._send_whole(event)
            return
        if isinstance(event, RequestHeaders):
            self._may_be_whole = False
            self.bound = self.bound or binds(event.request.headers.fields)
        if isinstance(event, RequestHeaders) and event.request.is_http2:
            event = RequestHeaders(event.stream_id, as_http1(event.request, event.end_stream), event.end_stream)
        yield from super().send(event)

    def _send_whole(self, event: WholeRequest) -> CommandGenerator[None]:
        request = event.request
        if not is_plain_http1(request.data):
            for part in event.parts():
                yield from self.send(part)
            return
        self.bound = self.bound or binds(request.data.headers.fields)
        self.stream_id, self.request, self.request_done = event.stream_id, request, True
        self._may_be_whole = True
        yield commands.SendData(self.conn, assemble_request_head(request) + event.content)

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """As stock, after any interim answers, and by the rules of `policy.response_faults`."""
        if not isinstance(event, events.DataReceived) or not self.request or self.stream_id is None:
            yield from super().read_headers(event)
            return
        interim = True
        while interim:
            if self.buf and not b"HTTP/".startswith(bytes(self.buf)[:5]):
                yield from self._refuse("Cannot parse HTTP response: it does not begin like one")
                return
            lines = self.buf.maybe_extract_lines()
            # Its size where it is whole: what has come of it before depends on how the network cuts it.
            if (len(self.buf) if lines is None else sum(map(len, lines))) > MAX_RESPONSE_HEADER:
                yield from self._refuse("response header too large")
                return
            if lines is None:
                return
            interim = yield from self._header([bytes(line) for line in lines], event)

    def _header(self, lines: list[bytes], event: events.DataReceived) -> CommandGenerator[bool]:
        """Whether it was an interim one, and another follows."""
        assert self.request
        try:
            fault = response_fault(lines)
            if fault:
                raise ValueError(fault)
            response = response_of(lines)
            whole = plain_size(self.request, response) if self._may_be_whole and self.request_done else None
            if whole is not None and whole == len(self.buf):
                yield from self._receive_whole(response)
                return False
            size = expected_http_body_size(self.request, response)
        except ValueError as e:
            yield from self._refuse(f"Cannot parse HTTP response: {e}")
            return False
        status = response.status_code
        if status < 200 and status != 101:
            return (yield from self._interim(response))
        asked, granted = (message.headers.get("upgrade", "") for message in (self.request, response))
        if status == 101 and not grants_what_was_asked(asked, granted):
            yield from self._refuse("the upstream switches to a protocol that nobody asked for")
            return False
        yield from self._final(response, size, event)
        return False

    def _interim(self, response: Response) -> CommandGenerator[bool]:
        assert self.stream_id is not None
        self._interims += 1
        if self._interims > MAX_INTERIM:
            yield from self._refuse(f"more than {MAX_INTERIM} interim answers")
            return False
        yield ReceiveHttp(InterimResponse(self.stream_id, response.status_code, response.headers))
        return self.conn.state is not ConnectionState.CLOSED

    def _final(self, response: Response, size: int | None, event: events.DataReceived) -> CommandGenerator[None]:
        assert self.stream_id is not None
        self.response = response
        self._note(response)
        yield ReceiveHttp(ResponseHeaders(self.stream_id, response, size == 0))
        if self.conn.state is ConnectionState.CLOSED:
            self.state = self.done  # the header was enough for the attempt to be given up
            return
        reader = make_body_reader(size)
        self.body_reader = Chunks() if isinstance(reader, ChunkedReader) else reader  # type: ignore[assignment]
        self.state = self.read_body
        yield from self.state(event)

    def _receive_whole(self, response: Response) -> CommandGenerator[None]:
        """The connection has done with it before anybody hears of it, and can take the next request."""
        stream_id, content = self.stream_id, bytes(self.buf)
        assert stream_id is not None
        self._note(response)
        self.buf = ReceiveBuffer()
        self._begin_anew()
        yield ReceiveHttp(WholeResponse(stream_id, response, content))

    def _note(self, response: Response) -> None:
        """The final one has come."""
        self._interims = 0
        if response.data.status_code == 401:
            self.bound = self.bound or binds(response.headers.fields)

    def _begin_anew(self) -> None:
        self.request_done = self.response_done = self._may_be_whole = False
        self.request = self.response = self.stream_id = None
        self.state = self.read_headers

    def mark_done(self, *, request: bool = False, response: bool = False) -> CommandGenerator[None]:
        """As stock."""
        both = (request or self.request_done) and (response or self.response_done)
        if both and self.request and self.response and not self.buf and stays_open(self.request, self.response):
            self._begin_anew()
        else:
            yield from super().mark_done(request=request, response=response)

    def _refuse(self, fault: str) -> CommandGenerator[None]:
        assert self.stream_id is not None
        self.buf = ReceiveBuffer()
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(ResponseProtocolError(self.stream_id, fault, ErrorCode.GENERIC_SERVER_ERROR))


def as_http1(request: Request, ends_with_headers: bool) -> Request:
    """An HTTP/2 request as HTTP/1.1 writes it: with a Host, one Cookie field, and a body that has an end.

    RFC 9113, sections 8.2.3 and 8.3.1; RFC 9112, section 6.
    """
    copy = request.copy()
    copy.http_version = "HTTP/1.1"
    headers = Headers([(name, value) for name, value in copy.headers.fields if name.lower() != b"te"])
    if "host" not in headers:
        headers.insert(0, "Host", request.authority or request.host)
    copy.authority = ""
    cookies = headers.get_all("cookie")
    if len(cookies) > 1:
        headers["cookie"] = "; ".join(cookies)
    if "content-length" not in headers and "transfer-encoding" not in headers:
        held = request.raw_content
        if held:
            headers["content-length"] = str(len(held))
        elif not ends_with_headers and held is None:
            headers["transfer-encoding"] = "chunked"
    copy.headers = headers
    return copy
