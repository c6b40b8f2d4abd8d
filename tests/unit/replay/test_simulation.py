"""Replayers under random misfortune: whatever happens, nothing is lost, nothing comes out of its order, all of it ends.

A seed that fails is shown and can be run again: HOLDFAST_TEST_SEED.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Literal

import pytest

from holdfast.replay import outbox
from tests.unit.replay import fakes
from tests.unit.replay.world import WINDOW, Node, World

KEYS = ("/a", "/b", "/c", "/d", "/bad", "/ill", "/own")
RUNS = 12


async def misfortune(world: World, seconds: float) -> None:  # noqa: C901 - a branch for each kind of it
    """Something goes wrong every now and then."""
    dice, until = world.dice, world.loop.time() + seconds
    while world.loop.time() < until:
        await asyncio.sleep(dice.uniform(0.1, 4.0))
        kind = dice.randrange(12)
        if kind < 3 and world.nodes:
            dice.choice(world.nodes).steps_left = dice.randrange(1, 60)
        elif kind == 3:
            world.store_away = not world.store_away
        elif kind == 4:
            world.source_away = not world.source_away
        elif kind < 7:
            world.upstream[dice.choice(("", "own"))] = dice.choice(("", "", "refused", "500", "hangs", "stuck"))
        elif kind == 7:
            world.flaky = dice.choice((0.0, 0.02, 0.2))
        elif kind == 8 and len(world.nodes) > 1:
            node = dice.choice(world.nodes)
            if not node.is_dead:
                await node.stop()
        elif kind == 9 and len(world.nodes) < 3:
            world.start()
        elif kind == 10 and world.captures:
            world.discard()
        elif kind == 11:
            world.redrive()


async def mortality(world: World) -> None:
    """Who dies is replaced after a while, under its old name or another."""
    while True:
        for node in [each for each in world.nodes if each.is_dead]:
            await node.bury()
            alone = not world.nodes
            await asyncio.sleep(world.dice.choice((0.0, 0.5, 5.0)))
            world.start(node.owner if alone and world.kind == "outbox" and world.dice.random() < 0.5 else "")
        await asyncio.sleep(0.05)


async def captures(world: World, count: int) -> None:
    """One after the other, with bursts."""
    for _ in range(count):
        world.capture(world.dice.choice(KEYS))
        if world.dice.random() < 0.2:
            await asyncio.sleep(world.dice.uniform(0.0, 3.0))


async def attention(world: World) -> None:
    """What must hold all the time."""
    while True:
        await asyncio.sleep(0.25)
        for node in world.nodes:
            if len(node.replayer.lanes) > WINDOW + 500:
                world.broken.append(f"{node.name} holds {len(node.replayer.lanes)}")


async def live(seed: int, kind: Literal["topics", "outbox"], count: int = 150) -> World:
    """A world from its beginning to the moment at which all is settled."""
    random.seed(seed)
    world = World(random.Random(seed), kind)
    for _ in range(world.dice.choice((1, 2))):
        world.start()
    beside = [asyncio.create_task(each) for each in (mortality(world), attention(world), captures(world, count))]
    await misfortune(world, 120.0)
    world.flaky, world.store_away, world.source_away = 0.0, False, False
    world.upstream.clear()
    for node in world.nodes:
        node.steps_left = 1 << 60
    await beside[2]
    began = world.loop.time()
    while left := world.left():
        waited = world.loop.time() - began
        assert waited < 3600, f"after {waited:.0f} s not settled: {left[:10]}\n{told(world, left[0])}"
        await asyncio.sleep(1.0)
    await asyncio.sleep(60.0)
    for task in beside:
        task.cancel()
    for node in list(world.nodes):
        check_rest(node)
        await node.stop()
    return world


def told(world: World, name: str) -> str:
    """What is known of a capture that does not come to an end."""
    lines = [str(world.audit.rows.get(name))]
    if row := world.audit.rows.get(name):
        lines += [str(each) for each in list(world.audit.open[row.key].values())[:3]]
    for node in world.nodes:
        held = node.replayer.lanes.by_id.get(name)
        lines.append(f"{node.name} {held} {node.replayer.lanes.next_time()} {node.replayer.trouble!r}")
        if held:
            lines.append(f"  head of {node.replayer.lanes._lanes[held.arrival.key][0]}")
        source = node.inner
        if hasattr(source, "_aside"):
            for slot in source._files.slots():
                lines.append(f"  {slot.held} {[r for r in slot.queries.records.values() if r.id == name]}")
            lines.append(f"  aside { ({k: len(v) for k, v in source._aside.items()}) } again {len(source._again)}")
    return "\n".join(lines)


def check_rest(node: Node) -> None:
    """Nothing of what has passed is left."""
    replayer = node.replayer
    assert not len(replayer.lanes), list(replayer.lanes.by_id)[:5]
    assert not replayer.queues.under_way
    assert all(queue.pace.under_way == 0 and not queue.waiting for queue in replayer.queues._queues.values())
    assert not replayer._tasks.sending
    assert not replayer._tasks._errands
    assert not replayer._settling.left_over


def check(world: World) -> None:
    """What must hold in the end."""
    assert not world.broken, world.broken[:5]
    for name, key in world.captures.items():
        if name in world.meddled:
            continue
        outcomes = [outcome for _, outcome in world.audit.settled[name]]
        assert len(outcomes) == 1, f"{name} was settled as {outcomes}"
        if outcomes == ["delivered"]:
            assert name in world.well, f"{name} is delivered, and no server has had it"
        elif name.endswith("7") or key in ("/bad", "/ill"):
            assert outcomes == ["dead"]
            assert world.reached[name]
            assert name in world.audit.letters
    if world.kind == "topics":
        dead = {name for name in world.captures if world.audit.state(name) in ("dead", "parked")}
        assert dead - world.meddled <= set(world.topics.dead)
    else:
        for each in world.outboxes:
            for record in each.records.values():
                wanted = {"delivered": "sent", "dead": "quarantined"}.get(world.audit.state(record.id))
                assert record.id in world.meddled or record.state == wanted, f"{record} should be {wanted}"


@pytest.fixture
def passing_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.VirtualLoop]:
    """Virtual time, for the outbox too."""
    with fakes.virtual_time() as loop:
        monkeypatch.setattr(outbox, "time", SimpleNamespace(monotonic=loop.time, time=loop.now))
        yield loop


@pytest.mark.parametrize("kind", ["topics", "outbox"])
@pytest.mark.parametrize("run", range(RUNS))
def test_nothing_is_lost_or_out_of_order_and_all_of_it_ends(
    seed: int, run: int, kind: Literal["topics", "outbox"], passing_time: fakes.VirtualLoop
) -> None:
    """At least once, one outcome, order per key, bounds; and with the faults gone, an end."""
    began = time.perf_counter()
    check(passing_time.run_until_complete(live(seed + run, kind)))
    print(f"seed {seed + run}: {time.perf_counter() - began:.2f} s")
