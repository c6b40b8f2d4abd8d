"""Promise of the replayer: whatever is killed, every capture ends in exactly one outcome, in the order of its key."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.e2e.harness import Gateway, addon, profile, until
from tests.e2e.replayed import Consumer, Origin
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.process import free_port

pytestmark = pytest.mark.any_engine

KEYS = 8
LASTS = 25.0  # seconds of load and of things that break


@pytest.fixture
def kafka(tmp_path: Path, kafka_libs: Path) -> Iterator[KafkaServer]:
    """One that may be killed."""
    server = KafkaServer(kafka_libs, tmp_path / "kafka", free_port()).start().wait_ready()
    yield server
    server.kill()


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[PostgresServer]:
    """One that may be killed, in a folder that its own user may enter."""
    folder = Path(f"/tmp/holdfast-postgres-{uuid.uuid4().hex[:8]}")
    server = PostgresServer(folder, free_port()).start().wait_ready()
    yield server
    server.kill()


class Load:
    """Clients that send one request after the other, each of its own key, and note what was captured."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.captured: dict[str, list[str]] = {}

    async def run(self, key: str, stop: asyncio.Event) -> None:
        """Until `stop`."""
        mine = self.captured.setdefault(key, [])
        async with httpx.AsyncClient(base_url=self._gateway.url, timeout=20) as client:
            number = 0
            while not stop.is_set():
                answer = await client.post(key, content=f"{key} {number}".encode())
                number += 1
                if "holdfast-capture-id" in answer.headers:
                    mine.append(answer.headers["holdfast-capture-id"])
                await asyncio.sleep(0.1)


class Chaos:
    """Breaks one thing after the other, and mends it."""

    def __init__(self, dice: random.Random, consumers: list[Consumer], origin: Origin) -> None:
        self._dice = dice
        self._consumers = consumers
        self._origin = origin
        self.told: list[str] = []

    async def kill_a_consumer(self) -> None:
        """With kill -9; another one in its place a moment later."""
        consumer = self._dice.choice(self._consumers)
        consumer.kill()
        await asyncio.sleep(self._dice.uniform(0.2, 1.5))
        await consumer.start()

    async def freeze_a_consumer(self) -> None:
        """It does not know that it was away."""
        consumer = self._dice.choice(self._consumers)
        consumer.pause()
        await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        consumer.resume()

    async def restart(self, server: KafkaServer | PostgresServer) -> None:
        """With kill -9."""
        server.kill()
        await asyncio.sleep(self._dice.uniform(0.2, 2.0))
        server.start()
        await asyncio.to_thread(server.wait_ready)

    async def break_the_origin(self) -> None:
        """It refuses connections for a while, and breaks off those that it has."""
        await self._origin.stop()
        await asyncio.sleep(self._dice.uniform(0.3, 2.5))
        await self._origin.start()


def _made(origin: Origin, kafka: KafkaServer, postgres: PostgresServer, topic: str) -> dict[str, Any]:
    made = profile(origin.url, outbox="outbox.db", upstream__retry={"attempts": 1})
    made["addons"].insert(
        3,
        {
            "replayer": {
                "audit": postgres.url,
                "attempts": 1000,
                "schedule": {"delays": ["100ms", "500ms", "1s"]},
                "hold": "800ms",
                "slow_start": "1s",
                "kafka": {"retry_delays": ["1s", "3s"]},
            }
        },
    )
    quick = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000", "metadata.max.age.ms": "3000"}
    return addon(made, "failure_sink", broker=f"kafka://{kafka.address}", topic=topic, kafka=quick)


@pytest.mark.timeout(420)
async def test_whatever_is_killed_each_capture_has_one_outcome_and_its_place(
    tmp_path: Path, kafka: KafkaServer, postgres: PostgresServer, seed: int
) -> None:
    """At-least-once to the origin, exactly one outcome in the audit store, and the order of each key."""
    dice = random.Random(seed)
    bad = random.Random(seed + 1)

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> int:
        return 200 if bad.random() > 0.25 else 503

    async with Origin(answer) as origin:
        topic = f"chaos-{uuid.uuid4()}"
        async with Gateway(tmp_path / "gateway", origin.url, made=_made(origin, kafka, postgres, topic)) as gateway:
            consumers = [Consumer(gateway, tmp_path / f"consumer{number}") for number in range(2)]
            async with consumers[0], consumers[1]:
                load, stop = Load(gateway), asyncio.Event()
                clients = [asyncio.create_task(load.run(f"/api/{number}", stop)) for number in range(KEYS)]
                chaos = Chaos(dice, consumers, origin)
                breaks: list[Callable[[], Awaitable[None]]] = [
                    chaos.kill_a_consumer,
                    chaos.freeze_a_consumer,
                    lambda: chaos.restart(kafka),
                    lambda: chaos.restart(postgres),
                    chaos.break_the_origin,
                ]
                order = [*breaks, *(dice.choice(breaks) for _ in range(3))]
                dice.shuffle(order)
                until_then = time.monotonic() + LASTS
                for each in order:
                    await asyncio.sleep(dice.uniform(0.2, 2.0))
                    await each()
                await asyncio.sleep(max(0.0, until_then - time.monotonic()))
                stop.set()
                await asyncio.gather(*clients)
                captured = {capture for ids in load.captured.values() for capture in ids}
                assert len(captured) > 20, "there was nothing to replay"
                await until(lambda: _settled(postgres, captured), within=180, every=1.0, what="all to be settled")
            _judge(load, origin, postgres, captured)


async def _settled(postgres: PostgresServer, captured: set[str]) -> bool:
    outcomes = await asyncio.to_thread(_outcomes, postgres)
    return captured <= outcomes.keys()


def _outcomes(postgres: PostgresServer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        with psycopg.connect(postgres.url, connect_timeout=3) as db:
            for event, outcome in db.execute("SELECT event_id, outcome FROM processed_events").fetchall():
                found.setdefault(event, []).append(outcome)
    except psycopg.OperationalError:
        pass
    return found


def _judge(load: Load, origin: Origin, postgres: PostgresServer, captured: set[str]) -> None:
    outcomes = _outcomes(postgres)
    assert {capture: outcomes[capture] for capture in captured} == {capture: ["delivered"] for capture in captured}
    seen = origin.by_key()
    assert captured <= {capture for ids in seen.values() for capture in ids}, (
        "delivered, and the origin has not seen it"
    )
    for key, ids in load.captured.items():
        places = {capture: number for number, capture in enumerate(ids)}
        got = [places[capture] for capture in seen.get(key, []) if capture in places]
        assert got == sorted(got), f"{key}: not in order: {got}"
    replays = len(origin.replays())
    print(f"{len(captured)} captured, {replays} replays answered well, {replays - len(captured)} more than once")
