"""The retry budget: retries are at most a share of live requests, so that a dead backend is not hit several times over.

Each request puts a share of a retry into the purse, each retry takes a whole one out; what is not used within the
window is gone. A small allowance per second lets a quiet service retry at all.

Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class RetryBudget:
    """`share` of requests (0..1) that may be retries over `window` seconds, and `at_least` so many per second."""

    share: float
    at_least: float = 3.0
    window: float = 10.0
    _buckets: deque[list[float]] = field(default_factory=deque)  # [second, requests, retries]
    _requests: float = 0
    _retries: float = 0

    def request(self, now: float) -> None:
        """A live request has come in: not a retry."""
        self._bucket(now)[1] += 1
        self._requests += 1

    def try_retry(self, now: float) -> bool:
        """Take one retry out of the budget, if there is one."""
        bucket = self._bucket(now)
        if self._retries + 1 > self.allowed:
            return False
        bucket[2] += 1
        self._retries += 1
        return True

    @property
    def allowed(self) -> float:
        """Retries that the window allows, those already made included."""
        return self._requests * self.share + self.at_least * self.window

    def _bucket(self, now: float) -> list[float]:
        second = float(int(now))
        while self._buckets and self._buckets[0][0] <= second - self.window:
            _, requests, retries = self._buckets.popleft()
            self._requests -= requests
            self._retries -= retries
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append([second, 0, 0])
        return self._buckets[-1]
