"""cache: what becomes of a request before the upstream is asked, and what the cache tells people."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.http import Response

from holdfast.caching.settings import CacheSettings, QuerySettings, RewarmSettings, RouteCacheSettings
from holdfast.exchange import exchange_of
from holdfast.profile.values import Duration, Size
from holdfast.stores import StoreHealth
from tests.unit.caching.rig import HOST, KEY, Rig, answer, settled, status_of
from tests.unit.hooks import finished

type Make = Callable[..., Rig]

TAGGED = ("ETag", '"1"')


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A cache with these settings."""
    return lambda **settings: Rig(monkeypatch, CacheSettings(**settings))


# -- from what is stored ----------------------------------------------------------------------------------------------


async def test_what_the_upstream_answered_is_the_answer_to_the_next_request(make: Make) -> None:
    """RFC 9111, section 4; RFC 9211, section 2: a miss that is stored, then a hit that says how old it is."""
    rig = make()
    first = await rig.fetch()
    assert status_of(first) == f'holdfast;fwd=miss;ttl=60;stored;key="{KEY}"'
    rig.clock.advance(10)
    second = await rig.fetch()
    assert second.response and (second.response.status_code, second.response.content) == (200, b"one")
    assert second.response.headers["age"] == "10"
    assert second.response.headers["x-request-id"] == "r1"
    assert status_of(second) == f'holdfast;hit;ttl=50;key="{KEY}"'
    exchange = exchange_of(second)
    assert (exchange["cached"], exchange["cached_because"]) == ("hit", "max-age")
    assert (rig.count("miss"), rig.count("hit"), rig.sent) == (1, 1, [])


@pytest.mark.parametrize(
    ("method", "headers", "status", "body", "length"),
    [
        ("GET", [], 200, b"0123456789", "10"),
        ("HEAD", [], 200, b"", "10"),
        ("GET", [("Range", "bytes=2-4")], 206, b"234", "3"),
        ("GET", [("If-None-Match", '"1"')], 304, b"", None),
    ],
)
async def test_a_client_gets_the_part_that_it_asks_for(
    make: Make, method: str, headers: list[tuple[str, str]], status: int, body: bytes, length: str | None
) -> None:
    """RFC 9110, section 13.2.2: of the one response that is stored."""
    rig = make()
    await rig.fetch(reply=answer(200, b"0123456789", TAGGED))
    flow = await rig.fetch("/a", *headers, method=method)
    assert flow.response and (flow.response.status_code, flow.response.raw_content) == (status, body)
    assert flow.response.headers.get("content-length") == length
    assert rig.count("hit") == 1


@pytest.mark.parametrize(
    ("path", "more", "said"),
    [
        ("/a", {"method": "POST"}, "holdfast;fwd=method"),
        ("/a", {"headers": [("Cache-Control", "no-store")]}, "holdfast;fwd=request;detail=request-no-store"),
        ("/a/../b", {}, "holdfast;fwd=bypass;detail=path_dots"),
        ("/a", {"body": b"x"}, "holdfast;fwd=bypass;detail=body"),
        ("/a", {"headers": [("Upgrade", "x")]}, "holdfast;fwd=bypass;detail=upgrade"),
        ("/a", {"headers": [("X-Original-URL", "/b")]}, "holdfast;fwd=bypass;detail=url_override"),
    ],
)
async def test_what_the_cache_has_no_part_in_says_why(make: Make, path: str, more: dict[str, Any], said: str) -> None:
    """RFC 9211, section 2.2: and it is neither answered from what is stored nor stored."""
    rig = make()
    headers = more.pop("headers", [])
    flow = await rig.fetch(path, *headers, **more)
    assert status_of(flow) == said
    assert "cache_pass" not in exchange_of(flow)
    assert (rig.count("pass"), await rig.store.entries()) == (1, (0, 0))


async def test_a_request_that_is_answered_already_is_left_alone(make: Make) -> None:
    """An addon before this one has the word."""
    rig = make()
    await rig.fetch()
    flow = rig.flow()
    flow.response = Response.make(418)
    await finished(rig.cache.request(flow))
    await finished(rig.cache.response(flow))
    assert flow.response.status_code == 418
    assert status_of(flow) == ""


async def test_a_skipped_route_passes_by_the_cache(make: Make) -> None:
    """`skip`: nothing is stored and nothing said, and what is stored answers nothing."""
    rig = make(skip=("live",))
    await rig.fetch(reply=answer(200, b"stored"))
    skipped = await rig.fetch(reply=answer(200, b"origin's"), route="live")
    assert skipped.response and skipped.response.content == b"origin's"
    assert status_of(skipped) == ""
    assert rig.stored() == b"stored"


