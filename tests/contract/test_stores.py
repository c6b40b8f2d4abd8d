"""What every store must do: memory, a real Redis, a memory level in front of it, the same with a real cluster."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from holdfast.policy.caching.model import StoredResponse
from holdfast.stores import EVERYTHING, Store, url_tag
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions
from holdfast.testing import FixedClock
from tests.contract.responses import PLAIN, body_of, fill, make_response, new_key
from tests.services.redis import RedisCluster

GZIP = ((b"accept-encoding", b"gzip"),)
BROTLI = ((b"accept-encoding", b"br"),)
GERMAN = ((b"accept-language", b"de"),)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(time.time())


@pytest.fixture(params=["memory", "redis", "tiered", "cluster"])
async def store(request: pytest.FixtureRequest, clock: FixedClock) -> AsyncIterator[Store]:
    """Started, empty, and nobody else's."""
    query = f"prefix=test-{uuid.uuid4().hex}&timeout=1s"
    if request.param == "memory":
        url = "memory://"
    elif request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        url = f"{cluster.url}?{query}"
    else:
        url = f"{request.getfixturevalue('redis_url')}?{query}{'&memory=0' if request.param == 'redis' else ''}"
    opened = open_store(url, StoreOptions(), clock)
    await opened.start()
    yield opened
    await opened.stop()


async def test_what_is_kept_is_found_as_it_was(store: Store) -> None:
    """Every field, whatever bytes are in it."""
    key = new_key()
    response = StoredResponse(
        status=404,
        headers=((b"content-type", b"text/html"), (b"x-\xff", b"\x00\xfe\r"), (b"content-type", b"again")),
        body=bytes(range(256)) * 40,
        request_time=12345.25,
        response_time=12346.5,
        selecting=(),
        tags=("a", "tag with spaces", "schl\u00fcssel", "https://origin.test\tgroup"),
        as_of=(await store.get(key, PLAIN)).as_of,
        method="HEAD",
        reason="Not F\u00f6und",
        http_version="HTTP/2.0",
    )
    assert await store.put(key, response, keep=60) == ""
    assert (await store.get(key, PLAIN)).response == response


async def test_what_was_never_kept_is_not_found(store: Store) -> None:
    """A miss has a clock to note all the same."""
    found = await store.get(new_key(), PLAIN)
    assert found.response is None
    assert found.as_of > 0
    assert not found.degraded


@pytest.mark.parametrize("key", ["", "GET /\u043a\u043b\u044e\u0447 {tags}", "a\nb\x00c", "x" * 10_000, "\udcff"])
async def test_a_key_is_any_text(store: Store, key: str) -> None:
    """Also with what means something to Redis."""
    await fill(store, key, b"one")
    assert await body_of(store, key) == b"one"
    assert await body_of(store, key + "?") is None


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
async def test_a_body_is_of_any_size(store: Store, size: int) -> None:
    """Large ones travel by themselves."""
    key, body = new_key(), uuid.uuid4().bytes[:1] * size
    await fill(store, key, body)
    assert await body_of(store, key) == body
    await fill(store, key, b"small again")
    assert await body_of(store, key) == b"small again"


async def test_the_hit_tells_the_level(store: Store) -> None:
    """For Cache-Status and the metrics."""
    key = new_key()
    await fill(store, key)
    assert (await store.get(key, PLAIN)).level in ("memory", "redis")


# --- variants ---


async def test_a_request_finds_the_variant_that_it_selects(store: Store) -> None:
    """RFC 9111, section 4.1."""
    key = new_key()
    for request, body in ((GZIP, b"gzip"), (BROTLI, b"br"), (PLAIN, b"plain")):
        await fill(store, key, body, vary="Accept-Encoding", request=request)
    assert await body_of(store, key, GZIP) == b"gzip"
    assert await body_of(store, key, ((b"Accept-Encoding", b" x-gzip"),)) == b"gzip"
    assert await body_of(store, key, BROTLI) == b"br"
    assert await body_of(store, key, GERMAN) == b"plain"
    assert await body_of(store, key, ((b"accept-encoding", b"zstd"),)) is None


async def test_responses_of_one_key_may_vary_on_different_fields(store: Store) -> None:
    """Each is found by its own; one that named fields goes before one that named none."""
    key = new_key()
    await fill(store, key, b"by language", vary="Accept-Language", request=GERMAN)
    await fill(store, key, b"by encoding", vary="Accept-Encoding", request=GZIP)
    assert await body_of(store, key, GERMAN) == b"by language"
    assert await body_of(store, key, GZIP) == b"by encoding"
    await fill(store, key, b"for all")
    assert await body_of(store, key, GERMAN) == b"by language"
    assert await body_of(store, key, BROTLI) == b"for all"


async def test_what_claims_to_say_how_the_url_was_written_selects_too(store: Store) -> None:
    """Or a redirect that one client provokes would be everybody's."""
    key = new_key()
    await fill(store, key, b"redirect", request=((b"x-forwarded-proto", b"http"),))
    assert await body_of(store, key) is None
    assert await body_of(store, key, ((b"x-forwarded-proto", b"http"),)) == b"redirect"


