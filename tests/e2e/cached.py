"""Gateways with a cache, and what its clients and its origin see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e.harness import ROUTER, Gateway, addon, profile

FRESH = ("Cache-Control", "max-age=60")
STALE_AT_ONCE = ("Cache-Control", "max-age=0, stale-if-error=60")


def cached(
    upstream: str, *, surrogate: Any = None, capture: bool = True, faults: Any = None, **settings: Any
) -> dict[str, Any]:
    """A profile with a cache of these settings; `changes` go to `profile`, `faults` to the addon if there are any."""
    changes = settings.pop("changes", {})
    made = profile(upstream, log={"format": "json"}, **changes)
    behind = made["addons"][2:] if capture else []
    made["addons"] = [ROUTER, "metrics", {"cache": settings}, {"surrogate": surrogate or {}}, *behind]
    return made if faults is None else addon(made, "faults", **faults)


@asynccontextmanager
async def caching(
    folder: Path, plan: Any, **settings: Any
) -> AsyncIterator[tuple[MisbehavingOrigin, Gateway, httpx.AsyncClient]]:
    """An origin with this plan, a gateway with a cache in front of it, and a client."""
    async with MisbehavingOrigin(plan) as origin, Gateway(folder, made=cached(origin.url, **settings)) as gateway:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=10, limits=limits) as client:
            yield origin, gateway, client


def keep(body: bytes = b"ok", *fields: tuple[str, str], cache_control: str = "max-age=60", **more: Any) -> Answer:
    """An answer that may be stored."""
    return Answer(headers=[("Cache-Control", cache_control), *fields], body=body, **more)


def status_of(answer: httpx.Response) -> str:
    """The one word of our Cache-Status: `hit`, or why it was forwarded."""
    (ours,) = [line for line in answer.headers.get_list("cache-status") if line.startswith("holdfast;")]
    return str(ours.split(";")[1].removeprefix("fwd="))


def parameters(answer: httpx.Response) -> Sequence[str]:
    """All of its parameters."""
    return str(answer.headers["cache-status"]).split(";")[1:]


def access_lines(gateway: Gateway) -> list[dict[str, Any]]:
    """The access log."""
    return [json.loads(text) for text in gateway.log(2000).splitlines() if '"request"' in text]


async def fates(gateway: Gateway) -> dict[str, float]:
    """How many requests had which fate."""
    found: dict[str, float] = {}
    for key, value in (await gateway.metrics()).items():
        if key[0] == "holdfast_requests_total":
            (fate,) = [part[5:] for part in key if part.startswith("fate=")]
            found[fate] = found.get(fate, 0) + value
    return found