async def test_who_wants_only_what_is_stored_gets_504_or_that(make: Make) -> None:
    """RFC 9111, section 5.2.1.7."""
    rig = make()
    flow = await rig.ask("/a", ("Cache-Control", "only-if-cached"))
    assert flow.response and flow.response.status_code == 504
    assert status_of(flow) == "holdfast;fwd=request;detail=only-if-cached"
    assert flow.response.headers["x-request-id"] == "r1"
    assert exchange_of(flow)["answered"] is True
    assert rig.count("only_if_cached") == 1
    await rig.fetch()
    assert status_of(await rig.ask("/a", ("Cache-Control", "only-if-cached"))).startswith("holdfast;hit")


async def test_an_outage_of_the_store_is_told(make: Make) -> None:
    """RFC 9211, section 2.8: why a hit is only this gateway's, or why there is none."""
    rig = make()
    rig.store.degraded = "memory-only"
    assert status_of(await rig.fetch()).endswith(";detail=memory-only")
    hit = status_of(await rig.fetch())
    assert hit.startswith("holdfast;hit") and hit.endswith(";detail=memory-only")


# -- what goes upstream -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "method", "sent", "arrives"),
    [
        (False, "GET", {"If-None-Match": '"9"'}, {}),
        (False, "GET", {"If-Modified-Since": "Tue, 14 Nov 2023 00:00:00 GMT"}, {}),
        (False, "GET", {"Range": "bytes=0-1", "If-Range": '"9"'}, {"Range": "bytes=0-1", "If-Range": '"9"'}),
        (False, "GET", {"If-Match": '"9"', "If-None-Match": '"8"'}, {"If-Match": '"9"', "If-None-Match": '"8"'}),
        (False, "HEAD", {"If-None-Match": '"9"'}, {"If-None-Match": '"9"'}),
        (True, "GET", {}, {"If-None-Match": '"1"'}),
        (True, "GET", {"If-None-Match": '"9"', "Range": "bytes=0-1"}, {"If-None-Match": '"1"'}),
        (True, "HEAD", {}, {"If-None-Match": '"1"'}),
        (True, "GET", {"If-Unmodified-Since": "x"}, {"If-Unmodified-Since": "x"}),
    ],
)
async def test_the_upstream_is_asked_for_what_can_be_stored(
    make: Make, stored: bool, method: str, sent: dict[str, str], arrives: dict[str, str]
) -> None:
    """RFC 9111, section 4.3.1: the gateway's conditions, the client's only where the origin alone may judge them."""
    rig = make()
    if stored:
        await rig.fetch(reply=answer(200, b"one", TAGGED))
        rig.clock.advance(61)
    flow = await rig.ask("/a", *sent.items(), method=method)
    assert flow.response is None
    assert {name: value for name, value in flow.request.headers.items() if name != "Host"} == arrives


async def test_a_client_that_reloads_is_answered_by_validation(make: Make) -> None:
    """RFC 9111, section 5.2.1.4; unless the profile says that clients have no say."""
    headers = ("Cache-Control", "no-cache")
    rig, deaf = make(), make(obey_requests=False)
    for each in (rig, deaf):
        await each.fetch(reply=answer(200, b"one", TAGGED))
    flow = await rig.ask("/a", headers)
    assert flow.response is None and flow.request.headers["if-none-match"] == '"1"'
    assert status_of(await deaf.ask("/a", headers)).startswith("holdfast;hit")


async def test_a_request_of_the_gateways_own_always_goes_upstream(make: Make) -> None:
    """`refresh`: although what is stored would answer, and without waiting for anybody."""
    rig = make()
    missed = await rig.ask(refresh=KEY)
    assert missed.response is None
    assert rig.store.locked == []
    await rig.told(missed, answer(200, b"one", TAGGED))
    flow = await rig.ask(refresh=KEY)
    assert flow.response is None and flow.request.headers["if-none-match"] == '"1"'
    await rig.told(flow, answer(200, b"two"))
    assert rig.stored() == b"two"


@pytest.mark.parametrize("how", ["replay", "by_hand"])
async def test_what_is_sent_again_passes_by_the_cache(make: Make, how: str) -> None:
    """By the replayer or by a person, who wants to know what the upstream says now."""
    rig = make()
    await rig.fetch(reply=answer(200, b"stored"))
    again = await rig.fetch(reply=answer(200, b"origin's"), **{how: ""})
    assert again.response and again.response.content == b"origin's"
    assert (status_of(again), rig.stored()) == ("", b"stored")


# -- settings ---------------------------------------------------------------------------------------------------------


async def test_a_reload_holds_for_what_is_stored(make: Make) -> None:
    """A changed profile; what is stored stays, under the new rules."""
    rig = make()
    await rig.fetch("/a?x=1")
    rig.cache.reload(CacheSettings(query=QuerySettings(ignore=("x",)), skip=("live",), coalesce=Duration("0s")))
    await rig.fetch("/a")
    assert status_of(await rig.ask("/a?x=2")).startswith("holdfast;hit")
    assert (await rig.cache.purge(urls=[f"{KEY}?x=3"])).keys == 1
    assert rig.stored() is None
    assert (await rig.ask(route="live")).response is None
    async with asyncio.timeout(1):
        assert [(await rig.ask("/b")).response for _ in range(2)] == [None, None]


