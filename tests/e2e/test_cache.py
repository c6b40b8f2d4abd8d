"""The cache on the wire: hits, misses, validation, variants, parts, and what is not stored."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.cached import cached, caching, fates, keep, status_of
from tests.e2e.harness import Gateway


async def test_the_second_request_is_a_hit(tmp_path: Path) -> None:
    """RFC 9111, section 4; RFC 9211."""
    async with caching(tmp_path, keep(b"hello")) as (origin, gateway, client):
        first, second = await client.get("/a"), await client.get("/a")
        assert (status_of(first), status_of(second)) == ("miss", "hit")
        assert (second.status_code, second.content) == (200, b"hello")
        assert "age" not in first.headers
        assert int(second.headers["age"]) <= 1
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert len(origin.requests) == 1
        assert await fates(gateway) == {"ok": 1, "hit": 1}
        figures = await gateway.metrics()
        assert figures["holdfast_cache_requests_total", "result=hit"] == 1
        assert figures["holdfast_cache_requests_total", "result=miss"] == 1


async def test_head_is_answered_from_a_stored_get(tmp_path: Path) -> None:
    """RFC 9110, section 9.3.2."""
    async with caching(tmp_path, keep(b"hello")) as (origin, _, client):
        await client.get("/a")
        answer = await client.head("/a")
        assert (status_of(answer), answer.headers["content-length"], answer.content) == ("hit", "5", b"")
        assert len(origin.requests) == 1


async def test_a_client_that_has_it_gets_304(tmp_path: Path) -> None:
    """RFC 9111, section 4.3.2."""
    async with caching(tmp_path, keep(b"hello", ("ETag", '"1"'))) as (origin, _, client):
        first = await client.get("/a", headers={"If-None-Match": '"1"'})
        await client.get("/a")
        again = await client.get("/a", headers={"If-None-Match": '"1"'})
        other = await client.get("/a", headers={"If-None-Match": '"2"'})
        assert (again.status_code, again.content, status_of(again)) == (304, b"", "hit")
        assert (other.status_code, other.content) == (200, b"hello")
        assert first.status_code in (200, 304)
        assert len(origin.requests) <= 2


async def test_a_part_is_cut_out_of_what_is_stored(tmp_path: Path) -> None:
    """RFC 9110, section 14."""
    async with caching(tmp_path, keep(b"0123456789", ("ETag", '"1"'))) as (origin, _, client):
        await client.get("/a")
        part = await client.get("/a", headers={"Range": "bytes=2-4"})
        beyond = await client.get("/a", headers={"Range": "bytes=50-"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert beyond.status_code == 416
        assert len(origin.requests) == 1


async def test_what_is_stale_is_validated(tmp_path: Path) -> None:
    """RFC 9111, section 4.3: the origin is asked with the entity tag, and its 304 makes the response fresh again."""

    def plan(received: Received) -> Answer:
        if received.header("if-none-match") == '"1"':
            return Answer(304, headers=[("ETag", '"1"'), ("Cache-Control", "max-age=60")], body=b"")
        return keep(b"hello", ("ETag", '"1"'), cache_control="max-age=0")

    async with caching(tmp_path, plan) as (origin, gateway, client):
        answers = [await client.get("/a") for _ in range(3)]
        assert [(a.status_code, a.content) for a in answers] == [(200, b"hello")] * 3
        assert [status_of(a) for a in answers] == ["miss", "stale", "hit"]
        assert "fwd-status=304" in answers[1].headers["cache-status"]
        assert len(origin.requests) == 2
        assert (await gateway.metrics())["holdfast_cache_requests_total", "result=revalidated"] == 1


async def test_each_variant_is_kept_for_itself(tmp_path: Path) -> None:
    """RFC 9111, section 4.1."""

    def plan(received: Received) -> Answer:
        return keep(received.header("accept-language").encode(), ("Vary", "Accept-Language"))

    async with caching(tmp_path, plan) as (origin, _, client):
        for language in ("de", "fr", "de", "fr", "DE"):
            answer = await client.get("/a", headers={"Accept-Language": language})
            assert answer.text == language.lower()
        assert len(origin.requests) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(), ""),
        (Answer(headers=[("Cache-Control", "no-store")]), "no-store"),
        (Answer(headers=[("Cache-Control", "private, max-age=60")]), "private"),
        (keep(b"ok", ("Set-Cookie", "session=1")), "set-cookie"),
        (keep(b"ok", ("Vary", "*")), "vary"),
        (keep(b"x" * 5000), "max-body"),
        (Answer(206, headers=[("Cache-Control", "max-age=60"), ("Content-Range", "bytes 0-1/10")]), "status"),
    ],
    ids=["says nothing", "no-store", "private", "Set-Cookie", "Vary: *", "too large", "206"],
)
async def test_what_must_not_be_stored_is_not(tmp_path: Path, answer: Answer, why: str) -> None:
    """RFC 9111, section 3; Cache-Status says why."""
    async with caching(tmp_path, answer, max_body="4KiB") as (origin, _, client):
        answers = [await client.get("/a") for _ in range(2)]
        assert len(origin.requests) == 2
        assert {a.content for a in answers} == {answer.body}
        assert all("stored=?0" in a.headers["cache-status"] for a in answers)
        assert why in answers[0].headers["cache-status"]


async def test_a_streamed_body_passes_uncached(tmp_path: Path) -> None:
    """`limits.buffer_body`: what is not held cannot be kept."""
    changes = {"limits": {"buffer_body": "8KiB"}}
    async with caching(tmp_path, keep(b"x" * 100_000), changes=changes) as (origin, _, client):
        answers = [await client.get("/a") for _ in range(2)]
        assert [len(a.content) for a in answers] == [100_000] * 2
        assert len(origin.requests) == 2
        assert "stored=?0" in answers[0].headers["cache-status"]


async def test_one_users_answer_never_reaches_another(tmp_path: Path) -> None:
    """RFC 9111, section 3.5, and what cookies mean even where the origin does not say so."""

    def plan(received: Received) -> Answer:
        user = received.header("authorization") or received.header("cookie") or "nobody"
        fields = [("Set-Cookie", f"user={user}")] if received.target == "/login" else []
        if received.target == "/guessed":
            return Answer(headers=[("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")], body=user.encode())
        if received.target.endswith(".css"):
            return Answer(headers=[("ETag", f'"{user}"')], body=user.encode())
        return keep(user.encode(), *fields)

    async with caching(tmp_path, plan, default_lifetime="60s", grace_on_error="1h") as (_, gateway, _):

        async def seen(path: str, **fields: str) -> str:
            async with httpx.AsyncClient(base_url=gateway.url, headers=fields) as client:
                return (await client.get(path)).text

        for user in ("Bearer ada", "Bearer eve"):
            for path in ("/account", "/login", "/guessed"):
                assert await seen(path, Authorization=user) == user
        for user in ("user=ada", "user=eve"):
            for path in ("/login", "/guessed", "/account.php/x.css"):
                assert await seen(path, Cookie=user) == user
        for path in ("/account", "/login", "/guessed", "/account.php/x.css"):
            assert await seen(path) == "nobody"


async def test_what_the_route_skips_passes_by(tmp_path: Path) -> None:
    """`skip`."""
    async with caching(tmp_path, keep(), skip=["users"]) as (origin, _, client):
        for path in ("/api/users", "/api/users", "/api/users/1", "/api/users/1"):
            await client.get(path)
        assert [each.target for each in origin.requests] == ["/api/users", "/api/users", "/api/users/1"]


async def test_a_client_may_insist_on_the_origin(tmp_path: Path) -> None:
    """RFC 9111, section 5.2.1; only-if-cached asks for the opposite."""
    async with caching(tmp_path, keep()) as (origin, _, client):
        nothing = await client.get("/a", headers={"Cache-Control": "only-if-cached"})
        assert (nothing.status_code, len(origin.requests)) == (504, 0)
        await client.get("/a")
        assert (await client.get("/a", headers={"Cache-Control": "only-if-cached"})).status_code == 200
        assert status_of(await client.get("/a", headers={"Cache-Control": "no-cache"})) == "request"
        assert len(origin.requests) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_an_unsafe_request_invalidates(tmp_path: Path, method: str) -> None:
    """RFC 9111, section 4.4: the URL itself, and what Location names; not after an error."""

    def plan(received: Received) -> Answer:
        if received.method == "GET":
            return keep()
        return Answer(400 if "bad" in received.target else 201, headers=[("Location", "/made")])

    async with caching(tmp_path, plan) as (origin, _, client):
        for path in ("/a", "/made", "/bad", "/other"):
            await client.get(path)
        await client.request(method, "/a")
        await client.request(method, "/bad")
        origin.forget()
        said = {path: status_of(await client.get(path)) for path in ("/a", "/made", "/bad", "/other")}
        assert said == {"/a": "miss", "/made": "miss", "/bad": "hit", "/other": "hit"}


async def test_a_cache_that_raises_fails_no_request(tmp_path: Path) -> None:
    """Promise 2: with `on_error: open` the upstream answers."""
    (tmp_path / "broken.py").write_text(
        "from holdfast.cache import Cache\n\n\n"
        "class Broken(Cache):\n"
        "    async def request(self, flow):\n        raise RuntimeError('told to')\n\n"
        "    async def response(self, flow):\n        raise RuntimeError('told to')\n"
    )
    async with MisbehavingOrigin(keep(b"hello")) as origin:
        made = cached(origin.url)
        made["addons"][2] = {"use": "broken:Broken", "with": {}, "on_error": "open"}
        async with Gateway(tmp_path, made=made) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
            answers = [await client.get("/a") for _ in range(3)]
            assert [(a.status_code, a.content) for a in answers] == [(200, b"hello")] * 3
            errors = [v for k, v in (await gateway.metrics()).items() if k[0] == "holdfast_addon_errors_total"]
            assert sum(errors) >= 3
