"""A connection to a server: opened, and then spoken to in the protocol that was agreed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mitmproxy.connection import Server
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.layers import tls
from mitmproxy.proxy.layers.http import RegisterHttpConnection
from mitmproxy.proxy.tunnel import LayerStack

from holdfast.engine.commands import GetUpstream
from holdfast.engine.upstream_http1 import UpstreamHttp1
from holdfast.engine.upstream_http2 import UpstreamHttp2

if TYPE_CHECKING:
    from holdfast.engine.keepalive.line import Line


class UpstreamConnection(Layer):
    """Serves requests to one server. `http` is None until the connection is open."""

    def __init__(
        self, context: Context, wanted: GetUpstream, clock: Callable[[], float], backlog: Callable[[int], int]
    ) -> None:
        super().__init__(context)
        self.endpoint = wanted.endpoint
        self.http2_asked = wanted.http2
        self.http: UpstreamHttp1 | UpstreamHttp2 | None = None
        self.line: Line | None = None  # where connections are shared
        self._clock = clock
        self.backlog = backlog

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        assert isinstance(event, events.Start)
        server = self.context.server
        err = yield commands.OpenConnection(server)
        if not err:
            if server.alpn == b"h2":
                self.http = UpstreamHttp2(self.context, self._clock, self.backlog)
            else:
                self.http = UpstreamHttp1(self.context)
            self._handle_event = self.http.handle_event  # type: ignore[method-assign]
            yield from self._handle_event(event)
            if self.debug is None:
                self.handle_event = self._handle_event  # type: ignore[method-assign]
        if not isinstance(self.http, UpstreamHttp2):  # which reports by itself once the server has spoken
            yield RegisterHttpConnection(server, err)

    def leads_to(self, wanted: GetUpstream) -> bool:
        """Whether it was opened for what is wanted."""
        return self.endpoint == wanted.endpoint and (self.http2_asked or not wanted.http2)

    @property
    def free(self) -> bool:
        """Whether it can take one more request at once."""
        return self.http is not None and self.http.idle

    @property
    def shared(self) -> bool:
        """Whether several requests may wait for it to open: it will, or may, turn out to be HTTP/2."""
        return self.http2_asked


def open_upstream(
    context: Context,
    wanted: GetUpstream,
    *,
    offer_http2: bool,
    clock: Callable[[], float],
    backlog: Callable[[int], int],
) -> tuple[Server, Layer, UpstreamConnection]:
    """The server, the layers from TLS (if any) downwards, and the innermost of them. Nothing is sent yet."""
    endpoint, asked = wanted.endpoint, asks_for_http2(wanted, offer_http2=offer_http2)
    server = context.server = Server(address=endpoint.address)
    stack = LayerStack()
    if endpoint.tls:
        server.sni = endpoint.host
        # Stock mirrors the client's offers. Whoever speaks HTTP/1.1 gains nothing from HTTP/2 behind the gateway, and
        # would lose protocol upgrades.
        server.alpn_offers = (b"h2",) if wanted.http2 else (b"h2", b"http/1.1") if offer_http2 else (b"http/1.1",)
        stack /= tls.ServerTLSLayer(context)
    elif wanted.http2:
        server.alpn = b"h2"
    connection = UpstreamConnection(context, wanted, clock, backlog)
    connection.http2_asked = asked
    stack /= connection
    return server, stack[0], connection


def asks_for_http2(wanted: GetUpstream, *, offer_http2: bool) -> bool:
    """Whether a connection that is opened for it may turn out to be HTTP/2."""
    return wanted.http2 or (wanted.endpoint.tls and offer_http2)


def no_backlog(_stream_id: int) -> int:
    """Of a connection that nobody has."""
    return 0