async def test_a_reload_says_who_may_purge_and_what_is_fetched_anew(make: Make) -> None:
    """`purge_from` and `rewarm`, off by default and off again when they are gone."""
    rig = make()
    await rig.fetch()
    assert (await rig.ask(method="PURGE")).response is None
    rig.cache.reload(CacheSettings(purge_from=("127.0.0.1",), rewarm=RewarmSettings(rate=1000)))
    await rig.fetch()
    flow = await rig.ask(method="PURGE", route="skipped")
    await settled()
    assert flow.response and flow.response.status_code == 200
    assert len(rig.sent) == 1
    rig.cache.reload(CacheSettings())
    assert (await rig.ask(method="PURGE")).response is None
    await rig.cache.purge(everything=True)
    await settled()
    assert len(rig.sent) == 1


@pytest.mark.parametrize(("route", "kept"), [("other", None), ("news", b"one")])
async def test_a_route_may_have_rules_of_its_own(make: Make, route: str, kept: bytes | None) -> None:
    """Here for responses that say nothing; what is left out is as for all."""
    rig = make(routes={"news": RouteCacheSettings(default_lifetime=Duration("60s"))}, max_body=Size(3))
    await rig.fetch(reply=answer(cc=None), route=route)
    assert rig.stored() == kept
    await rig.fetch("/b", reply=answer(200, b"four"), route=route)
    assert rig.stored("/b") is None


# -- for people -------------------------------------------------------------------------------------------------------


async def test_what_would_become_of_a_request_can_be_asked(make: Make) -> None:
    """Nothing is sent, nothing counted; the decision, what decides, and what is stored without its body."""
    rig = make(skip=("live",))

    async def told(method: str = "GET", path: str = "/a", *fields: tuple[str, str]) -> dict[str, Any]:
        return (await rig.cache.would_do(rig.flow(path, *fields, method=method, route=path[1:]))).details

    assert await told(path="/live") == {"decision": "Pass", "because": "skip"}
    assert await told("POST") == {"decision": "Pass", "because": "method"}
    missed = await told()
    assert (missed["decision"], missed["because"], missed["key"]) == ("Miss", "nothing-stored", KEY)
    assert (missed["stored"], missed["store"]) == (None, "nothing stored")
    await rig.fetch(tags=["t"])
    fresh = await told()
    assert (fresh["decision"], fresh["ttl"], fresh["age"], fresh["store"]) == ("Fresh", 60, 0, "memory")
    assert (fresh["stored"]["bytes"], fresh["stored"]["tags"], fresh["soft_purged"]) == (3, ["t"], False)
    assert (await told("GET", "/a", ("Cache-Control", "no-store")))["decision"] == "Pass"
    assert (rig.count("hit"), rig.count("pass"), rig.sent) == (0, 0, [])


@pytest.mark.parametrize(
    ("purge", "gone", "left"),
    [
        ({"tags": ["t"]}, "/a", "/b"),
        ({"urls": [f"http://{HOST}/b"]}, "/b", "/a"),
        ({"everything": True}, "/a", "/none"),
    ],
)
async def test_a_purge_makes_unusable(make: Make, purge: dict[str, Any], gone: str, left: str) -> None:
    """By tag, by URL, or all; with `soft` only stale."""
    rig = make()
    await rig.fetch("/a", tags=["t"], reply=answer(200, b"/a", TAGGED))
    await rig.fetch("/b", reply=answer(200, b"/b", TAGGED))
    assert (await rig.cache.purge(**purge, soft=True)).soft
    softly = await rig.ask(gone, method="HEAD")
    assert softly.response is None and softly.request.headers["if-none-match"] == '"1"'
    assert rig.stored(gone)
    await rig.cache.purge(**purge)
    assert rig.stored(gone) is None
    assert rig.stored(left) == (left.encode() if left != "/none" else None)


async def test_the_store_is_started_and_stopped(make: Make) -> None:
    """And nothing more is fetched."""
    rig = make(rewarm=RewarmSettings())
    await rig.cache.running()
    assert rig.store.life == ["started"]
    await rig.fetch()
    await rig.cache.purge(everything=True)
    await rig.cache.done()
    await settled()
    assert rig.store.life == ["started", "stopped"]
    assert rig.sent == []


@pytest.mark.parametrize(
    ("url", "ok", "status"),
    [("memory://", True, "not_configured"), ("redis://r/0", True, "ok"), ("redis://r/0", False, "failing")],
)
async def test_the_health_of_the_store_is_on_the_page(make: Make, url: str, ok: bool, status: str) -> None:
    """Under `redis`, which a cache in memory has not; its figures are told all the same."""
    rig = make(store=url)
    rig.store.said = StoreHealth(ok, "so it is", mode="shared only", figures={"entries": 7})
    told = await rig.gateway.checks["redis"]()
    assert (told.status, told.figures["entries"]) == (status, 7)
    if status != "not_configured":
        assert (told.detail, told.figures["mode"]) == ("so it is", "shared only")
