"""An HTTP/1 connection to a client: what mitmproxy's reader and writer lack.

Stock writes a response that came over HTTP/2 without any framing, and chunks to clients of HTTP/1.0, who cannot read
them; it collects a request header without end. (mitmproxy 12.2)
"""

from __future__ import annotations

import logging

from h11._readers import ChunkedReader
from mitmproxy.http import Response
from mitmproxy.net.http import status_codes
from mitmproxy.net.http.http1 import assemble_response_head
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import Http1Server, HttpEvent, ResponseHeaders, ResponseTrailers

from holdfast.engine.commands import InterimResponse
from holdfast.engine.upstream_http1 import TrailerlessReader

logger = logging.getLogger(__name__)
HEADER_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nProxy-Status: holdfast; error=http_request_denied\r\n"
    b"Connection: close\r\nContent-Length: 0\r\n\r\n"
)


class ClientHttp1(Http1Server):
    """One request after the other. `max_header` is bytes of a request header."""

    def __init__(self, context: Context, max_header: int) -> None:
        super().__init__(context)
        self._max_header = max_header

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """As stock, but for interim answers, for trailers, which HTTP/1 does not get, and for framing."""
        if event.stream_id != self.stream_id or isinstance(event, ResponseTrailers):
            return
        if isinstance(event, InterimResponse):
            yield from self._interim(event)
            return
        if isinstance(event, ResponseHeaders):
            assert self.request
            event = ResponseHeaders(
                event.stream_id, framed(event.response, self.request.http_version, event.end_stream), event.end_stream
            )
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """As stock, which collects a header for as long as it comes (RFC 6585, section 5: 431)."""
        yield from super().read_headers(event)
        if self.state == self.read_headers and len(self.buf) > self._max_header:
            logger.warning("request header too large", extra={"limit": self._max_header})
            yield commands.SendData(self.conn, HEADER_TOO_LARGE)
            yield commands.CloseConnection(self.conn)
            self.state = self.done

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """As stock; trailers do not end it."""
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = TrailerlessReader()
        yield from super().read_body(event)

    def _interim(self, event: InterimResponse) -> CommandGenerator[None]:
        """To an HTTP/1.1 client, and not 100: mitmproxy has answered `Expect` itself."""
        if self.request and self.request.http_version == "HTTP/1.1" and event.status != 100:
            answer = Response.make(event.status, b"", event.headers)
            answer.headers.pop("content-length", None)
            yield commands.SendData(self.conn, assemble_response_head(answer))


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
