"""What clients get of what is stored: parts, headers alone, 304s, the bytes as they came; and Cache-Status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, Received
from tests.e2e.cached import keep
from tests.e2e.cached_place import Place, place, stale, told
from tests.e2e.harness import until
from tests.e2e.raw import RawClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
TAG, LONG_AGO = ("ETag", '"1"'), "Wed, 01 Jan 2020 00:00:00 GMT"
Fields = list[tuple[str, str]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cache(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache with nothing set but small limits."""
    changes = {"limits": {"buffer_body": "64KiB"}}
    async with place(tmp_path_factory.mktemp("cache"), max_body="16KiB", changes=changes) as made:
        yield made


# --- validation ---


@pytest.mark.parametrize(
    "other",
    [[("ETag", '"2"')], [("ETag", 'W/"2"')], [("Last-Modified", "Thu, 02 Jan 2020 00:00:00 GMT")]],
    ids=["another tag", "another weak tag", "another date"],
)
async def test_a_304_about_another_response_is_no_answer(cache: Place, other: Fields) -> None:
    """RFC 9111, section 4.3.4: what is stored cannot be freshened by it, so the whole is fetched and replaces it."""

    def plan(received: Received) -> Answer:
        if received.header("if-none-match"):
            return Answer(304, headers=[*other, ("Cache-Control", "max-age=60")], body=b"")
        number = len([each for each in cache.asked(path) if not each.header("if-none-match")])
        fields = [TAG, ("Last-Modified", LONG_AGO)]
        return stale(b"old", *fields) if number == 1 else keep(b"new", *fields)

    path = cache.at(plan)
    answers = [await cache.get(path) for _ in range(3)]
    assert [(a.status_code, a.content) for a in answers] == [(200, b"old"), (200, b"new"), (200, b"new")]
    assert [each.header("if-none-match") for each in cache.asked(path)] == ["", '"1"', ""]
    assert "hit" in told(answers[2])
    assert "holdfast-fate" not in answers[1].headers.get("proxy-status", "")


async def test_a_304_about_another_response_hides_no_failure(cache: Place) -> None:
    """What the whole would have been is not there either: the client is told, and nothing is stored."""
    mismatched = Answer(304, headers=[("ETag", '"2"')], body=b"")
    path = cache.at([stale(b"old", TAG), mismatched, Answer(500, body=b"broken"), keep(b"new")])
    assert [(await cache.get(path)).content for _ in range(3)] == [b"old", b"broken", b"new"]


@pytest.mark.parametrize("says", ["private, max-age=60", "no-store"])
async def test_validation_of_what_is_one_users_goes_on_between_client_and_origin(cache: Place, says: str) -> None:
    """The client's own condition reaches the origin, and the origin's 304 the client; nothing is fetched whole."""

    def plan(received: Received) -> Answer:
        fields = [TAG, ("Cache-Control", says)]
        known = received.header("if-none-match") == '"1"'
        return Answer(304, headers=fields, body=b"") if known else Answer(headers=fields, body=b"ada's")

    path = cache.at(plan)
    assert (await cache.get(path)).content == b"ada's"
    again = await cache.get(path, If_None_Match='"1"')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"1"')
    assert (await cache.get(path, If_None_Match='"0"')).content == b"ada's"
    assert (await cache.get(path)).content == b"ada's"
    assert [each.header("if-none-match") for each in cache.asked(path)] == ["", '"1"', '"0"', ""]


async def test_a_client_that_has_it_is_answered_304_of_what_comes(cache: Place) -> None:
    """RFC 9111, section 4.3.2: the whole is fetched to be stored, and the client, which has it, is told so."""
    path = cache.at(keep(b"whole", TAG, ("Last-Modified", LONG_AGO), ("Content-Type", "text/plain")))
    first = await cache.get(path, If_None_Match='W/"1"')
    assert (first.status_code, first.content, told(first)["stored"]) == (304, b"", True)
    assert cache.asked(path)[0].header("if-none-match") == ""
    second = await cache.get(path, If_Modified_Since=LONG_AGO)
    assert (second.status_code, "content-type" in second.headers, told(second)["hit"]) == (304, False, True)
    both = await cache.get(path, If_None_Match='"2"', If_Modified_Since=LONG_AGO)
    assert (both.status_code, both.content) == (200, b"whole")
    assert len(cache.asked(path)) == 1


