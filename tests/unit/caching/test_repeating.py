"""repeating: a hit holds for another client only as long as the cache would say the same."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow, Response

from holdfast.caching.settings import CacheSettings, RouteCacheSettings
from holdfast.gateway import Hit
from holdfast.profile.values import Duration
from tests.unit.caching.rig import KEY, Rig, answer, settled, status_of

type Rigging = Callable[..., Rig]


class Lane:
    """Takes what it is offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[HTTPFlow, Hit]] = []

    def offer(self, flow: HTTPFlow, hit: Hit) -> None:
        """Kept."""
        self.offered.append((flow, hit))

    def forget(self) -> None:
        """Nothing."""

    @property
    def hit(self) -> Hit:
        """The last one."""
        return self.offered[-1][1]


@pytest.fixture
def rigged(monkeypatch: pytest.MonkeyPatch) -> Rigging:
    """A cache with these settings, and a lane."""

    def make(**settings: Any) -> Rig:
        rig = Rig(monkeypatch, CacheSettings(**settings))
        rig.gateway.lane = Lane()
        return rig

    return make


def lane_of(rig: Rig) -> Lane:
    """The one that `rigged` has put there."""
    assert isinstance(rig.gateway.lane, Lane)
    return rig.gateway.lane


async def a_hit(rig: Rig, *fields: tuple[str, str], reply: Response | None = None) -> Hit:
    """What is offered for the second of two requests."""
    await rig.fetch("/a", *fields, reply=reply)
    await rig.fetch("/a", *fields)
    return lane_of(rig).hit


def is_gone(hit: Hit) -> bool:
    """Whether what the store has let go of is not kept alive by those who might repeat it."""
    gc.collect()
    return hit.body == b""


async def test_a_hit_says_of_itself_what_the_cache_says_of_it(rigged: Rigging) -> None:
    """At that moment and later: age, lifetime, Cache-Status."""
    rig = rigged()
    await rig.fetch()
    rig.clock.advance(1.5)
    await rig.fetch()
    hit = lane_of(rig).hit
    for _ in range(3):
        now = rig.clock()
        flow = await rig.fetch()
        assert flow.response and hit.holds(now)
        assert hit.cache_status(hit.ttl(now)) == status_of(flow)
        assert str(hit.age(now)) == flow.response.headers["age"] and hit.body == flow.response.raw_content
        rig.clock.advance(7.25)


async def test_it_ends_when_the_cache_would_ask(rigged: Rigging) -> None:
    """At the end of its freshness, and before the moment that it was found at."""
    rig = rigged()
    hit = await a_hit(rig)
    assert hit.holds(hit.since + 59.9) and not hit.holds(hit.since + 60.0)
    assert not hit.holds(hit.since - 1)


async def test_it_ends_before_a_refresh_may_be_due_by_chance(rigged: Rigging) -> None:
    """What takes long to fetch is fetched early, the ordinary way decides when."""
    rig = rigged()
    flow = await rig.ask()
    rig.clock.advance(0.5)
    await rig.told(flow, answer())
    await rig.fetch()
    hit = lane_of(rig).hit
    assert hit.holds(hit.since + 39) and not hit.holds(hit.since + 41)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("what", ["tag", "url", "all", "another"])
async def test_a_purge_ends_it_at_once(rigged: Rigging, what: str, soft: bool) -> None:
    """Whatever names it, and also where nobody holds the response any more but the one who asks."""
    rig = rigged()
    await rig.fetch("/a", tags=["red"])
    await rig.fetch("/a")
    hit = lane_of(rig).hit
    named: Any = {
        "tag": {"tags": ["red"]},
        "url": {"urls": [KEY]},
        "all": {"everything": True},
        "another": {"tags": ["blue"]},
    }[what]
    await rig.cache.purge(**named, soft=soft)
    for _ in range(2):
        assert hit.holds(rig.clock()) is (what == "another")
    if what != "another" and not soft:
        assert is_gone(hit)


async def test_what_replaces_it_or_puts_it_out_ends_it(rigged: Rigging) -> None:
    """A new response, an eviction, another set of names in Vary."""
    rig = rigged()
    hit = await a_hit(rig)
    await rig.fetch("/a", ("Cache-Control", "no-cache"), reply=answer(200, b"two"))
    assert not hit.holds(rig.clock())
    hit = await a_hit(rig)
    rig.store.clear()
    assert not hit.holds(rig.clock()) and is_gone(hit)
    hit = await a_hit(rig)
    await rig.fetch("/a", ("Cache-Control", "no-cache"), reply=answer(200, b"three", ("Vary", "Accept")))
    assert not hit.holds(rig.clock())


async def test_a_store_that_is_not_sure_has_nothing_to_repeat(rigged: Rigging) -> None:
    """Degraded, or unable to say at once."""
    rig = rigged()
    hit = await a_hit(rig)
    rig.store.repeat = lambda key, selecting: None  # type: ignore[method-assign]
    assert not hit.holds(rig.clock())
    rig = rigged()
    await rig.fetch()
    rig.store.degraded = "somewhere else"
    await rig.fetch()
    assert lane_of(rig).offered == []


async def test_a_stale_hit_holds_while_it_is_being_fetched_anew(rigged: Rigging) -> None:
    """Otherwise somebody has to begin that; it ends with what the origin allows."""
    rig = rigged()
    await rig.fetch(reply=answer(cc="max-age=10, stale-while-revalidate=30"))
    rig.clock.advance(11)
    during: list[bool] = []

    def fails(_: HTTPFlow) -> None:
        hit = lane_of(rig).hit
        during.extend([hit.holds(hit.since), hit.holds(hit.since + 28.9), hit.holds(hit.since + 29.1)])

    rig.origin = fails
    assert status_of(await rig.fetch()).startswith("holdfast;hit;ttl=-1")
    await settled()
    assert during == [True, True, False]
    assert not lane_of(rig).hit.holds(rig.clock())  # nobody fetches it any more


async def test_each_further_hit_counts(rigged: Rigging) -> None:
    """As a hit of the ordinary way."""
    rig = rigged()
    hit = await a_hit(rig)
    before = rig.count("hit")
    hit.again(3)
    assert rig.count("hit") == before + 3


async def test_a_route_may_have_no_fast_lane(rigged: Rigging) -> None:
    """Of its own, or all but one; a changed profile holds from then on."""
    off = {"plain": RouteCacheSettings(fast_lane=False)}
    rig = rigged(routes=off)
    for route, offered in (("plain", 0), ("other", 1)):
        await rig.fetch(f"/{route}", route=route)
        await rig.fetch(f"/{route}", route=route)
        assert len(lane_of(rig).offered) == offered
    rig.cache.reload(CacheSettings(fast_lane=False, routes={"plain": RouteCacheSettings(fast_lane=True)}))
    await rig.fetch("/other", route="other")
    await rig.fetch("/plain", route="plain")
    assert [flow.request.path for flow, _ in lane_of(rig).offered] == ["/other", "/plain"]


async def test_what_is_stale_by_the_clients_leave_is_not_offered(rigged: Rigging) -> None:
    """Nor what is stale in place of an error: both depend on the moment."""
    rig = rigged(grace_on_error=Duration("60s"))
    await rig.fetch(reply=answer(cc="max-age=10"))
    rig.clock.advance(20)
    await rig.fetch("/a", ("Cache-Control", "max-stale=100"))
    assert lane_of(rig).offered == []
