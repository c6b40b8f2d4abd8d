"""Gateways of several workers, and a client at each of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from tests.e2e.harness import Gateway, until
from tests.e2e.raw import Answer, RawClient

_NUMBERS = itertools.count(1)


async def workers(gateway: Gateway) -> list[dict[str, Any]]:
    """As the health page has them, by their numbers."""
    each: list[dict[str, Any]] = (await gateway.admin("/health")).json()["workers"]["each"]
    return each


async def all_serve(gateway: Gateway, count: int = 2) -> list[dict[str, Any]]:
    """Wait for it."""

    async def found() -> list[dict[str, Any]] | None:
        with contextlib.suppress(httpx.TransportError, KeyError):
            each = await workers(gateway)
            return each if [one["status"] for one in each] == ["serving"] * count else None
        return None

    return await until(found, within=20, what=f"{count} workers to serve")


def kill(worker: dict[str, Any]) -> None:
    """`kill -9` of one of them."""
    os.kill(worker["pid"], signal.SIGKILL)


def asked_at(gateway: Gateway, request_id: str) -> int | None:
    """Which worker has ended this request, by the access log (in JSON)."""
    for line in gateway.log(5000).splitlines():
        if request_id in line and line.startswith("{"):
            return int(json.loads(line)["worker"])
    return None


@asynccontextmanager
async def one_at_each(gateway: Gateway, count: int = 2) -> AsyncIterator[list[RawClient]]:
    """A connection to each worker, by their numbers: the kernel gives them out, so some are made in vain."""
    found: dict[int, RawClient] = {}
    async with AsyncExitStack() as stack:
        while len(found) < count:
            client = await stack.enter_async_context(RawClient(gateway.port))
            name = f"whose-{next(_NUMBERS)}"
            assert (await client.request("GET", "/health", [("X-Request-ID", name)])).status in (200, 503)
            number = await until(lambda: asked_at(gateway, name), what="the access log to name the worker")  # noqa: B023
            found.setdefault(number, client)
        yield [found[number] for number in sorted(found)]


async def get(client: RawClient, path: str, method: str = "GET", *fields: tuple[str, str]) -> Answer:
    """One request."""
    return await client.request(method, path, list(fields))