@pytest.mark.parametrize("condition", [("If-Match", '"2"'), ("If-Unmodified-Since", LONG_AGO)])
async def test_a_condition_for_the_origin_is_left_to_it(cache: Place, condition: tuple[str, str]) -> None:
    """RFC 9111, section 4.3.2: a cache does not evaluate it, nor take the refusal for the resource."""
    name, value = condition
    path = cache.at(lambda received: Answer(412) if received.header(name) else keep(b"whole", TAG))
    refused = await cache.client.get(path, headers={name: value})
    assert (refused.status_code, cache.asked(path)[0].header(name)) == (412, value)
    assert (await cache.get(path)).content == b"whole"
    assert "hit" in told(await cache.get(path))


async def test_a_cookie_of_a_304_is_for_one_client_only(cache: Place) -> None:
    """RFC 9111, section 3.2: whoever caused it gets it, and it is not stored; other fields are."""
    fields = [TAG, ("Set-Cookie", "who=ada"), ("X-Now", "2"), ("Cache-Control", "public, max-age=60")]
    path = cache.at([stale(b"page", TAG, ("X-Now", "1")), Answer(304, headers=fields, body=b"")])
    answers = [await cache.get(path) for _ in range(3)]
    assert [a.content for a in answers] == [b"page"] * 3
    assert [a.headers.get("set-cookie") for a in answers] == [None, "who=ada", None]
    assert [a.headers["x-now"] for a in answers] == ["1", "2", "2"]
    assert "hit" in told(answers[2]) and int(answers[2].headers["age"]) < 100


@pytest.mark.parametrize(("tag", "length", "hit"), [('"1"', "4", True), ('"2"', "4", False), ('"1"', "9", False)])
async def test_the_answer_to_a_head_speaks_of_what_is_stored(cache: Place, tag: str, length: str, hit: bool) -> None:
    """RFC 9111, section 4.3.5: it freshens what it fits, and makes stale what it does not."""

    def plan(received: Received) -> Answer:
        if received.method == "HEAD":
            return keep(b"x" * int(length), ("ETag", tag))
        return stale(b"page", TAG) if len(cache.asked(path)) == 1 else keep(b"anew", ("ETag", '"3"'))

    path = cache.at(plan)
    assert (await cache.get(path)).content == b"page"
    head = await cache.client.head(path)
    assert (head.status_code, head.headers["etag"], head.content) == (200, tag, b"")
    after = await cache.get(path)
    assert (after.content, "hit" in told(after)) == ((b"page", True) if hit else (b"anew", False))


# --- parts and headers alone ---

WHOLE = b"0123456789"


@pytest.mark.parametrize(
    ("asked", "status", "body", "where"),
    [
        ({"Range": "bytes=2-4"}, 206, b"234", "bytes 2-4/10"),
        ({"Range": "bytes=-3"}, 206, b"789", "bytes 7-9/10"),
        ({"Range": "bytes=8-"}, 206, b"89", "bytes 8-9/10"),
        ({"Range": "bytes=0-99"}, 206, WHOLE, "bytes 0-9/10"),
        ({"Range": "bytes=0-1,2-3"}, 206, b"0123", "bytes 0-3/10"),
        ({"Range": "bytes=0-1,5-6"}, 200, WHOLE, None),
        ({"Range": "bytes=10-"}, 416, b"", "bytes */10"),
        ({"Range": "bytes=4-2"}, 200, WHOLE, None),
        ({"Range": "lines=1-2"}, 200, WHOLE, None),
        ({"Range": "bytes=2-4", "If-Range": '"1"'}, 206, b"234", "bytes 2-4/10"),
        ({"Range": "bytes=2-4", "If-Range": '"2"'}, 200, WHOLE, None),
        ({"Range": "bytes=2-4", "If-Range": 'W/"1"'}, 200, WHOLE, None),
        ({"Range": "bytes=2-4", "If-Range": LONG_AGO}, 206, b"234", "bytes 2-4/10"),
        ({"Range": "bytes=2-4", "If-Range": "Thu, 02 Jan 2020 00:00:00 GMT"}, 200, WHOLE, None),
        ({"Range": "bytes=10-", "If-Range": '"2"'}, 200, WHOLE, None),
        ({"Range": "bytes=2-4", "If-None-Match": '"1"'}, 304, b"", None),
    ],
    ids=str,
)
async def test_a_part_is_answered_from_the_whole(
    cache: Place, asked: dict[str, str], status: int, body: bytes, where: str | None
) -> None:
    """RFC 9110, sections 13.1.5, 14.2 and 15.5.17; a 416 says nothing that could be kept."""
    path = cache.at(keep(WHOLE, TAG, ("Last-Modified", LONG_AGO), ("Content-Type", "text/plain")))
    await cache.get(path)
    answer = await cache.client.get(path, headers=asked)
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, body, where)
    assert told(answer)["hit"]
    assert ("cache-control" in answer.headers) is (status != 416)
    if status == 206:
        assert (answer.headers["etag"], answer.headers["content-length"]) == ('"1"', str(len(body)))
    assert (await cache.get(path)).content == WHOLE
    assert len(cache.asked(path)) == 1


