"""cache: what is stored, validated; and what is stored in place of an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow, Response

from holdfast.caching.settings import CacheSettings
from holdfast.exchange import exchange_of
from holdfast.profile.values import Duration
from tests.unit.caching.rig import KEY, Named, Rig, answer, settled, status_of
from tests.unit.hooks import finished

type Make = Callable[..., Rig]

ETAG = ("ETag", '"1"')


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A cache with these settings."""
    return lambda **settings: Rig(monkeypatch, CacheSettings(**settings))


async def stale(rig: Rig, *fields: Named, cc: str = "max-age=60", **more: Any) -> None:
    """Have a response stored, whose 60 seconds are over by ten."""
    await rig.fetch(reply=answer(200, b"one", *fields, cc=cc), **more)
    rig.clock.advance(70)


def modified_not(*fields: Named, cc: str | None = "max-age=60") -> Response:
    """A 304."""
    return answer(304, b"", *fields, cc=cc)


# -- validated --------------------------------------------------------------------------------------------------------


async def test_what_is_still_good_is_freshened(make: Make) -> None:
    """RFC 9111, section 4.3.4: the client gets the whole with the new header, and the next one a hit."""
    rig = make()
    await stale(rig, ETAG, ("X-Old", "1"), tags=["a"])
    flow = await rig.fetch(
        reply=modified_not(ETAG, ("X-Old", "2"), ("Set-Cookie", "me=1"), cc="max-age=90"), tags=["b", "a"]
    )
    assert flow.response and (flow.response.status_code, flow.response.content) == (200, b"one")
    assert (flow.response.headers["x-old"], flow.response.headers["age"]) == ("2", "0")
    assert flow.response.headers["set-cookie"] == "me=1"
    assert status_of(flow) == f'holdfast;fwd=stale;fwd-status=304;ttl=90;stored;key="{KEY}"'
    assert rig.count("revalidated") == 1
    hit = await rig.fetch()
    assert hit.response and hit.response.headers["x-old"] == "2"
    assert "set-cookie" not in hit.response.headers  # that was for the other client
    assert ";ttl=90;" in status_of(hit)
    await rig.cache.purge(tags=["b"])
    assert rig.stored() is None


@pytest.mark.parametrize(
    ("headers", "method", "status", "body"),
    [
        ([], "HEAD", 200, b""),
        ([("If-None-Match", '"1"')], "GET", 304, b""),
        ([("Range", "bytes=1-1")], "GET", 206, b"n"),
    ],
)
async def test_a_validated_response_answers_what_the_client_asked(
    make: Make, headers: list[Named], method: str, status: int, body: bytes
) -> None:
    """RFC 9110, section 13.2.2: after the 304 as before it."""
    rig = make()
    await stale(rig, ETAG)
    flow = await rig.fetch("/a", *headers, method=method, reply=modified_not())
    assert flow.response and (flow.response.status_code, flow.response.raw_content) == (status, body)
    assert ";fwd-status=304;ttl=60;stored;" in status_of(flow)


@pytest.mark.parametrize(
    ("cc", "known", "why"),
    [("no-store", {}, "no-store"), ("private", {}, "private"), ("max-age=60", {"untaggable": "count"}, "tags-count")],
)
async def test_what_may_not_be_kept_any_longer_goes(make: Make, cc: str, known: dict[str, Any], why: str) -> None:
    """By what the 304 says; the client has its answer all the same."""
    rig = make()
    await stale(rig, ETAG)
    flow = await rig.fetch(reply=modified_not(cc=cc), **known)
    assert flow.response and flow.response.content == b"one"
    assert status_of(flow) == f'holdfast;fwd=stale;fwd-status=304;stored=?0;key="{KEY}";detail={why}'
    assert rig.stored() is None


async def test_what_a_password_brought_leaves_what_is_stored_as_it_is(make: Make) -> None:
    """RFC 9111, section 3.5: it does not freshen it, and is no reason to let it go."""
    rig = make()
    await stale(rig, ETAG)
    flow = await rig.fetch("/a", ("Authorization", "me"), reply=modified_not())
    assert ";stored=?0;" in status_of(flow)
    assert rig.stored() == b"one"
    assert (await rig.ask(method="HEAD")).response is None


async def test_what_a_304_says_is_one_clients_is_not_kept(make: Make) -> None:
    """RFC 9111, section 5.2.2.7: `private=` names it."""
    rig = make()
    await stale(rig, ETAG)
    await rig.fetch(reply=modified_not(("X-Me", "1"), ("X-All", "2"), cc='max-age=60, private="x-me"'))
    hit = await rig.fetch()
    assert hit.response and "x-me" not in hit.response.headers and hit.response.headers["x-all"] == "2"


