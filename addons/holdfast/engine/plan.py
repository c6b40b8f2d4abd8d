"""What a profile asks of the upstream leg, as plain values: one plan for all, and one for each route that differs.

Routes that do not name servers, balance or breaker of their own share the servers of all, and what is known of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.policy.breaker import Breaker, BreakerRules
from holdfast.policy.budget import RetryBudget
from holdfast.policy.endpoint import parse_endpoint
from holdfast.policy.idle import IdleRules
from holdfast.policy.pool import Pool, PoolServer
from holdfast.policy.retry import RetryRules
from holdfast.profile.settings import (
    BreakerSettings,
    KeepaliveSettings,
    LimitSettings,
    Profile,
    RetrySettings,
    RouteLimitSettings,
    RouteUpstreamSettings,
)

EVERYWHERE = ""  # the name of the plan for routes that have none of their own
_OF_THE_POOL = ("servers", "balance", "breaker", "health_check", "dns")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one request: seconds; bytes of a request body that is let through, and of a response."""

    connect_timeout: float
    response_timeout: float
    read_timeout: float
    deadline: float
    body_timeout: float
    max_body: int | None
    max_response: int | None


@dataclass(slots=True)
class Plan:
    """What holds for the requests of one route. `settings` is where it comes from."""

    bounds: Bounds
    retry: RetryRules
    pool: Pool
    budget: RetryBudget | None
    settings: RouteUpstreamSettings


def build_plans(profile: Profile, before: Mapping[str, Plan] | None = None) -> dict[str, Plan]:
    """The plans by route, that for all others under `EVERYWHERE`. What `before` knows of its servers is kept."""
    upstream, limits, before = profile.upstream, profile.limits, before or {}
    base = _plan(upstream, limits, None, before.get(EVERYWHERE))
    plans = {EVERYWHERE: base}
    for route in sorted({*upstream.routes, *limits.routes}):
        own = upstream.routes.get(route, upstream)
        plans[route] = _plan(own, limits.routes.get(route, limits), base, before.get(route))
    return plans


def _plan(upstream: RouteUpstreamSettings, limits: RouteLimitSettings, base: Plan | None, before: Plan | None) -> Plan:
    """`base` is the plan for all, from which a route takes what it does not name itself."""
    if base and all(getattr(upstream, key) == getattr(base.settings, key) for key in _OF_THE_POOL):
        pool = base.pool
    else:
        pool = build_pool(upstream)
        if before:
            pool.take_over(before.pool)
    if base and upstream.retry.budget == base.settings.retry.budget:
        budget = base.budget
    else:
        budget = _budget(upstream.retry, before.budget if before else None)
    return Plan(_bounds(upstream, limits), _rules(upstream.retry), pool, budget, upstream)


def _bounds(upstream: RouteUpstreamSettings, limits: RouteLimitSettings) -> Bounds:
    return Bounds(
        connect_timeout=float(upstream.connect_timeout),
        response_timeout=float(upstream.response_timeout),
        read_timeout=float(upstream.read_timeout),
        deadline=float(upstream.deadline),
        body_timeout=float(limits.body_timeout),
        max_body=None if limits.max_body is None else int(limits.max_body),
        max_response=None if limits.max_response is None else int(limits.max_response),
    )


def _rules(retry: RetrySettings) -> RetryRules:
    return RetryRules(
        attempts=retry.attempts,
        on=frozenset(str(kind) for kind in retry.on),
        methods=frozenset(method.upper() for method in retry.methods),
        backoff_base=float(retry.backoff.base),
        backoff_max=float(retry.backoff.max),
    )


def _budget(retry: RetrySettings, before: RetryBudget | None) -> RetryBudget | None:
    if retry.budget is None:
        return None
    if before:
        before.share = float(retry.budget)
    return before or RetryBudget(float(retry.budget))


def breaker_rules(given: BreakerSettings) -> BreakerRules:
    """The profile's `breaker`, times in seconds."""
    return BreakerRules(
        max_fails=given.max_fails,
        fail_timeout=float(given.fail_timeout),
        failure_rate=None if given.failure_rate is None else float(given.failure_rate),
        min_requests=given.min_requests,
        window=float(given.window),
        probes=given.probes,
        slow_start=float(given.slow_start),
    )


def build_pool(upstream: RouteUpstreamSettings) -> Pool:
    """The profile's servers, each with a breaker of its own."""
    rules = breaker_rules(upstream.breaker)
    made = [PoolServer(parse_endpoint(s.url), Breaker(rules), s.weight, s.backup) for s in upstream.each_server()]
    return Pool(made, upstream.balance, float(upstream.breaker.keep))


@dataclass(frozen=True, slots=True)
class ClientBounds:
    """What does not depend on the route: bytes of a body that is held and of a request header; seconds for it."""

    buffer_body: int
    max_header: int
    header_timeout: float


def client_bounds(limits: LimitSettings) -> ClientBounds:
    """The profile's `limits` that hold before a request has a route."""
    return ClientBounds(
        buffer_body=int(limits.buffer_body),
        max_header=int(limits.max_header),
        header_timeout=float(limits.header_timeout),
    )


def idle_rules(given: KeepaliveSettings) -> IdleRules:
    """The profile's `upstream.keepalive`, times in seconds."""
    return IdleRules(given.shared, given.connections, float(given.timeout), given.max_active)
