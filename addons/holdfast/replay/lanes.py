"""What the replayer holds: captures of one key wait for each other, those of different keys do not. No I/O, no clock.

A lane is one key's captures in the order of their arrival. Only its head is ever sent. A head has a time at which
something is to be done with it: it is sent when it is due, if it is ours (`claimed_until`), and asked for otherwise.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import count, dropwhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.audit import Arrival
    from holdfast.replay.source import Taken


@dataclass(slots=True, eq=False)
class Held:
    """A capture that is open. `takens` are the messages that name it: one, or more where it was published twice."""

    arrival: Arrival
    takens: list[Taken]
    due: float = 0.0  # epoch seconds
    claimed_until: float = 0.0  # epoch seconds; 0: it is not ours
    attempts: int = 0
    failures: int = 0  # of this process to do something with it, in a row: what spaces out the next try
    redrive: int = 0
    busy: bool = False  # on its way to the upstream, or its outcome on its way to the disk
    is_leaving: bool = False  # a message that names it comes too late to leave with it
    is_back: bool = False  # there was such a message: it may be what was handed on
    turn: int = 0  # its place in the queue for its servers, kept until it is sent
    is_queued: bool = False
    ticket: int = field(default=0, repr=False)  # its newest place in the schedule, 0: none; older ones mean nothing

    @property
    def is_lost(self) -> bool:
        """Whether every message that names it is somebody else's by now."""
        return all(each.is_lost for each in self.takens)


class Lanes:
    """All that is held, by id and by key, with a schedule of what is to be looked at when."""

    def __init__(self) -> None:
        self.by_id: dict[str, Held] = {}
        self._lanes: dict[str, deque[Held]] = {}
        self._schedule: list[tuple[float, int, Held]] = []
        self._tickets = count(1)

    def __len__(self) -> int:
        return len(self.by_id)

    def add(self, held: Held) -> None:
        """Behind all of its key. Its time is set by `at`, once it is the head."""
        self.by_id[held.arrival.id] = held
        self._lanes.setdefault(held.arrival.key, deque()).append(held)

    def length(self, key: str) -> int:
        """How many of this key are held."""
        return len(self._lanes.get(key, ()))

    def is_head(self, held: Held) -> bool:
        """Whether nothing of its key goes before it here."""
        lane = self._lanes.get(held.arrival.key)
        return lane is not None and lane[0] is held

    def holds(self, held: Held) -> bool:
        """Whether it is still here."""
        return self.by_id.get(held.arrival.id) is held

    def behind(self, held: Held) -> list[Held]:
        """Those of its key that come after it, in their order; not those that somebody is busy with."""
        after = dropwhile(lambda each: each is not held, self._lanes.get(held.arrival.key, ()))
        return [each for each in after if each is not held and not each.busy]

    def to_front(self, held: Held) -> None:
        """It goes before all of its key: it has arrived before them, and was only given to us later."""
        lane = self._lanes[held.arrival.key]
        lane.remove(held)
        lane.appendleft(held)

    def at(self, held: Held, when: float) -> None:
        """Look at it then (epoch seconds), and not at any time that was said before."""
        held.ticket = next(self._tickets)
        heapq.heappush(self._schedule, (when, held.ticket, held))

    def drop(self, held: Held) -> Held | None:
        """It is settled, handed on or lost; the one that becomes the head by it, if there is one."""
        if self.holds(held):
            del self.by_id[held.arrival.id]
        held.ticket = 0
        lane = self._lanes.get(held.arrival.key)
        if not lane or held not in lane:
            return None
        was_head = lane[0] is held
        lane.remove(held)
        if not lane:
            del self._lanes[held.arrival.key]
            return None
        return lane[0] if was_head else None

    def ripe(self, now: float, most: int) -> list[Held]:
        """Heads whose time has come, earliest first; each is scheduled anew by whoever takes it.

        One that somebody is busy with is left to them: see `is_forgotten`.
        """
        found: list[Held] = []
        while len(found) < most and self._schedule and self._schedule[0][0] <= now:
            _, ticket, held = heapq.heappop(self._schedule)
            if ticket != held.ticket:
                continue
            held.ticket = 0
            if self.is_head(held) and not held.busy:
                found.append(held)
        return found

    def is_forgotten(self, held: Held) -> bool:
        """Whether it is a head that nobody would ever look at again."""
        return not (held.ticket or held.is_queued or held.busy) and self.is_head(held)

    def next_time(self) -> float | None:
        """When something is to be looked at next (epoch seconds)."""
        while self._schedule and self._schedule[0][1] != self._schedule[0][2].ticket:
            heapq.heappop(self._schedule)
        return self._schedule[0][0] if self._schedule else None

    def under_way(self) -> list[Held]:
        """Those that are ours, and busy."""
        return [held for held in self.by_id.values() if held.busy and held.claimed_until]

    def lost(self) -> list[Held]:
        """Those that are somebody else's by now, and not on their way."""
        return [held for held in self.by_id.values() if held.is_lost and not held.busy]
