"""A world for replayers to fail in: what it holds survives them, and it notes what they break.

Nodes are replayers of one process each. They die at any step towards the store, the source or the upstream, before it
has taken effect or after; stores and sources are away for a while, or fail without saying whether they have done it.
The upstream checks, at the moment at which a request reaches it, that it may.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, cast

from prometheus_client import CollectorRegistry

from holdfast.audit import Audit
from holdfast.engine.leg import Leg
from holdfast.errors import BrokerUnavailable, StoreUnavailable
from holdfast.outbox.record import OutboxRecord
from holdfast.policy.replaying.requests import ReplayRequest
from holdfast.policy.replaying.schedule import Exponential
from holdfast.policy.replaying.verdict import ReplayRules
from holdfast.replay.outbox import OutboxSource
from holdfast.replay.pace import PaceRules
from holdfast.replay.queues import Queues
from holdfast.replay.replayer import Replayer, ReplayLimits
from holdfast.replay.report import ReplayReport
from holdfast.replay.sending import Sent
from holdfast.replay.source import Source
from tests.unit.replay import fakes
from tests.unit.replay.surviving import FakeFiles, FakeQueries, Topics, TopicSource

CLAIM = 10.0
WINDOW = 60
CONCURRENCY = 4


class World:
    """`kind` of source; `dice` decides everything."""

    def __init__(self, dice: random.Random, kind: Literal["topics", "outbox"]) -> None:
        loop = cast(fakes.VirtualLoop, asyncio.get_running_loop())
        self.dice, self.kind, self.loop = dice, kind, loop
        self.audit = fakes.MemoryAudit(loop.now)
        self.topics = Topics()
        self.outboxes = [FakeQueries(), FakeQueries()]
        self.captures: dict[str, str] = {}  # id -> key
        self.meddled: set[str] = set()  # a person has had a say
        self.by_hand: list[asyncio.Future[Any]] = []  # what a person has begun
        self.reached: dict[str, list[float]] = defaultdict(list)  # when a request of it reached the upstream
        self.well: set[str] = set()  # answered with 200
        self.on_their_way: dict[str, tuple[str, str, float]] = {}  # key -> node, id, since when
        self.store_failed = 0.0  # when it did last: a claim that cannot be renewed runs out
        self.broken: list[str] = []  # what must not be
        self.flaky = 0.0
        self.store_away = self.source_away = False
        self.upstream: dict[str, str] = {}  # route -> what is wrong with it
        self.nodes: list[Node] = []
        self.names = 0

    def capture(self, key: str) -> None:
        """A request has failed, and is captured; sometimes it is published twice."""
        name = f"c{len(self.captures):04}"
        self.captures[name] = key
        route = "own" if key == "/own" else ""
        about = fakes.arrival(name, key, route=route, captured=self.loop.now())
        if self.kind == "topics":
            for _ in range(self.dice.choice((1, 1, 1, 2))):
                self.topics.publish(about)
            if self.dice.random() < 0.1:
                self.topics.publish(None)
            return
        queries = self.outboxes[self.dice.random() < 0.3]
        seq = len(queries.records) + 1
        record = OutboxRecord(name, about.captured, key, route, "POST", key, "x", None, name.encode(), (), seq)
        queries.records[seq] = record
        for node in self.nodes:
            node.wake()

    def discard(self) -> None:
        """A person gives one up: in the store, or where it is kept."""
        name = self.dice.choice(sorted(self.captures))
        self.meddled.add(name)
        row = self.audit.rows.get(name)
        if self.kind == "outbox" and (row is None or self.dice.random() < 0.5):
            for each in self.outboxes:
                if record := each.get(name):
                    each.move([record.seq], "discarded", ("pending", "quarantined"))
        elif row and row.state == "open":
            self.by_hand.append(asyncio.ensure_future(self.audit.settle([name], "discarded", "by hand")))

    def redrive(self) -> None:
        """A person has one that is dead sent again."""
        dead = [row.id for row in self.audit.rows.values() if row.state in ("dead", "parked")]
        if not dead:
            return
        name = self.dice.choice(dead)
        self.meddled.add(name)
        number = self.audit.rows[name].redrive + 1
        if self.kind == "topics":
            self.topics.publish(replace(self.audit.arrivals[name], redrive=number))
            return
        self.by_hand.append(asyncio.ensure_future(self.audit.reopen([name])))
        for each in self.outboxes:
            if record := each.get(name):
                each.move([record.seq], "pending", ("sent", "discarded", "quarantined"))

    # -- the upstream, which is told who asks ------------------------------------------------------------------------

    async def answer(self, node: Node, name: str) -> Sent:
        """As servers do; a request that must not be is noted."""
        now, key = self.loop.now(), self.captures[name]
        wrong = self.upstream.get("own" if key == "/own" else "", "")
        if wrong == "refused":
            await asyncio.sleep(0.001)
            return fakes.sent(None, "connection_refused", unreachable=True)
        self._look_at(node, name, key, now)
        self.reached[name].append(now)
        self.on_their_way[key] = node.name, name, now
        try:
            if wrong == "stuck":  # for longer than any claim
                await asyncio.sleep(1.5 * CLAIM)
            if wrong == "hangs":
                await asyncio.sleep(2.0)
                return fakes.sent(None, "http_response_timeout")
            await asyncio.sleep(self.dice.choice((0.0, 0.01, 0.2)))
        finally:
            if not node.is_dead:
                self.on_their_way.pop(key, None)
        if wrong == "500" or key == "/bad" or (key == "/ill" and self.dice.random() < 0.5):
            return fakes.sent(500)
        if name.endswith("7"):
            return fakes.sent(404)
        self.well.add(name)
        return fakes.sent(200)

    def _look_at(self, node: Node, name: str, key: str, now: float) -> None:
        row = self.audit.rows[name]
        if name not in self.meddled:
            if row.state != "open":
                self.broken.append(f"{now:.2f} {name} was sent by {node.name} after it was {row.state}")
            if row.owner != node.owner or row.claim_until <= now:
                whose = f"{row.owner}'s until {row.claim_until:.2f}"
                self.broken.append(f"{now:.2f} {name} was sent by {node.name}, but is {whose}")
        older = [each for each in self.audit.older_open(name) if each not in self.meddled]
        if older:
            self.broken.append(f"{now:.2f} {name} was sent by {node.name} before {older}")
        other = self.on_their_way.get(key)
        excused = other is not None and self.store_failed >= other[2]
        if other and not excused and other[1] not in self.meddled and name not in self.meddled:
            self.broken.append(f"{now:.2f} {name} was sent by {node.name} while {other} was on its way")

    # -- nodes ------------------------------------------------------------------------------------------------------

    def start(self, owner: str = "") -> Node:
        """One more replayer."""
        self.names += 1
        name = f"node{self.names}"
        node = Node(self, name, owner or name)
        self.nodes.append(node)
        return node

    def left(self) -> list[str]:
        """What is not settled everywhere."""
        open_ = [name for name in self.captures if self.audit.state(name) in ("", "open")]
        if self.kind == "topics":
            return open_ + self.topics.unsettled()
        pending = [r.id for each in self.outboxes for r in each.records.values() if r.state == "pending"]
        given_up = {r.id for each in self.outboxes for r in each.records.values() if r.state == "discarded"}
        return [name for name in open_ if name not in given_up] + pending


class Node:
    """A replayer as a process: `is_dead` from one step to the next."""

    def __init__(self, world: World, name: str, owner: str) -> None:
        self.world, self.name, self.owner = world, name, owner
        self.is_dead = False
        self.steps_left = 1 << 60
        self.died = asyncio.Event()
        loop = world.loop
        if world.kind == "topics":
            self.inner: Any = TopicSource(world.topics, name, world.dice, loop.now)
        else:
            self.inner = OutboxSource(lambda woken: FakeFiles(world.outboxes))
        self.wake: Callable[[], None] = lambda: None
        self.sender = _Sender(self)
        self.leg = fakes.make_leg(loop.time, "own")
        pace = PaceRules(CONCURRENCY, rate=world.dice.choice((None, None, 50.0)), slow_start=1.0)
        self.replayer = Replayer(
            cast(Source, _Shaky(self, self.inner, BrokerUnavailable("away"))),
            cast(Audit, _Shaky(self, world.audit, StoreUnavailable("away"))),
            self.sender,
            fakes.prepare,
            lambda route: ReplayRules(attempts=6, schedule=Exponential(0.5, 3.0, 20.0)),
            Queues(cast(Leg, self.leg), pace, lambda: 0),
            ReplayReport(CollectorRegistry(), loop.now),
            lambda settled: None,
            owner=owner,
            clock=loop.now,
            limits=ReplayLimits(window=WINDOW, claim=CLAIM, hold=3.0),
        )
        self.task = asyncio.create_task(self.replayer.run())

    async def step(self) -> None:
        """Between any two things that a process does, it may die."""
        if not self.is_dead:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.die()
        if self.is_dead:
            await asyncio.Future()
        if self.world.dice.random() < 0.2:
            await asyncio.sleep(self.world.dice.random() * 0.05)
            if self.is_dead:
                await asyncio.Future()

    def die(self) -> None:
        """`kill -9`: nothing that it does from now on leaves the process."""
        self.is_dead = True
        self.died.set()
        for key, (node, _, _) in list(self.world.on_their_way.items()):
            if node == self.name:
                del self.world.on_their_way[key]

    async def bury(self) -> None:
        """What is left of a dead one."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        if self in self.world.nodes:
            self.world.nodes.remove(self)
        if isinstance(self.inner, TopicSource):
            self.inner.leave()

    async def stop(self, within: float = 30.0) -> None:
        """SIGTERM."""
        self.replayer.stop()
        await asyncio.wait([self.task], timeout=within)
        assert self.is_dead or self.task.done(), f"{self.name} does not stop"
        if not self.is_dead:
            self.task.result()
            self.world.nodes.remove(self)


