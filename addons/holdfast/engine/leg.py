"""What the upstream leg knows: its bounds, its servers and how they have fared, its clocks. No hooks, no layers."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mitmproxy.connection import Server
from mitmproxy.http import HTTPFlow
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.engine.timers import Timers
from holdfast.policy.breaker import Breaker, BreakerRules
from holdfast.policy.budget import RetryBudget
from holdfast.policy.endpoint import Endpoint, parse_endpoint
from holdfast.policy.failure import Failure
from holdfast.policy.pool import Pool, PoolServer
from holdfast.policy.retry import RetryRules
from holdfast.profile.settings import Profile, UpstreamSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LegLimits:
    """The bounds of one request: seconds; bytes of a body that is held, and of one that is let through."""

    connect_timeout: float
    response_timeout: float
    read_timeout: float
    deadline: float
    buffer_body: int
    max_body: int | None
    max_header: int


@dataclass(slots=True)
class ServerRecord:
    """What the last attempts at a server showed; `since` is wall-clock time of the last change between up and down."""

    up: bool | None = None
    since: float | None = None
    failures: int = 0
    last_error: str | None = None


@dataclass(slots=True, eq=False)
class Leg:
    """Shared by all streams of a chain. `clock` is monotonic seconds, `jitter` uniform in [0, 1)."""

    limits: LegLimits
    retry_rules: RetryRules
    pool: Pool
    budget: RetryBudget | None
    timers: Timers
    registry: CollectorRegistry
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    records: dict[Endpoint, ServerRecord] = field(init=False)
    _attempts: Counter = field(init=False)
    _refused: Counter = field(init=False)

    def __post_init__(self) -> None:
        self.records = {server.endpoint: ServerRecord() for server in self.pool.servers}
        self.registry.register(BreakerStates(self))
        self._refused = Counter(
            "holdfast_not_retried",
            "Failed requests that were not tried again, by what forbade it.",
            ["reason"],
            registry=self.registry,
        )
        self._attempts = Counter(
            "holdfast_upstream_attempts",
            "Attempts at an upstream server; outcome is ok or what went wrong (RFC 9209 token or http_502 ...).",
            ["server", "outcome"],
            registry=self.registry,
        )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers' addresses, in the profile's order."""
        return tuple(server.endpoint for server in self.pool.servers)

    def replace_servers(self, endpoint: Endpoint) -> None:
        """Use this server alone."""
        self.pool = Pool([PoolServer(endpoint, Breaker(self.pool.servers[0].breaker.rules))])
        self.records = {endpoint: ServerRecord()}

    def pool_for(self, flow: HTTPFlow, aimed: Server) -> Pool:
        """The profile's servers; where an addon has pointed the request elsewhere, only that, and with no breaker."""
        request = flow.request
        assert aimed.address
        if (request.host, request.port) == aimed.address[:2] and (request.scheme == "https") == aimed.tls:
            return self.pool
        elsewhere = Endpoint(request.scheme, request.host, request.port)
        return Pool([PoolServer(elsewhere, Breaker(BreakerRules(max_fails=0)))])

    def not_retried(self, reason: str) -> None:
        """Count why a failed request is not tried again."""
        self._refused.labels(reason).inc()

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


class BreakerStates(Collector):
    """`holdfast_upstream_open{server}`: 1 while a server is left alone, read when Prometheus asks."""

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def describe(self) -> list[Metric]:
        """Empty: the name collides with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        family = GaugeMetricFamily("holdfast_upstream_open", "1 while the circuit is open.", labels=["server"])
        for server in self._leg.pool.servers:
            held_back = server.breaker.state(self._leg.clock()) == "open" or not server.healthy
            family.add_metric([str(server.endpoint)], float(held_back))
        yield family


def build_leg(profile: Profile, timers: Timers, registry: CollectorRegistry) -> Leg:
    """The leg that this profile describes."""
    upstream, retry = profile.upstream, profile.upstream.retry
    limits = LegLimits(
        connect_timeout=float(upstream.connect_timeout),
        response_timeout=float(upstream.response_timeout),
        read_timeout=float(upstream.read_timeout),
        deadline=float(upstream.deadline),
        buffer_body=int(profile.limits.buffer_body),
        max_body=None if profile.limits.max_body is None else int(profile.limits.max_body),
        max_header=int(profile.limits.max_header),
    )
    rules = RetryRules(
        attempts=retry.attempts,
        on=frozenset(str(kind) for kind in retry.on),
        methods=frozenset(method.upper() for method in retry.methods),
        backoff_base=float(retry.backoff.base),
        backoff_max=float(retry.backoff.max),
    )
    budget = None if retry.budget is None else RetryBudget(float(retry.budget))
    return Leg(limits, rules, build_pool(upstream), budget, timers, registry)


def build_pool(upstream: UpstreamSettings) -> Pool:
    """The profile's servers, each with a breaker of its own."""
    given = upstream.breaker
    rules = BreakerRules(
        max_fails=given.max_fails,
        fail_timeout=float(given.fail_timeout),
        failure_rate=None if given.failure_rate is None else float(given.failure_rate),
        min_requests=given.min_requests,
        window=float(given.window),
        probes=given.probes,
        slow_start=float(given.slow_start),
    )
    made = [PoolServer(parse_endpoint(s.url), Breaker(rules), s.weight, s.backup) for s in upstream.each_server()]
    return Pool(made, upstream.balance, float(given.keep))
