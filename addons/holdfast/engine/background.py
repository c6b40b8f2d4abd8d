"""A request of the gateway's own that goes through the whole chain: hooks, attempts, metrics, mitmweb, like a client's.

The layer is the one that clients get; in place of a client's connection stands one that says the request and drops the
answer, which addons have seen by then.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    HttpConnection,
    HttpErrorHook,
    HttpResponseHook,
    ReceiveHttp,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
)
from mitmproxy.proxy.layers.http._events import ErrorCode
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import ConnectionHandler

from holdfast.engine.http_layer import ResilientLayer
from holdfast.engine.leg import Leg
from holdfast.exchange import KEY

STREAM = 1
type Mode = ProxyMode  # of the proxy, as a flow's `client_conn.proxy_mode` has it


class Scripted(HttpConnection):
    """Says one request, and hears nothing; its end is that of the request."""

    def __init__(self, context: Context, flow: HTTPFlow) -> None:
        super().__init__(context, context.client)
        self._flow = flow

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.ConnectionClosed):
            yield ReceiveHttp(RequestProtocolError(STREAM, "nobody waits for the answer any more", ErrorCode.CANCEL))
        if not isinstance(event, events.Start):
            return
        request, content = self._flow.request, self._flow.request.raw_content
        yield ReceiveHttp(RequestHeaders(STREAM, request, end_stream=not content, replay_flow=self._flow))
        if content:
            yield ReceiveHttp(RequestData(STREAM, content))
        yield ReceiveHttp(RequestEndOfMessage(STREAM))


class ScriptedLayer(ResilientLayer):
    """The layer of a connection on which nothing has to be read."""

    def __init__(self, context: Context, leg: Leg, flow: HTTPFlow) -> None:
        super().__init__(context, leg)
        self._flow = flow

    def _begin(self) -> CommandGenerator[None]:
        client = self.connections[self.context.client] = Scripted(self.context.fork(), self._flow)
        yield from self.event_to_child(client, events.Start())


class BackgroundHandler(ConnectionHandler):
    """Runs one flow to its end."""

    def __init__(self, flow: HTTPFlow, leg: Leg) -> None:
        context = Context(flow.client_conn, ctx.options)
        first = leg.endpoints[0]
        context.server.address = first.address
        context.server.tls = first.tls
        super().__init__(context)
        self.layer: ScriptedLayer = ScriptedLayer(context, leg, flow)
        self._shared = leg.shared
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Until a response or an error has passed the chain."""
        live = ctx.master.addons.get("proxyserver")
        assert isinstance(live, Proxyserver)
        with live.register_connection(self.client.id, self):  # type: ignore[arg-type]  # timers find it by its id
            if self._shared:
                self._shared.serve(self, self.layer)
            await self.server_event(events.Start())
            try:
                await self._ended.wait()
            except asyncio.CancelledError:
                # As when a client leaves: the attempt under way ends, and whoever counts it is told.
                await self.server_event(events.ConnectionClosed(self.client))
                raise
            finally:
                if self._shared:
                    self._shared.left(self.client)
                for io in list(self.transports.values()):
                    if io.handler:
                        io.handler.cancel("the request has ended")

    async def handle_hook(self, hook: commands.StartHook) -> None:
        await ctx.master.addons.handle_lifecycle(hook)
        (data,) = hook.args()
        if isinstance(data, Flow):
            await data.wait_for_resume()
        if isinstance(hook, HttpResponseHook | HttpErrorHook):
            self._ended.set()


def current_mode() -> Mode:
    """Of the proxy, for a request that no client has asked for."""
    return ProxyMode.parse(ctx.options.mode[0])


async def send_in_background(
    request: Request, leg: Leg, mode: Mode, known: dict[str, str], *, tls: bool = False
) -> HTTPFlow:
    """The flow, once it has ended; `flow.response` is None if it failed for good. `known` goes into its exchange."""
    client = Client(
        peername=("127.0.0.1", 0),
        sockname=("127.0.0.1", 0),
        timestamp_start=time.time(),
        state=ConnectionState.OPEN,
        proxy_mode=mode,
        tls=tls,
        id=str(uuid.uuid4()),
    )
    flow = HTTPFlow(client, Context(client, ctx.options).server)
    flow.request = request
    flow.metadata[KEY] = dict(known)
    await BackgroundHandler(flow, leg).run()
    return flow
