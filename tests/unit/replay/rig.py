"""A replayer with everything around it, in time that passes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from prometheus_client import CollectorRegistry

from holdfast.audit import Audit
from holdfast.gateway import Settled
from holdfast.policy.replaying.verdict import ReplayRules
from holdfast.replay.pace import PaceRules
from holdfast.replay.queues import Queues
from holdfast.replay.replayer import Replayer, ReplayLimits
from holdfast.replay.report import ReplayReport
from tests.unit.replay import fakes


class Rig:
    """Made on a running loop. `rule` gives the rules of a route; `told` is what listeners have heard."""

    def __init__(
        self,
        *,
        source: fakes.FakeSource | None = None,
        audit: fakes.MemoryAudit | None = None,
        sender: Any = None,
        routes: tuple[str, ...] = (),
        pace: PaceRules | None = None,
        limits: ReplayLimits | None = None,
        owner: str = "one",
        prepare: Any = fakes.prepare,
        rule: Callable[[str], ReplayRules] = lambda route: fakes.rules(),
        max_fails: int = 0,
    ) -> None:
        loop = cast(fakes.VirtualLoop, asyncio.get_running_loop())
        self.source = source or fakes.FakeSource()
        self.audit = audit or fakes.MemoryAudit(loop.now)
        self.sender = sender or fakes.FakeSender()
        self.leg = fakes.make_leg(loop.time, *routes, max_fails=max_fails)
        self.clients = 0
        self.queues = Queues(self.leg, pace or PaceRules(slow_start=0.0), lambda: self.clients)
        self.registry = CollectorRegistry()
        self.told: list[Settled] = []
        self.replayer = Replayer(
            self.source,
            cast(Audit, self.audit),
            self.sender,
            prepare,
            rule,
            self.queues,
            ReplayReport(self.registry, loop.now),
            self.told.append,
            owner=owner,
            clock=loop.now,
            limits=limits or ReplayLimits(),
        )
        self.task: asyncio.Task[None] | None = None

    def start(self) -> Rig:
        self.task = asyncio.create_task(self.replayer.run())
        return self

    async def stop(self) -> None:
        self.replayer.stop()
        assert self.task
        await self.task

    async def settled(self, *names: str, within: float = 60.0) -> None:
        """Wait until these are, and the source knows."""
        await fakes.until(lambda: all(self.audit.state(n) not in ("", "open") for n in names), within)
        await fakes.until(lambda: not len(self.replayer.lanes), within)

    def figure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def endless(route: str = "") -> ReplayRules:
    """Tried for ever, a second apart."""
    return fakes.rules(attempts=10_000)