class _Sender:
    """Notes how many are on their way at once."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.under_way: Counter[str] = Counter()

    async def send(self, request: ReplayRequest, capture_id: str) -> Sent:
        node = self._node
        await node.step()
        self.under_way["own" if node.world.captures[capture_id] == "/own" else ""] += 1
        if max(self.under_way.values()) > CONCURRENCY:
            node.world.broken.append(f"{self.under_way} on their way at once")
        try:
            answer = await node.world.answer(node, capture_id)
        finally:
            self.under_way["own" if node.world.captures[capture_id] == "/own" else ""] -= 1
        await node.step()
        server = node.leg.plans["own" if node.world.captures[capture_id] == "/own" else ""].pool.given[0]
        if answer.answered:
            server.answered = node.leg.clock()
        return answer


class _Shaky:
    """A store or a source on a bad day, seen from a node that may die: before a call, or after it has taken effect."""

    def __init__(self, node: Node, inner: Any, fault: Exception) -> None:
        self._node, self._inner, self._fault = node, inner, fault

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return found if not asyncio.iscoroutinefunction(found) else self._shaken(found, name)

    def _shaken(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        async def call(*args: Any) -> Any:
            world = self._node.world
            if name == "stop" and self._node.is_dead:
                return None  # it is only the test that clears away
            await self._node.step()
            if name == "start":
                self._node.wake = args[0]
            is_store = isinstance(self._fault, StoreUnavailable)
            away = world.source_away if isinstance(self._fault, BrokerUnavailable) else world.store_away
            if name not in ("stop", "start") and (away or world.dice.random() < world.flaky):
                world.store_failed = world.loop.now() if is_store else world.store_failed
                raise self._fault
            result = await method(*args)
            await self._node.step()
            # A source that has given something has given it; only what changes something may fail without a word.
            if name not in ("stop", "start", "take", "value", "wanted") and world.dice.random() < world.flaky:
                world.store_failed = world.loop.now() if is_store else world.store_failed
                raise self._fault
            return result

        return call
