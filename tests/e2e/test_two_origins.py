"""Two real servers, of which one dies, freezes and comes back while clients of either protocol go on asking.

Every GET is answered. A POST is answered or captured, and captured only where the server that failed may have had it;
none is lost, and none arrives twice. Once the server is back it gets its share again.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.harness import Gateway, accepts, environment, profile, until
from tests.e2e.legs import Client, client_of
from tests.services.process import free_port, leash

WORKERS = 8
ENOUGH = 60.0
"""Seconds after which what should happen under load fails the test."""
ARRIVAL = re.compile(r"^\d+ (GET|POST) \S+ \d+B id=(\S+)", re.MULTILINE)
POSSIBLE = {"connection_terminated", "http_response_incomplete", "http_response_timeout", "connection_read_timeout"}
"""What may be said of a request that a dying server may have had."""


class Origin:
    """`holdfast origin` as a process that can be ended in every way; its log outlives it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """On the port it always has."""
        command = [*leash(), sys.executable, "-m", "holdfast", "origin", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment(self._folder), stdout=log, stderr=log
            )
        await until(lambda: accepts(self.port), within=ENOUGH, what="the origin to listen")

    def send(self, number: signal.Signals) -> None:
        """A signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.send(signal.SIGKILL)
        self._process.wait(10)

    def arrived(self, method: str = "") -> list[str]:
        """The ids of the requests it has noted, in all its lives."""
        found = ARRIVAL.findall(self._log.read_text())
        return [identifier for each, identifier in found if method in ("", each)]

    async def tell(self, **misbehaviour: Any) -> None:
        """Make it misbehave."""
        async with httpx.AsyncClient() as client:
            (await client.post(f"{self.url}/_control", json=misbehaviour)).raise_for_status()


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Origin, Origin]]:
    """Both, running."""
    pair = Origin(folder, "one"), Origin(folder, "two")
    try:
        for origin in pair:
            await origin.start()
        yield pair
    finally:
        for origin in pair:
            origin.kill()


def behind(*origins: Origin, **changes: Any) -> dict[str, Any]:
    """A profile with a breaker that a second heals, and limits that only a failed server can pass."""
    made = {
        "upstream__servers": [origin.url for origin in origins],
        "upstream__connect_timeout": "2s",
        "upstream__response_timeout": "2s",
        "upstream__deadline": "20s",
        "upstream__breaker": {"max_fails": 3, "fail_timeout": "1s"},
    }
    return profile("", **{**made, **changes})


@dataclass
class Load:
    """Workers that ask by turns for a GET and a POST, each with an id of its own, until they are stopped."""

    client: httpx.AsyncClient
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """All of them."""
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(WORKERS)]

    async def stop(self) -> None:
        """When each has its last answer."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    def of(self, method: str) -> dict[str, httpx.Response]:
        """The answers to requests of this method, by id."""
        return {key: answer for key, answer in self.answers.items() if key.startswith(method)}

    async def _work(self, worker: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            method = "POST" if turn % 2 else "GET"
            identifier = f"{method}-{worker}-{turn}"
            fields = {"X-Request-ID": identifier, "X-Origin-Delay": "5ms"}
            body = {"content": identifier} if method == "POST" else {}
            try:
                answer = await self.client.request(method, "/api/data", headers=fields, **body)
            except httpx.TransportError as error:
                self.broken.append(f"{identifier}: {error!r}")
                return
            self.answers[identifier] = answer


@asynccontextmanager
async def load(gateway: Gateway, speaks: Client) -> AsyncIterator[Load]:
    """Under way within the block, and finished after it."""
    connections = WORKERS if speaks == "http/1.1" else 1
    async with client_of(gateway, speaks, connections=connections) as client:
        running = Load(client)
        running.start()
        try:
            yield running
        finally:
            await running.stop()


async def more(origin: Origin, number: int) -> None:
    """Wait until so many more requests have arrived there."""
    wanted = len(origin.arrived()) + number
    await until(lambda: len(origin.arrived()) >= wanted, within=ENOUGH, every=0.1, what=f"{number} more requests")


async def check(gateway: Gateway, done: Load, failed: Origin, origins: tuple[Origin, Origin]) -> int:
    """The table of the failure matrix, under load; how many were captured."""
    assert not done.broken
    assert {answer.status_code for answer in done.of("GET").values()} == {200}
    posts = done.of("POST")
    captured = {
        key: answer.headers["holdfast-capture-id"] for key, answer in posts.items() if answer.status_code == 503
    }
    assert {answer.status_code for answer in posts.values()} <= {200, 503}
    envelopes = await gateway.exported()
    assert sorted(envelopes) == sorted(captured.values())
    for key, capture_id in captured.items():
        envelope = envelopes[capture_id]
        assert (envelope["request_id"], envelope["body"]) == (key, key)
        last = envelope["attempts"][-1]
        assert (last["server"], last["error"] in POSSIBLE) == (failed.url, True), envelope["attempts"]
    times = Counter(identifier for origin in origins for identifier in origin.arrived("POST"))
    assert not {key: number for key, number in times.items() if number > 1}
    assert all(times[key] == 1 for key in posts if key not in captured)
    return len(captured)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("speaks", ["http/1.1", "h2"])
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_server_fails_under_load_and_comes_back(tmp_path: Path, speaks: Client, how: str) -> None:
    """Twice, so that what was learnt the first time does no harm the second."""
    async with two(tmp_path) as (one, other), Gateway(tmp_path, made=behind(one, other)) as gateway:
        now, down = asyncio.get_running_loop().time, 0.0
        async with load(gateway, speaks) as running:
            for _ in range(2):
                await more(one, 20)
                await more(other, 20)
                one.kill() if how == "killed" else one.send(signal.SIGSTOP)
                began = now()
                await more(other, 150)
                await one.start() if how == "killed" else one.send(signal.SIGCONT)
                await more(one, 40)
                down += now() - began
        captured = await check(gateway, running, one, (one, other))
        # Each time at most what was under way, of each worker one request; and a probe each second.
        assert captured <= 2 * WORKERS + down


@pytest.mark.timeout(300)
async def test_a_rolling_restart_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM to one after the other, as a deployment does, while clients of HTTP/2 go on asking."""
    async with two(tmp_path) as origins, Gateway(tmp_path, made=behind(*origins)) as gateway:
        async with load(gateway, "h2") as running:
            for leaving, staying in (origins, origins[::-1]):
                await more(leaving, 20)
                leaving.send(signal.SIGTERM)
                await until(lambda: _gone(leaving), within=ENOUGH, what="the origin to end")  # noqa: B023
                await more(staying, 50)
                await leaving.start()
                await more(leaving, 20)
        assert not running.broken
        assert {answer.status_code for answer in running.of("GET").values()} == {200}
        times = Counter(identifier for origin in origins for identifier in origin.arrived("POST"))
        assert set(times.values()) == {1}
        envelopes = {envelope["request_id"] for envelope in (await gateway.exported()).values()}
        assert {key for key, answer in running.of("POST").items() if answer.status_code != 200} == envelopes


async def _gone(origin: Origin) -> bool:
    return not await accepts(origin.port)


async def attempts(gateway: Gateway) -> float:
    """How many there have been."""
    figures = await gateway.metrics()
    return sum(value for key, value in figures.items() if key[0] == "holdfast_upstream_attempts_total")


# --- three facts about the breaker and the budget ---


@pytest.mark.timeout(300)
async def test_two_failing_servers_are_not_hit_three_times_as_hard(tmp_path: Path) -> None:
    """Retries are at most a fifth of the live requests, and three a second, whatever every single request may do."""
    changes = {"upstream__retry__budget": "20%", "upstream__breaker": {"max_fails": 0}}
    async with two(tmp_path) as origins, Gateway(tmp_path, made=behind(*origins, **changes)) as gateway:
        for origin in origins:
            await origin.tell(fail=503)
        began = asyncio.get_running_loop().time()
        async with load(gateway, "http/1.1") as running:
            await more(origins[0], 250)
        seconds = asyncio.get_running_loop().time() - began
        assert {answer.status_code for answer in running.answers.values()} == {503}
        made, requests = await attempts(gateway), len(running.answers)
        assert made == sum(len(origin.arrived()) for origin in origins)
        assert requests < made <= requests * 1.2 + 3 * (10 + seconds)


@pytest.mark.timeout(300)
async def test_with_all_circuits_open_no_server_is_asked(tmp_path: Path) -> None:
    """Both are frozen. Once that is known every answer is immediate: no attempt is made, and nothing waited for."""
    changes = {"upstream__breaker": {"max_fails": 2, "fail_timeout": "120s"}, "upstream__response_timeout": "500ms"}
    async with two(tmp_path) as origins, Gateway(tmp_path, made=behind(*origins, **changes)) as gateway:
        for origin in origins:
            origin.send(signal.SIGSTOP)
        async with client_of(gateway, "h2") as client:
            for _ in range(4):
                await client.get("/api/data")
            known = await attempts(gateway)
            answers = [await client.request(method, "/api/data") for method in ("GET", "POST") * 20]
        for answer in answers:
            assert answer.status_code == 503
            assert "error=destination_unavailable" in answer.headers["proxy-status"]
            assert "holdfast-not-retried=breaker" in answer.headers["proxy-status"]
            assert answer.headers["holdfast-capture-id"]
        assert await attempts(gateway) == known
        envelopes = await gateway.exported()
        assert all(not envelopes[answer.headers["holdfast-capture-id"]]["attempts"] for answer in answers)


@pytest.mark.timeout(300)
async def test_a_frozen_server_is_asked_until_its_circuit_opens_and_no_more(tmp_path: Path) -> None:
    """It accepts connections and says nothing, which costs a whole timeout: at most what is under way pays it."""
    changes = {"upstream__breaker": {"max_fails": 3, "fail_timeout": "120s"}}
    async with two(tmp_path) as (one, other), Gateway(tmp_path, made=behind(one, other, **changes)) as gateway:
        one.send(signal.SIGSTOP)
        async with load(gateway, "h2") as running:
            await more(other, 300)
        figures = await gateway.metrics()
        asked = {key: value for key, value in figures.items() if f"server={one.url}" in key}
        failed = sum(v for key, v in asked.items() if key[0] == "holdfast_upstream_attempts_total")
        assert 3 <= failed <= 3 + WORKERS
        assert {answer.status_code for answer in running.of("GET").values()} == {200}
