"""Several owners at once, each with connections of its own, and a person in another process."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from holdfast.audit import Audit, Record
from holdfast.testing import FixedClock
from tests.contract.audit_cases import Place, arrival, arrivals, attempt, settled

PERSON = Path(__file__).with_name("person.py")
SECONDS = 10.0
ROUNDS = 60


class Town:
    """What all owners know of each other: who may hold which key, for how long at least, and what took effect."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.held: dict[str, tuple[str, float]] = {}
        self.settled: list[str] = []
        self.sent: Counter[str] = Counter()

    def take(self, key: str, owner: str, since: float) -> None:
        holder, until = self.held.get(key, ("", 0.0))
        assert holder in ("", owner) or until <= self.clock.now, f"{owner} has {key} as well as {holder}"
        self.held[key] = owner, since + SECONDS

    def leave(self, key: str, owner: str) -> None:
        if self.held.get(key, ("", 0.0))[0] == owner:
            del self.held[key]


async def work(audit: Audit, owner: str, names: list[str], town: Town, dice: random.Random) -> None:
    """Until all is settled: let some arrive or claim them, then say of each what came of it, or hang for too long."""
    left = list(names)
    while left:
        picked = dice.sample(left, min(len(left), dice.randint(1, 12)))
        since = town.clock.now
        if dice.random() < 0.5:
            standings = await audit.arrive([arrival(name, name[:2]) for name in sorted(picked)], owner, SECONDS)
        else:
            standings = await audit.claim(picked, owner, SECONDS)
        claimed = [one for one in standings if one.claimed]
        left = [name for name in left if name not in {one.id for one in standings if one.state != "open"}]
        for one in claimed:
            town.take(one.id[:2], owner, since)
        if dice.random() < 0.1:
            town.clock.advance(SECONDS + 1)  # this one hangs, and says so too late
        else:
            await asyncio.sleep(0)
        town.sent.update(one.id for one in claimed)
        records = [
            settled(one.id, attempt=attempt()) if dice.random() < 0.8 else Record(id=one.id, attempt=attempt())
            for one in claimed
        ]
        for record in records:
            town.leave(record.id[:2], owner)
        effects = await audit.record(records, owner)
        town.settled += [record.id for record, took in zip(records, effects, strict=True) if took and record.outcome]


async def test_owners_at_once_do_not_get_in_each_others_way(place: Place, seed: int) -> None:
    """Invariants 1 to 3: one at a time has a key, its captures are settled in order, each of them once."""
    town, dice = Town(place.clock), random.Random(seed)
    names = [f"k{key}{number:03d}" for number in range(30) for key in range(6)]
    owners = [await place.open() for _ in range(4)]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number, audit in enumerate(owners):
            group.create_task(work(audit, f"owner{number}", names, town, random.Random(dice.random())))
    assert sorted(town.settled) == sorted(names), "each outcome has taken effect once"
    assert await place.rows("SELECT event_id FROM processed_events ORDER BY event_id") == [
        (one,) for one in sorted(names)
    ]
    query = """
SELECT event_id FROM audit_log JOIN captures ON captures.id = event_id WHERE kind = 'settled' ORDER BY sequence
"""
    order = [row[0] for row in await place.rows(query)]
    arrived = [row[0] for row in await place.rows("SELECT id FROM captures ORDER BY seq")]
    for key in sorted({name[:2] for name in names}):
        assert [one for one in order if one.startswith(key)] == [one for one in arrived if one.startswith(key)]
    assert sum(town.sent.values()) == len(await place.rows("SELECT 1 FROM audit_log WHERE kind = 'attempt'"))


async def test_calls_that_name_the_same_keys_in_another_order_do_not_block_each_other(place: Place) -> None:
    """Each is answered, and each capture is registered and settled once."""
    owners = [await place.open() for _ in range(4)]
    names = [f"n{number}" for number in range(100)]

    async def one(audit: Audit, number: int) -> int:
        dice = random.Random(number)
        mine = dice.sample(names, len(names))
        standings = await audit.arrive(arrivals(*mine), f"owner{number}", SECONDS)
        records = [settled(standing.id) for standing in standings if standing.claimed]
        return sum(await audit.record(records, f"owner{number}"))

    counts = await asyncio.gather(*(one(owners[number % 4], number) for number in range(20)))
    assert sum(counts) == len(names)
    assert len(await place.rows("SELECT id FROM captures")) == len(names)
    assert (
        await place.rows("SELECT event_id FROM audit_log WHERE kind = 'settled' GROUP BY 1 HAVING count(*) > 1") == []
    )


async def test_a_person_in_another_process_is_heard_meanwhile(place: Place, seed: int) -> None:
    """Who settles and reopens by the command line, while the replayer goes on: nothing is lost, nothing is twice."""
    audit = await place.open()
    names = [f"k{number % 5}{number:03d}" for number in range(40)]
    await audit.arrive([arrival(name, name[:2]) for name in names], "me", SECONDS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(PERSON), place.url, str(seed), str(ROUNDS), *names]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    effects = Counter[bool]()
    try:
        while process.poll() is None:
            standings = await audit.claim(names, "me", SECONDS)
            records = [settled(one.id, "dead", attempt=attempt()) for one in standings if one.claimed]
            effects.update(await audit.record(records, "me"))
        assert process.stdout
        done = process.stdout.read().split()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert done[0] == "done"
    counts = Counter(
        row[0] for row in await place.rows("SELECT kind FROM audit_log WHERE kind IN ('settled', 'reopened')")
    )
    assert counts == {"settled": effects[True] + int(done[1]), "reopened": int(done[2])}
    expected = await place.rows("SELECT id, state FROM captures WHERE state <> 'open' ORDER BY id")
    assert await place.rows("SELECT event_id, outcome FROM processed_events ORDER BY event_id") == expected
