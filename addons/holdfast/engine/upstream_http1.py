"""An HTTP/1.1 connection to a server: what mitmproxy's reader and writer lack.

Stock takes the first 1xx head for the final response and the client hangs; collects a response header without end;
ends with an exception at trailers after a chunked body; writes an HTTP/2 client's body without any framing; and closes
the connection after each of that client's requests. (mitmproxy 12.2)
"""

from __future__ import annotations

from h11 import Data, EndOfMessage
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.http import Headers, Request
from mitmproxy.net.http.http1 import read_response_head
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    Http1Client,
    HttpEvent,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode

from holdfast.engine.commands import InterimResponse

MAX_RESPONSE_HEADER = 256 * 1024


class TrailerlessReader(ChunkedReader):
    """Reads a chunked body as h11 does, and forgets the trailers (RFC 9110, section 6.5.1)."""

    def __call__(self, buf: ReceiveBuffer) -> Data | EndOfMessage | None:
        event = super().__call__(buf)
        return EndOfMessage() if isinstance(event, EndOfMessage) and event.headers else event


class UpstreamHttp1(Http1Client):
    """One request at a time, then the next, whatever the client speaks."""

    @property
    def idle(self) -> bool:
        """Whether another request may go out now."""
        return self.conn.connected and self.stream_id is None and self.state == self.read_headers

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """As stock, but for trailers, which only HTTP/2 can carry here, and for what is late for its request."""
        if self.stream_id not in (None, event.stream_id) or isinstance(event, RequestTrailers):
            return
        if self.stream_id is None and not isinstance(event, RequestHeaders | RequestProtocolError):
            return
        if isinstance(event, RequestHeaders) and event.request.is_http2:
            event = RequestHeaders(event.stream_id, as_http1(event.request, event.end_stream), event.end_stream)
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """As stock, after any interim answers; a header may not grow without bound."""
        if isinstance(event, events.DataReceived) and self.request and self.stream_id is not None:
            while _is_interim(self.buf):
                head = self.buf.maybe_extract_lines()
                if head is None:
                    return
                yield from self._interim([bytes(line) for line in head])
            if len(self.buf) > MAX_RESPONSE_HEADER:
                yield from self._refuse("response header too large")
                return
        yield from super().read_headers(event)

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; trailers do not end it."""
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = TrailerlessReader()
        yield from super().read_body(event)

    def _interim(self, head: list[bytes]) -> CommandGenerator[None]:
        assert self.stream_id is not None
        try:
            answer = read_response_head(head)
        except ValueError as e:
            yield from self._refuse(f"Cannot parse HTTP response: {e}")
            return
        yield ReceiveHttp(InterimResponse(self.stream_id, answer.status_code, answer.headers))

    def _refuse(self, fault: str) -> CommandGenerator[None]:
        assert self.stream_id is not None
        self.buf = ReceiveBuffer()
        self.state = self.done
        yield commands.CloseConnection(self.conn)
        yield ReceiveHttp(ResponseProtocolError(self.stream_id, fault, ErrorCode.GENERIC_SERVER_ERROR))


def _is_interim(buf: ReceiveBuffer) -> bool:
    """A whole status line of 1xx, but for 101, which is final for HTTP."""
    start = bytes(buf)[:12]
    status = start[9:12]
    whole = len(status) == 3 and status.isdigit() and status != b"101"
    return whole and start[:7] == b"HTTP/1." and start[8:10] == b" 1"


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
