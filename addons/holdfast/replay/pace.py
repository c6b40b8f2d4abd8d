"""How many captures are on their way at once: so that an upstream that has just come back is not knocked over.

    steady      up to `concurrency` at once, at most `rate` a second
    held back   every circuit is open, or the health checks fail: nothing
    trouble     several in a row did not get through: nothing but one probe, after a pause that grows while it fails;
                at once where a client or a health check has got an answer meanwhile
    recovering  a probe was answered: from one at a time to all in `slow_start` seconds

While clients have more than `give_way` requests under way, one replay at a time is enough. Times are seconds of a
monotonic clock, passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast.policy.replaying.schedule import rate

PAUSE = (1.0, 30.0)  # seconds between two probes, the first and the longest
IN_A_ROW = 3  # one capture that an upstream chokes on does not make it a failing one
_SOON = 0.25


@dataclass(frozen=True, slots=True)
class PaceRules:
    """`rate` per second, None: as fast as it goes; `slow_start` in seconds; `give_way` in requests of clients."""

    concurrency: int = 8
    rate: float | None = None
    slow_start: float = 10.0
    give_way: int = 64


class Upstream(Protocol):
    """What is known of the servers that captures go to."""

    def admits(self) -> bool:
        """Whether any of them may be asked now."""

    def answers_since(self) -> float | None:
        """Since when (monotonic seconds) one of them has been answering; None: none does, or nobody knows."""

    def live(self) -> int:
        """How many requests of clients are under way."""


class Pace:
    """Asked before each replay, and told how it ended."""

    def __init__(self, rules: PaceRules, clock: Callable[[], float], upstream: Upstream) -> None:
        self.rules = rules
        self.under_way = 0
        self._clock = clock
        self._upstream = upstream
        self._failures = 0
        self._pause = 0.0
        self._probe_at: float | None = None  # None: no trouble
        self._failed_at = 0.0
        self._recovering_since: float | None = None
        self._next_start = 0.0  # for `rate`

    @property
    def is_held_up(self) -> bool:
        """Whether it waits for the upstream."""
        return self._probe_at is not None or not self._upstream.admits()

    def allowance(self) -> int:
        """How many more may begin now."""
        now = self._clock()
        if not self._upstream.admits():
            self._note_trouble(now)
            return 0
        if self._probe_at is not None:
            return 1 if self.under_way == 0 and (now >= self._probe_at or self._answers_again()) else 0
        most = 1 if self._upstream.live() > self.rules.give_way else self._most(now)
        room = most - self.under_way
        if room <= 0 or self.rules.rate is None:
            return max(0, room)
        return 1 if now >= self._next_start else 0

    def wait(self) -> float | None:
        """Seconds until the answer of `allowance` may change by itself; None: only when a replay ends."""
        now = self._clock()
        if not self._upstream.admits():
            return _SOON
        if self._probe_at is not None:
            return min(_SOON, max(0.0, self._probe_at - now)) if self.under_way == 0 else None
        if self._upstream.live() > self.rules.give_way:
            return _SOON
        if self.rules.rate is not None and self._next_start > now:
            return self._next_start - now
        return _SOON if self._recovering_since is not None else None

    def began(self) -> None:
        """A replay is on its way."""
        self.under_way += 1
        if self.rules.rate is not None:
            now = self._clock()
            self._next_start = max(now, self._next_start) + 1 / rate(
                self._recovering_for(now), self.rules.rate, self.rules.slow_start
            )

    def ended(self, *, answered: bool) -> None:
        """It has ended; `answered`: by the upstream, whatever it said."""
        self.under_way -= 1
        now = self._clock()
        if answered:
            if self._probe_at is not None:
                self._recovering_since = now
            self._failures, self._pause, self._probe_at = 0, 0.0, None
            return
        self._failures += 1
        self._failed_at = now
        if self._failures >= IN_A_ROW or self._probe_at is not None:
            self._pause = min(PAUSE[1], self._pause * 2) if self._pause else PAUSE[0]
            self._probe_at = now + self._pause
            self._recovering_since = None

    def given_up(self) -> None:
        """It has not been sent after all."""
        self.under_way -= 1

    def _note_trouble(self, now: float) -> None:
        """Clients have opened the circuits: what comes after is a recovery, and begins with a probe."""
        if self._probe_at is None:
            self._probe_at, self._failed_at, self._recovering_since = now, now, None

    def _answers_again(self) -> bool:
        since = self._upstream.answers_since()
        return since is not None and since > self._failed_at

    def _recovering_for(self, now: float) -> float:
        return self.rules.slow_start if self._recovering_since is None else now - self._recovering_since

    def _most(self, now: float) -> int:
        passed = self._recovering_for(now)
        if passed >= self.rules.slow_start:
            self._recovering_since = None
        return max(1, int(rate(passed, self.rules.concurrency, self.rules.slow_start)))