async def test_a_part_that_is_not_stored_is_the_origins_to_cut(cache: Place) -> None:
    """RFC 9110, section 14.2: the Range reaches it, its 206 the client; neither is kept as the whole."""
    part = Answer(206, headers=[("Cache-Control", "max-age=60"), ("Content-Range", "bytes 0-1/10")], body=b"01")
    path = cache.at(lambda received: part if received.header("range") else keep(WHOLE))
    for _ in range(2):
        answer = await cache.get(path, Range="bytes=0-1")
        assert (answer.status_code, answer.content) == (206, b"01")
    assert (await cache.get(path)).content == WHOLE
    assert (await cache.get(path, Range="bytes=0-1")).content == b"01"
    assert [each.header("range") for each in cache.asked(path)] == ["bytes=0-1", "bytes=0-1", ""]


async def test_a_part_of_what_is_stale_comes_of_what_was_validated(cache: Place) -> None:
    """RFC 9111, section 4.3.1: the whole is asked about, without Range, and the part cut from what comes."""
    for then, body in (
        (Answer(304, headers=[TAG, ("Cache-Control", "max-age=60")], body=b""), b"01"),
        (keep(b"abcdefgh", ("ETag", '"2"')), b"ab"),
    ):
        path = cache.at([stale(WHOLE, TAG), then])
        await cache.get(path)
        answer = await cache.get(path, Range="bytes=0-1")
        asked = cache.asked(path)[1]
        assert (asked.header("range"), asked.header("if-none-match")) == ("", '"1"')
        assert answer.status_code in (200, 206)
        assert answer.content == (body if answer.status_code == 206 else b"abcdefgh")
        assert (await cache.get(path, Range="bytes=0-1")).content == body


async def test_a_head_is_the_header_of_the_stored_get(cache: Place) -> None:
    """RFC 9110, section 9.3.2: the same fields and the length of the body, no byte of it, and no Range."""
    path = cache.at(keep(WHOLE, TAG, ("X-Own", "1"), ("Content-Type", "text/plain")))
    got = await cache.get(path)
    async with RawClient(cache.gateway.port) as client:
        host = [("Host", f"127.0.0.1:{cache.gateway.port}")]
        for more, status in (([], 200), ([("Range", "bytes=0-1")], 200), ([("If-None-Match", '"1"')], 304)):
            answer = await client.request("HEAD", path, [*host, *more])
            assert (answer.status, answer.header("etag"), answer.header("x-own")) == (status, '"1"', "1")
            if status == 200:
                assert answer.header("content-length") == got.headers["content-length"] == "10"
        assert (await client.request("GET", path, host)).body == WHOLE  # the connection is in step
    assert len(cache.asked(path)) == 1


# --- the bytes as they came ---

CODED = [("br", b"\x0b\x02\x80hello\x03"), ("zstd", b"\x28\xb5\x2f\xfd\x04\x00broken"), ("gzip", b"no gzip at all")]
CODED += [
    ("x-nobody-knows", bytes(range(256)) * 8),
    ("gzip, br", b"\x00\xff\x00"),
    ("", b"\x00\r\n\r\nHTTP/1.1 200 OK"),
]


