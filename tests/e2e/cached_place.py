"""One gateway with a cache for many cases: each has a path of its own, for which alone the origin has a plan."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import http_sf
import httpx

from holdfast.testing import Answer, MisbehavingOrigin, Plan, Received, Step
from holdfast.testing.plans import Script
from tests.e2e.cached import cached, keep
from tests.e2e.harness import Gateway

OLD = ("Age", "100")
"""What comes with this and a lifetime of ten seconds has been stale for ninety when it arrives: nobody need wait."""


@dataclass
class Place:
    """The gateway, its origin, a client of it, and what it speaks to the origin."""

    origin: MisbehavingOrigin
    gateway: Gateway
    client: httpx.AsyncClient
    speaks: str = "http"
    _scripts: dict[str, Script] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def at(self, plan: Plan, path: str = "") -> str:
        """A new path, or this one again, with its plan; nothing has been asked there as yet."""
        path = path or f"/case/{next(self._numbers)}"
        self._scripts[path] = Script(plan, http2=True)
        self.origin.requests = [each for each in self.origin.requests if each.target.partition("?")[0] != path]
        return path

    def step(self, received: Received) -> Step:
        """The origin's plan."""
        script = self._scripts.get(received.target.partition("?")[0])
        return script.next(received) if script else Answer(404)

    def asked(self, path: str) -> list[Received]:
        """What the origin has been asked for there."""
        return [each for each in self.origin.requests if each.target.partition("?")[0] == path]

    async def get(self, path: str, **fields: str) -> httpx.Response:
        """With header fields, `_` for the hyphen."""
        return await self.client.get(path, headers={name.replace("_", "-"): value for name, value in fields.items()})


@asynccontextmanager
async def place(folder: Path, *, upstream: str = "http", **settings: Any) -> AsyncIterator[Place]:
    """A gateway whose cache has these settings. `upstream` is `http` or `h2c`."""
    async with MisbehavingOrigin(protocol="h2" if upstream == "h2c" else "http/1.1") as origin:
        made = cached(f"{upstream}://127.0.0.1:{origin.port}", **settings)
        async with Gateway(folder, made=made) as gateway:
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(base_url=gateway.url, timeout=15, limits=limits) as client:
                found = Place(origin, gateway, client, upstream)
                origin.plan = found.step
                yield found
        assert not origin.violations


def stale(body: bytes = b"ok", *fields: tuple[str, str], says: str = "", **more: Any) -> Answer:
    """An answer that has been stale for ninety seconds, with these directives beside its lifetime."""
    return keep(body, OLD, *fields, cache_control=f"max-age=10{says and f', {says}'}", **more)


def told(answer: httpx.Response) -> dict[str, Any]:
    """Our member of Cache-Status, read as RFC 9211 has it; `hit` or `fwd` is among its parameters, tokens are text."""
    members: Any = http_sf.parse(", ".join(answer.headers.get_list("cache-status")).encode(), tltype="list")
    ((_, parameters),) = [each for each in members if str(each[0]) == "holdfast"]
    return {name: str(each) if isinstance(each, http_sf.Token) else each for name, each in parameters.items()}
