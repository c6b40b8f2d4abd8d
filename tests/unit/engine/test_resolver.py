"""engine.resolver: which names are looked up when, and what the pools make of the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from holdfast.engine import resolver as resolver_module
from holdfast.engine.leg import Leg, build_leg
from holdfast.engine.lookup import Found, LookupFailed
from holdfast.engine.plan import EVERYWHERE
from holdfast.engine.resolver import MOST, Resolver
from holdfast.engine.timers import Timers
from holdfast.policy import failure
from holdfast.policy.endpoint import Endpoint
from holdfast.profile.settings import DnsSettings, Profile, RouteUpstreamSettings, UpstreamSettings
from holdfast.profile.values import Duration
from holdfast.testing import FixedClock

API = "http://api.test:80"


class Names:
    """Stands in for DNS: answers by name, and what was asked. A text is an error; `gate` holds answers back."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, host: str, name_servers: Sequence[str]) -> Found:
        self.asked.append((host, tuple(name_servers)))
        await self.gate.wait()
        answer = self.answers.get(host, "no such name")
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            raise LookupFailed(answer)
        return answer if isinstance(answer, Found) else Found(tuple(answer))


def upstream(*servers: str, refresh: str = "10s", **more: Any) -> dict[str, Any]:
    return {"servers": servers or (API,), "dns": DnsSettings(refresh=Duration(refresh), **more)}


def leg_of(given: dict[str, Any], **routes: dict[str, Any]) -> Leg:
    profile = profile_of(given, **routes)
    leg = build_leg(profile, Timers(lambda _: None), CollectorRegistry())
    leg.clock = FixedClock(100.0)
    return leg


def profile_of(given: dict[str, Any], **routes: dict[str, Any]) -> Profile:
    own = {name: RouteUpstreamSettings(**{**given, **more}) for name, more in routes.items()}
    return Profile(version=1, upstream=UpstreamSettings(**given, routes=own))


async def passed(resolver: Resolver, seconds: float = 0.0) -> None:
    """So much time has passed, and what was due has been done."""
    clock = resolver.leg.clock
    assert isinstance(clock, FixedClock)
    clock.advance(seconds)
    resolver.look_around()
    await asyncio.gather(*resolver._looking)


def in_use(leg: Leg, route: str = EVERYWHERE) -> list[str]:
    return [server.endpoint.ip or server.endpoint.host for server in leg.plan(route).pool.servers]


async def test_a_name_with_several_addresses_becomes_as_many_servers() -> None:
    """Looked up at once, not in the path of a request; an IP address is none of DNS's business."""
    leg, names = leg_of(upstream(API, "http://10.9.9.9:80")), Names(api_test=["10.0.0.2", "10.0.0.1"])
    resolver = Resolver(leg, names)
    assert in_use(leg) == ["api.test", "10.9.9.9"]
    await passed(resolver)
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2", "10.9.9.9"]
    assert names.asked == [("api.test", ())]


async def test_it_is_asked_again_every_refresh_and_the_answer_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    """A line in the log for each change, and none where there is none."""
    caplog.set_level(logging.INFO)
    leg, names = leg_of(upstream()), Names(api_test=["10.0.0.1", "10.0.0.2"])
    resolver = Resolver(leg, names)
    await passed(resolver)
    kept = leg.plan("").pool.servers[1]
    names.answers["api.test"] = ["10.0.0.3", "10.0.0.2"]
    await passed(resolver, 9.9)
    assert len(names.asked) == 1
    await passed(resolver, 0.1)
    await passed(resolver, 10)
    assert in_use(leg) == ["10.0.0.2", "10.0.0.3"]
    assert leg.plan("").pool.servers[0] is kept
    changes = [(r.added, r.removed) for r in caplog.records if "changed" in r.message]  # type: ignore[attr-defined]
    assert changes == [(["10.0.0.1", "10.0.0.2"], []), (["10.0.0.3"], ["10.0.0.1"])]


@pytest.mark.parametrize(("ttl", "wait"), [(0, 1.0), (4, 4.0), (600, 10.0), (None, 10.0)])
async def test_the_lifetime_of_an_answer_is_kept_within_a_second_and_refresh(ttl: float | None, wait: float) -> None:
    """RFC 1035, section 3.2.1; Consul's are 0."""
    leg, names = leg_of(upstream()), Names(api_test=Found(("10.0.0.1", "10.0.0.2"), ttl))
    resolver = Resolver(leg, names)
    await passed(resolver)
    await passed(resolver, wait - 0.01)
    assert len(names.asked) == 1
    await passed(resolver, 0.01)
    assert len(names.asked) == 2


