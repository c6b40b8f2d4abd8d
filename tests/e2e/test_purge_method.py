"""The method PURGE, and purges on an origin's word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing import Answer
from holdfast.testing.received import Received
from tests.e2e.cached import caching, keep, status_of
from tests.e2e.harness import run_cli
from tests.e2e.test_purge import PATHS, coloured, held

FROM_HERE = ["192.0.2.0/24", "127.0.0.1"]


@pytest.mark.parametrize(
    ("path", "fields", "left"),
    [
        ("/red/1", {}, {"/red/2", "/blue"}),
        ("/red/1?other", {}, set(PATHS)),
        ("/", {"Surrogate-Key": "red"}, {"/blue"}),
        ("/blue", {"Surrogate-Key": "red"}, {"/blue"}),
        ("/", {"xkey": "red, blue"}, set()),
        ("/", {"Cache-Tag": "all"}, set()),
    ],
)
async def test_purge_purges_its_url_or_the_tags_that_it_names(
    tmp_path: Path, path: str, fields: dict[str, str], left: set[str]
) -> None:
    """By content systems' convention: the URL with all its variants, or what a header field names."""
    async with caching(tmp_path, coloured, purge_from=FROM_HERE) as (origin, gateway, client):
        await held(client)
        asked = len(origin.requests)
        done = await client.request("PURGE", path, headers=fields)
        assert (done.status_code, done.json()["soft"], done.json()["purged"] > 0) == (200, False, True)
        assert len(origin.requests) == asked
        assert await held(client) == left
        kind = "tag" if fields else "url"
        assert (await gateway.metrics())["holdfast_purged_total", f"kind={kind}"] >= 1


@pytest.mark.parametrize("field", ["Holdfast-Soft-Purge", "Fastly-Soft-Purge"])
async def test_a_soft_purge_by_method_makes_stale(tmp_path: Path, field: str) -> None:
    """What is stored answers while the upstream fails."""
    async with caching(tmp_path, coloured, purge_from=FROM_HERE) as (origin, _, client):
        await held(client)
        assert (await client.request("PURGE", "/red/1", headers={field: "1"})).json()["soft"] is True
        async with origin.refusing():
            answer = await client.get("/red/1")
        assert (answer.content, answer.headers["cache-status"].endswith("detail=stale-if-error")) == (b"/red/1", True)


async def test_purge_from_elsewhere_is_refused(tmp_path: Path) -> None:
    """Whoever is not named has no right to it, whatever a header says of where it comes from."""
    async with caching(tmp_path, coloured, purge_from=["192.0.2.0/24", "2001:db8::/32"]) as (origin, gateway, client):
        await held(client)
        for fields in ({}, {"X-Forwarded-For": "192.0.2.1"}, {"Surrogate-Key": "red"}):
            refused = await client.request("PURGE", "/red/1", headers=fields)
            assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        assert await held(client) == set(PATHS)
        assert all(received.method == "GET" for received in origin.requests)
        assert (await gateway.metrics())[
            *("holdfast_requests_total", "fate=rejected", "method=OTHER", "route=other", "status=403"),
        ] == 3


async def test_purge_is_a_method_like_any_other_unless_the_profile_says_so(tmp_path: Path) -> None:
    """Off by default: the origin gets it, and as an unsafe method answered with 200 it invalidates its own URL only."""

    def plan(received: Received) -> Answer:
        return Answer() if received.method == "PURGE" else coloured(received)

    async with caching(tmp_path, plan) as (origin, _, client):
        await held(client)
        assert (await client.request("PURGE", "/red/1", headers={"Surrogate-Key": "blue"})).status_code == 200
        assert origin.requests[-1].method == "PURGE"
        assert await held(client) == {"/red/2", "/blue"}


async def test_an_address_that_is_none_is_a_fault_of_the_profile(tmp_path: Path) -> None:
    """With what to write instead."""
    profile = tmp_path / "bad.yaml"
    profile.write_text("version: 1\nextends: cache\naddons:\n  - cache: {purge_from: [localhost]}\n")
    code, out, err = await run_cli("check", str(profile), cwd=tmp_path)
    assert code == 2
    assert "'localhost' is no address or network: write 127.0.0.1 or 10.0.0.0/8" in out + err


@pytest.mark.parametrize(
    ("method", "status", "fields", "left"),
    [
        ("POST", 200, [("Surrogate-Key", "red")], {"/blue"}),
        ("PUT", 204, [("Cache-Tag", "red, blue")], set()),
        ("DELETE", 303, [("xkey", "blue")], {"/red/1", "/red/2"}),
        ("POST", 200, [("Surrogate-Key", "*")], set(PATHS)),
        ("POST", 422, [("Surrogate-Key", "red")], set(PATHS)),
        ("POST", 500, [("Surrogate-Key", "red")], set(PATHS)),
        ("GET", 200, [("Surrogate-Key", "red")], set(PATHS)),
    ],
)
async def test_the_answer_to_an_unsafe_request_purges_the_tags_it_carries(
    tmp_path: Path, method: str, status: int, fields: list[tuple[str, str]], left: set[str]
) -> None:
    """An origin that says which tags a change concerns need not know the gateway; an error has changed nothing."""

    def plan(received: Received) -> Answer:
        return Answer(status, headers=fields) if received.target == "/change" else coloured(received)

    async with caching(tmp_path, plan) as (_, _, client):
        await held(client)
        answer = await client.request(method, "/change")
        assert not {"surrogate-key", "cache-tag", "xkey"} & set(answer.headers)
        assert await held(client) == left


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_url_is_purged_whichever_way_people_call_it(tmp_path: Path, scheme: str) -> None:
    """Behind something that ends TLS the gateway sees http where everybody writes https."""
    async with caching(tmp_path, keep()) as (_, gateway, client):
        host = {"Host": "example.com"}
        assert [status_of(await client.get("/a", headers=host)) for _ in range(2)] == ["miss", "hit"]
        answer = await gateway.admin("/purge", "POST", json={"urls": [f"{scheme}://example.com/a"]})
        assert answer.json() == {"purged": 1, "soft": False, "urls": [f"{scheme}://example.com/a"]}
        assert status_of(await client.get("/a", headers=host)) == "miss"


async def test_rules_of_a_route_hold_there_and_nowhere_else(tmp_path: Path) -> None:
    """`cache.routes`: lifetimes, limits and grace; `skip` and `explain` know the route too."""
    routes: dict[str, Any] = {"user": {"default_lifetime": "60s", "max_body": "1KiB"}, "users": {"grace": "60s"}}

    def plan(received: Received) -> Answer:
        return Answer(body=b"x" * (2000 if received.target.endswith("/big") else 10))

    async with caching(tmp_path, plan, routes=routes, skip=["users"]) as (_, gateway, client):

        async def second(path: str) -> httpx.Response:
            await client.get(path)
            return await client.get(path)

        assert status_of(await second("/api/users/7")) == "hit"
        assert (await second("/api/users/big")).headers["cache-status"].endswith("detail=max-body")
        assert (await second("/elsewhere")).headers["cache-status"].split(";")[1] == "fwd=miss"
        assert "cache-status" not in (await second("/api/users")).headers
        told = {
            path: (await gateway.admin("/explain", params={"url": f"{gateway.url}{path}"})).json()
            for path in ("/api/users/7", "/api/users")
        }
        decided = {path: (each["request"]["route"], each["details"]["cache"]) for path, each in told.items()}
        assert (decided["/api/users/7"][0], decided["/api/users/7"][1]["decision"]) == ("user", "Fresh")
        assert decided["/api/users"] == ("users", {"decision": "Pass", "because": "skip"})
