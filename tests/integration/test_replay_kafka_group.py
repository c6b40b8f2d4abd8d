"""Several replayers in one group, as processes, on three brokers: some are killed, some come and go."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.replay_kafka import QUICK, captures, committed, create, number_of, produce, until
from tests.services.kafka import KafkaCluster

PARTITIONS = 6
SESSION = 6.0  # seconds, as in QUICK
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cluster(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three brokers, to be broken. A test leaves them as it found them."""
    with KafkaCluster(kafka_libs, tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def topic(cluster: KafkaCluster) -> str:
    name = f"group-{uuid.uuid4().hex[:12]}"
    create(cluster.address, name, PARTITIONS, 3, **{"min.insync.replicas": "2"})
    return name


class Member:
    """A process, and what it has said so far, which it writes to a file."""

    def __init__(self, address: str, topic: str, instance: str = "", pause: float = 0.05, **options: str) -> None:
        script = str(Path(__file__).with_name("replay_member.py"))
        chosen = [f"{name}={value}" for name, value in {**QUICK, **options}.items()]
        self.topic = topic
        self._events: list[dict[str, Any]] = []
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the test
        self._rest = b""
        self.process = subprocess.Popen(
            [sys.executable, script, address, topic, instance, str(pause), *chosen],
            stdin=subprocess.PIPE,
            stdout=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._read = 0

    def of(self, event: str) -> list[dict[str, Any]]:
        # By position: the process writes where the file's own position is.
        said = self._said.fileno()
        new = os.pread(said, os.fstat(said).st_size - self._read, self._read)
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")  # the last one is cut short, if it was killed
        self._events += [json.loads(line) for line in lines]
        return [each for each in self._events if each["event"] == event]

    def shares(self) -> dict[int, int]:
        """Partition of the first topic -> which assignment of it, as it is now."""
        said = self.of("shares")
        return {number: era for name, number, era in said[-1]["shares"] if name == self.topic} if said else {}

    def settled(self) -> int:
        return len(self.of("settled"))

    def kill(self) -> float:
        """`kill -9`; when."""
        self.process.kill()
        self.process.wait()
        return time.monotonic()

    def stop(self) -> float:
        """In order; how long it took, in seconds."""
        began = time.monotonic()
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)
        return time.monotonic() - began


@pytest.fixture
def members() -> Iterator[list[Member]]:
    """Those in it are gone at the end."""
    started: list[Member] = []
    yield started
    for member in started:
        member.kill()


async def balanced(members: list[Member], within: float = 40.0) -> None:
    """All partitions are owned, each by one of them, as evenly as can be, and they have been for a moment."""
    since = time.monotonic()
    while time.monotonic() - since < 1.5:

        def is_balanced() -> bool:
            owned = [set(member.shares()) for member in members]
            return sum(map(len, owned)) == PARTITIONS and max(map(len, owned)) - min(map(len, owned)) <= 1

        if not is_balanced():
            await until(is_balanced, within, lambda: f"owned: {[member.shares() for member in members]}")
            since = time.monotonic()
        await asyncio.sleep(0.05)


async def trio(members: list[Member], cluster: KafkaCluster, topic: str, *names: str, **options: str) -> None:
    members += [Member(cluster.address, topic, name, **options) for name in names or ("", "", "")]
    await balanced(members)


def ids(members: list[Member], event: str) -> list[int]:
    return [number_of(each["id"]) for member in members for each in member.of(event)]


async def all_settled(members: list[Member], count: int, within: float = 60.0) -> None:
    await until(
        lambda: set(ids(members, "settled")) == set(range(count)),
        within,
        lambda: f"{count - len(set(ids(members, 'settled')))} are missing",
    )


def in_order(member: Member) -> bool:
    """Within an assignment each offset comes once, and after those before it."""
    eras: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for each in member.of("taken"):
        name, number, offset, era = each["place"]
        eras[name, number, era].append(offset)
    return all(one < other for offsets in eras.values() for one, other in pairwise(offsets))


async def test_others_take_over_from_one_that_is_killed(
    cluster: KafkaCluster, topic: str, members: list[Member]
) -> None:
    """Within the session timeout: nothing is lost, what was committed is not given again, the others go on."""
    await trio(members, cluster, topic)
    await asyncio.to_thread(produce, cluster.address, topic, captures(range(1200), keys=60))
    await until(lambda: all(member.settled() > 60 for member in members))
    victim, *others = members
    before = [member.shares() for member in members]
    killed = victim.kill()
    saved = committed(cluster.address, topic, topic, PARTITIONS)
    await asyncio.to_thread(produce, cluster.address, topic, captures(range(1200, 2400), keys=60))
    await all_settled(members, 2400)
    await balanced(others)
    gone = before[0]
    taken_over = [each for member in others for each in member.of("taken") if each["place"][1] in gone]
    moment = min(each["at"] for each in taken_over) - killed
    print(f"taken over {moment:.1f} s after the kill")
    assert moment < SESSION + 4
    assert all(each["place"][2] >= saved[each["place"][1]] for each in taken_over), "what was committed came again"
    again = len(ids(members, "taken")) - len(set(ids(members, "taken")))
    print(f"{again} given twice")
    assert again <= 200
    for member, owned in zip(others, before[1:], strict=True):
        assert owned.items() <= member.shares().items(), "what stays is not interrupted"
    assert all(in_order(member) for member in members)


async def test_one_that_joins_or_leaves_interrupts_nobody(
    cluster: KafkaCluster, topic: str, members: list[Member]
) -> None:
    """Cooperative: who keeps a partition goes on reading it, and nothing is given twice; one that stops is prompt."""
    slow = 0.5  # so that something is on its way when partitions move
    members += [Member(cluster.address, topic, pause=slow), Member(cluster.address, topic, pause=slow)]
    await balanced(members)
    stop = asyncio.Event()

    async def trickle() -> int:
        count = 0
        while not stop.is_set():
            await asyncio.to_thread(produce, cluster.address, topic, captures(range(count, count + 60), keys=60))
            count += 60
            await asyncio.sleep(0.1)
        return count

    producing = asyncio.create_task(trickle())
    await until(lambda: all(member.settled() > 60 for member in members))
    before = [member.shares() for member in members]
    members.append(Member(cluster.address, topic, pause=slow))
    await balanced(members)
    for member, owned in zip(members[:2], before, strict=True):
        kept = member.shares().items()
        assert kept <= owned.items(), "what it kept is the same assignment"
        assert len(kept) == 2
    took = members[2].stop()
    print(f"left in {took:.1f} s")
    await balanced(members[:2], within=15)
    stop.set()
    count = await producing
    await all_settled(members, count)
    taken = ids(members, "taken")
    assert len(taken) == len(set(taken)), "what is on its way from what is given back is settled and committed before"
    assert took < 8
    assert all(in_order(member) for member in members)
    for member, owned in zip(members[:2], before, strict=True):
        for number in set(member.shares()) & set(owned):
            if member.shares()[number] == owned[number]:
                assert longest_gap(member, number) < 5.0


def longest_gap(member: Member, number: int) -> float:
    """Seconds between two messages of a partition."""
    moments = [each["at"] for each in member.of("taken") if each["place"][1] == number]
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


async def test_a_restart_of_a_static_member_moves_nothing(
    cluster: KafkaCluster, topic: str, members: list[Member]
) -> None:
    """Within the session timeout: it has its partitions back, and the others never hear of it."""
    options = {"session.timeout.ms": "20000"}
    await trio(members, cluster, topic, "a", "b", "c", **options)
    produce(cluster.address, topic, captures(range(300), keys=60))
    await all_settled(members, 300)
    before = [member.shares() for member in members]
    heard = [len(member.of("shares")) for member in members]
    members[0].stop()
    members.append(Member(cluster.address, topic, "a", **options))
    await until(lambda: set(members[3].shares()) == set(before[0]))
    produce(cluster.address, topic, captures(range(300, 600), keys=60))
    await all_settled(members, 600)
    assert [member.shares() for member in members[1:3]] == before[1:]
    assert [len(member.of("shares")) for member in members[1:3]] == heard[1:]
    taken = ids(members, "taken")
    assert len(taken) == len(set(taken))


async def test_a_broker_that_is_killed_stops_nobody_for_long(
    cluster: KafkaCluster, topic: str, members: list[Member]
) -> None:
    """Two copies are left: nothing is lost, and little comes twice."""
    options = {"session.timeout.ms": "30000"}
    await trio(members, cluster, topic, **options)
    produce(cluster.address, topic, captures(range(600), keys=60))
    await until(lambda: sum(member.settled() for member in members) > 100)
    cluster.nodes[0].kill()
    try:
        await asyncio.to_thread(produce, cluster.address, topic, captures(range(600, 1200), keys=60))
        await all_settled(members, 1200, within=90)
    finally:
        await asyncio.to_thread(cluster.nodes[0].start)
        await asyncio.to_thread(cluster.wait_ready)
    assert all(in_order(member) for member in members)
    again = len(ids(members, "taken")) - 1200
    print(f"{again} given twice")
    assert again <= 600