async def test_a_failed_lookup_changes_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The last known addresses stay, however long."""
    caplog.set_level(logging.INFO)
    leg, names = leg_of(upstream()), Names(api_test=["10.0.0.1", "10.0.0.2"])
    resolver = Resolver(leg, names)
    await passed(resolver)
    names.answers["api.test"] = "no answer"
    for _ in range(5):
        await passed(resolver, 10)
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2"]
    names.answers["api.test"] = ["10.0.0.1", "10.0.0.2"]
    await passed(resolver, 10)
    told = [record.message for record in caplog.records]
    assert told == ["upstream addresses changed", "upstream name not found", "upstream name found again"]


@pytest.mark.parametrize("answer", [["10.0.0.1"], ["127.0.0.1", "::1"], "no such name", ValueError("a bug")])
async def test_what_is_not_several_is_connected_to_by_name(answer: Any) -> None:
    """localhost, a name with one address, and one that was never found: as without all this."""
    leg, names = leg_of(upstream()), Names(api_test=answer)
    resolver = Resolver(leg, names)
    await passed(resolver)
    assert in_use(leg) == ["api.test"]
    names.answers["api.test"] = ["10.0.0.1", "10.0.0.2"]
    await passed(resolver, 10)
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2"]


async def test_a_name_of_own_name_servers_is_connected_to_by_its_address() -> None:
    """The operating system, which has not been asked, need not know it."""
    leg, names = leg_of(upstream(servers=("10.0.0.53:8600",))), Names(api_test=["10.0.0.1"])
    await passed(Resolver(leg, names))
    assert in_use(leg) == ["10.0.0.1"]
    assert names.asked == [("api.test", ("10.0.0.53:8600",))]


async def test_a_failed_connection_brings_the_lookup_forward_but_not_more_than_one_a_second() -> None:
    """Whatever the number of requests that fail; a failure of another kind brings none."""
    leg, names = leg_of(upstream()), Names(api_test=["10.0.0.1", "10.0.0.2"])
    resolver = Resolver(leg, names)
    resolver.start()
    try:
        await asyncio.sleep(0.02)
        assert len(names.asked) == 1
        one = leg.plan("").pool.servers[0]
        leg.attempt_ended(one, True, failure.answered_with(503))
        await passed(resolver, 5)
        assert len(names.asked) == 1
        refused = failure.connect_failure("connection refused", False)
        for _ in range(100):
            leg.attempt_ended(one, True, refused)
            await passed(resolver)
        assert len(names.asked) == 2
        await passed(resolver, 0.9)
        assert len(names.asked) == 2
        await passed(resolver, 0.1)
        assert len(names.asked) == 3
        await passed(resolver, 9.9)
        assert len(names.asked) == 3
    finally:
        resolver.stop()


async def test_a_lookup_that_takes_long_is_the_only_one_of_its_name() -> None:
    """And keeps nobody waiting: the names it has not found yet are connected to by name."""
    leg, names = leg_of(upstream()), Names(api_test=["10.0.0.1", "10.0.0.2"])
    resolver = Resolver(leg, names)
    names.gate.clear()
    for _ in range(5):
        resolver.leg.clock.advance(60)  # type: ignore[attr-defined]
        resolver.look_around()
        await asyncio.sleep(0)
    assert len(names.asked) == 1
    assert in_use(leg) == ["api.test"]
    names.gate.set()
    await passed(resolver)
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2"]


async def test_a_name_is_looked_up_once_for_all_pools_and_ports() -> None:
    """As often as the most impatient of them asks for."""
    leg = leg_of(
        upstream(API, "http://api.test:81"), a=upstream("https://api.test", refresh="2s"), b=upstream("http://b.test")
    )
    names = Names(api_test=["10.0.0.1", "10.0.0.2"])
    resolver = Resolver(leg, names)
    await passed(resolver)
    assert sorted(names.asked) == [("api.test", ()), ("b.test", ())]
    assert len(in_use(leg)) == 4
    assert in_use(leg, "a") == ["10.0.0.1", "10.0.0.2"]
    await passed(resolver, 2)
    assert len(names.asked) == 3


async def test_a_changed_profile_is_followed_without_forgetting() -> None:
    """What is known is there at once; a name that is new is looked up; `expand: false` is the name again."""
    leg, names = leg_of(upstream()), Names(api_test=["10.0.0.1", "10.0.0.2"], b_test=["10.0.1.1", "10.0.1.2"])
    resolver = Resolver(leg, names)
    await passed(resolver)
    known = leg.plan("").pool.servers
    leg.follow(profile_of(upstream(API, "http://b.test"), own=upstream(API)))
    resolver.follow()
    assert leg.plan("").pool.servers[:2] == known
    assert in_use(leg, "own") == ["10.0.0.1", "10.0.0.2"]
    await passed(resolver)
    assert leg.plan("").pool.servers[:2] == known
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2"]
    assert len(names.asked) == 2
    names.answers["api.test"] = "other name servers do not know it"
    leg.follow(profile_of(upstream(API, servers=("10.0.0.53",))))
    await passed(resolver)
    assert leg.plan("").pool.servers == known
    leg.follow(profile_of(upstream(API, expand=False)))
    await passed(resolver)
    assert in_use(leg) == ["api.test"]
    assert not resolver._names


async def test_the_server_of_the_command_line_is_followed_too() -> None:
    """`--mode reverse:http://name`."""
    leg, names = leg_of(upstream("http://127.0.0.1:1")), Names(cli_test=["10.0.0.1", "10.0.0.2"])
    leg.replace_servers(Endpoint("http", "cli.test", 80))
    resolver = Resolver(leg, names)
    await passed(resolver)
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2"]
    leg.follow(profile_of(upstream("http://127.0.0.1:1")))
    assert in_use(leg) == ["10.0.0.1", "10.0.0.2"]


async def test_a_name_is_no_more_than_so_many_servers(caplog: pytest.LogCaptureFixture) -> None:
    """Told once, and always the same ones, as long as they are there."""
    every = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(300)]
    leg, names = leg_of(upstream()), Names(api_test=every[100:])
    resolver = Resolver(leg, names)
    await passed(resolver)
    first = in_use(leg)
    names.answers["api.test"] = every[::-1]
    await passed(resolver, 10)
    assert in_use(leg) == first == every[100 : 100 + MOST]
    assert [r.message for r in caplog.records] == ["upstream name has too many addresses"]


async def test_metrics_are_by_name_where_they_stay_and_by_address_where_they_go() -> None:
    """Counters for ever must not grow with every address there ever was."""
    leg, names = leg_of(upstream()), Names(api_test=["10.0.0.1", "10.0.0.2"])
    await passed(Resolver(leg, names))
    for server in leg.plan("").pool.servers:
        leg.attempt_ended(server, True, None)
    families = {family.name: family.samples for family in leg.registry.collect()}
    counted = [sample for sample in families["holdfast_upstream_attempts"] if sample.name.endswith("_total")]
    attempts = [(sample.labels["server"], sample.value) for sample in counted]
    assert attempts == [(API, 2.0)]
    assert [s.labels["server"] for s in families["holdfast_upstream_open"]] == [f"{API}#10.0.0.1", f"{API}#10.0.0.2"]


async def test_it_runs_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own clock: names are followed, and after `stop` nothing is asked or left running."""
    monkeypatch.setattr(resolver_module, "SOONEST", 0.02)
    profile = profile_of(upstream(refresh="20ms"))
    leg, names = build_leg(profile, Timers(lambda _: None), CollectorRegistry()), Names(api_test="not yet")
    resolver = Resolver(leg, names)
    resolver.start()
    async with asyncio.timeout(5):
        while len(names.asked) < 3:
            await asyncio.sleep(0.01)
        names.answers["api.test"] = ["10.0.0.1", "10.0.0.2"]
        while len(in_use(leg)) < 2:
            await asyncio.sleep(0.01)
    names.gate.clear()
    await asyncio.sleep(0.05)
    resolver.stop()
    await asyncio.sleep(0.05)
    asked = len(names.asked)
    await asyncio.sleep(0.1)
    assert len(names.asked) == asked
    assert not resolver._looking