async def test_a_later_response_replaces_the_one_that_the_same_request_selects(store: Store) -> None:
    """And leaves the others alone."""
    key = new_key()
    for request, body in ((GZIP, b"1"), (BROTLI, b"2"), (GZIP, b"3")):
        await fill(store, key, body, vary="accept-encoding", request=request)
    assert await body_of(store, key, GZIP) == b"3"
    assert await body_of(store, key, BROTLI) == b"2"


async def test_a_vary_on_many_values_does_not_grow_without_bound(store: Store) -> None:
    """The newest is there; the key as a whole stays small."""
    key = new_key()
    for number in range(100):
        await fill(store, key, b"%d" % number, vary="cookie", request=((b"cookie", b"%d" % number),))
    found = [await body_of(store, key, ((b"cookie", b"%d" % number),)) for number in range(100)]
    assert found[-1] == b"99"
    assert len([body for body in found if body]) <= 70


async def test_a_repeated_request_needs_no_second_look_at_its_header(store: Store) -> None:
    """Where the store can answer at once; and never with another variant."""
    key = new_key()
    response = await fill(store, key, b"gzip", vary="accept-encoding", request=GZIP)
    at_once = store.lookup(key, GZIP)
    again = store.repeat(key, response.selecting)
    assert (at_once and at_once.response) == (again and again.response)
    await fill(store, key, b"german", vary="accept-language", request=GERMAN)
    assert store.repeat(key, response.selecting) is None


# --- time ---


async def test_what_has_expired_is_not_found(store: Store, clock: FixedClock) -> None:
    """`keep` counts from when it was kept."""
    key = new_key()
    await fill(store, key, keep=10)
    clock.advance(9.9)
    assert await body_of(store, key) == b"hello"
    clock.advance(0.2)
    assert await body_of(store, key) is None


async def test_each_variant_expires_by_itself(store: Store, clock: FixedClock) -> None:
    """The key stays for the longest of them."""
    key = new_key()
    await fill(store, key, b"gzip", vary="accept-encoding", request=GZIP, keep=100)
    await fill(store, key, b"br", vary="accept-encoding", request=BROTLI, keep=10)
    clock.advance(11)
    assert await body_of(store, key, GZIP) == b"gzip"
    assert await body_of(store, key, BROTLI) is None


async def test_what_may_be_kept_for_no_time_is_not_kept(store: Store) -> None:
    """And the reason is told."""
    response = make_response((await store.get("k", PLAIN)).as_of)
    assert await store.put(new_key(), response, keep=0) == "expired"


@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_touch_renews_header_and_time(store: Store, clock: FixedClock, size: int) -> None:
    """As after a 304; the body is the same."""
    key = new_key()
    response = await fill(store, key, b"x" * size, keep=10)
    clock.advance(5)
    renewed = replace(response, headers=((b"etag", b'"2"'),), response_time=response.response_time + 5)
    assert await store.touch(key, renewed, keep=10) == ""
    clock.advance(9)
    assert (await store.get(key, PLAIN)).response == renewed


@pytest.mark.parametrize("size", [10, 400_000])
async def test_a_touch_keeps_what_was_let_go_meanwhile(store: Store, size: int) -> None:
    """The caller has the whole response in hand."""
    key = new_key()
    response = make_response((await store.get(key, PLAIN)).as_of, b"x" * size)
    assert await store.touch(key, response, keep=10) == ""
    assert (await store.get(key, PLAIN)).response == response


# --- purges ---


@pytest.mark.parametrize("tag", ["user-1", "users", EVERYTHING, "url"])
async def test_a_purge_takes_what_carries_the_tag(store: Store, tag: str) -> None:
    """Its own tags, its URL, and the tag that everything has."""
    key = new_key()
    await fill(store, key, tags=("user-1", "users"))
    purged = await store.purge(["unrelated", url_tag(key) if tag == "url" else tag], soft=False)
    assert (purged.keys, purged.soft) == (2, False)
    assert await body_of(store, key) is None


async def test_a_purge_leaves_the_rest(store: Store) -> None:
    """Tags are compared whole, and in their case."""
    key, other = new_key(), new_key()
    await fill(store, key, tags=("user-1", "Users"))
    await fill(store, other)
    await store.purge(["user-11", "user", "users", url_tag(other + "/")], soft=False)
    assert await body_of(store, key) == b"hello"
    assert await body_of(store, other) == b"hello"


async def test_a_purge_of_a_url_takes_all_its_variants(store: Store) -> None:
    """What one of them says may have changed for all."""
    key = new_key()
    await fill(store, key, b"1", vary="accept-encoding", request=GZIP)
    await fill(store, key, b"2", vary="accept-encoding", request=BROTLI)
    await store.purge([url_tag(key)], soft=False)
    assert await body_of(store, key, GZIP) is None
    assert await body_of(store, key, BROTLI) is None


