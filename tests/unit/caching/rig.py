"""A gateway of which the cache alone is real: flows go through its hooks by hand, and the origin is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.http import Headers, HTTPFlow, Request, Response
from prometheus_client import CollectorRegistry

from holdfast import cache as cache_module
from holdfast.cache import Cache
from holdfast.caching import filling
from holdfast.caching.settings import CacheSettings
from holdfast.errors import StoreUnavailable
from holdfast.gateway import Gateway
from holdfast.policy.caching.model import Fields
from holdfast.stores import Lookup, Purged, StoreHealth
from holdfast.stores.memory import MemoryStore
from holdfast.testing import FixedClock, make_flow
from tests.unit.hooks import finished

HOST = "site.test"
KEY = f"http://{HOST}/a"
DEADLINE = 30.0

type Origin = Callable[[HTTPFlow], Response | None]
type Named = tuple[str, str]


def answer(status: int = 200, body: bytes = b"one", *fields: Named, cc: str | None = "max-age=60") -> Response:
    """What an origin says; `cc` is its Cache-Control."""
    said = [*fields, *([("Cache-Control", cc)] if cc is not None else [])]
    return Response.make(status, body, [(name.encode(), value.encode()) for name, value in said])


def make_gateway(clock: FixedClock) -> Gateway:
    """The real one, around a profile and an upstream leg that have only what the cache asks of them."""
    bounds = SimpleNamespace(bounds=SimpleNamespace(deadline=DEADLINE))
    profile: Any = SimpleNamespace(upstream=SimpleNamespace(forwarded=False))
    leg: Any = SimpleNamespace(clock=clock, plan=lambda route: bounds)
    return Gateway(profile, leg, CollectorRegistry(), wall_clock=clock)


class Moody(MemoryStore):
    """A store in memory that can be out of order, and that remembers what it was told to do."""

    def __init__(self, clock: Callable[[], float], size: int = 1 << 20) -> None:
        super().__init__(size, clock)
        self.down = False
        self.degraded = ""
        self.refuses = ""
        self.said: StoreHealth | None = None
        self.life: list[str] = []
        self.purges: list[tuple[tuple[str, ...], bool]] = []
        self.locked: list[tuple[str, float]] = []

    def lookup(self, key: str, request: Fields) -> Lookup:
        found = super().lookup(key, request)
        if not self.degraded:
            return found
        return Lookup(found.response, found.as_of, found.soft, found.level, self.degraded, found.variants)

    async def put(self, key: str, response: Any, *, keep: float) -> str:
        return self.refuses or await super().put(key, response, keep=keep)

    async def purge(self, tags: Sequence[str], *, soft: bool) -> Purged:
        if self.down:
            raise StoreUnavailable("nobody is there")
        self.purges.append((tuple(tags), soft))
        return await super().purge(tags, soft=soft)

    async def lock(self, key: str, *, seconds: float) -> str | None:
        self.locked.append((key, seconds))
        return await super().lock(key, seconds=seconds)

    def health(self) -> StoreHealth:
        return self.said or super().health()

    async def start(self) -> None:
        self.life.append("started")

    async def stop(self) -> None:
        self.life.append("stopped")


class Rig:
    """`ask` is a client's request up to the cache, `told` the origin's answer to it, `fetch` both.

    What the gateway sends by itself is in `sent`, and `origin` answers it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: CacheSettings) -> None:
        self.clock = FixedClock()
        self.gateway = make_gateway(self.clock)
        self.store = Moody(self.clock)
        self.origin: Origin = lambda flow: None
        self.sent: list[HTTPFlow] = []
        monkeypatch.setattr(cache_module, "open_store", lambda *_: self.store)
        monkeypatch.setattr(filling, "send_in_background", self._send)
        self.dice = 0.0  # nothing is fetched early, by chance
        monkeypatch.setattr(filling, "random", SimpleNamespace(random=lambda: self.dice))
        self.cache = Cache(settings, self.gateway)
        self.gateway.cache = self.cache

    # -- clients ----------------------------------------------------------------------------------------------------

    async def ask(self, path: str = "/a", *headers: Named, **more: Any) -> HTTPFlow:
        """A request that has come as far as the cache."""
        flow = self.flow(path, *headers, **more)
        await finished(self.cache.request(flow))
        return flow

    async def told(self, flow: HTTPFlow, response: Response) -> HTTPFlow:
        """The upstream has answered it."""
        await self.begun(flow, response)
        await finished(self.cache.response(flow))
        await settled()
        return flow

    async def begun(self, flow: HTTPFlow, response: Response) -> HTTPFlow:
        """The same as far as the header."""
        flow.metadata["holdfast"].setdefault("attempts", []).append({"server": "s", "status": response.status_code})
        flow.response = response
        await finished(self.cache.responseheaders(flow))
        return flow

    async def fetch(self, path: str = "/a", *headers: Named, reply: Response | None = None, **more: Any) -> HTTPFlow:
        """A request with its answer, the cache's or the upstream's (`reply`)."""
        flow = await self.ask(path, *headers, **more)
        if flow.response is None:
            return await self.told(flow, reply or answer())
        await finished(self.cache.responseheaders(flow))
        await finished(self.cache.response(flow))
        await settled()
        return flow

    def flow(
        self, path: str = "/a", *headers: Named, method: str = "GET", body: bytes = b"", tls: bool = False, **known: Any
    ) -> HTTPFlow:
        """A request as the addons before the cache leave it; `known` is what its exchange has."""
        flow = make_flow(method, f"http://upstream.test{path}", headers=[("Host", HOST), *headers], body=body)
        del flow.request.headers["content-length"]
        flow.client_conn.tls = tls
        flow.metadata["holdfast"] = {"request_id": "r1", "original_host": HOST, "attempts": [], **known}
        return flow

    # -- what can be seen -------------------------------------------------------------------------------------------

    def count(self, result: str) -> float:
        """How often the cache has done that with a request."""
        return self.figure("holdfast_cache_requests_total", result=result)

    def figure(self, name: str, **labels: str) -> float:
        return self.gateway.registry.get_sample_value(name, labels) or 0.0

    def stored(self, path: str = "/a", *headers: Named) -> bytes | None:
        """The body of what a request for it would find."""
        found = self.store.lookup(f"http://{HOST}{path}", Headers(encoded(headers)).fields).response
        return found.body if found else None

    # -- within -----------------------------------------------------------------------------------------------------

    async def _send(self, request: Request, leg: Any, mode: Any, known: dict[str, str], *, tls: bool) -> HTTPFlow:
        flow = make_flow(exchange={"attempts": [], "request_id": "r2", **known})
        flow.client_conn.tls = tls
        flow.request = request
        self.sent.append(flow)
        await finished(self.cache.request(flow))
        await a_moment()
        response = self.origin(flow)
        if response is None:
            flow.metadata["holdfast"] |= {"error": "connection_refused", "detail": "nobody is there"}
            self.cache.error(flow)
            return flow
        flow.metadata["holdfast"]["attempts"].append({"server": "s", "status": response.status_code})
        flow.response = response
        await finished(self.cache.responseheaders(flow))
        await finished(self.cache.response(flow))
        return flow


def encoded(fields: Sequence[Named]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


def status_of(flow: HTTPFlow) -> str:
    """What the cache says of its part."""
    assert flow.response
    return ", ".join(flow.response.headers.get_all("cache-status"))


async def settled() -> None:
    """Until nothing of the cache's own is under way."""
    while under_way := [each for each in asyncio.all_tasks() if each.get_name().startswith("cache ")]:
        await asyncio.wait(under_way)


async def a_moment() -> None:
    """Long enough for everybody who need not wait."""
    for _ in range(20):
        await asyncio.sleep(0)
