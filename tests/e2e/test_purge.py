"""Purges on the wire: by tag, URL and everything, hard and soft, by the control surface and by the command."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.cached import cached, caching, keep, status_of
from tests.e2e.harness import Gateway, run_cli
from tests.services.process import free_port

PATHS = ("/red/1", "/red/2", "/blue")


def coloured(received: Received) -> Answer:
    """Tagged by its first segment; stale answers may be used."""
    fields = [("Surrogate-Key", f"all {received.target.split('/')[1]}")]
    return keep(received.target.encode(), *fields, cache_control="max-age=60, stale-if-error=60")


async def held(client: httpx.AsyncClient) -> set[str]:
    """Which of the paths are answered from the cache."""
    return {path for path in PATHS if status_of(await client.get(path)) == "hit"}


@pytest.mark.parametrize("way", ["page", "command"])
@pytest.mark.parametrize(
    ("what", "left"),
    [
        ({"tags": ["red"]}, {"/blue"}),
        ({"tags": ["red", "blue"]}, set()),
        ({"tags": ["RED"]}, set(PATHS)),
        ({"urls": ["{base}/red/1"]}, {"/red/2", "/blue"}),
        ({"all": True}, set()),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
async def test_a_purge_hits_what_it_names_and_nothing_else(
    tmp_path: Path, way: str, what: dict[str, Any], left: set[str]
) -> None:
    """POST /purge and `holdfast purge` are the same."""
    async with caching(tmp_path, coloured) as (_, gateway, client):
        await held(client)
        assert await held(client) == set(PATHS)
        named = {k: [each.replace("{base}", gateway.url) for each in v] if k == "urls" else v for k, v in what.items()}
        if way == "page":
            done = await gateway.admin("/purge", "POST", json=named)
            assert (done.status_code, done.json()["soft"]) == (200, False)
        else:
            options = [f"--tag={each}" for each in named.get("tags", [])]
            options += [f"--url={each}" for each in named.get("urls", [])] + ["--all"] * ("all" in named)
            assert b"purged: " in await gateway.cli("purge", *options)
        assert await held(client) == left
        counted = sum(v for k, v in (await gateway.metrics()).items() if k[0] == "holdfast_purged_total")
        assert counted == len(next(iter(what.values())) if "all" not in what else [1])


async def test_a_soft_purge_makes_stale(tmp_path: Path) -> None:
    """While the upstream lives it is asked; while it does not, what is stored answers."""
    async with caching(tmp_path, coloured) as (origin, gateway, client):
        await held(client)
        assert json.loads(await gateway.cli("purge", "--tag", "red", "--soft", "--json"))["soft"] is True
        async with origin.refusing():
            answer = await client.get("/red/1")
            assert (answer.status_code, answer.content) == (200, b"/red/1")
            assert answer.headers["cache-status"].endswith("detail=stale-if-error")
        assert await held(client) >= {"/blue"}
        assert (await client.get("/red/2")).status_code == 200


async def test_a_purge_during_a_fill_is_not_undone(tmp_path: Path) -> None:
    """Promise 4: what was asked of the origin before the purge is not used after it."""
    slow = keep(b"old", ("Surrogate-Key", "red"), delay=0.25)
    async with caching(tmp_path, [slow, keep(b"new")]) as (origin, gateway, client):
        filling = asyncio.create_task(client.get("/a"))
        await origin.wait_for(1)
        assert (await gateway.admin("/purge", "POST", json={"tags": ["red"]})).status_code == 200
        assert (await filling).content == b"old"
        assert (await client.get("/a")).content == b"new"


@pytest.mark.parametrize(
    ("fields", "tag"),
    [
        ([("Surrogate-Key", "one two")], "two"),
        ([("Cache-Tag", "one, two")], "two"),
        ([("xkey", "one"), ("xkey", "two")], "two"),
        ([("Cache-Groups", '"one", "two"')], "two"),
        ([], "users"),
        ([], "user-7"),
    ],
    ids=["Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups", "route", "route with parameter"],
)
async def test_tags_come_from_the_origin_and_from_the_route(
    tmp_path: Path, fields: list[tuple[str, str]], tag: str
) -> None:
    """What is for caches alone is taken off; Cache-Groups is for the client's cache too."""
    surrogate = {"tags": {"user": ["users", "user-{id}"]}}
    async with caching(tmp_path, keep(b"ok", *fields), surrogate=surrogate) as (_, gateway, client):
        answers = [await client.get("/api/users/7") for _ in range(2)]
        for answer in answers:
            assert not {"surrogate-key", "cache-tag", "xkey"} & set(answer.headers)
            assert ("cache-groups" in answer.headers) == any(name == "Cache-Groups" for name, _ in fields)
        assert status_of(answers[1]) == "hit"
        await gateway.cli("purge", "--tag", tag)
        assert status_of(await client.get("/api/users/7")) == "miss"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [("a b c d", "count"), ("x" * 50, "length"), ("caf\xe9", "characters")],
)
async def test_tags_beyond_the_limits_are_refused_loudly(tmp_path: Path, tags: str, reason: str) -> None:
    """A response whose purge would miss it is not stored: said in the log, the metric and Cache-Status."""
    plan = keep(b"ok", ("Surrogate-Key", tags))
    async with caching(tmp_path, plan, surrogate={"max_tags": 3, "max_length": 40}) as (origin, gateway, client):
        answers = [await client.get("/a") for _ in range(2)]
        assert [a.status_code for a in answers] == [200, 200]
        assert len(origin.requests) == 2
        assert f"detail=tags-{reason}" in answers[0].headers["cache-status"]
        assert (await gateway.metrics())["holdfast_surrogate_refused_total", f"reason={reason}"] == 2
        assert "surrogate key refused" in gateway.log()


