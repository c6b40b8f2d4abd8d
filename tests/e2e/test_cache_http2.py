"""The cache and HTTP/2, on either side: who shares what, what must not be shared, and what was cut short."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, ErrorCodes, GoAway, Step, StreamReset
from tests.e2e.cached import keep
from tests.e2e.cached_place import Place, place, told
from tests.e2e.frames import FrameClient, data, headers
from tests.e2e.harness import until
from tests.e2e.legs import Client, client_of, talk
from tests.e2e.raw import RawClient
from tests.e2e.test_cache_sharing import gullible

pytestmark = pytest.mark.asyncio(loop_scope="module")
UPSTREAMS = ["http", "h2c"]
PATIENT = {"upstream__response_timeout": "40s", "upstream__deadline": "60s", "upstream__read_timeout": "500ms"}
TAG = ("etag", '"1"')


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=UPSTREAMS)
async def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache before an origin that speaks HTTP/1.1, and one before an origin that speaks HTTP/2."""
    folder, changes = tmp_path_factory.mktemp("cache"), {"limits": {"buffer_body": "64KiB"}, **PATIENT}
    async with place(folder, upstream=request.param, coalesce="30s", changes=changes) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def h2c(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache before an origin that speaks HTTP/2."""
    changes = {"limits": {"buffer_body": "64KiB"}, **PATIENT}
    async with place(tmp_path_factory.mktemp("h2c"), upstream="h2c", changes=changes) as made:
        yield made


# --- who shares what ---


@pytest.mark.parametrize("speaks", ["h2", "h2c"])
async def test_more_streams_than_fifty_for_a_cold_key_ask_once(cache: Place, speaks: Client) -> None:
    """RFC 9211, section 2.6: 90 streams of one connection, one request upstream; each has an id of its own."""
    path = cache.at(keep(b"hello", delay=0.3))
    async with client_of(cache.gateway, speaks) as client:
        await client.get(cache.at(keep()))  # the connection is there before the crowd
        answers = await asyncio.gather(*(client.get(path) for _ in range(90)))
        assert len({a.extensions["network_stream"].get_extra_info("client_addr") for a in answers}) == 1
    assert {(a.http_version, a.status_code, a.content) for a in answers} == {("HTTP/2", 200, b"hello")}
    assert len(cache.asked(path)) == 1
    assert sum(told(a).get("collapsed") is True for a in answers) == 89
    assert len({a.headers["x-request-id"] for a in answers}) == 90


@pytest.mark.parametrize(("first", "second"), itertools.product(["http/1.1", "h2c"], repeat=2))
async def test_what_one_protocol_brought_answers_the_other(cache: Place, first: Client, second: Client) -> None:
    """RFC 9110, section 7.6.1: the same fields and bytes, and none that belonged to the first one's connection."""
    hop = [("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5")]
    mine = hop if cache.speaks == "http" else []
    path = cache.at(
        keep(b"hello", TAG, ("x-own", "caf\xe9"), ("set-cookie", "a=1"), *mine, cache_control="s-maxage=60")
    )
    async with client_of(cache.gateway, first) as one, client_of(cache.gateway, second) as other:
        miss, hit = await one.get(path), await other.get(path)
        assert (told(miss)["fwd"], told(hit)["hit"]) == ("miss", True)
        assert [a.http_version for a in (miss, hit)] == [
            "HTTP/1.1" if s == "http/1.1" else "HTTP/2" for s in (first, second)
        ]
        dropped = {"age", "date", "cache-status", "x-request-id", "transfer-encoding", "content-length"}
        fields = [{n: v for n, v in a.headers.items() if n not in dropped} for a in (miss, hit)]
        assert (
            fields[0]
            == fields[1]
            == {"cache-control": "s-maxage=60", "etag": '"1"', "x-own": "caf\xe9", "set-cookie": "a=1"}
        )
        assert (miss.content, hit.content, hit.headers["content-length"]) == (b"hello", b"hello", "5")
        head = await other.head(path)
        part = await other.get(path, headers={"Range": "bytes=1-2"})
        known = await other.get(path, headers={"If-None-Match": '"1"'})
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")
    assert (part.status_code, part.content) == (206, b"el")
    assert (known.status_code, known.content) == (304, b"")
    assert len(cache.asked(path)) == 1
    assert {each.protocol for each in cache.asked(path)} == {"HTTP/2" if cache.speaks == "h2c" else "HTTP/1.1"}


@pytest.mark.parametrize("speaks", ["h2", "h2c"])
async def test_validation_goes_between_protocols(cache: Place, speaks: Client) -> None:
    """RFC 9111, section 4.3: the condition in the upstream's protocol, the answer in the client's."""
    gone = Answer(304, headers=[TAG, ("cache-control", "max-age=60")], body=b"")
    path = cache.at([keep(b"hello", TAG, cache_control="max-age=0"), gone])
    async with client_of(cache.gateway, speaks) as client:
        answers = [await client.get(path) for _ in range(3)]
    assert [(a.status_code, a.content) for a in answers] == [(200, b"hello")] * 3
    assert [told(a).get("fwd-status") for a in answers] == [None, 304, None]
    assert [each.header("if-none-match") for each in cache.asked(path)] == ["", '"1"']


async def test_schemes_do_not_share(cache: Place) -> None:
    """RFC 9110, section 4.2.2: `https` has an entry of its own, whatever the protocol."""
    path = cache.at([keep(b"plain"), keep(b"secret")])
    async with client_of(cache.gateway, "h2c") as plain, client_of(cache.gateway, "h2") as tls:
        assert [(await client.get(path)).content for client in (plain, tls, plain, tls)] == [b"plain", b"secret"] * 2


async def test_a_stream_that_is_cancelled_during_the_fill_hurts_nobody(cache: Place) -> None:
    """RFC 9113, section 5.4.2: its followers, on its own connection and on others, do not wait for what never comes."""
    path = cache.at([keep(b"never", delay=30), keep(b"quick")])
    async with talk(cache.gateway) as client, talk(cache.gateway) as other:
        leader = await client.ask(path)
        await until(lambda: cache.asked(path), what="the leader's request")
        followers = [(each, await each.ask(path)) for each in (client, other) for _ in range(5)]
        assert await client.answers_pings() and await other.answers_pings()
        assert len(cache.asked(path)) == 1
        client.core.reset_stream(leader, ErrorCodes.CANCEL)
        client.flush()
        seen = [await each.answer(stream) for each, stream in followers]
        assert [(each.status, each.body) for each in seen] == [(200, b"quick")] * 10
        hit = await client.answer(await client.ask(path))
        assert "holdfast;hit" in hit.headers["cache-status"]


# --- what must not be shared ---

Fields = list[tuple[str, str]]
USUAL: Fields = [(":method", "GET"), (":scheme", "http"), (":authority", "{host}"), (":path", "/page")]


def with_(*more: tuple[str, str], **changes: str) -> Fields:
    """The usual request, with other pseudo fields and more fields."""
    return [*((dict(USUAL) | {f":{name}": value for name, value in changes.items()}).items()), *more]


def of(where: Place, fields: Fields) -> Fields:
    """Addressed to this gateway."""
    return [(name, value.replace("{host}", f"127.0.0.1:{where.gateway.port}")) for name, value in fields]


POISONS: dict[str, tuple[Fields, bytes]] = {
    "X-Forwarded-Host": (with_(("x-forwarded-host", "evil.test")), b""),
    "x_forwarded_host": (with_(("x_forwarded_host", "evil.test")), b""),
    "Forwarded": (with_(("forwarded", "host=evil.test")), b""),
    "X-Forwarded-Proto": (with_(("x-forwarded-proto", "evil")), b""),
    "X-Original-URL": (with_(("x-original-url", "/evil")), b""),
    "method override": (with_(("x-http-method-override", "EVIL")), b""),
    "Host beside :authority": (with_(("host", "evil.test")), b""),
    "Host instead of :authority": ([*USUAL[:2], USUAL[3], ("host", "evil.test")], b""),
    "another :authority": (with_(authority="evil.test"), b""),
    ":authority with a user": (with_(authority="evil@{host}"), b""),
    "fat GET": (with_(), b"evil"),
    "fat GET with a length": (with_(("content-length", "4")), b"evil"),
    "a length and no body": (with_(("content-length", "4"), ("x-a", "evil")), b""),
    "dot segments": (with_(path="/evil/../page"), b""),
    "fragment": (with_(path="/page#evil"), b""),
    "absolute :path": (with_(path="http://evil.test/page"), b""),
    "query in the path": (with_(path="/page%3Fq=evil"), b""),
    "a name in capitals": (with_(("X-Forwarded-Host", "evil.test")), b""),
    "a line break in a value": (with_(("x-a", "a\r\nx-forwarded-host: evil.test")), b""),
    "a line break in a name": (with_(("x-a: a\r\nx-forwarded-host", "evil.test")), b""),
    "a colon in a name": (with_(("x-forwarded-host: evil.test\r\nx", "a")), b""),
    "transfer-encoding": (with_(("transfer-encoding", "chunked")), b"4\r\nevil\r\n0\r\n\r\n"),
    "connection": (with_(("connection", "x-a"), ("x-a", "evil")), b""),
    "a second :path": ([*with_(), (":path", "/evil")], b""),
    "a pseudo field of our own": (with_(evil="evil"), b""),
    "a line break in :path": (with_(path="/page HTTP/1.1\r\nx-forwarded-host: evil.test"), b""),
    "a line break in :method": (with_(method="GET /evil HTTP/1.1\r\nx-a:"), b""),
}


async def test_nobody_gets_what_a_poisoner_provoked_over_http_2(tmp_path: Path) -> None:
    """What the key leaves out and the origin reads must not be stored for others, in either protocol's clients."""
    found: dict[str, str] = {}
    for upstream in UPSTREAMS:
        async with place(tmp_path / upstream, upstream=upstream) as where:
            where.origin.plan = gullible
            arrived = 0
            for name, (fields, body) in POISONS.items():
                await where.gateway.admin("/purge", "POST", json={"all": True})
                where.origin.forget()
                async with FrameClient(where.gateway.port) as poisoner:
                    await poisoner.begin()
                    await poisoner.send(headers(of(where, fields), end=not body) + (data(body) if body else b""))
                    await poisoner.until(1)
                arrived += any(r.body or "evil" in f"{r.target} {r.headers}".lower() for r in where.origin.requests)
                async with client_of(where.gateway, "h2c") as other:
                    answers = [await client.get("/page") for client in (other, where.client) for _ in range(2)]
                found |= {f"{name}, {upstream}": a.text for a in answers if a.text != "told "}
                assert all("hit" in told(a) for a in answers[1:]), name
            assert arrived >= 10, upstream  # the poison has passed, so that there was something to be kept away from
    assert found == {}


@pytest.mark.parametrize("method", ["get", "Get", "head", "GET "])
@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])
async def test_only_get_is_get(cache: Place, method: str, protocol: str) -> None:
    """RFC 9110, section 9.1: case counts. The refusal of a method that nobody knows must not answer those who GET."""
    refusal = keep(b"no such method", status=405)
    path = cache.at(lambda received: keep(b"page") if received.method == "GET" else refusal)
    if protocol == "HTTP/2":
        async with FrameClient(cache.gateway.port) as stranger:
            await stranger.begin()
            await stranger.send(headers(of(cache, with_(method=method, path=path))))
            status = (await stranger.until(1)).statuses.get(1)
    else:
        async with RawClient(cache.gateway.port) as stranger:
            await stranger.send(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{cache.gateway.port}\r\n\r\n".encode())
            status = (await stranger.answer_head()).status
    assert status in (None, 400, 405, 501)
    assert [(await cache.get(path)).content for _ in range(2)] == [b"page"] * 2


async def test_cookies_in_pieces_are_one_cookie(cache: Place) -> None:
    """RFC 9113, section 8.2.3: whoever sends the same cookie in another protocol is the same client."""
    path = cache.at(lambda received: keep(received.header("cookie").encode(), ("vary", "cookie")))
    async with FrameClient(cache.gateway.port) as pieces:
        await pieces.begin()
        await pieces.send(headers(of(cache, with_(("cookie", "a=1"), ("cookie", "b=2"), path=path))))
        assert (await pieces.until(1)).bodies[1] == b"a=1; b=2"
    whole = await cache.get(path, Cookie="a=1; b=2")
    assert (told(whole).get("hit"), whole.content) == (True, b"a=1; b=2")
    assert (await cache.get(path, Cookie="a=1")).content == b"a=1"


# --- what is not whole ---

HALF = keep(b"x" * 1000)
SHORT = Answer(headers=[("cache-control", "max-age=60"), ("content-length", "1000")], body=b"x" * 500, chunked=True)


@pytest.mark.parametrize(
    "broken",
    [
        StreamReset(ErrorCodes.INTERNAL_ERROR, "body", HALF),
        StreamReset(ErrorCodes.NO_ERROR, "body", HALF),
        StreamReset(ErrorCodes.CANCEL, "body", keep(b"x" * 1000, chunked=True)),
        StreamReset(ErrorCodes.INTERNAL_ERROR, "header", HALF),
        Break("body", "fin", HALF),
        Break("body", "hang", keep(b"x" * 1000, chunked=True)),
        SHORT,
    ],
    ids=lambda step: str(step)[:40],
)
async def test_a_stream_that_was_cut_short_is_never_stored(h2c: Place, broken: Step) -> None:
    """RFC 9111, section 3.3, and RFC 9113, section 8.1.1: a failure for whoever asked, and the whole for the next."""
    path = h2c.at([broken] * 3 + [keep(b"whole")])
    first = await h2c.get(path)
    assert first.status_code == 503
    answer = await h2c.get(path, Cache_Control="max-stale, stale-if-error=1000")
    assert (answer.content, told(answer)["fwd"]) == (b"whole", "miss")
    assert "hit" in told(await h2c.get(path))


async def test_what_is_whole_before_a_shutdown_is_stored(h2c: Place) -> None:
    """RFC 9113, section 6.8: a graceful GOAWAY takes nothing from the answer that it lets finish."""
    path = h2c.at([GoAway(then="finish", answer=keep(b"whole")), keep(b"again")])
    answers: list[Any] = [await h2c.get(path) for _ in range(2)]
    assert [a.content for a in answers] == [b"whole"] * 2
    assert "hit" in told(answers[1])
