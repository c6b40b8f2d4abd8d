"""cache: what is kept of an answer of the upstream's, and what the client gets of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.test import tflow

from holdfast.caching.settings import CacheSettings, RewarmSettings
from holdfast.exchange import exchange_of
from tests.unit.caching.rig import KEY, Named, Rig, a_moment, answer, settled, status_of
from tests.unit.hooks import finished

type Make = Callable[..., Rig]

ETAG = ("ETag", '"1"')
MODIFIED = ("Last-Modified", "Tue, 14 Nov 2023 00:00:00 GMT")  # not a day before the clock of the tests


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A cache with these settings."""
    return lambda **settings: Rig(monkeypatch, CacheSettings(**settings))


# -- kept or not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "path", "known", "why"),
    [
        (answer(cc="no-store"), "/a", {}, "no-store"),
        (answer(cc="private"), "/a", {}, "private"),
        (answer(cc=None), "/a", {}, "no-use"),
        (answer(200, b"x" * 2048), "/a", {}, "max-body"),
        (answer(500), "/a", {}, None),
        (answer(206), "/a", {}, "status"),
        (answer(200, b"one", MODIFIED, cc=None), "/a;x.css", {}, "parameters"),
        (answer(200, b"one"), "/a;x.css", {}, None),
        (answer(), "/a", {"untaggable": "count"}, "tags-count"),
        (answer(cc="no-store"), "/a", {"untaggable": "count"}, "tags-count"),
    ],
)
async def test_what_may_be_kept_is_and_otherwise_it_says_why(
    make: Make, reply: Response, path: str, known: dict[str, Any], why: str | None
) -> None:
    """RFC 9111, section 3; RFC 9211, section 2.5. The client gets it either way."""
    rig = make(max_body=2000)
    flow = await rig.fetch(path, reply=reply, **known)
    assert flow.response is reply
    assert status_of(flow).startswith("holdfast;fwd=miss;")
    assert (";stored;" in status_of(flow)) is (rig.stored(path) is not None) is (why is None)
    assert (";stored=?0;" in status_of(flow) and status_of(flow).endswith(f";detail={why}")) is (why is not None)
    assert (";ttl=" in status_of(flow)) is (why is None)


@pytest.mark.parametrize(
    ("cc", "fields", "kept"),
    [(None, [MODIFIED], False), ("max-age=9", [], True), ("public", [MODIFIED], True), ("no-cache", [ETAG], True)],
)
async def test_a_guess_is_not_made_about_what_came_for_a_cookie(
    make: Make, cc: str | None, fields: list[Named], kept: bool
) -> None:
    """It may be one user's, and nothing in it says that it is not."""
    rig = make()
    flow = await rig.fetch("/a", ("Cookie", "me=1"), reply=answer(200, b"one", *fields, cc=cc))
    assert (rig.stored() is not None) is kept
    assert kept or status_of(flow).endswith(";detail=cookie")


async def test_what_the_store_refuses_is_not_said_to_be_stored(make: Make) -> None:
    """In the words of the store."""
    rig = make()
    rig.store.refuses = "too large for the memory level"
    assert status_of(await rig.fetch()).endswith(';detail="too large for the memory level"')


async def test_fields_that_are_one_clients_are_not_kept(make: Make) -> None:
    """RFC 9111, sections 5.2.2.4 and 5.2.2.7: what `no-cache=` and `private=` name; here the client gets it."""
    rig = make()
    reply = answer(200, b"one", ("X-Me", "1"), ("X-All", "2"), cc='max-age=60, private="x-me"')
    first, second = await rig.fetch(reply=reply), await rig.fetch()
    assert first.response and first.response.headers["x-me"] == "1"
    assert second.response and "x-me" not in second.response.headers
    assert second.response.headers["x-all"] == "2"


async def test_the_age_counts_from_the_request_and_not_from_the_end_of_the_body(make: Make) -> None:
    """RFC 9111, section 4.2.3: two seconds until the header had come, five more for the body."""
    rig = make()
    flow = await rig.ask()
    rig.clock.advance(2)
    await rig.begun(flow, answer(200, b"one", ("Age", "3")))
    rig.clock.advance(5)
    await finished(rig.cache.response(flow))
    await settled()
    hit = await rig.fetch()
    assert hit.response and hit.response.headers["age"] == "10"


@pytest.mark.parametrize(("sent", "status"), [('"1"', 304), ('"9"', 200)])
async def test_a_condition_that_was_taken_off_is_answered_here(make: Make, sent: str, status: int) -> None:
    """RFC 9111, section 4.3.2: the upstream was asked for the whole, the client may have it."""
    rig = make()
    flow = await rig.fetch("/a", ("If-None-Match", sent), reply=answer(200, b"one", ETAG))
    assert flow.response and flow.response.status_code == status
    assert flow.response.content == (b"" if status == 304 else b"one")
    assert ";stored;" in status_of(flow)
    assert rig.stored() == b"one"


