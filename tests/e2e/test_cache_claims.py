"""What docs/cache.md claims, on the wire: what is kept, what is not and why, what is invalidated, what may be stale."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, Received
from tests.e2e.cached import fates, keep
from tests.e2e.cached_place import Place, place, stale, told
from tests.e2e.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
Fields = list[tuple[str, str]]
LONG_AGO = "Wed, 01 Jan 2020 00:00:00 GMT"
SOON = formatdate(time.time() + 3600, usegmt=True)
TAG = ("ETag", '"1"')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def usual(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache with nothing set."""
    changes = {"limits": {"buffer_body": "64KiB"}}
    async with place(tmp_path_factory.mktemp("usual"), max_body="16KiB", changes=changes) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def generous(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache whose operator allows what origins do not say."""
    given: dict[str, Any] = {"default_lifetime": "60s", "shared_cookies": True, "grace_on_error": "1h"}
    async with place(tmp_path_factory.mktemp("generous"), **given) as made:
        yield made


# --- what is kept, and why not ---


@pytest.mark.parametrize(
    "fields",
    [
        [("Cache-Control", "max-age=60")],
        [("Cache-Control", "s-maxage=60")],
        [("Cache-Control", "max-age=0, s-maxage=60")],
        [("Expires", SOON)],
        [("CDN-Cache-Control", "max-age=60")],
        [("Surrogate-Control", "max-age=60")],
        [("Last-Modified", LONG_AGO)],
    ],
    ids=["max-age", "s-maxage", "s-maxage before max-age", "Expires", "CDN", "Surrogate", "Last-Modified"],
)
async def test_every_way_to_say_how_long_is_understood(usual: Place, fields: Fields) -> None:
    """RFC 9111, section 4.2.1; a tenth of the time since Last-Modified is a guess."""
    path = usual.at(Answer(headers=fields, body=b"kept"))
    first, second = await usual.get(path), await usual.get(path)
    assert (told(first)["fwd"], told(first)["stored"]) == ("miss", True)
    assert (told(second)["hit"], second.content) == (True, b"kept")
    assert 0 < told(second)["ttl"] <= 24 * 3600
    assert len(usual.asked(path)) == 1


async def test_what_can_only_be_validated_is_kept_for_that(usual: Place) -> None:
    """RFC 9111, section 4.3.1: an entity tag alone is asked about each time, and the body comes once."""

    def plan(received: Received) -> Answer:
        known = received.header("if-none-match") == '"1"'
        return Answer(304, headers=[TAG], body=b"") if known else Answer(headers=[TAG], body=b"kept")

    path = usual.at(plan)
    answers = [await usual.get(path) for _ in range(3)]
    assert [(a.status_code, a.content) for a in answers] == [(200, b"kept")] * 3
    assert [each.header("if-none-match") for each in usual.asked(path)] == ["", '"1"', '"1"']
    assert [told(a).get("fwd-status") for a in answers] == [None, 304, 304]


async def test_default_lifetime_is_for_those_that_say_nothing(usual: Place, generous: Place) -> None:
    """`default_lifetime`; without it such a response is of no use to a cache."""
    for where, asked in ((usual, 2), (generous, 1)):
        path = where.at(Answer(body=b"mute"))
        assert [(await where.get(path)).content for _ in range(2)] == [b"mute"] * 2
        assert len(where.asked(path)) == asked


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([("Surrogate-Control", "max-age=60"), ("CDN-Cache-Control", "no-store")], True),
        ([("Surrogate-Control", "no-store"), ("CDN-Cache-Control", "max-age=60")], False),
        ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], True),
        ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "private"), ("Expires", "0")], True),
        ([("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")], False),
        ([("Surrogate-Control", "no-store"), ("Cache-Control", "max-age=60")], False),
        ([("Surrogate-Control", 'content="ESI/1.0"'), ("Cache-Control", "max-age=60")], True),
        ([("CDN-Cache-Control", "max-age=60,,"), ("Cache-Control", "no-store")], False),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_targeted_fields_go_before_cache_control(usual: Place, fields: Fields, kept: bool) -> None:
    """RFC 9213, section 2.2: as a whole; one that says nothing of it, or cannot be read, is as good as absent."""
    path = usual.at(Answer(headers=fields))
    answers = [await usual.get(path) for _ in range(2)]
    assert len(usual.asked(path)) == (1 if kept else 2)
    for answer in answers:  # RFC 9213, section 3.1: there may be another CDN on the way
        assert "surrogate-control" not in answer.headers
        for name, value in fields:
            assert name == "Surrogate-Control" or answer.headers[name] == value


async def test_surrogate_control_ends_here_whatever_the_answer(usual: Place) -> None:
    """Edge Architecture, section 2.3: it is for the last surrogate alone, also where that keeps nothing."""
    said = [("Surrogate-Control", "max-age=60"), ("CDN-Cache-Control", "max-age=60"), TAG]
    usual_path = usual.at(Answer(headers=said))
    cases = {
        "whole": (usual_path, "GET", {}),
        "hit": (usual_path, "GET", {}),
        "304": (usual_path, "GET", {"If-None-Match": '"1"'}),
        "part": (usual_path, "GET", {"Range": "bytes=0-0"}),
        "HEAD": (usual_path, "HEAD", {}),
        "POST": (usual.at(Answer(headers=said)), "POST", {}),
        "bypass": (usual.at(Answer(headers=said)), "GET", {"X-Original-URL": "/a"}),
        "error": (usual.at(Answer(404, headers=said)), "GET", {}),
        "too large": (usual.at(Answer(headers=said, body=b"x" * 20_000)), "GET", {}),
        "streamed": (usual.at(Answer(headers=said, body=b"x" * 200_000)), "GET", {}),
        "has grown": (usual.at(Answer(headers=said, body=b"x" * 200_000, chunked=True)), "GET", {}),
    }
    leaked, lost = [], []
    for name, (path, method, fields) in cases.items():
        answer = await usual.client.request(method, path, headers=fields)
        leaked += [name] if "surrogate-control" in answer.headers else []
        lost += [name] if "cdn-cache-control" not in answer.headers else []
    assert (leaked, lost) == ([], [])


@pytest.mark.parametrize(
    ("says", "kept", "shared"),
    [
        ("max-age=60", False, True),
        ("public, max-age=60", True, True),
        ("s-maxage=60", True, True),
        ("private, max-age=60", False, False),
    ],
)
async def test_a_cookie_is_shared_only_where_that_is_said(
    usual: Place, generous: Place, says: str, kept: bool, shared: bool
) -> None:
    """RFC 9111, section 7.3: `public` or `s-maxage`; with `shared_cookies` any lifetime, but never `private`."""
    for where, expected in ((usual, kept), (generous, shared)):
        path = where.at([keep(b"1", ("Set-Cookie", "who=ada"), cache_control=says), keep(b"2", cache_control=says)])
        first, second = await where.get(path), await where.get(path)
        assert first.headers["set-cookie"] == "who=ada"
        assert second.content == (b"1" if expected else b"2")
        assert ("set-cookie" in second.headers) is expected
        assert ("stored=?0" in first.headers["cache-status"]) is not expected


@pytest.mark.parametrize("says", ['private="set-cookie", max-age=60', 'no-cache="set-cookie", max-age=60'])
async def test_a_response_is_shared_without_the_fields_that_are_one_users(usual: Place, says: str) -> None:
    """RFC 9111, sections 5.2.2.4 and 5.2.2.7, the qualified forms."""
    path = usual.at(keep(b"page", ("Set-Cookie", "who=ada"), cache_control=says))
    first, second = await usual.get(path), await usual.get(path)
    assert first.headers["set-cookie"] == "who=ada"
    assert (told(second)["hit"], second.content) == (True, b"page")
    assert "set-cookie" not in second.headers


@pytest.mark.parametrize(
    ("says", "kept"),
    [
        ("max-age=60", False),
        ("public, max-age=60", True),
        ("s-maxage=60", True),
        ("max-age=60, must-revalidate", True),
    ],
)
async def test_what_was_asked_with_a_password_is_shared_only_where_that_is_said(
    usual: Place, says: str, kept: bool
) -> None:
    """RFC 9111, section 3.5."""
    path = usual.at([keep(b"for ada", cache_control=says), keep(b"for all")])
    first = await usual.get(path, Authorization="Bearer ada")
    assert first.content == b"for ada"
    assert told(first).get("detail") == (None if kept else "authorization")
    assert (await usual.get(path)).content == (b"for ada" if kept else b"for all")


async def test_nothing_is_guessed_of_what_was_asked_with_a_cookie(usual: Place, generous: Place) -> None:
    """Neither by Last-Modified nor by `default_lifetime`; what the response itself says holds."""
    says: list[tuple[Place, Fields, bool]] = [
        (usual, [("Last-Modified", LONG_AGO)], False),
        (usual, [("ETag", '"1"')], False),
        (generous, [], False),
        (usual, [("Last-Modified", LONG_AGO), ("Cache-Control", "max-age=60")], True),
        (usual, [("Last-Modified", LONG_AGO), ("Cache-Control", "public")], True),
    ]
    for where, fields, kept in says:
        path = where.at([Answer(headers=fields, body=b"ada's"), Answer(headers=fields, body=b"all's")])
        first = await where.get(path, Cookie="who=ada")
        assert (first.content, told(first).get("detail")) == (b"ada's", None if kept else "cookie")
        assert (await where.get(path)).content == (b"ada's" if kept else b"all's"), fields


async def test_an_answer_to_post_is_not_kept(usual: Place) -> None:
    """Not even one that claims to be what a GET would bring (RFC 9110, section 9.3.3, allows it, and no more)."""
    path = usual.at(Answer(headers=[("Cache-Control", "max-age=60")], body=b"made"))
    usual.at([keep(b"made", ("Content-Location", path)), keep(b"got")], path)
    assert told(await usual.client.post(path))["fwd"] == "method"
    answer = await usual.get(path)
    assert (told(answer)["fwd"], answer.content) == ("miss", b"got")


async def test_memory_does_not_survive_a_restart(tmp_path: Path) -> None:
    """`memory://`: what was stored is gone, and nothing else is."""
    async with place(tmp_path) as where:
        path = where.at(keep(b"kept"))
        assert [told(await where.get(path)).get("hit") for _ in range(2)] == [None, True]
        await where.gateway.terminate()
        await where.gateway.start()
        assert [told(await where.get(path)).get("hit") for _ in range(2)] == [None, True]
        assert len(where.asked(path)) == 2


# --- what is invalidated ---


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("reference", "gone"),
    [
        ("{path}", True),
        ("{last}", True),
        ("http://{host}{path}", True),
        ("//{host}{path}", True),
        ("http://elsewhere.test{path}", False),
        ("https://{host}{path}", False),
        ("http://elsewhere.test@{host}{path}", False),
        ("{path}?other", False),
    ],
)
async def test_an_unsafe_request_invalidates_what_it_names_on_this_host_only(
    usual: Place, name: str, reference: str, gone: bool
) -> None:
    """RFC 9111, section 4.4: another host has no say."""
    named = usual.at(keep())
    known = {"path": named, "last": named.rpartition("/")[2], "host": f"127.0.0.1:{usual.gateway.port}"}
    changed = usual.at(Answer(201, headers=[(name, reference.format(**known))]))
    await usual.get(named)
    assert "hit" in told(await usual.get(named))
    assert (await usual.client.post(changed)).status_code == 201
    assert ("hit" not in told(await usual.get(named))) is gone


@pytest.mark.parametrize(("status", "gone"), [(200, True), (204, True), (303, True), (404, False), (500, False)])
async def test_only_a_change_that_was_made_invalidates(usual: Place, status: int, gone: bool) -> None:
    """RFC 9111, section 4.4: not after an error; all variants of the URL, and what has just been asked for too."""
    path = usual.at(lambda received: keep() if received.method == "GET" else Answer(status, body=b""))
    for language in ("de", "fr"):
        await usual.get(path, Accept_Language=language)
    assert "hit" in told(await usual.get(path, Accept_Language="fr"))
    assert (await usual.client.put(path, content=b"x")).status_code == status
    assert ("hit" not in told(await usual.get(path, Accept_Language="fr"))) is gone


# --- what may be stale ---


@pytest.mark.parametrize(
    ("wish", "says", "served"),
    [
        ("max-stale", "", True),
        ("max-stale=1000", "", True),
        ("max-stale=30", "", False),
        ("max-stale=nonsense", "", False),
        ("max-age=1000, max-stale=1000", "", True),
        ("max-age=50, max-stale=1000", "", False),
        ("min-fresh=1, max-stale=1000", "", False),
        ("max-stale", "must-revalidate", False),
        ("max-stale", "proxy-revalidate", False),
        ("max-stale", "no-cache", False),
        ("max-stale", "s-maxage=10", False),
        ("max-age=1000", "stale-while-revalidate=1000", False),
        ("", "stale-while-revalidate=1000", True),
        ("", "stale-while-revalidate=30", False),
        ("", "stale-while-revalidate=1000, must-revalidate", False),
        ("", "stale-while-revalidate=1000, no-cache", False),
    ],
)
async def test_who_allows_a_stale_answer(usual: Place, wish: str, says: str, served: bool) -> None:
    """RFC 9111, sections 4.2.4 and 5.2.1.2: the client or the origin, and never against must-revalidate."""
    path = usual.at([stale(b"old", TAG, says=says), keep(b"new")])
    assert (await usual.get(path)).content == b"old"
    answer = await usual.get(path, **({"Cache_Control": wish} if wish else {}))
    assert answer.content == (b"old" if served else b"new")
    if served:
        assert told(answer)["hit"] and told(answer)["ttl"] <= -90
        assert told(answer)["detail"] == ("max-stale" if wish else "stale-while-revalidate")
        assert int(answer.headers["age"]) >= 100
        assert "holdfast-fate=stale" in answer.headers["proxy-status"]


@pytest.mark.parametrize("says", ["must-revalidate", "proxy-revalidate", "no-cache"])
@pytest.mark.parametrize("broken", [None, Break("request", "reset"), Answer(503), Answer(500)], ids=str)
async def test_nothing_takes_the_place_of_a_failure_against_must_revalidate(
    generous: Place, says: str, broken: Any
) -> None:
    """RFC 9111, section 5.2.2.2: neither `grace_on_error` nor stale-if-error, the origin's or the client's."""
    path = generous.at([stale(b"outdated", TAG, says=f"{says}, stale-if-error=1000"), broken or keep()])
    assert (await generous.get(path)).content == b"outdated"
    async with contextlib.AsyncExitStack() as stack:
        if broken is None:
            await stack.enter_async_context(generous.origin.refusing())
        answer = await generous.get(path, Cache_Control="stale-if-error=1000")
    assert answer.status_code == (500 if broken == Answer(500) else 503)
    assert b"outdated" not in answer.content
    assert ("holdfast-capture-id" in answer.headers) is (answer.status_code == 503)


@pytest.mark.parametrize(
    ("says", "used"),
    [("", {"generous"}), ("stale-if-error=1000", {"usual", "generous"}), ("stale-if-error=30", set())],
)
async def test_an_error_is_covered_as_long_as_origin_or_operator_say(
    usual: Place, generous: Place, says: str, used: set[str]
) -> None:
    """RFC 5861, section 4; `grace_on_error` where the origin says nothing of it."""
    found = set()
    for name, where in (("usual", usual), ("generous", generous)):
        path = where.at([stale(b"old", says=says), Answer(500, body=b"broken")])
        await where.get(path)
        answer = await where.get(path)
        assert answer.content in (b"old", b"broken")
        found |= {name} if answer.content == b"old" else set()
    assert found == used


async def test_only_if_cached_is_never_forwarded(usual: Place) -> None:
    """RFC 9111, section 5.2.1.7: 504 for what is not there, or may not be used; no failure, and nothing is captured."""
    before = (await fates(usual.gateway)).get("captured", 0)
    for plan, wish, status in (
        (None, "only-if-cached", 504),
        (keep(b"kept"), "only-if-cached", 200),
        (stale(b"kept", TAG), "only-if-cached", 504),
        (stale(b"kept", TAG), "only-if-cached, max-stale", 200),
        (stale(b"kept", TAG, says="must-revalidate"), "only-if-cached, max-stale", 504),
    ):
        path = usual.at(plan or keep())
        if plan:
            await usual.get(path)
        for method in ("HEAD", "GET", "HEAD"):
            answer = await usual.client.request(method, path, headers={"Cache-Control": wish})
            assert (answer.status_code, len(usual.asked(path))) == (status, int(plan is not None)), (plan, wish)
            if status == 504:
                assert told(answer) == {"fwd": "request", "detail": "only-if-cached"}
            else:
                assert answer.content == (b"" if method == "HEAD" else b"kept")
    assert (await fates(usual.gateway)).get("captured", 0) == before


async def test_a_failing_origin_is_left_alone_for_longer_each_time(usual: Place) -> None:
    """A second, then two; for what a stale answer can serve, and until the origin answers."""
    good, bad = stale(b"good", says="stale-if-error=1000"), Answer(500, body=b"bad")
    path, other = usual.at([good, bad, bad, bad, good, bad]), usual.at(bad)

    async def asked(times: int) -> list[float]:
        async def so_often() -> bool:
            answer = await usual.get(path)
            assert (answer.status_code, answer.content) == (200, b"good")
            return len(usual.asked(path)) >= times

        await until(so_often, within=15, what=f"{times} requests at the origin")
        return [each.at for each in usual.asked(path)]

    times = await asked(4)
    assert (await usual.get(other)).content == b"bad"  # nothing is stored there: it must be asked
    assert [later - sooner > least for sooner, later, least in zip(times[1:], times[2:], (0.9, 1.9), strict=False)] == [
        True,
        True,
    ]
    times = await asked(6)  # after four seconds it answers, and the next failure is the first one again
    assert times[4] - times[3] > 3.8
    assert times[5] - times[4] < 3.0
    seven = await asked(7)
    assert 0.9 < seven[6] - seven[5] < 6.0
