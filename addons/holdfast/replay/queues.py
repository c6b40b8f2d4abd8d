"""Captures that may be sent, in the order in which they became due: a queue for each pool of servers, paced by itself.

A route may have servers of its own: their failure must not keep the captures of other routes waiting.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

from holdfast.engine.leg import Leg
from holdfast.policy.pool import Pool
from holdfast.replay.pace import Pace, PaceRules

if TYPE_CHECKING:
    from holdfast.replay.lanes import Held

Fitness = Literal["fit", "not ours", "gone"]
"""Whether one whose turn has come can be sent; what is `not ours` (any more) is claimed first, and keeps its place."""


@dataclass(slots=True)
class PoolState:
    """What the upstream leg knows of one pool of servers, as the pace asks for it."""

    pool: Pool
    leg: Leg
    clients: Callable[[], int]

    def admits(self) -> bool:
        """Whether any of them may be asked now."""
        now = self.leg.clock()
        return any(server.available(now) for server in self.pool.servers)

    def answers_since(self) -> float | None:
        """Since when (monotonic seconds) one of them has been answering; None: none does, or nobody knows."""
        return max((server.answered for server in self.pool.servers if server.answered), default=None)

    def live(self) -> int:
        """How many requests of clients are under way."""
        return self.clients()


@dataclass(slots=True, eq=False)
class _Queue:
    state: PoolState
    pace: Pace
    waiting: list[tuple[int, Held]] = field(default_factory=list)  # a heap, by their turns


class Queues:
    """`clients` is how many requests of clients are under way, replays not counted."""

    def __init__(self, leg: Leg, rules: PaceRules, clients: Callable[[], int]) -> None:
        self._leg = leg
        self._rules = rules
        self._clients = clients
        self._queues: dict[Pool, _Queue] = {}
        self._of: dict[Held, _Queue] = {}
        self._turns = count(1)

    def follow(self, rules: PaceRules) -> None:
        """These rules hold from now on."""
        self._rules = rules
        for queue in self._queues.values():
            queue.pace.rules = rules

    def add(self, held: Held) -> None:
        """It may be sent as soon as its servers are ready for it."""
        if held.is_queued:
            return
        held.is_queued, held.turn = True, held.turn or next(self._turns)
        heapq.heappush(self._queue(held).waiting, (held.turn, held))

    def ready(self, fitness: Callable[[Held], Fitness]) -> Iterator[Held]:
        """Those that may be sent now; each is under way until `ended` or `given_up`."""
        self._follow_pools()
        for queue in list(self._queues.values()):
            to_be_claimed = 0
            while queue.waiting and queue.pace.allowance() > to_be_claimed:
                _, held = heapq.heappop(queue.waiting)
                held.is_queued = False
                found = fitness(held)
                # No more of them than could be sent: with a low rate the claims of the others would run out again.
                to_be_claimed += found == "not ours"
                if found == "fit":
                    held.turn = 0
                    self._of[held] = queue
                    queue.pace.began()
                    yield held

    def ended(self, held: Held, *, answered: bool) -> None:
        """A replay has ended; `answered`: by the upstream, whatever it said."""
        self._of.pop(held).pace.ended(answered=answered)

    def given_up(self, held: Held) -> None:
        """It has not been sent after all."""
        self._of.pop(held).pace.given_up()

    def wait(self) -> float | None:
        """Seconds until another one may be sent; None: nothing waits, or only for what is under way."""
        waits = [queue.pace.wait() for queue in self._queues.values() if queue.waiting]
        return min((each for each in waits if each is not None), default=None)

    @property
    def under_way(self) -> int:
        """Replays under way."""
        return len(self._of)

    @property
    def held_up(self) -> bool:
        """Whether something waits because its servers fail."""
        return any(queue.waiting and queue.pace.is_held_up for queue in self._queues.values())

    def _queue(self, held: Held) -> _Queue:
        pool = self._leg.plan(held.arrival.route).pool
        if pool not in self._queues:
            state = PoolState(pool, self._leg, self._clients)
            self._queues[pool] = _Queue(state, Pace(self._rules, self._leg.clock, state))
        return self._queues[pool]

    def _follow_pools(self) -> None:
        """A changed profile brings new pools: what waits goes to them, and what is known of servers that stay, too."""
        current = {plan.pool: None for plan in self._leg.plans.values()}
        gone = [pool for pool in self._queues if pool not in current]
        if not gone:
            return
        waiting = [each for queue in self._queues.values() for each in queue.waiting]
        for pool in gone:
            queue = self._queues.pop(pool)
            heir = next((new for new in current if new not in self._queues and _share(new, pool)), None)
            if heir:
                queue.state.pool = heir
                self._queues[heir] = queue
        for queue in self._queues.values():
            queue.waiting.clear()
        for each in waiting:
            heapq.heappush(self._queue(each[1]).waiting, each)


def _share(one: Pool, other: Pool) -> bool:
    return any(server in other.given for server in one.given)
