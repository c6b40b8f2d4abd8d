"""Captures that may be sent, in the order in which they became due: a queue for each pool of servers, paced by itself.

A route may have servers of its own: their failure must not keep the captures of other routes waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from holdfast.engine.leg import Leg
from holdfast.policy.pool import Pool
from holdfast.replay.lanes import Held
from holdfast.replay.pace import Pace, PaceRules


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


@dataclass(slots=True)
class _Queue:
    pool: Pool
    pace: Pace
    waiting: deque[Held] = field(default_factory=deque)


class Queues:
    """`clients` is how many requests of clients are under way, replays not counted."""

    def __init__(self, leg: Leg, rules: PaceRules, clients: Callable[[], int]) -> None:
        self._leg = leg
        self._rules = rules
        self._clients = clients
        self._queues: list[_Queue] = []
        self._of: dict[Held, _Queue] = {}

    def follow(self, rules: PaceRules) -> None:
        """These rules hold from now on."""
        self._rules = rules
        for queue in self._queues:
            queue.pace.rules = rules

    def add(self, held: Held) -> None:
        """It may be sent as soon as its servers are ready for it."""
        self._queue(self._leg.plan(held.arrival.route).pool).waiting.append(held)

    def ready(self) -> Iterator[Held]:
        """Those that may be sent now; each is under way until `ended` or `given_up`."""
        for queue in self._queues:
            while queue.waiting and queue.pace.allowance() > 0:
                held = queue.waiting.popleft()
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
        waits = [queue.pace.wait() for queue in self._queues if queue.waiting]
        return min((each for each in waits if each is not None), default=None)

    @property
    def under_way(self) -> int:
        """Replays under way."""
        return len(self._of)

    @property
    def held_up(self) -> bool:
        """Whether something waits because its servers fail."""
        return any(queue.waiting and queue.pace.is_held_up for queue in self._queues)

    def _queue(self, pool: Pool) -> _Queue:
        """A changed profile may bring new pools: queues of pools that are gone are emptied, then forgotten."""
        for queue in self._queues:
            if queue.pool is pool:
                return queue
        self._queues = [each for each in self._queues if each.waiting or each.pace.under_way]
        state = PoolState(pool, self._leg, self._clients)
        made = _Queue(pool, Pace(self._rules, self._leg.clock, state))
        self._queues.append(made)
        return made