@pytest.mark.parametrize(("coding", "body"), CODED, ids=[name or "none" for name, _ in CODED])
async def test_bytes_are_stored_as_they_came(cache: Place, coding: str, body: bytes) -> None:
    """RFC 9110, section 8.4: nothing is decoded, known or not, sound or not; a part is one of the coded bytes."""
    fields = [("Content-Encoding", coding)] if coding else []
    path = cache.at(keep(body, *fields, TAG))
    async with RawClient(cache.gateway.port) as client:
        host = ("Host", f"127.0.0.1:{cache.gateway.port}")
        answers = [await client.request("GET", path, [host]) for _ in range(2)]
        assert [(a.status, a.body, a.header("content-encoding")) for a in answers] == [(200, body, coding or None)] * 2
        part = await client.request("GET", path, [host, ("Range", "bytes=1-2")])
        assert (part.status, part.body) == (206, body[1:3])
    assert len(cache.asked(path)) == 1


@pytest.mark.parametrize(
    ("name", "alike", "other"),
    [
        ("Accept-Encoding", ["gzip, br", "br,gzip", "GZIP;q=1.0 , br", "x-gzip, br"], "gzip"),
        ("Accept-Language", ["de, en;q=0.5", "DE,en;q=0.500", "de , en ; q=0.5"], "en, de;q=0.5"),
        ("Accept", ["a/b, c/d", "a/b,c/d"], "c/d, a/b"),
        ("X-Anything", ['"a,  b", c', '"a,  b",c'], '"a, b", c'),
        ("Cookie", ["a=1; b=2"], "b=2; a=1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_variants_are_told_apart_by_what_matters(cache: Place, name: str, alike: list[str], other: str) -> None:
    """RFC 9111, section 4.1: values are made alike where that cannot change what an origin answers."""
    path = cache.at(lambda received: keep(received.header(name).encode(), ("Vary", name)))
    for value in alike:
        assert (await cache.client.get(path, headers={name: value})).text == alike[0]
    assert (await cache.client.get(path, headers={name: other})).text == other
    assert (await cache.client.get(path, headers={name: ""})).text == ""
    assert len(cache.asked(path)) == 3
    if len(alike) > 1:  # in two lines, which a list may be (RFC 9110, section 5.3)
        lines = [(name, each.strip()) for each in alike[0].split(", ")] if '"' not in alike[0] else [(name, alike[0])]
        assert (await cache.client.get(path, headers=lines)).text == alike[0]
        assert len(cache.asked(path)) == 3


# --- what Cache-Status says ---


async def test_cache_status_says_all_that_the_table_has(cache: Place) -> None:
    """RFC 9211, line by line of docs/cache.md: fresh, in the background, stored or not and why, validated."""
    gone = Answer(304, headers=[TAG, ("Cache-Control", "max-age=60")], body=b"")
    cases: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
        "hit": ([keep()], [{"fwd": "miss", "stored": True, "ttl": 60}, {"hit": True, "ttl": 60}]),
        "stale": (
            [stale(says="stale-while-revalidate=1000")],
            [{"fwd": "miss", "stored": True}, {"hit": True, "ttl": -90, "detail": "stale-while-revalidate"}],
        ),
        "not stored": (
            [Answer(headers=[("Cache-Control", "no-store")])],
            [{"fwd": "miss", "stored": False, "detail": "no-store"}] * 2,
        ),
        "validated": ([stale(b"", TAG), gone], [{"fwd": "miss"}, {"fwd": "stale", "fwd-status": 304, "ttl": 60}]),
        "in place of an error": (
            [stale(says="stale-if-error=1000"), Answer(500)],
            [{"fwd": "miss"}, {"fwd": "stale", "fwd-status": 500, "ttl": -90, "detail": "stale-if-error"}],
        ),
    }
    for name, (plan, lines) in cases.items():
        path = cache.at(plan)
        for line in lines:
            found = told(await cache.get(path))
            assert {key: found.get(key) for key in line if key != "ttl"} == {
                k: v for k, v in line.items() if k != "ttl"
            }
            assert line.get("ttl", found.get("ttl", 0)) - 5 < found.get("ttl", 0) <= line.get("ttl", 10**9), name
            assert found["key"] == f"{cache.gateway.url}{path}"
            assert "hit" in line or "hit" not in found


async def test_cache_status_says_who_shared_an_answer(cache: Place) -> None:
    """RFC 9211, section 2.6: `collapsed`, for those who waited."""
    path = cache.at(keep(delay=0.25))
    leader = asyncio.create_task(cache.get(path))
    await until(lambda: cache.asked(path))
    follower = await cache.get(path)
    assert (told(await leader)["fwd"], told(await leader).get("collapsed")) == ("miss", None)
    assert (told(follower)["fwd"], told(follower)["collapsed"]) == ("miss", True)


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        ({"method": "GET", "content": b"fat"}, "body"),
        ({"method": "GET", "headers": {"X-Forwarded-Host": "evil.test"}}, "host_override"),
        ({"method": "GET", "headers": {"X-Original-URL": "/evil"}}, "url_override"),
        ({"method": "GET", "headers": {"X-HTTP-Method-Override": "PUT"}}, "method_override"),
        ({"method": "GET", "headers": {"X-A": "x" * 20_000}}, "oversized"),
        ({"method": "GET", "headers": {"Cache-Control": "no-store"}}, "request-no-store"),
        ({"method": "POST", "content": b"x"}, None),
        ({"method": "OPTIONS"}, None),
    ],
    ids=str,
)
async def test_cache_status_says_why_the_cache_had_no_part(
    cache: Place, request_: dict[str, Any], detail: str | None
) -> None:
    """RFC 9211, section 2.2: `bypass`, `method` or `request`; nothing stored is used, and nothing is stored."""
    path = cache.at([keep(b"1"), keep(b"2"), keep(b"3")])
    await cache.get(path)
    answer = await cache.client.request(url=path, **request_)
    fwd = "method" if request_["method"] != "GET" else "request" if detail == "request-no-store" else "bypass"
    assert told(answer) == ({"fwd": fwd, "detail": detail} if detail else {"fwd": fwd})
    assert answer.content == b"2"
    if request_["method"] in ("GET", "OPTIONS"):
        assert (await cache.get(path)).content == b"1"


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("/a/../case", "path_dots"),
        ("/a/%2e%2e/case", "path_dots"),
        ("/a/.;x/case", "path_dots"),
        ("/case%3Fq=1", "path_delimiter"),
        ("/case%23x", "path_delimiter"),
        ("/case%00", "path_delimiter"),
        ("/case%5Cx", "path_delimiter"),
        ("/case%25%32%65", "path_delimiter"),
        ("/c%61se", "path_form"),
        ("/case%zz", "path_encoding"),
        ("/case%FF", "path_encoding"),
    ],
)
async def test_a_path_that_may_be_read_in_two_ways_passes_by(cache: Place, target: str, detail: str) -> None:
    """Dot segments and hidden delimiters: the origin gets the very target, each time."""
    cache.at(keep(), path=target)
    async with RawClient(cache.gateway.port) as client:
        for _ in range(2):
            answer = await client.request("GET", target, [("Host", f"127.0.0.1:{cache.gateway.port}")])
            assert answer.header("cache-status") == f"holdfast;fwd=bypass;detail={detail}"
    assert [each.target for each in cache.asked(target)] == [target] * 2


