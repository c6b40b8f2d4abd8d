"""When a failed replay is tried again: how long to wait, in which retry topic, and how fast after an outage.

All times are in seconds. `jitter` is a random number in [0, 1). `failed` is the number of the replay that has just
failed, counted from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SLOWEST_SHARE = 0.1
"""Of the full rate, right after a recovery. With nothing at all, nobody would see that the upstream is back."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """The step is `base`, and `factor` times as long after each failure, up to `longest`.

    Jitter spreads what has failed together: `full` over the whole step, `equal` over its second half. ValueError for
    what is no such schedule.
    """

    base: float
    factor: float
    longest: float
    jitter: Literal["full", "equal"] = "full"

    def __post_init__(self) -> None:
        if not (0 < self.base <= self.longest < math.inf and 1 <= self.factor < math.inf):
            raise ValueError("write a base above 0, a factor of at least 1, and a longest delay not below the base")

    def delay(self, failed: int, jitter: float) -> float:
        """Seconds to wait."""
        step = self._step(max(failed, 1) - 1)
        return step * jitter if self.jitter == "full" else step / 2 + step / 2 * jitter

    def _step(self, grown: int) -> float:
        try:
            return min(self.longest, self.base * self.factor**grown)
        except OverflowError:  # the longest was passed long before
            return self.longest


@dataclass(frozen=True, slots=True)
class Listed:
    """These delays one after the other; the last repeats. No jitter. ValueError for none, or one below 0."""

    delays: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.delays or not all(0 <= delay < math.inf for delay in self.delays):
            raise ValueError("write at least one delay, and none below 0")

    def delay(self, failed: int, jitter: float) -> float:
        """Seconds to wait; `jitter` is not used."""
        return self.delays[min(max(failed, 1), len(self.delays)) - 1]


type Schedule = Exponential | Listed


def next_delay(schedule: Schedule, failed: int, jitter: float, at_least: float = 0.0) -> float:
    """Seconds to wait. `at_least` is what the server asked for (Retry-After); it holds beyond the longest step too."""
    return max(schedule.delay(failed, jitter), at_least)


def tier_for(delay: float, tiers: Sequence[tuple[str, float]], local_below: float = 0.0) -> str | None:
    """The retry topic for a delay; None: it waits where it is, as it is short or there are no topics.

    `tiers` are names and delays in any order. It is the topic with the smallest delay that is at least the wanted one,
    and otherwise the one with the longest: whoever takes it out there finds that it is not due, and hands it on again.
    """
    if not tiers or delay < local_below:
        return None
    enough = [tier for tier in tiers if tier[1] >= delay]
    if enough:
        return min(enough, key=lambda tier: tier[1])[0]
    return max(tiers, key=lambda tier: tier[1])[0]


def rate(seconds_since_recovery: float, full_rate: float, ramp: float) -> float:
    """Slow start: how many replays a second, from a tenth of `full_rate` up to all of it after `ramp` seconds.

    In a straight line, with a floor, as Envoy's slow start does by default. Without a ramp it is the full rate.
    """
    if ramp <= 0 or seconds_since_recovery >= ramp:
        return full_rate
    return full_rate * max(SLOWEST_SHARE, seconds_since_recovery / ramp)
