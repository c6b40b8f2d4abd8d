"""How much of what costs the sender nothing is borne with: so much at once, and so much a second after that."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Allowance:
    """A token bucket, full at first. `rate` is units a second, `since` the time of the last look in the same clock."""

    capacity: float
    rate: float
    since: float
    left: float = -1.0

    def __post_init__(self) -> None:
        self.left = self.capacity

    def take(self, units: float, now: float) -> bool:
        """Spend; false once there is not enough."""
        self.left = min(self.capacity, self.left + (now - self.since) * self.rate) - units
        self.since = now
        return self.left >= 0
