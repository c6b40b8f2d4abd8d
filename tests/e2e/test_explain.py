"""`holdfast explain`: what is told of a request is what becomes of it when it is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.cached import caching, keep, status_of
from tests.e2e.harness import Gateway, profile, run_cli, until


async def test_what_is_told_is_what_happens(tmp_path: Path) -> None:
    """A miss, a hit, a pass; route, servers and what would be captured, in words and as JSON; nothing is sent."""
    async with caching(tmp_path, keep(b"hello")) as (origin, gateway, client):

        async def told(path: str, *more: str) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(await gateway.cli("explain", f"{gateway.url}{path}", "--json", *more))
            return found

        assert (await told("/api/users/7"))["answered_by"] == "upstream"
        assert origin.requests == []
        await client.get("/api/users/7")
        assert (await told("/api/users/7"))["answered_by"] == "cache"
        assert status_of(await client.get("/api/users/7")) == "hit"
        text = (await gateway.cli("explain", f"{gateway.url}/api/users/7", "-X", "POST", "-H", "Cookie: a")).decode()
        for part in ("user, id=7", "only GET and HEAD", "the upstream", "in service, circuit closed", "not in retry"):
            assert part in text, text
        assert max(map(len, text.splitlines())) <= 100
        assert len(origin.requests) == 1


async def test_a_breaker_that_is_open_is_told(tmp_path: Path) -> None:
    """Whoever asks why every request fails sees which server is held back; what is no request is refused, with 2."""
    changes = {"upstream__breaker": {"max_fails": 1, "fail_timeout": "60s"}, "upstream__retry__attempts": 1}
    async with caching(tmp_path, keep(), changes=changes) as (origin, gateway, client):
        await origin.stop()
        assert (await client.get("/api/users/7")).status_code == 503
        text = (await gateway.cli("explain", f"{gateway.url}/api/users/7")).decode()
        assert "the gateway: every server is held back" in text, text
        code, _, err = await run_cli("explain", "/a", "--profile", gateway.profile, cwd=tmp_path)
        assert (code, "write it like http://host/path" in err) == (2, True), err
        assert "circuit open, 1 failures in a row, last error connection_refused" in " ".join(text.split()), text


type Case = tuple[str, str, dict[str, str]]
GRPC, UPGRADE = {"Content-Type": "application/grpc"}, {"Connection": "Upgrade", "Upgrade": "websocket"}
CASES: list[Case] = [
    ("GET", "/kept/1", {}),
    ("HEAD", "/kept/1", {}),
    ("GET", "/kept/1", {"Cache-Control": "no-cache"}),
    ("GET", "/kept/1", {"Host": "LOCALHOST"}),
    ("GET", "/kept/2", {}),
    ("GET", "/kept/2", {"Cache-Control": "only-if-cached"}),
    ("GET", "/skipped/1", {}),
    ("GET", "/skipped/1", {"If-Match": '"x"'}),
    ("GET", "/skipped/2", {}),
    ("POST", "/skipped/1", {}),
    ("POST", "/skipped/1", GRPC),
    ("GET", "/skipped/2", UPGRADE),
    ("GET", "/plain/1", {}),
    ("POST", "/plain/1", {}),
    ("POST", "/always/1", {}),
    ("POST", "/always/1", GRPC),
    ("POST", "/always/1", {"Holdfast-Replay": "1"}),
    ("GET", "/always/1", {}),
    ("POST", "/order/1", {}),
    ("POST", "/order/1", {}),
    ("GET", "/order/1", {}),
    ("GET", "/recorded/1", {}),
    ("GET", "/recorded/2", {}),
    ("POST", "/recorded/1", {}),
    ("PURGE", "/kept/1", {}),
    ("GET", "/health", {}),
]


@pytest.mark.parametrize("order", ["cui", "iuc"])
async def test_who_answers_and_what_is_kept_is_told_as_it_then_is(tmp_path: Path, order: str) -> None:
    """An origin that fails, a cache, recordings, and routes of all kinds; wherever they stand in the profile."""
    chosen = {
        "c": {"cache": {"grace_on_error": "1h", "skip": ["skipped"], "purge_from": ["127.0.0.1"]}},
        "u": {"understudy": {"routes": {"recorded": {"answer": "always"}}}},
        "i": {"interceptor": {"routes": {
            "order": {"order": True}, "always": {"mode": "always", "answer": 202}, "plain": {"capture": False},
        }}},
    }  # fmt: skip
    names = ("kept", "skipped", "plain", "always", "order", "recorded")
    async with MisbehavingOrigin(keep(b"{}")) as origin:
        made = profile(origin.url)
        router = {"router": {"routes": [{"name": name, "path": f"/{name}/{{id}}"} for name in names]}}
        made["addons"] = [router, *(chosen[letter] for letter in order), {"failure_sink": {"outbox": "o.db"}}]
        async with Gateway(tmp_path, origin.url, made=made) as gateway:
            async with raw.RawClient(gateway.port) as client:
                for path in ("/kept/1", "/skipped/1"):
                    await client.request("GET", path)
            await until(lambda: len([*tmp_path.rglob("get.*.yaml")]) == 2, what="the recordings")
            origin.plan = Answer(503)
            wrong = [each for each in [await _differs(gateway, origin, case) for case in CASES] if each]
    assert not wrong, "\n".join(wrong)


async def _differs(gateway: Gateway, origin: MisbehavingOrigin, case: Case) -> str:
    """How what happens differs from what was told; empty if it does not."""
    method, path, fields = case
    asked = [
        ("url", f"http://gateway.test{path}"),
        ("method", method),
        *(("header", f"{n}: {v}") for n, v in fields.items()),
    ]
    told, before = (await gateway.admin("/explain", params=asked)).json(), len(origin.requests)
    async with raw.RawClient(gateway.port) as client:
        answer = await client.request(method, path, headers=[*fields.items()])
    steps = {step["addon"]: step for step in told["chain"]}
    better = any("if_failed" in details for details in told["details"].values())
    expected = (told["answered_by"] == "upstream", steps["failure_sink"]["acts"] and not better)
    happened = (len(origin.requests) > before, answer.header("holdfast-capture-id") is not None)
    return "" if expected == happened else f"{case}: (asked, captured) {expected}, was {happened}; {told['chain']}"
