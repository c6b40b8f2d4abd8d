"""What the upstream leg knows: its plans, its servers and how they have fared, its clocks. No hooks, no layers."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mitmproxy.connection import Server
from mitmproxy.http import HTTPFlow
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.engine.keepalive.figures import ConnectionFigures
from holdfast.engine.plan import EVERYWHERE, ClientBounds, Plan, build_plans, client_bounds
from holdfast.engine.shortcut import Answering
from holdfast.engine.timers import Timers
from holdfast.policy.breaker import Breaker, BreakerRules
from holdfast.policy.endpoint import Endpoint, parse_endpoint
from holdfast.policy.failure import Failure
from holdfast.policy.pool import Pool, PoolServer
from holdfast.profile.settings import Profile
from holdfast.spool import SpoolRoom

if TYPE_CHECKING:
    from holdfast.engine.keepalive.sharing import SharedConnections
    from holdfast.policy.faults import Injection, Place

logger = logging.getLogger(__name__)


class FaultSource(Protocol):
    """Who says which faults there are."""

    def injection(self, flow: HTTPFlow, at: Place, server: str = "") -> Injection | None:
        """What happens to this answer, or to the attempt at `server` that is about to begin; asked once for each."""


@dataclass(slots=True, eq=False)
class Leg:
    """Shared by all streams of a chain. `clock` is monotonic seconds, `jitter` uniform in [0, 1)."""

    plans: dict[str, Plan]
    client: ClientBounds
    timers: Timers
    registry: CollectorRegistry
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    spooling: SpoolRoom | None = None  # for streamed bodies, where somebody wants to capture them
    faults: FaultSource | None = None  # where the profile has the addon for it
    shared: SharedConnections | None = None  # by all clients; each has its own otherwise
    lane: Answering | None = None  # for hits, if there are
    shortcuts: bool = False
    direct: bool = False  # bytes are dealt with where they arrive
    unreached: Callable[[str], None] = lambda _: None  # told the host of a connection that failed
    _alone: Pool | None = None  # where the command line names the server
    _attempts: Counter = field(init=False)
    _counters: dict[tuple[str, str], Counter] = field(default_factory=dict)  # the same, by their labels
    _refused: Counter = field(init=False)
    _malformed: Counter = field(init=False)

    def __post_init__(self) -> None:
        self.registry.register(BreakerStates(self))
        self.registry.register(ConnectionFigures(lambda: self.shared))
        self._refused = Counter(
            "holdfast_not_retried",
            "Failed requests that were not tried again, by what forbade it.",
            ["reason"],
            registry=self.registry,
        )
        self._malformed = Counter(
            "holdfast_malformed_requests",
            "Requests refused for what their header or framing says, by fault.",
            ["fault"],
            registry=self.registry,
        )
        self._attempts = Counter(
            "holdfast_upstream_attempts",
            "Attempts at an upstream server; outcome is ok or what went wrong (RFC 9209 token or http_502 ...).",
            ["server", "outcome"],
            registry=self.registry,
        )

    def plan(self, route: str) -> Plan:
        """What holds for a request of this route."""
        return self.plans.get(route) or self.plans[EVERYWHERE]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The addresses of the servers for all routes, in the profile's order."""
        return tuple(server.endpoint for server in self.plans[EVERYWHERE].pool.given)

    def pools(self) -> dict[str, Plan]:
        """A plan for each pool of servers, by the first route that has it."""
        seen: dict[int, str] = {}
        for route, plan in self.plans.items():
            seen.setdefault(id(plan.pool), route)
        return {route: self.plans[route] for route in seen.values()}

    def servers(self) -> list[tuple[str, PoolServer]]:
        """Every server in use with the name it is shown under; a route's own may be there twice."""
        named: dict[str, PoolServer] = {}
        for route, plan in self.pools().items():
            for server in plan.pool.servers:
                name = str(server.endpoint)
                named[f"{name} ({route})" if name in named else name] = server
        return list(named.items())

    def force(self, named: str, *, is_open: bool, seconds: float | None = None) -> int:
        """A person opens or closes the circuit of this server, wherever it is used; at how many addresses.

        `named` as the profile and /health do, or without the scheme. ValueError, with those there are, for no server.
        """
        names, pools = self.server_names(), [plan.pool for plan in self.pools().values()]
        meant = {named.rstrip("/")}
        with suppress(ValueError):
            meant.add(str(parse_endpoint(named)))  # with the usual port of its scheme
        chosen = [name for name in names if meant & {name, name.partition("://")[2]}]
        if not chosen:
            raise ValueError(f"no server {named!r}: there is {', '.join(names)}")
        logger.info("circuit forced", extra={"server": chosen[0], "open": is_open, "seconds": seconds})
        now = self.clock()
        return sum(
            pool.force(given.endpoint, is_open, now, seconds)
            for pool in pools
            for given in pool.given
            if str(given.endpoint) in chosen
        )

    def server_names(self) -> list[str]:
        """Those of the profile, each once."""
        return list(dict.fromkeys(str(given.endpoint) for given in self._given()))

    def label(self, endpoint: Endpoint) -> str:
        """For metrics. An addon may aim at any host: those share one, so that the number of series stays bounded."""
        known = any(given.endpoint.name == endpoint.name for given in self._given())
        return endpoint.name if known else "other"

    def _given(self) -> list[PoolServer]:
        return [given for plan in self.pools().values() for given in plan.pool.given]

    def replace_servers(self, endpoint: Endpoint) -> None:
        """Use this server alone, but for routes that have servers of their own."""
        before = self.plans[EVERYWHERE].pool
        if self._alone is None or self._alone.given[0].endpoint != endpoint:
            self._alone = Pool([PoolServer(endpoint, Breaker(before.given[0].breaker.rules))])
        for plan in self.plans.values():
            if plan.pool is before:
                plan.pool = self._alone

    def follow(self, profile: Profile) -> None:
        """From now on this profile holds; servers, circuits and budgets keep what they know."""
        held = {str(each.endpoint): each.breaker for each in self._given() if each.breaker.is_forced(self.clock())}
        self.plans, self.client = build_plans(profile, self.plans), client_bounds(profile.limits)
        if self._alone:
            self._alone.given[0].breaker.rules = self.plans[EVERYWHERE].pool.given[0].breaker.rules
            self.replace_servers(self._alone.given[0].endpoint)
        for server in self._given():  # a route may have got servers of its own
            if str(server.endpoint) in held and not server.breaker.is_forced(self.clock()):
                server.breaker.held_like(held[str(server.endpoint)])

    def pool_for(self, plan: Plan, flow: HTTPFlow, aimed: Server) -> Pool:
        """The plan's servers; where an addon has pointed the request elsewhere, only that, and with no breaker."""
        request = flow.request
        assert aimed.address
        if (request.host, request.port) == aimed.address[:2] and (request.scheme == "https") == aimed.tls:
            return plan.pool
        elsewhere = Endpoint(request.scheme, request.host, request.port)
        return Pool([PoolServer(elsewhere, Breaker(BreakerRules(max_fails=0)))])

    def not_retried(self, reason: str) -> None:
        """Count why a failed request is not tried again."""
        self._refused.labels(reason).inc()

    def malformed(self, fault: str, peer: str) -> None:
        """Count a request that is refused before any addon has seen it, and log who sent it."""
        self._malformed.labels(fault).inc()
        logger.warning("request refused", extra={"fault": fault, "peer": peer})

    def attempt_ended(
        self, server: PoolServer, known: bool, failure: Failure | None, *, injected: bool = False
    ) -> None:
        """Count it, and remember for the health page whether the server answers. `known`: it is in the profile.

        `injected`: it was a fault that somebody has asked for, and says nothing of the server.
        """
        # An addon may aim at any host: those share one label, so that the number of series stays bounded.
        label = server.endpoint.name if known else "other"
        labels = label, failure.error if failure else "ok"
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._attempts.labels(*labels)
        counter.inc()
        if not known or injected:
            return
        up = failure is None
        if server.up is not up:
            server.up, server.since = up, time.time()
            level = logging.INFO if up else logging.WARNING
            error = failure.error if failure else None
            told = {"server": str(server.endpoint), "up": up, "error": error}
            logger.log(level, "upstream server changed", extra=told)
        if failure and not failure.reached:
            self.unreached(server.endpoint.host)
        server.failures = server.failures + 1 if failure else 0
        server.answered = server.answered if failure else self.clock()
        server.last_error = failure.error if failure else server.last_error


class BreakerStates(Collector):
    """`holdfast_upstream_open{server}`: 1 while a server is left alone, `holdfast_upstream_forced_open`: by a person.

    Read when Prometheus asks.
    """

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def describe(self) -> list[Metric]:
        """Empty: the names collide with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        family = GaugeMetricFamily("holdfast_upstream_open", "1 while the circuit is open.", labels=["server"])
        told = "1 while a person holds the circuit open."
        forced = GaugeMetricFamily("holdfast_upstream_forced_open", told, labels=["server"])
        now = self._leg.clock()
        for name, server in self._leg.servers():
            held_back = server.breaker.state(now) == "open" or not server.healthy
            family.add_metric([name], float(held_back))
            forced.add_metric([name], float(server.breaker.is_forced(now)))
        yield family
        yield forced


def build_leg(
    profile: Profile,
    timers: Timers,
    registry: CollectorRegistry,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> Leg:
    """The leg that this profile describes."""
    return Leg(build_plans(profile), client_bounds(profile.limits), timers, registry, clock, jitter)