@pytest.mark.parametrize("reply", [answer(), modified_not()])
async def test_an_answer_that_is_purged_meanwhile_is_not_kept_nor_said_to_be(make: Make, reply: Response) -> None:
    """RFC 9211, section 2.5: the fill began before the purge, whether it brings the whole or a 304."""
    rig = make()
    await stale(rig, ETAG)
    flow = await rig.ask()
    await rig.cache.purge(everything=True)
    await rig.told(flow, reply)
    assert flow.response and flow.response.content == b"one"
    assert rig.stored() is None
    assert ";stored=?0;" in status_of(flow)
    assert status_of(flow).endswith(';detail="purged since it was asked for"')


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_304_about_another_response_is_followed_by_the_whole(make: Make, method: str) -> None:
    """RFC 9111, section 4.3.4: it is of no use to anybody, and what is stored goes."""
    rig = make()
    await stale(rig, ETAG)
    rig.origin = lambda flow: answer(200, b"two", ("ETag", '"2"'))
    flow = await rig.fetch("/a", ("If-None-Match", '"9"'), method=method, reply=modified_not(("ETag", '"2"')))
    (sent,) = rig.sent
    assert (sent.request.method, "if-none-match" in sent.request.headers) == ("GET", False)
    assert flow.response and flow.response.status_code == 200
    assert flow.response.raw_content == (b"two" if method == "GET" else b"")
    assert flow.response.headers["x-request-id"] == "r1"
    assert exchange_of(flow).get("answered") is False
    assert rig.stored() == b"two"
    assert rig.count("miss") == 3  # the first, the second and the gateway's own


@pytest.mark.parametrize("reply", [None, answer(502, b"no")])
async def test_a_second_request_that_fails_is_the_answer(make: Make, reply: Response | None) -> None:
    """502 with what went wrong, or what the upstream said; and the old response is not used for it."""
    rig = make()
    await stale(rig, ETAG)

    def origin(flow: HTTPFlow) -> Response | None:
        exchange_of(flow)["error"] = "http_502"
        exchange_of(flow)["answered"] = True
        return reply

    rig.origin = origin
    flow = await rig.fetch(reply=modified_not(("ETag", '"2"')))
    assert flow.response and flow.response.status_code == 502
    exchange = exchange_of(flow)
    assert exchange["answered"] is True
    expected = ("http_502", "") if reply else ("connection_refused", "nobody is there")
    assert (exchange["error"], exchange["detail"]) == expected
    assert flow.response.headers["x-request-id"] == "r1"
    assert rig.stored() is None


async def test_a_304_about_another_response_to_the_gateways_own_request_ends_it(make: Make) -> None:
    """Nobody waits for the answer; what is stored goes all the same."""
    rig = make()
    await stale(rig, ETAG)
    await rig.fetch(refresh=KEY, reply=modified_not(("ETag", '"2"')))
    assert (rig.sent, rig.stored()) == ([], None)


async def test_a_304_to_conditions_of_the_clients_own_says_nothing_of_what_is_stored(make: Make) -> None:
    """RFC 9111, section 4.3.3: it answers the client, whose conditions went upstream as they were."""
    rig = make()
    await stale(rig, ETAG)
    flow = await rig.fetch("/a", ("If-Match", "*"), ("If-None-Match", '"2"'), reply=modified_not())
    assert flow.response and flow.response.status_code == 304
    assert ";stored=?0;" in status_of(flow)


async def test_a_304_that_was_not_asked_for_is_passed_on(make: Make) -> None:
    """Nothing is stored that it could be about."""
    rig = make()
    flow = await rig.fetch(reply=modified_not(ETAG))
    assert flow.response and flow.response.status_code == 304
    assert status_of(flow).endswith(";detail=status")


# -- in place of an error ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_what_is_stored_answers_in_place_of_an_error(make: Make, status: int) -> None:
    """RFC 5861, section 4."""
    rig = make()
    await stale(rig, cc="max-age=60, stale-if-error=30")
    flow = await rig.fetch(reply=answer(status))
    assert flow.response and (flow.response.status_code, flow.response.content) == (200, b"one")
    expected = f'holdfast;fwd=stale;fwd-status={status};ttl=-10;key="{KEY}";detail=stale-if-error'
    assert status_of(flow) == expected
    assert exchange_of(flow)["cached"] == "stale"
    assert rig.stored() == b"one"


@pytest.mark.parametrize(
    ("cc", "status"),
    [
        ("max-age=60, stale-if-error=30", 404),
        ("max-age=60, stale-if-error=30", 501),
        ("max-age=60, stale-if-error=9", 503),
        ("max-age=60", 503),
        ("max-age=60, must-revalidate", 503),
    ],
)
async def test_an_error_is_passed_on_where_nothing_may_stand_for_it(make: Make, cc: str, status: int) -> None:
    """RFC 5861, section 4: only these statuses, and only for so long; RFC 9111, section 5.2.2.2."""
    rig = make()
    await stale(rig, ETAG, cc=cc)
    flow = await rig.fetch(reply=answer(status, cc="no-store"))
    assert flow.response and flow.response.status_code == status
    assert ";stored=?0;" in status_of(flow)
    assert "cached" not in exchange_of(flow)