async def test_what_is_filled_after_a_purge_is_found(store: Store) -> None:
    """A purge is about what was begun before it."""
    key = new_key()
    await fill(store, key, b"old", tags=("t",))
    await store.purge(["t", EVERYTHING], soft=False)
    await fill(store, key, b"new", tags=("t",))
    assert await body_of(store, key) == b"new"


@pytest.mark.parametrize("tag", ["t", EVERYTHING])
async def test_a_purge_during_a_fill_is_not_lost(store: Store, tag: str) -> None:
    """The answer may have left the origin before what was purged changed."""
    key = new_key()
    response = make_response((await store.get(key, PLAIN)).as_of, tags=("t",))
    await store.purge([tag], soft=False)
    await store.put(key, response, keep=60)
    assert await body_of(store, key) is None


async def test_a_soft_purge_makes_stale(store: Store) -> None:
    """It is still there to be validated, or to be used in need."""
    key = new_key()
    response = await fill(store, key, tags=("t",))
    assert not (await store.get(key, PLAIN)).soft
    await store.purge(["t"], soft=True)
    for _ in range(2):
        found = await store.get(key, PLAIN)
        assert found.response == response
        assert found.soft
    await store.touch(key, replace(response, as_of=found.as_of), keep=60)
    assert not (await store.get(key, PLAIN)).soft


async def test_a_soft_purge_during_a_fill_is_not_lost(store: Store) -> None:
    """The same as for a hard one."""
    key = new_key()
    response = make_response((await store.get(key, PLAIN)).as_of, tags=("t",))
    await store.purge(["t"], soft=True)
    await store.put(key, response, keep=60)
    assert (await store.get(key, PLAIN)).soft


async def test_a_hard_purge_goes_before_a_soft_one(store: Store) -> None:
    """In either order."""
    key, other = new_key(), new_key()
    for each in (key, other):
        await fill(store, each, tags=(f"t{each}",))
    await store.purge([f"t{key}"], soft=True)
    await store.purge([f"t{key}", f"t{other}"], soft=False)
    await store.purge([f"t{other}"], soft=True)
    assert await body_of(store, key) is None
    assert await body_of(store, other) is None


async def test_the_clock_moves_with_every_purge(store: Store) -> None:
    """Or a fill could not tell what came before it."""
    before = (await store.get("k", PLAIN)).as_of
    await store.purge(["t"], soft=True)
    between = (await store.get("k", PLAIN)).as_of
    await store.purge(["t"], soft=False)
    assert before < between < (await store.get("k", PLAIN)).as_of


async def test_a_fill_that_began_earlier_does_not_replace_a_later_one(store: Store) -> None:
    """The slower of two has the older content, and would be purged content besides."""
    key = new_key()
    early = make_response((await store.get(key, PLAIN)).as_of, b"early", tags=("t",))
    await store.purge(["t"], soft=False)
    await fill(store, key, b"late", tags=("t",))
    assert await store.put(key, early, keep=60)
    assert await body_of(store, key) == b"late"


async def test_many_tags_are_purged_together(store: Store) -> None:
    """More than one script takes at once; none is forgotten."""
    keys = [new_key() for _ in range(6)]
    for number, key in enumerate(keys):
        await fill(store, key, tags=(f"tag-{number * 240}",))
    purged = await store.purge([f"tag-{number}" for number in range(1201)], soft=False)
    assert purged.keys == 1201
    assert [await body_of(store, key) for key in keys] == [None] * 6


async def test_a_response_may_have_very_many_tags(store: Store) -> None:
    """As many as the policy allows."""
    key = new_key()
    await fill(store, key, tags=tuple(f"product-{number}" for number in range(2000)))
    assert await body_of(store, key) == b"hello"
    await store.purge(["product-1234"], soft=False)
    assert await body_of(store, key) is None


async def test_a_purge_of_nothing_does_nothing(store: Store) -> None:
    """An empty list is not everything."""
    key = new_key()
    await fill(store, key)
    assert (await store.purge([], soft=False)).keys == 0
    assert await body_of(store, key) == b"hello"


# --- locks, health ---


async def test_a_key_is_locked_by_one_at_a_time(store: Store) -> None:
    """Until its holder gives it back; nobody else can."""
    key = new_key()
    token = await store.lock(key, seconds=30)
    assert token
    assert await store.lock(key, seconds=30) is None
    assert await store.lock(new_key(), seconds=30)
    await store.unlock(key, "somebody else's")
    assert await store.lock(key, seconds=30) is None
    await store.unlock(key, token)
    assert await store.lock(key, seconds=30)


async def test_it_says_that_it_is_well(store: Store) -> None:
    """In a sentence, with its mode and numbers, without asking anybody."""
    await fill(store, new_key(), b"x" * 1000)
    health = store.health()
    assert health.ok, health.detail
    assert health.detail
    assert health.mode == "full"
    counted = await store.entries()
    assert counted is None or (counted[0] == 1 and counted[1] > 1000)
