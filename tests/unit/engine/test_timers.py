"""timers: a limit runs out at its time and not before, unless it is called off."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from mitmproxy.proxy.events import Event

from holdfast.engine.timers import TimerFired, Timers


class Clockwork(asyncio.SelectorEventLoop):
    """Where nothing is ready, time goes on to the next timer at once."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        inner: Any = self
        if not inner._ready and inner._scheduled:
            self.now = max(self.now, inner._scheduled[0].when())
        inner._selector_timeout = 0
        super()._run_once()  # type: ignore[misc]


class Client:
    """A connection that notes when which limit has run out."""

    def __init__(self, loop: Clockwork) -> None:
        self._loop = loop
        self.fired: dict[int, float] = {}

    async def server_event(self, event: Event) -> None:
        """By its number."""
        assert isinstance(event, TimerFired) and event.generation not in self.fired
        self.fired[event.generation] = self._loop.time()


def test_a_limit_runs_out_at_its_time_unless_it_is_called_off(seed: int) -> None:
    """Short and long ones, of which some are called off long before they are due, some just before."""
    chance, loop = Random(seed), Clockwork()
    client = Client(loop)
    timers = Timers(lambda _: client)  # type: ignore[arg-type,return-value]
    due: dict[int, float] = {}

    async def play() -> None:
        for number in range(400):
            delay = chance.choice([0.0, 0.01, 0.25, 0.3, 1.0, 2.5, 30.0]) * chance.random() * 2
            limit = timers.arm("client", TimerFired(1, "upstream", number), delay)
            if not delay or chance.random() < 0.5:
                due[number] = loop.time() + delay
            else:
                loop.call_later(delay * chance.choice([0.0, 0.5, 0.99]), limit.cancel)
            await asyncio.sleep(chance.choice([0.0, 0.001, 0.2]))
        await asyncio.sleep(100.0)

    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
    assert client.fired.keys() == due.keys()
    assert all(0.0 <= client.fired[number] - due[number] < 0.001 for number in due)
