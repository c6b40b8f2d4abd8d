"""`holdfast explain`: what is told of a request is what becomes of it when it is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.cached import caching, keep, status_of
from tests.e2e.harness import run_cli


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
