"""The circuit breaker of one upstream server: closed, open, half-open, and the slow start after it.

It opens after `max_fails` consecutive failures, or when the share of failures within a sliding window passes a bound;
it stays open for `fail_timeout`, then lets a few probes through. As many successes as there are probes close it, one
failure opens it again. A server that has just come back gets a share of traffic that grows over `slow_start`.

A person may force it open, for some time or until it is closed by hand; meanwhile nothing else changes its state.

Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """`max_fails` 0 switches counting consecutive failures off, `failure_rate` None the other rule."""

    max_fails: int = 3
    fail_timeout: float = 30.0
    failure_rate: float | None = None  # share of failures, 0..1
    min_requests: int = 20  # fewer within the window say nothing about a rate
    window: float = 10.0
    probes: int = 1
    slow_start: float = 0.0


@dataclass(slots=True)
class Breaker:
    """One per server. Ask `allows`, take a `permit` for each attempt, and say how it ended."""

    rules: BreakerRules
    _open_until: float | None = None
    _closed_at: float | None = None  # when it last closed after having been open
    _consecutive: int = 0
    _probing: int = 0
    _probed: int = 0
    _forced_until: float | None = None  # infinite: until it is closed by hand
    _ended: deque[tuple[float, bool]] = field(default_factory=deque)
    _failed: int = 0

    def state(self, now: float) -> State:
        """`half_open` from the moment on at which a probe may go."""
        if self._open_until is None:
            return "closed"
        return "half_open" if now >= self._open_until and not self.is_forced(now) else "open"

    def is_forced(self, now: float) -> bool:
        """Whether a person holds it open now."""
        return self._forced_until is not None and now < self._forced_until

    def allows(self, now: float) -> bool:
        """Whether an attempt may go to this server now."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and self._probing + self._probed < self.rules.probes)

    def permit(self, now: float) -> None:
        """An attempt begins: it counts as a probe while half-open."""
        if self.state(now) == "half_open":
            self._probing += 1

    def succeeded(self, now: float, *, server_error: bool = False, by_rate: bool = True) -> None:
        """An attempt that had a permit was answered. A 5xx is an answer, but counts for the rate."""
        self._consecutive = 0
        self._note(now, failed=server_error)
        if self.state(now) == "closed" and server_error and by_rate and self._rate_passed():
            self._open(now)
        elif self.state(now) == "half_open":
            self._probing = max(0, self._probing - 1)
            self._probed += 1
            if self._probed >= self.rules.probes:
                self._close(now)

    def failed(self, now: float, *, by_rate: bool = True) -> None:
        """An attempt that had a permit failed. `by_rate` False: only consecutive failures may open it now."""
        self._consecutive += 1
        self._note(now, failed=True)
        too_many = 0 < self.rules.max_fails <= self._consecutive or (by_rate and self._rate_passed())
        if self.state(now) == "half_open" or (self.state(now) == "closed" and too_many):
            self._open(now)

    def abandoned(self, now: float) -> None:
        """An attempt that had a permit ended without telling anything: the client left."""
        if self.state(now) == "half_open":
            self._probing = max(0, self._probing - 1)

    def force(self, is_open: bool, now: float, seconds: float | None = None) -> None:
        """A person opens or closes it. It stays open until it is closed by hand, or for `seconds`, then probes go."""
        if not is_open:
            self._close(now)
            return
        self._open(now)
        self._forced_until = math.inf if seconds is None else now + seconds
        if seconds is not None:
            self._open_until = now + seconds

    def heir(self) -> Breaker:
        """That of another address of the same server: nothing is known of it but what a person has said."""
        heir = Breaker(self.rules)
        if self._forced_until is not None:
            heir.held_like(self)
        return heir

    def held_like(self, other: Breaker) -> None:
        """A person holds the other one open, which is of the same server: this one is open as long."""
        self._open_until, self._forced_until = other._open_until, other._forced_until
        self._probing = self._probed = 0

    def hasten(self, now: float) -> None:
        """There is reason to believe that the server is back: a probe may go at once. Not where a person opened it."""
        if self._open_until is not None and not self.is_forced(now):
            self._open_until = min(self._open_until, now)

    def retry_in(self, now: float) -> float:
        """Seconds until a probe may go; 0 when one may now; `fail_timeout` where that is up to a person."""
        if self._forced_until == math.inf:
            return self.rules.fail_timeout
        return max(0.0, self._open_until - now) if self._open_until is not None else 0.0

    def weight(self, now: float) -> float:
        """Share of its usual traffic, above 0 and at most 1: less than 1 only during the slow start."""
        if self.rules.slow_start <= 0 or self._closed_at is None:
            return 1.0
        return min(1.0, max(0.1, (now - self._closed_at) / self.rules.slow_start))

    def _rate_passed(self) -> bool:
        rate, count = self.rules.failure_rate, len(self._ended)
        return rate is not None and count >= self.rules.min_requests and self._failed / count > rate

    def _note(self, now: float, *, failed: bool) -> None:
        if self.rules.failure_rate is None:
            return
        self._ended.append((now, failed))
        self._failed += failed
        while self._ended and self._ended[0][0] <= now - self.rules.window:
            self._failed -= self._ended.popleft()[1]

    def _open(self, now: float) -> None:
        self._open_until, self._forced_until = now + self.rules.fail_timeout, None
        self._probing = self._probed = 0

    def _close(self, now: float) -> None:
        self._open_until, self._closed_at, self._forced_until = None, now, None
        self._consecutive = self._probing = self._probed = self._failed = 0
        self._ended.clear()
