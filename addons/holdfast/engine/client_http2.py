"""An HTTP/2 connection to a client (RFC 9113): stock, and it passes interim answers on and forgets what has ended."""

from __future__ import annotations

from h2.exceptions import ProtocolError
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import ResponseEndOfMessage, ResponseProtocolError
from mitmproxy.proxy.layers.http._http2 import Http2Server

from holdfast.engine.commands import InterimResponse

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client of HTTP/2 says first (RFC 9113, section 3.4)."""


class ClientHttp2(Http2Server):
    """Many requests at once, over TLS or with prior knowledge."""

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, InterimResponse):
            yield from self._interim(event)
            return
        yield from super()._handle_event(event)
        if isinstance(event, ResponseEndOfMessage | ResponseProtocolError) and self.is_closed(event.stream_id):
            self.streams.pop(event.stream_id, None)

    def _interim(self, event: InterimResponse) -> CommandGenerator[None]:
        if not self.is_open_for_us(event.stream_id):
            return
        fields = [(name.lower(), value) for name, value in event.headers.fields]
        try:
            self.h2_conn.send_headers(event.stream_id, [(b":status", b"%d" % event.status), *fields])
        except ProtocolError:
            return  # the final answer has begun
        yield commands.SendData(self.conn, self.h2_conn.data_to_send())
