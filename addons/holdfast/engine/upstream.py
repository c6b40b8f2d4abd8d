"""The upstream leg as an addon: our HTTP layer for every connection in reverse mode, and what it needs to know.

It is placed before mitmproxy's own `next_layer` addon and is part of every chain, whatever the profile names.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from mitmproxy import ctx
from mitmproxy.addons.next_layer import starts_like_tls_record
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Server
from mitmproxy.exceptions import OptionsError
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy import layers
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.mode_specs import ProxyMode, ReverseMode
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from prometheus_client import CollectorRegistry, Counter

from holdfast.ending import end_process
from holdfast.engine.http_layer import ResilientLayer
from holdfast.engine.timers import Timers
from holdfast.exchange import exchange_of
from holdfast.policy.endpoint import Endpoint, parse_endpoint
from holdfast.policy.failure import Failure
from holdfast.policy.retry import RetryRules
from holdfast.profile.settings import Profile

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LegLimits:
    """The bounds of one request: seconds, and bytes of a body that is held."""

    connect_timeout: float
    response_timeout: float
    read_timeout: float
    deadline: float
    buffer_body: int
    max_body: int | None


@dataclass(slots=True)
class ServerRecord:
    """What the last attempts at a server showed; `since` is wall-clock time of the last change between up and down."""

    up: bool | None = None
    since: float | None = None
    failures: int = 0
    last_error: str | None = None


@dataclass(slots=True, eq=False)
class UpstreamLeg:
    """Settings, servers and clocks for the streams, and the hooks that put them to work.

    `clock` is monotonic seconds, `jitter` uniform in [0, 1).
    """

    name: ClassVar[str] = "holdfast-upstream"

    limits: LegLimits
    retry_rules: RetryRules
    endpoints: tuple[Endpoint, ...]
    registry: CollectorRegistry
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    timers: Timers = field(init=False)
    records: dict[Endpoint, ServerRecord] = field(init=False)
    _started: bool = field(init=False, default=False)
    _attempts: Counter = field(init=False)

    def __post_init__(self) -> None:
        self.timers = Timers(_client_connection)
        self.records = {endpoint: ServerRecord() for endpoint in self.endpoints}
        self._attempts = Counter(
            "holdfast_upstream_attempts",
            "Attempts at an upstream server; outcome is ok or what went wrong (RFC 9209 token or http_502 ...).",
            ["server", "outcome"],
            registry=self.registry,
        )

    # -- for the streams --------------------------------------------------------------------------------------------

    def endpoints_for(self, flow: HTTPFlow, aimed: Server) -> tuple[Endpoint, ...]:
        """The servers to try in order; where an addon has pointed the request elsewhere, only that."""
        request = flow.request
        assert aimed.address
        if (request.host, request.port) == aimed.address[:2] and (request.scheme == "https") == aimed.tls:
            return self.endpoints
        return (Endpoint(request.scheme, request.host, request.port),)

    def attempt_ended(self, endpoint: Endpoint, failure: Failure | None) -> None:
        """Count it, and remember for the health page whether the server answers."""
        known = endpoint in self.records
        # An addon may aim at any host: those share one label, so that the number of series stays bounded.
        self._attempts.labels(str(endpoint) if known else "other", failure.error if failure else "ok").inc()
        if not known:
            return
        record, up = self.records[endpoint], failure is None
        if record.up is not up:
            record.up, record.since = up, time.time()
            level = logging.INFO if up else logging.WARNING
            error = failure.error if failure else None
            logger.log(level, "upstream server changed", extra={"server": str(endpoint), "up": up, "error": error})
        record.failures = record.failures + 1 if failure else 0
        record.last_error = failure.error if failure else record.last_error

    # -- hooks ------------------------------------------------------------------------------------------------------

    def running(self) -> None:
        self._started = True
        self.point_to(parse_modes(ctx.options.mode))

    def configure(self, updated: set[str]) -> None:
        if "connection_strategy" in updated and ctx.options.connection_strategy != "lazy":
            fault = "Holdfast needs connection_strategy=lazy: with eager, a request to a dead upstream is never seen"
            if not self._started:
                end_process(f"holdfast: {fault}", 2)
            raise OptionsError(fault)  # mitmproxy keeps the old value
        if "mode" in updated:
            self.point_to(parse_modes(ctx.options.mode))

    def point_to(self, modes: list[ReverseMode]) -> None:
        """The command line's `--mode reverse:` wins over the profile unless it names one of the profile's servers."""
        for mode in modes:
            endpoint = Endpoint(mode.scheme, mode.address[0], mode.address[1])
            if endpoint not in self.endpoints:
                logger.info("upstream taken from --mode", extra={"server": str(endpoint)})
                self.endpoints, self.records = (endpoint,), {endpoint: ServerRecord()}

    def next_layer(self, nextlayer: NextLayer) -> None:
        context = nextlayer.context
        mode = context.client.proxy_mode
        if nextlayer.layer or not isinstance(mode, ReverseMode) or mode.scheme not in ("http", "https"):
            return
        if len(context.layers) != 1 or context.client.transport_protocol != "tcp":
            return
        first = self.endpoints[0]
        context.server.address = first.address
        context.server.tls = first.tls
        context.server.sni = first.host if first.tls else None
        if starts_like_tls_record(nextlayer.data_client()):
            tls = layers.ClientTLSLayer(context)
            tls.child_layer = ResilientLayer(context, self)
            nextlayer.layer = tls
        else:
            nextlayer.layer = ResilientLayer(context, self)

    def server_connect(self, data: ServerConnectionHookData) -> None:
        # Stock mirrors the client's ALPN offers; the leg speaks HTTP/1.1 upstream.
        data.server.alpn_offers = (b"http/1.1",)

    def server_connect_error(self, data: ServerConnectionHookData) -> None:
        # Stock keeps the entry of a failed connection until the client leaves: with a dead upstream and a client
        # that stays, that grows without bound.
        connection = _client_connection(data.client.id)
        if connection is not None:
            connection.transports.pop(data.server, None)

    async def upstream_retry(self, flow: HTTPFlow) -> None:
        await asyncio.sleep(exchange_of(flow).get("backoff", 0.0))


def build_leg(profile: Profile, registry: CollectorRegistry) -> UpstreamLeg:
    """The leg that this profile describes."""
    upstream, retry = profile.upstream, profile.upstream.retry
    limits = LegLimits(
        connect_timeout=float(upstream.connect_timeout),
        response_timeout=float(upstream.response_timeout),
        read_timeout=float(upstream.read_timeout),
        deadline=float(upstream.deadline),
        buffer_body=int(profile.limits.buffer_body),
        max_body=None if profile.limits.max_body is None else int(profile.limits.max_body),
    )
    rules = RetryRules(
        attempts=retry.attempts,
        on=frozenset(str(kind) for kind in retry.on),
        methods=frozenset(method.upper() for method in retry.methods),
        backoff_base=float(retry.backoff.base),
        backoff_max=float(retry.backoff.max),
    )
    endpoints = tuple(parse_endpoint(server) for server in upstream.servers)
    return UpstreamLeg(limits, rules, endpoints, registry)


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


def _client_connection(client_id: str) -> ConnectionHandler | None:
    proxyserver = ctx.master.addons.get("proxyserver")
    return proxyserver.connections.get(client_id) if isinstance(proxyserver, Proxyserver) else None
