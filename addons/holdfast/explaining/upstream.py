"""The servers that a request could go to, how they are, and whether a failed attempt would be repeated."""

from __future__ import annotations

from typing import Any

from mitmproxy.http import HTTPFlow

from holdfast.engine.leg import Leg
from holdfast.engine.plan import Bounds, Plan
from holdfast.exchange import route_of
from holdfast.policy.pool import Pool, PoolServer
from holdfast.policy.retry import RetryRules, repeated_because


def explained_upstream(leg: Leg, flow: HTTPFlow) -> dict[str, Any]:
    """`servers` in the order in which they come into question: in service, backups, those that are held back."""
    plan, now = leg.plan(route_of(flow)), leg.clock()
    servers = sorted(plan.pool.servers, key=lambda server: (not server.available(now), server.backup))
    return {
        "servers": [_server(server, now) for server in servers],
        "balance": plan.settings.balance,
        "available": sum(server.available(now) for server in servers),
        "retry_in": round(_wait(plan.pool, now), 3),
        "bounds": _seconds(plan.bounds),
        "retry": _retry(plan, flow),
    }


def _server(server: PoolServer, now: float) -> dict[str, Any]:
    return {
        "server": str(server.endpoint),
        "available": server.available(now),
        "circuit": server.breaker.state(now),
        "forced_open": server.breaker.is_forced(now),
        "healthy": server.healthy,
        "backup": server.backup,
        "weight": server.weight,
        "consecutive_failures": server.failures,
        "last_error": server.last_error,
    }


def _wait(pool: Pool, now: float) -> float:
    return 0.0 if any(server.available(now) for server in pool.servers) else pool.retry_in(now)


def _seconds(bounds: Bounds) -> dict[str, float]:
    return {name: getattr(bounds, name) for name in ("connect_timeout", "response_timeout", "read_timeout", "deadline")}


def _retry(plan: Plan, flow: HTTPFlow) -> dict[str, Any]:
    """Its class: `repeatable` after any failure that is listed, `unreached` only where no server can have seen it."""
    rules, request = plan.retry, flow.request
    because = repeated_because(rules, request.method, idempotency_key="idempotency-key" in request.headers)
    return {"class": _class(rules, because), "because": because, "attempts": rules.attempts, "on": sorted(rules.on)}


def _class(rules: RetryRules, because: str) -> str:
    if rules.attempts < 2 or not rules.on:
        return "never"
    return "repeatable" if because else "unreached"
