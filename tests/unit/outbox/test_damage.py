"""Random damage to the files of an outbox: whatever is hit, it opens, lies about nothing, and works on."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.brokers import Message
from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord, wal
from holdfast.outbox.feed import Feed, Outgoing
from holdfast.policy.uuid7 import uuid7
from tests.unit.outbox.records import Clock, make_record

ROUNDS = 8  # of each kind
type Damage = Callable[[Path, random.Random], None]


def build(folder: Path, dice: random.Random, clock: Clock) -> tuple[dict[str, OutboxRecord], set[str]]:
    """An outbox with a past, closed or as a kill leaves it: all records, and the ids of those that are to be sent."""
    outbox = Outbox.open(folder / "holdfast.db", OutboxLimits(retention=5), clock)
    records: dict[str, OutboxRecord] = {}
    for _ in range(dice.randint(5, 100)):
        value = dice.randbytes(int(dice.paretovariate(0.8) * 60) % 30_000)
        record = make_record(value, id=uuid7(int(clock() * 1000), dice.randbytes(10)))  # the same again with its seed
        outbox.append_sync(record)
        records[record.id] = record
        if dice.random() < 0.1:
            outbox.discard([dice.choice(list(records))])
        if dice.random() < 0.05:
            clock.advance(10)
            outbox.tidy()
    pending = {record.id for record in outbox.list(limit=1000, state="pending")}
    killed = shutil.copytree(folder, folder.with_name("killed"))
    outbox.close()
    if dice.random() < 0.5:
        shutil.rmtree(folder)
        killed.rename(folder)
    else:
        shutil.rmtree(killed)
    return records, pending


def overwrite(path: Path, dice: random.Random) -> None:
    """A few stretches of garbage or of zeros."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(dice.randint(1, 3)):
            start = dice.randrange(size)
            length = min(size - start, int(dice.paretovariate(0.7) * 200))
            file.seek(start)
            file.write(dice.randbytes(length) if dice.random() < 0.6 else bytes(length))


def flip(path: Path, dice: random.Random) -> None:
    """Single bits, as a bad memory does it."""
    content = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 5)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def garble_header(path: Path, dice: random.Random) -> None:
    """One byte of what everything else hangs on; not of the format's number: a newer one is left alone."""
    content = bytearray(path.read_bytes())
    places = range(wal.HEADER) if path.suffix == ".db-wal" else [*range(60), *range(64, 100)]
    content[dice.choice(places)] = dice.randrange(256)
    path.write_bytes(content)


def cut(path: Path, dice: random.Random) -> None:
    """The end is missing."""
    os.truncate(path, dice.randrange(path.stat().st_size))


def misplace(path: Path, dice: random.Random) -> None:
    """One page stands in the place of another, as after a write that went astray."""
    content = bytearray(path.read_bytes())
    source, target = (dice.randrange(len(content) // 4096) * 4096 for _ in range(2))
    content[target : target + 4096] = content[source : source + 4096]
    path.write_bytes(content)


def relay_everything(outbox: Outbox) -> list[tuple[str, Outgoing]]:
    """What a relay would send, with the ids."""
    feed = Feed(outbox)
    found = []
    while record := feed.peek():
        feed.take(record)
        feed.delivered(record.seq)
        found.append(record)
    feed.wait_for_marks(10)
    feed.close()
    ids = {record.seq: record.id for record in outbox.list(limit=1000)}
    return [(ids[record.seq], record) for record in found]


def message_of(record: OutboxRecord) -> Message:
    return Message(record.key, record.value, record.headers)


def check(
    folder: Path,
    records: dict[str, OutboxRecord],
    pending: set[str],
    clock: Clock,
    *,
    silent: bool = False,
    lossless: bool = False,
) -> None:
    """Nothing false comes out, nothing is lost without a trace, and the outbox is sound afterwards."""
    outbox = Outbox.open(folder / "holdfast.db", OutboxLimits(), clock)
    found = relay_everything(outbox)
    assert [record.message for _, record in found] == [message_of(records[each]) for each, _ in found]
    assert [record.seq for _, record in found] == sorted(record.seq for _, record in found)
    visible = {record.id for record in outbox.list(limit=1000, state="quarantined")}
    lost = pending - {each for each, _ in found}
    assert silent or outbox.stats().rescues or lost <= visible
    assert not (lossless and lost)
    outbox.append_sync(make_record())
    outbox.close()
    again = Outbox.open(folder / "holdfast.db", OutboxLimits(), clock)
    assert (again.stats().pending, again.stats().rescues) == (1, 0)
    again.close()


@pytest.mark.parametrize("damage", [overwrite, flip, garble_header, cut, misplace], ids=lambda damage: damage.__name__)
def test_damage_of_any_kind_costs_only_what_it_hits(damage: Damage, tmp_path: Path, seed: int) -> None:
    """The database, its log, or both; as it was closed, or as a kill has left it."""
    for number in range(ROUNDS):
        dice, clock = random.Random(f"{seed} {number}"), Clock()
        folder = tmp_path / str(number)
        folder.mkdir()
        records, pending = build(folder, dice, clock)
        files = [each for each in sorted(folder.glob("holdfast.db*")) if each.suffix in (".db", ".db-wal")]
        hit = [each for each in dice.sample(files, dice.randint(1, len(files))) if each.stat().st_size]
        for each in hit:
            damage(each, dice)
        # Of a log whose end is gone nobody can tell that it was ever written. No record is in a header.
        silent = any(each.suffix == ".db-wal" for each in hit)
        check(folder, records, pending, clock, silent=silent, lossless=damage is garble_header)
        shutil.rmtree(folder)