async def test_the_grace_of_a_soft_purge_ends_with_that_of_the_response(make: Make) -> None:
    """A soft purge makes stale what was fresh; in place of an error it is good."""
    rig = make(grace_on_error=Duration("30s"))
    await rig.fetch(reply=answer(200, b"one", ETAG))
    await rig.cache.purge(everything=True, soft=True)
    flow = await rig.fetch(reply=answer(503))
    assert flow.response and flow.response.content == b"one"
    assert ";ttl=0;" in status_of(flow)


@pytest.mark.parametrize("status", [None, 503])
async def test_what_is_stored_answers_in_place_of_a_failure(make: Make, status: int | None) -> None:
    """RFC 5861, section 4: the last attempt has failed, with a status or without; who waits is let go."""
    rig = make(grace_on_error=Duration("30s"))
    await stale(rig)
    flow = await rig.ask()
    flow.response = answer(status) if status else None
    exchange_of(flow)["error"] = "http_503" if status else "connection_refused"
    await rig.cache.upstream_failed(flow)
    assert flow.response and flow.response.content == b"one"
    said = f"holdfast;fwd=stale;{'fwd-status=503;' if status else ''}ttl=-10;"
    assert status_of(flow).startswith(said)
    await settled()
    await finished(rig.cache.responseheaders(flow))
    await finished(rig.cache.response(flow))
    assert status_of(flow).startswith(said) and "," not in status_of(flow)
    assert rig.count("stale") == 1
    rig.clock.advance(1)
    assert (await rig.ask(method="GET")).response is None
    assert rig.store.locked[-1] == (KEY, 5.0)


async def test_a_failure_is_left_to_others_where_nothing_may_stand_for_it(make: Make) -> None:
    """The interceptor's turn; what it answers is told, and not kept."""
    rig = make()
    await stale(rig)
    for flow in (await rig.ask(), await rig.ask("/b"), rig.flow("/c")):
        await rig.cache.upstream_failed(flow)
        assert flow.response is None
        await rig.told(flow, answer(503, b"captured"))
        assert flow.response is not None and flow.response.content == b"captured"
    assert rig.count("stale") == 0


# -- HEAD -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "effect"),
    [
        (answer(200, b"", ETAG, ("X-Old", "2")), "fresh"),
        (answer(200, b"", ("ETag", '"2"')), "stale"),
        (answer(404, b""), "nothing"),
        (answer(200, b"", ETAG, cc="no-store"), "gone"),
    ],
)
async def test_what_a_head_says_of_what_is_stored_counts(make: Make, reply: Response, effect: str) -> None:
    """RFC 9111, section 4.3.5: it is freshened, taken for stale, or as it was."""
    rig = make()
    await rig.fetch(reply=answer(200, b"one", ETAG, ("X-Old", "1")))
    rig.clock.advance(50)
    del reply.headers["content-length"]
    flow = await rig.fetch("/a", ("Cache-Control", "no-cache"), method="HEAD", reply=reply)
    assert ";fwd=request;stored=?0;" in status_of(flow)
    found = await rig.ask()
    if effect in ("stale", "gone"):
        assert found.response is None
        assert (rig.stored() is None) is (effect == "gone")
        return
    assert found.response and found.response.headers["x-old"] == ("2" if effect == "fresh" else "1")
    assert found.response.headers["age"] == ("0" if effect == "fresh" else "50")


async def test_what_a_head_says_is_one_clients_is_not_kept(make: Make) -> None:
    """RFC 9111, section 5.2.2.7."""
    rig = make()
    await rig.fetch(reply=answer(200, b"one", ETAG))
    reply = answer(200, b"", ETAG, ("X-Me", "1"), ("X-All", "2"), cc='max-age=60, private="x-me"')
    del reply.headers["content-length"]
    await rig.fetch("/a", ("Cache-Control", "no-cache"), method="HEAD", reply=reply)
    hit = await rig.fetch()
    assert hit.response and "x-me" not in hit.response.headers and hit.response.headers["x-all"] == "2"


async def test_a_head_whose_tags_were_refused_leaves_nothing_that_they_cannot_purge(make: Make) -> None:
    """A purge by those tags would not find it: as after a 304."""
    rig = make()
    await rig.fetch(reply=answer(200, b"one", ETAG))
    reply = answer(200, b"", ETAG)
    del reply.headers["content-length"]
    await rig.fetch("/a", ("Cache-Control", "no-cache"), method="HEAD", reply=reply, untaggable="count")
    assert rig.stored() is None


async def test_the_answer_to_a_head_is_not_stored(make: Make) -> None:
    """It has no body, and answers no GET."""
    rig = make()
    flow = await rig.fetch(method="HEAD")
    assert status_of(flow) == f'holdfast;fwd=miss;stored=?0;key="{KEY}"'
    assert rig.stored() is None
