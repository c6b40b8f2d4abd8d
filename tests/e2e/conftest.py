"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing import Certificate, self_signed
from tests.e2e.bench import Bench
from tests.e2e.browser import RealBrowser, open_browser
from tests.e2e.harness import environment, until
from tests.services.process import free_port, leash


class SampleOrigin:
    """`holdfast origin` as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.log_file = folder / "origin.log"
        command = [sys.executable, "-m", "holdfast", "origin", "--port", str(self.port)]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*leash(), *command], cwd=folder, env=environment(folder), stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def call(self, path: str, method: str = "GET", **more: Any) -> Any:
        """A call past the gateway; the JSON of its answer."""
        async with httpx.AsyncClient(base_url=self.url, timeout=10) as client:
            return (await client.request(method, path, **more)).raise_for_status().json()

    async def arrived(self) -> list[dict[str, Any]]:
        """What it was asked so far."""
        requests: list[dict[str, Any]] = (await self.call("/_log"))["requests"]
        return requests

    async def tell(self, **misbehaviour: Any) -> None:
        """Make it misbehave; nothing given is peace."""
        await self.call("/_control", "POST", json=misbehaviour)

    async def is_up(self) -> bool:
        """Whether it answers."""
        if self._process.poll() is not None:
            pytest.fail(f"the origin ended:\n{self.log_file.read_text()}")
        try:
            return bool(await self.call("/_control"))
        except httpx.TransportError:
            return False

    async def stop(self) -> None:
        """End it, politely first."""
        self._process.terminate()
        try:
            await until(lambda: self._process.poll() is not None, within=3)
        except TimeoutError:
            self._process.kill()
            self._process.wait()


@pytest.fixture
async def sample(tmp_path: Path) -> AsyncIterator[SampleOrigin]:
    """The sample backend, running."""
    origin = SampleOrigin(tmp_path)
    try:
        await until(origin.is_up, within=20, what="the sample origin to answer")
        yield origin
    finally:
        await origin.stop()


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """For TLS upstreams."""
    return self_signed()


@pytest.fixture
async def browser() -> AsyncIterator[RealBrowser]:
    """A real browser of the test's own."""
    async with open_browser() as opened:
        yield opened


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Where a mistake is made on purpose."""
    with ExitStack() as stack:
        yield Bench(tmp_path, request, monkeypatch, stack)