async def test_an_unsafe_requests_answer_purges_groups(tmp_path: Path) -> None:
    """RFC 9875, section 3: Cache-Group-Invalidation, before the client has the answer; not after a safe method."""

    def plan(received: Received) -> Answer:
        if received.target.startswith("/change"):
            return Answer(headers=[("Cache-Group-Invalidation", '"red"')])
        return keep(b"ok", ("Cache-Groups", '"red"' if "red" in received.target else '"blue"'))

    async with caching(tmp_path, plan) as (_, _, client):
        await held(client)
        await client.get("/change")
        assert await held(client) == set(PATHS)
        await client.post("/change")
        assert await held(client) == {"/blue"}


async def test_a_purge_needs_the_token(tmp_path: Path) -> None:
    """`admin.token`: the page refuses without it, the command takes it from the profile."""
    async with MisbehavingOrigin(coloured) as origin:
        made = {**cached(origin.url), "admin": {"token": "s3cret"}}
        async with Gateway(tmp_path, made=made) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
            await held(client)
            async with httpx.AsyncClient(base_url=gateway.admin_url) as stranger:
                for headers in ({}, {"Authorization": "Bearer guess"}):
                    refused = await stranger.post("/purge", json={"all": True}, headers=headers)
                    assert refused.status_code == 401
            assert await held(client) == set(PATHS)
            other = tmp_path / "other.yaml"
            other.write_text((tmp_path / "profile.yaml").read_text().replace("s3cret", "guess"))
            code, _, err = await run_cli("purge", "--all", "--profile", str(other), cwd=tmp_path)
            assert (code, "admin.token" in err) == (2, True)
            assert await held(client) == set(PATHS)
            await gateway.cli("purge", "--all")
            assert await held(client) == set()


async def test_what_cannot_be_purged_says_why(tmp_path: Path) -> None:
    """Exit 2 for what has to be said otherwise, 1 for what may work later."""
    async with caching(tmp_path / "with", coloured) as (_, gateway, client):
        await held(client)
        for words, told in (
            (["purge"], "--tag, --url or --all"),
            (["purge", "--url", "nonsense"], "is no URL"),
            (["purge", "--tag", "*"], "is no tag"),
            (["explain", "/a"], "http://host/path"),
            (["explain", f"{gateway.url}/a", "-H", "nonsense"], "is no header field"),
        ):
            code, out, err = await run_cli(*words, "--profile", gateway.profile, cwd=tmp_path)
            assert (code, out) == (2, ""), words
            assert told in err
        for body in (b"", b"[]", b'{"tags": "red"}', b'{"unknown": 1}', b"{}"):
            assert (await gateway.admin("/purge", "POST", content=body)).status_code == 400
        assert await held(client) == set(PATHS)
    code, _, err = await run_cli("purge", "--all", "--profile", gateway.profile, cwd=tmp_path)
    assert (code, "no gateway answers" in err) == (1, True)
    async with MisbehavingOrigin() as origin, Gateway(tmp_path / "without", origin.url) as gateway:
        code, _, err = await run_cli("purge", "--all", "--profile", gateway.profile, cwd=tmp_path)
        assert (code, "the profile has no cache" in err) == (2, True)


async def test_without_redis_a_purge_is_refused(tmp_path: Path) -> None:
    """What cannot be made to hold everywhere is not answered as if it did; requests go on."""
    store = f"redis://127.0.0.1:{free_port()}/0"
    async with caching(tmp_path, keep(b"hello"), store=store) as (_, gateway, client):
        assert [(await client.get("/a")).content for _ in range(2)] == [b"hello"] * 2
        code, _, err = await run_cli("purge", "--all", "--profile", gateway.profile, cwd=tmp_path)
        assert (code, "nothing was purged" in err) == (1, True)
        assert (await gateway.admin("/purge", "POST", json={"all": True})).status_code == 503


async def test_explain_says_what_would_be_done_and_why(tmp_path: Path) -> None:
    """The key, what is stored, the decision and the directive that decided; nothing is sent."""
    async with caching(tmp_path, keep(b"hello", ("Surrogate-Key", "red"), ("Vary", "Accept-Language"))) as found:
        origin, gateway, client = found
        url = f"{gateway.url}/a"
        nothing = json.loads(await gateway.cli("explain", url, "--json"))["details"]["cache"]
        assert (nothing["decision"], nothing["because"], nothing["stored"]) == ("Miss", "nothing-stored", None)
        await client.get("/a", headers={"Accept-Language": "de"})
        told = json.loads(await gateway.cli("explain", url, "--json", "-H", "Accept-Language: de"))["details"]["cache"]
        assert (told["decision"], told["because"], told["key"]) == ("Fresh", "max-age", url)
        assert (told["stored"]["status"], told["stored"]["bytes"], told["stored"]["tags"]) == (200, 5, ["red"])
        text = (await gateway.cli("explain", url, "-H", "Accept-Language: de")).decode()
        for part in ("a hit", "max-age", "status 200, 5 bytes", "red", "accept-language: de", "fresh for"):
            assert part in text
        assert "a miss" in (await gateway.cli("explain", url, "-H", "Accept-Language: fr")).decode()
        assert "only GET and HEAD" in (await gateway.cli("explain", url, "-X", "POST")).decode()
        assert "host_override" in (await gateway.cli("explain", url, "-H", "X-Forwarded-Host: evil")).decode()
        assert len(origin.requests) == 1
