"""What survives replayers that die: a topic with its retries, and the files of an outbox, both in memory."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from holdfast.audit import Arrival
from holdfast.errors import StoreUnavailable
from holdfast.outbox.queries import Queries
from holdfast.outbox.record import LedgerRow, OutboxRecord, OutboxStats, State
from holdfast.replay.outbox import Slot
from holdfast.replay.source import Headers, SourceHealth, Taken

PLACES = (("retry.5s", 5.0), ("retry.20s", 20.0))
PARTITIONS = 3


@dataclass(slots=True)
class Topics:
    """Of Kafka: (topic, partition) -> messages. A partition of a topic of retries waits for its first message."""

    logs: dict[tuple[str, int], list[tuple[Arrival | None, float]]] = field(default_factory=lambda: defaultdict(list))
    settled: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    dead: list[str] = field(default_factory=list)
    owners: list[str | None] = field(default_factory=lambda: [None] * PARTITIONS)
    members: dict[str, TopicSource] = field(default_factory=dict)

    def publish(self, about: Arrival | None, place: str = "", due: float = 0.0) -> None:
        """Behind everything in its partition."""
        partition = int.from_bytes((about.key if about else "").encode()) % PARTITIONS
        self.logs[place, partition].append((about, due))
        for member in self.members.values():
            member.woken()

    def unsettled(self) -> list[str]:
        """Names of what is still to be dealt with."""
        return [
            about.id if about else "poison"
            for at, log in self.logs.items()
            for offset, (about, _) in enumerate(log)
            if offset not in self.settled[at]
        ]

    def balance(self) -> None:
        """Partitions go round among the members; what a member loses is given again by whoever has it then."""
        names = sorted(self.members)
        for partition in range(PARTITIONS):
            owner = names[partition % len(names)] if names else None
            if owner != self.owners[partition]:
                if before := self.members.get(self.owners[partition] or ""):
                    before.lose(partition)
                self.owners[partition] = owner
                if owner:
                    self.members[owner].gain(partition)


class TopicSource:
    """A member of the group."""

    def __init__(self, topics: Topics, name: str, dice: random.Random, clock: Callable[[], float]) -> None:
        self.places = PLACES
        self.woken: Callable[[], None] = lambda: None
        self._topics = topics
        self._name = name
        self._dice = dice
        self._clock = clock
        self._next: dict[tuple[str, int], int] = {}
        self._given: list[Taken] = []

    async def start(self, woken: Callable[[], None]) -> None:
        self.woken = woken
        self._topics.members[self._name] = self
        self._topics.balance()

    async def stop(self) -> None:
        self.leave()

    def leave(self) -> None:
        """As the group finds out that it is dead."""
        if self._topics.members.pop(self._name, None):
            for partition, owner in enumerate(self._topics.owners):
                if owner == self._name:
                    self.lose(partition)
                    self._topics.owners[partition] = None
            self._topics.balance()

    def gain(self, partition: int) -> None:
        for topic in ("", *(name for name, _ in PLACES)):
            settled, low = self._topics.settled[topic, partition], 0
            while low in settled:
                low += 1
            # Commits are behind: some that are settled are given again.
            self._next[topic, partition] = max(0, low - self._dice.randrange(3))

    def lose(self, partition: int) -> None:
        for at in [at for at in self._next if at[1] == partition]:
            del self._next[at]
        for each in self._given:
            if cast(Any, each.position)[0][1] == partition:
                each.is_lost = True
        self._given = [each for each in self._given if not each.is_lost]

    async def take(self, most: int) -> list[Taken]:
        found: list[Taken] = []
        shares = list(self._next)
        self._dice.shuffle(shares)
        for at in shares:
            log = self._topics.logs[at]
            while len(found) < most and self._next[at] < len(log):
                offset = self._next[at]
                about, due = log[offset]
                if at[0] and due > self._clock() and offset not in self._topics.settled[at]:
                    break
                self._next[at] += 1
                found.append(
                    Taken(about, 10, poison="" if about else "no JSON", due=due, place=at[0], position=(at, offset))
                )
        self._given += found
        return found

    def set_aside(self, taken: Taken) -> None:
        raise NotImplementedError

    def ask_again(self, key: str) -> None:
        pass

    async def wanted(self, ids: Sequence[str]) -> dict[str, Literal["discarded", "dead"]]:
        return {}

    async def value(self, taken: Taken) -> tuple[bytes, Headers] | None:
        assert taken.arrival
        return taken.arrival.id.encode(), ()

    async def settle(self, taken: Sequence[Taken]) -> None:
        for each in taken:
            if not each.is_lost:
                at, offset = cast(Any, each.position)
                self._topics.settled[at].add(offset)

    async def bury(self, taken: Taken, reason: str, headers: Headers) -> None:
        if not taken.is_lost:
            self._topics.dead.append(taken.arrival.id if taken.arrival else "poison")
            await self.settle([taken])

    async def hand_on(self, taken: Taken, place: str, due: float, headers: Headers) -> None:
        if not taken.is_lost:
            self._topics.publish(taken.arrival, place, due)
            await self.settle([taken])

    async def health(self) -> SourceHealth:
        return SourceHealth(ok=True, detail="")


@dataclass(slots=True, eq=False)
class FakeQueries:
    """One outbox file, without the file."""

    records: dict[int, OutboxRecord] = field(default_factory=dict)
    away: bool = False

    def pending(self, after: int, limit: int) -> list[LedgerRow]:
        self._check()
        found = [seq for seq, each in self.records.items() if seq > after and each.state == "pending"]
        return cast(Any, [(seq, "", 0.0, "", "", "", "", None, "pending", None, 0, 1, b"") for seq in found[:limit]])

    def newest_pending(self) -> int:
        self._check()
        return max((seq for seq, each in self.records.items() if each.state == "pending"), default=0)

    def is_pending(self, seq: int) -> bool:
        self._check()
        return self.records[seq].state == "pending"

    def capture(self, seq: int) -> OutboxRecord:
        self._check()
        return self.records[seq]

    def get(self, name: str) -> OutboxRecord | None:
        self._check()
        return next((each for each in self.records.values() if each.id == name), None)

    def move(self, seqs: Sequence[int], to: State, allowed: Sequence[State]) -> None:
        self._check()
        for seq in seqs:
            if self.records[seq].state in allowed:
                self.records[seq] = replace(self.records[seq], state=to)

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("the file is away")


class FakeFiles:
    """Outboxes that several processes read."""

    def __init__(self, queries: list[FakeQueries]) -> None:
        self._slots = [Slot(cast(Queries, each), None, looked_again=0.0) for each in queries]

    def slots(self) -> list[Slot]:
        return self._slots

    async def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        cast(Any, slot.queries).move(seqs, "sent", ("pending", "discarded", "quarantined"))

    async def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        cast(Any, slot.queries).move(seqs, "quarantined", ("pending",))

    def stats(self) -> OutboxStats:
        return OutboxStats()

    def close(self) -> None:
        pass


# --- the world ---