async def test_what_is_meant_for_caches_like_this_one_ends_here(make: Make) -> None:
    """Edge Architecture: Surrogate-Control; of a route that passes by, too, but not of a handshake."""
    rig = make(skip=("live",))
    for route in ("unrouted", "live"):
        flow = await rig.fetch(reply=answer(200, b"one", ("Surrogate-Control", "max-age=9")), route=route)
        assert flow.response and "surrogate-control" not in flow.response.headers
    handshake = await rig.fetch("/b", reply=answer(101, b"", ("Surrogate-Control", "x")), method="POST")
    assert handshake.response and "surrogate-control" in handshake.response.headers
    assert status_of(handshake) == ""


@pytest.mark.parametrize("known", [{"attempts": []}, {"answered": True}])
async def test_an_answer_that_is_not_the_upstreams_is_not_kept(make: Make, known: dict[str, Any]) -> None:
    """The gateway's own, or another addon's."""
    rig = make()
    flow = await rig.ask()
    await rig.begun(flow, answer())
    flow.metadata["holdfast"] |= known
    await finished(rig.cache.response(flow))
    assert ";fwd=miss;stored=?0;" in status_of(flow)
    assert flow.response and flow.response.content == b"one"
    assert rig.stored() is None


# -- an answer that does not come -------------------------------------------------------------------------------------


async def waiting(rig: Rig) -> tuple[HTTPFlow, asyncio.Task[HTTPFlow]]:
    """A request on its way to the upstream, and one that waits for it."""

    async def at_once() -> HTTPFlow:
        async with asyncio.timeout(1):  # much less than it would wait
            return await rig.ask()

    first = await rig.ask()
    second = asyncio.create_task(at_once())
    await a_moment()
    assert not second.done()
    return first, second


@pytest.mark.parametrize("status", [200, 500])
async def test_nobody_waits_for_what_cannot_be_stored(make: Make, status: int) -> None:
    """It is known by the header; the next one does not begin to wait, but after an error, which passes."""
    rig = make()
    first, second = await waiting(rig)
    await rig.begun(first, answer(status, cc="no-store"))
    flow = await second
    assert flow.response is None
    await rig.told(flow, answer(status, cc="no-store"))
    await settled()
    third = await rig.ask("/a", ("If-None-Match", '"9"'))
    assert third.response is None
    assert ("if-none-match" in third.request.headers) is (status == 200)  # not fetched whole for the cache


async def test_a_length_that_is_too_large_is_known_by_the_header(make: Make) -> None:
    """Nobody waits for a body of that length."""
    rig = make()
    first, second = await waiting(rig)
    reply = answer(200, b"")
    reply.headers["content-length"] = "99999999"
    await rig.begun(first, reply)
    assert (await second).response is None


@pytest.mark.parametrize("how", ["error", "client", "answered", "addon"])
async def test_a_request_that_ends_without_an_answer_holds_nobody(make: Make, how: str) -> None:
    """An error, a client that goes, an answer of the gateway's own, an addon that takes the answer away."""
    rig = make()
    first, second = await waiting(rig)
    if how == "error":
        rig.cache.error(first)
    elif how == "client":
        rig.cache.client_disconnected(first.client_conn)
    elif how == "answered":
        exchange_of(first)["answered"] = True
        await rig.begun(first, answer(503))
    else:
        await finished(rig.cache.response(first))
    flow = await second
    assert flow.response is None
    assert ";stored;" in status_of(await rig.told(flow, answer()))


async def test_another_client_that_goes_ends_nothing(make: Make) -> None:
    """Only what was under way for itself."""
    rig = make()
    first, second = await waiting(rig)
    other: Client = tflow.tclient_conn()
    assert other.id != first.client_conn.id
    rig.cache.client_disconnected(other)
    await rig.told(first, answer())
    assert status_of(await second).startswith("holdfast;fwd=miss;ttl=60;collapsed")


async def test_a_response_that_is_passed_on_as_it_comes_is_not_kept(make: Make) -> None:
    """It says so at once, since its header is gone by the end of the body; nobody waits for it."""
    rig = make()
    first, second = await waiting(rig)
    reply = answer(200, b"one", ("Surrogate-Control", "max-age=9"))
    reply.stream = True
    await rig.told(first, reply)
    assert status_of(first) == f'holdfast;fwd=miss;stored=?0;key="{KEY}"'
    assert "surrogate-control" not in reply.headers
    assert (await second).response is None
    assert rig.stored() is None and rig.count("miss") == 1


async def test_a_passed_response_that_is_streamed_says_why_at_once(make: Make) -> None:
    """RFC 9211: there is no later moment at which its header could be changed."""
    rig = make()
    flow, reply = await rig.ask(method="POST"), answer()
    reply.stream = True
    await rig.begun(flow, reply)
    assert status_of(flow) == "holdfast;fwd=method"


