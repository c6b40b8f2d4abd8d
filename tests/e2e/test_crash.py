"""Promise 1 as a property: `kill -9` at any moment loses no request whose client was given a capture id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e import raw
from tests.e2e.harness import Gateway, profile
from tests.services.process import free_port

RUNS = 12
CLIENTS = 16


@dataclass
class Load:
    """Clients that post to a dead upstream until the gateway dies, and remember what they were promised."""

    port: int
    dice: random.Random
    promised: dict[str, bytes] = field(default_factory=dict)
    told_otherwise: list[int] = field(default_factory=list)
    _running: list[asyncio.Task[None]] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Post for so long; the connections may break at any time."""
        self._running = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        await asyncio.sleep(seconds)

    async def drain(self) -> None:
        """Whatever was still under way ends with the connections."""
        done, pending = await asyncio.wait(self._running, timeout=10)
        assert not pending, "a client is stuck on a dead gateway"
        for task in done:
            task.result()

    async def _client(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            async with raw.RawClient(self.port) as client:
                while True:
                    body, kind = self._body()
                    answer = await client.request("POST", "/api/users?n=1", [("Content-Type", kind)], body)
                    if identifier := answer.capture_id:
                        assert identifier not in self.promised, "an id was given out twice"
                        self.promised[identifier] = body
                    else:
                        self.told_otherwise.append(answer.status)

    def _body(self) -> tuple[bytes, str]:
        kind = self.dice.randrange(4)
        if kind == 0:
            return json.dumps({"n": self.dice.random(), "text": "žluťoučký kůň\u2028"}).encode(), "application/json"
        if kind == 1:
            return b"", "application/octet-stream"
        size = self.dice.choice((1, 100, 5_000, 60_000))
        return self.dice.randbytes(size), "application/octet-stream" if kind == 2 else "text/plain; charset=utf-8"


def doomed(outbox: str, **sink: object) -> dict[str, object]:
    """A profile whose upstream refuses, with one attempt only, so that captures come fast."""
    made = profile(f"http://127.0.0.1:{free_port()}", outbox, upstream__retry__attempts=1)
    made["addons"][-1]["failure_sink"] |= sink
    made["log"] = {"access": False}
    return made


@pytest.mark.timeout(240)
async def test_no_promised_capture_is_lost_when_the_gateway_is_killed(tmp_path: Path, seed: int) -> None:
    """Killed at random moments under load, always with the same outbox: each id is there, its body intact."""
    dice = random.Random(seed)
    promised: dict[str, bytes] = {}
    for run in range(RUNS):
        gateway = Gateway(tmp_path, made=doomed("outbox.db"))
        async with gateway:
            load = Load(gateway.port, dice)
            await load.run(dice.uniform(0.02, 0.8))
            gateway.kill()
            await load.drain()
        promised |= load.promised
        assert not load.told_otherwise, f"seed {seed}: {set(load.told_otherwise)}"
        kept = await gateway.exported()
        lost = promised.keys() - kept.keys()
        assert not lost, f"seed {seed}, run {run}: {len(lost)} of {len(promised)} promised captures are lost"
        damaged = [i for i, body in load.promised.items() if raw.body_of(kept[i]) != body]
        assert not damaged, f"seed {seed}, run {run}: bodies differ: {damaged[:3]}"
    assert len(promised) > RUNS * CLIENTS, "the load was no load"


async def test_captures_can_be_read_while_the_gateway_runs_and_after_it_has_died(tmp_path: Path) -> None:
    """The same list from the admin API, from the command line beside it, and from the file it left."""
    async with Gateway(tmp_path, made=doomed("outbox.db")) as gateway:
        async with raw.RawClient(gateway.port) as client:
            answers = [await client.request("POST", f"/api/users?{n}", body=b"x") for n in range(5)]
        ids = {answer.capture_id for answer in answers}
        beside = await gateway.captures()
        by_admin = (await gateway.admin("/captures")).json()["captures"]
        gateway.kill()
        after = await gateway.captures()
    assert {c["id"] for c in beside} == {c["id"] for c in by_admin} == {c["id"] for c in after} == ids


async def test_a_frozen_gateway_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGSTOP and SIGCONT in the middle of the load: nothing is lost or given out twice."""
    async with Gateway(tmp_path, made=doomed("outbox.db")) as gateway:
        load = Load(gateway.port, random.Random(7))
        await load.run(0.3)
        gateway.pause()
        await asyncio.sleep(0.5)
        gateway.resume()
        await asyncio.sleep(0.3)
        gateway.kill()
        await load.drain()
        kept = await gateway.exported()
    assert load.promised.keys() <= kept.keys()
    assert load.promised
