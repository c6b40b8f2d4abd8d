"""engine.plan: plans per route, and what they share and keep."""

from __future__ import annotations

from typing import Any

from holdfast.engine.plan import EVERYWHERE, Plan, build_plans
from holdfast.profile.settings import (
    BreakerSettings,
    LimitSettings,
    Profile,
    RetrySettings,
    RouteLimitSettings,
    RouteUpstreamSettings,
    UpstreamSettings,
)
from holdfast.profile.values import Duration, Share, Size


def plans(
    routes: dict[str, dict[str, Any]] | None = None,
    limits: dict[str, RouteLimitSettings] | None = None,
    before: dict[str, Plan] | None = None,
    **upstream: Any,
) -> dict[str, Plan]:
    """Of a profile in which every route takes over what is not given, as the loader fills it in."""
    made = {name: RouteUpstreamSettings(**(upstream | own)) for name, own in (routes or {}).items()}
    profile = Profile(
        version=1, upstream=UpstreamSettings(**upstream, routes=made), limits=LimitSettings(routes=limits or {})
    )
    return build_plans(profile, before)


def test_a_route_that_only_has_more_patience_shares_servers_and_budget() -> None:
    """What is known of a server holds on every route that uses it."""
    made = plans({"slow": {"response_timeout": Duration("1m"), "retry": RetrySettings(attempts=1)}})
    slow, everywhere = made["slow"], made[EVERYWHERE]
    assert (slow.bounds.response_timeout, everywhere.bounds.response_timeout) == (60.0, 5.0)
    assert (slow.retry.attempts, everywhere.retry.attempts) == (1, 3)
    assert slow.pool is everywhere.pool
    assert slow.budget is everywhere.budget


def test_a_route_with_servers_or_a_breaker_of_its_own_has_a_pool_of_its_own() -> None:
    """And one with its own budget does not draw on that of the others."""
    made = plans(
        {
            "other": {"servers": ("http://b:2",)},
            "strict": {"breaker": BreakerSettings(max_fails=1)},
            "poor": {"retry": RetrySettings(budget=Share("1%"))},
            "free": {"retry": RetrySettings(budget=None)},
        },
        servers=("http://a:1",),
    )
    assert [str(s.endpoint) for s in made["other"].pool.servers] == ["http://b:2"]
    assert made["strict"].pool is not made[EVERYWHERE].pool
    assert made["strict"].pool.servers[0].breaker.rules.max_fails == 1
    assert made["poor"].budget is not made[EVERYWHERE].budget
    assert made["free"].budget is None


def test_a_route_that_only_has_limits_has_a_plan_too() -> None:
    """`limits.routes` and `upstream.routes` need not name the same."""
    made = plans(limits={"upload": RouteLimitSettings(max_body=Size("1GiB"), max_response=Size("1KiB"))})
    bounds = made["upload"].bounds
    assert (bounds.max_body, bounds.max_response, made[EVERYWHERE].bounds.max_body) == (1 << 30, 1024, None)
    assert made["upload"].pool is made[EVERYWHERE].pool


def test_a_changed_profile_forgets_nothing_of_the_servers_it_keeps() -> None:
    """An open circuit stays open, a new server begins closed, a changed rule holds at once."""
    first = plans(servers=("http://a:1", "http://b:2"))
    a, _ = first[EVERYWHERE].pool.servers
    for _ in range(3):
        a.breaker.failed(1.0)
    a.failures, a.last_error = 3, "connection_refused"
    budget = first[EVERYWHERE].budget
    assert budget
    budget.request(1.0)
    second = plans(
        before=first,
        servers=("http://c:3", "http://a:1"),
        breaker=BreakerSettings(max_fails=7),
        retry=RetrySettings(budget=Share("50%")),
    )
    c, again = second[EVERYWHERE].pool.servers
    assert again is a
    assert (a.breaker.state(2.0), c.breaker.state(2.0)) == ("open", "closed")
    assert (a.breaker.rules.max_fails, a.failures) == (7, 3)
    assert second[EVERYWHERE].budget is budget
    assert budget.share == 0.5