async def test_a_response_that_grew_too_large_is_not_kept(make: Make) -> None:
    """The client has it by then, and the body is not here."""
    rig = make()
    first, second = await waiting(rig)
    reply = answer()
    await rig.begun(first, reply)
    reply.stream = True
    rig.cache.response_grown(first)
    assert status_of(first).endswith(";detail=max-body")
    await finished(rig.cache.response(first))
    assert rig.stored() is None and rig.count("miss") == 1
    assert (await second).response is None
    third = await rig.ask("/a", ("If-None-Match", '"9"'))
    assert "if-none-match" in third.request.headers


# -- unsafe requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status", "fields", "gone"),
    [
        ("POST", 200, [], ["/a"]),
        ("DELETE", 302, [("Location", "/b")], ["/a", "/b"]),
        ("PUT", 201, [("Content-Location", f"{KEY[:-2]}/b")], ["/a", "/b"]),
        ("POST", 200, [("Location", "http://other.test/b")], ["/a"]),
        ("POST", 404, [], []),
        ("OPTIONS", 200, [], []),
    ],
)
@pytest.mark.parametrize("route", ["unrouted", "live"])
async def test_what_an_unsafe_request_may_have_changed_is_not_used(
    make: Make, method: str, status: int, fields: list[Named], gone: list[str], route: str
) -> None:
    """RFC 9111, section 4.4; on a route that passes by the cache, too."""
    rig = make(skip=("live",))
    for path in ("/a", "/b"):
        await rig.fetch(path, reply=answer(200, path.encode()))
    await rig.fetch("/a", method=method, reply=answer(status, b"", *fields), route=route)
    assert [path for path in ("/a", "/b") if rig.stored(path) is None] == gone
    assert rig.figure("holdfast_purged_total", kind="url") == 0


@pytest.mark.parametrize("known", [{"answered": True}, {"cached": "hit"}])
async def test_an_answer_of_the_gateways_own_has_changed_nothing(make: Make, known: dict[str, Any]) -> None:
    """RFC 9111, section 4.4, is about answers of the origin."""
    rig = make()
    await rig.fetch()
    await rig.fetch(method="POST", reply=answer(), **known)
    assert rig.stored() == b"one"


async def test_an_invalidation_that_fails_does_not_fail_the_answer(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is out of order, which is logged."""
    rig = make()
    rig.store.down = True
    with caplog.at_level(logging.WARNING):
        flow = await rig.fetch(method="POST", reply=answer(200, b"done"))
    assert flow.response and flow.response.content == b"done"
    assert "stored responses not invalidated" in caplog.text


# -- what clients ask for most ----------------------------------------------------------------------------------------


async def test_what_was_asked_for_is_fetched_anew_after_a_purge(make: Make) -> None:
    """`rewarm`: what was stored for a client, unless somebody has it already; a failing upstream ends it."""
    rig = make(rewarm=RewarmSettings(rate=1000))
    await rig.fetch("/a")
    await rig.fetch("/b", refresh="x")
    rig.origin = lambda flow: answer(200, b"warm")
    await rig.cache.purge(everything=True)
    await settled()
    assert (rig.stored("/a"), rig.stored("/b")) == (b"warm", None)
    assert rig.figure("holdfast_rewarmed_total") == 1
    await rig.fetch("/b")
    rig.origin = lambda flow: answer(503)
    await rig.cache.purge(everything=True)
    await settled()
    assert len(rig.sent) == 2
    assert rig.figure("holdfast_rewarmed_total") == 1


async def test_what_somebody_has_fetched_since_is_not_fetched_again(make: Make) -> None:
    """All gateways hear of a purge; a client may have been quicker too."""
    rig = make(rewarm=RewarmSettings(rate=1000))
    await rig.fetch()
    wanted = next(iter(rig.cache._rewarming._wanted.values()))
    assert await rig.cache._warm(wanted) is None
    await rig.store.lock(f"refresh {KEY}", seconds=60)
    rig.clock.advance(61)
    rig.store.clear()
    assert await rig.cache._warm(wanted) is False  # the lock has ended, and nobody answers
    assert len(rig.sent) == 1
    await rig.store.lock(f"refresh {KEY}", seconds=60)
    assert await rig.cache._warm(wanted) is None
    assert len(rig.sent) == 1


@pytest.mark.parametrize("how", ["hits", "validated", "collapsed"])
async def test_whoever_is_answered_with_what_is_stored_counts(make: Make, how: str) -> None:
    """Most requested first: three times beside two misses."""
    rig = make(rewarm=RewarmSettings(rate=1000, most=1))
    await rig.fetch("/b", reply=answer(200, b"b", ("Vary", "Accept")))
    await rig.fetch("/b", ("Accept", "x"), reply=answer(200, b"b", ("Vary", "Accept")))
    if how == "collapsed":
        first, second = await waiting(rig)
        third = asyncio.create_task(rig.ask())
        await rig.told(first, answer())
        await asyncio.gather(second, third)
    else:
        for _ in range(3):
            headers = [("Cache-Control", "no-cache")] if how == "validated" and rig.stored() else []
            await rig.fetch("/a", *headers, reply=answer(304 if headers else 200, b"", ETAG))
    await rig.cache.purge(everything=True)
    await settled()
    assert [each.request.path for each in rig.sent] == ["/a"]