async def test_what_other_caches_said_stays_in_front(cache: Place) -> None:
    """RFC 9211, section 2: a list, the cache nearest to the origin first; a hit repeats what was said then."""
    path = cache.at(keep(b"ok", ("Cache-Status", "inner;fwd=miss;stored")))
    for ours in ("fwd", "hit"):
        answer = await cache.get(path)
        first, second = answer.headers.get_list("cache-status")
        assert first == "inner;fwd=miss;stored"
        assert second.startswith(f"holdfast;{ours}")


async def test_an_error_does_not_take_the_place_of_what_is_fresh(cache: Place) -> None:
    """Though it says how long it may be kept: a client that reloads would break the page for everybody."""
    for wish in ("no-cache", "max-age=0"):
        path = cache.at([keep(b"good"), keep(b"bad", status=500), keep(b"better")])
        assert (await cache.get(path)).content == b"good"
        assert (await cache.get(path, Cache_Control=wish)).content in (b"good", b"bad")
        assert (await cache.get(path)).content == b"good"
        assert (await cache.get(path, Cache_Control=wish)).content == b"better"
        assert (await cache.get(path)).content == b"better"


async def test_a_failure_with_nothing_stored_is_a_miss_that_was_not_kept(cache: Place) -> None:
    """Whoever reads Cache-Status beside a 503 sees that the cache could not help."""
    path = cache.at(Break("request", "reset"))
    answer = await cache.get(path)
    assert (answer.status_code, told(answer)["fwd"], told(answer)["stored"]) == (503, "miss", False)
    assert "holdfast-capture-id" in answer.headers
