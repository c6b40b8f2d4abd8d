"""The upstream leg as an addon: our HTTP layer for every connection in reverse mode.

It is placed before mitmproxy's own `next_layer` addon and is part of every chain, whatever the profile names.
"""

from __future__ import annotations

import asyncio
import logging

from mitmproxy import ctx
from mitmproxy.addons.next_layer import starts_like_tls_record
from mitmproxy.connection import Client
from mitmproxy.exceptions import OptionsError
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from holdfast.ending import end_process
from holdfast.engine.client_tls import ClientTls
from holdfast.engine.http_layer import ResilientLayer
from holdfast.engine.keepalive.sharing import SharedConnections
from holdfast.engine.leg import Leg
from holdfast.engine.pacing import client_connection, pace
from holdfast.engine.plan import idle_rules
from holdfast.engine.resolver import Resolver
from holdfast.engine.shortcut import shorten
from holdfast.engine.speedups.feeding import feed_client
from holdfast.engine.speedups.inline import may_take
from holdfast.engine.watch import Watch
from holdfast.exchange import exchange_of
from holdfast.policy.endpoint import Endpoint
from holdfast.profile.settings import Profile, UpstreamSettings

logger = logging.getLogger(__name__)
_OF_TLS = ("ssl_", "tls_", "ciphers_server", "client_certs")  # mitmproxy's options


class UpstreamLeg:
    """The hooks that put the leg to work."""

    name = "holdfast-upstream"

    def __init__(self, leg: Leg, settings: UpstreamSettings) -> None:
        self._leg = leg
        self._watch = Watch(leg, settings.verify_tls)
        self._resolver = Resolver(leg)
        self._idle_rules = idle_rules(settings.keepalive)
        self._started = False

    def running(self) -> None:
        self._started = True
        self.point_to(parse_modes(ctx.options.mode))
        self._watch.start()
        self._resolver.start()

    async def done(self) -> None:
        self._watch.stop()
        self._resolver.stop()
        if self._leg.shared:
            await self._leg.shared.stop()

    def share_connections(self) -> None:
        """Of all clients; for those that come from now on."""
        self._leg.shared = SharedConnections(self._idle_rules, self._leg.clock, self._leg.label)

    def shorten(self) -> None:
        """Let hits pass mitmproxy by, for clients that come from now on."""
        self._leg.shortcuts = True

    def feed_directly(self) -> None:
        """Deal with bytes where they arrive, for clients that come from now on."""
        self._leg.direct = True
        if self._leg.shared:
            self._leg.shared.direct = True

    def configure(self, updated: set[str]) -> None:
        if "connection_strategy" in updated and ctx.options.connection_strategy != "lazy":
            fault = "Holdfast needs connection_strategy=lazy: with eager, a request to a dead upstream is never seen"
            if not self._started:
                end_process(f"holdfast: {fault}", 2)
            raise OptionsError(fault)  # mitmproxy keeps the old value
        if self._leg.shared and any(name.startswith(_OF_TLS) for name in updated):
            self._leg.shared.renew()
        if "mode" in updated:
            self.point_to(parse_modes(ctx.options.mode))

    def follow(self, profile: Profile) -> None:
        """From now on this profile holds. A `--mode` that has won over the first one goes on winning."""
        self._leg.follow(profile)
        self._idle_rules = idle_rules(profile.upstream.keepalive)
        if self._leg.shared:
            self._leg.shared.follow(self._idle_rules)
        self._resolver.follow()
        self._watch.verify_tls = profile.upstream.verify_tls

    def point_to(self, modes: list[ReverseMode]) -> None:
        """The command line's `--mode reverse:` wins over the profile unless it names one of the profile's servers."""
        for mode in modes:
            endpoint = Endpoint(mode.scheme, mode.address[0], mode.address[1])
            # By address alone: which of them speak TLS is in the profile.
            if endpoint.address not in [known.address for known in self._leg.endpoints]:
                logger.info("upstream taken from --mode", extra={"server": str(endpoint)})
                self._leg.replace_servers(endpoint)

    def next_layer(self, nextlayer: NextLayer) -> None:
        context = nextlayer.context
        mode = context.client.proxy_mode
        if nextlayer.layer or not isinstance(mode, ReverseMode) or mode.scheme not in ("http", "https"):
            return
        if len(context.layers) != 1 or context.client.transport_protocol != "tcp":
            return
        first = self._leg.endpoints[0]
        context.server.address = first.address
        context.server.tls = first.tls
        context.server.sni = first.host if first.tls else None
        has_tls = starts_like_tls_record(nextlayer.data_client())
        if has_tls:
            tls = ClientTls(context, self._leg)
            tls.child_layer = http = ResilientLayer(context, self._leg)
            nextlayer.layer = tls
        else:
            nextlayer.layer = http = ResilientLayer(context, self._leg)
        handler = client_connection(context.client.id)
        if handler:
            pace(handler, http)
            if quick := may_take(handler):
                http.ask = quick.ask_at_once
                quick.is_congested = http.may_be_congested
                if self._leg.direct:
                    feed_client(quick)
            if self._leg.shortcuts:
                shorten(self._leg.lane, handler, http, tls=has_tls)
            if self._leg.shared:
                self._leg.shared.serve(handler, http)

    def client_disconnected(self, client: Client) -> None:
        if self._leg.shared:
            self._leg.shared.left(client)

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        # Stock keeps the entry of a failed connection until the client leaves: with a dead upstream and a client
        # that stays, that grows without bound.
        connection = client_connection(data.client.id)
        if connection is not None:
            connection.transports.pop(data.server, None)

    async def upstream_retry(self, flow: HTTPFlow) -> None:
        await asyncio.sleep(exchange_of(flow).get("backoff", 0.0))


def engine_options(profile: Profile) -> dict[str, object]:
    """mitmproxy options that the profile decides."""
    upstream = profile.upstream
    options: dict[str, object] = {
        "connection_strategy": "lazy",
        "stream_large_bodies": str(int(profile.limits.buffer_body)),
    }
    if upstream.keep_host_header:
        options["keep_host_header"] = True
    if not upstream.verify_tls:
        options["ssl_insecure"] = True
    if upstream.ca_file:
        options["ssl_verify_upstream_trusted_ca"] = upstream.ca_file
    return options


def parse_modes(modes: list[str]) -> list[ReverseMode]:
    """Those of mitmproxy's `mode` option that are reverse mode over HTTP."""
    parsed = [ProxyMode.parse(mode) for mode in modes]
    return [mode for mode in parsed if isinstance(mode, ReverseMode) and mode.scheme in ("http", "https")]


def share_connections(master: Master) -> None:
    """Of the clients that come from now on."""
    if leg := _leg_of(master):
        leg.share_connections()


def shorten_hits(master: Master) -> None:
    """For the clients that come from now on."""
    if leg := _leg_of(master):
        leg.shorten()


def feed_directly(master: Master) -> None:
    """For the clients that come from now on."""
    if leg := _leg_of(master):
        leg.feed_directly()


def _leg_of(master: Master) -> UpstreamLeg | None:
    leg = master.addons.get(UpstreamLeg.name)
    return leg if isinstance(leg, UpstreamLeg) else None
