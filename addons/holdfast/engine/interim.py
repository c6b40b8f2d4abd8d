"""What mitmproxy's HTTP/1 lacks when it reads a message: interim answers, a bound on headers, trailers.

Stock takes the first 1xx head for the final response, drops the real one, and the client hangs (mitmproxy 12.2). It
collects a response header without end for as long as it comes. And trailers after a chunked body end its reader with an
exception, so that neither side gets an answer; here they are read and dropped (RFC 9110, section 6.5.1).
"""

from __future__ import annotations

from collections.abc import Callable

from h11 import Data, EndOfMessage
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import Http1Client, ResponseProtocolError, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import ErrorCode

MAX_RESPONSE_HEADER = 256 * 1024
_Reader = Callable[[Http1Client, events.ConnectionEvent], CommandGenerator[None]]


class TrailerlessReader(ChunkedReader):
    """Reads a chunked body as h11 does, and forgets the trailers."""

    def __call__(self, buf: ReceiveBuffer) -> Data | EndOfMessage | None:
        event = super().__call__(buf)
        return EndOfMessage() if isinstance(event, EndOfMessage) and event.headers else event


def install() -> None:
    """Put the mends in, once a process."""
    _http1.ChunkedReader = TrailerlessReader  # type: ignore[misc]
    stock = Http1Client.read_headers
    if stock.__module__ != __name__:
        Http1Client.read_headers = _stepped(stock)  # type: ignore[method-assign,assignment]


def _stepped(stock: _Reader) -> _Reader:
    def read_headers(self: Http1Client, event: events.ConnectionEvent) -> CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and self.request:
            while _is_interim(self):
                head = self.buf.maybe_extract_lines()
                if head is None:
                    return
                yield from _relay(self, [bytes(line) for line in head])
            if len(self.buf) > MAX_RESPONSE_HEADER and self.stream_id is not None:
                yield commands.CloseConnection(self.conn)
                fault = ResponseProtocolError(
                    self.stream_id, "response header too large", ErrorCode.GENERIC_SERVER_ERROR
                )
                yield ReceiveHttp(fault)
                return
        yield from stock(self, event)

    return read_headers


def _is_interim(client: Http1Client) -> bool:
    """A whole status line of 1xx, but for 101, which is final for HTTP."""
    start = bytes(client.buf)[:12]
    status = start[9:12]
    whole = len(status) == 3 and status.isdigit() and status != b"101"
    return whole and start[:7] == b"HTTP/1." and start[8:10] == b" 1"


def _relay(client: Http1Client, head: list[bytes]) -> CommandGenerator[None]:
    """To an HTTP/1.1 client, and not 100: mitmproxy has answered `Expect` itself."""
    assert client.request
    if client.request.http_version == "HTTP/1.1" and head[0][9:12] != b"100":
        yield commands.SendData(client.context.client, b"\r\n".join(head) + b"\r\n\r\n")
