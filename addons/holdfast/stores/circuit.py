"""When to stop asking a server that does not answer, so that an outage costs each caller nothing."""

from __future__ import annotations

from collections.abc import Callable


class Circuit:
    """Open after one failure, for a pause that grows while it keeps failing. Whoever probes says how it went.

    Requests never probe: `allows` stays False until a probe in the background has succeeded.
    """

    def __init__(self, monotonic: Callable[[], float], first: float = 0.1, longest: float = 2.0) -> None:
        self._now = monotonic
        self._first = first
        self._longest = longest
        self._streak = 0
        self._until: float | None = None
        self._closed_at = 0.0
        self.reason = ""
        self.opened = 0  # how often

    @property
    def is_open(self) -> bool:
        return self._until is not None

    def due(self) -> bool:
        """Whether a probe may go: it is open, and the pause is over."""
        return self._until is not None and self._now() >= self._until

    def failed(self, reason: str) -> None:
        """A call failed. Several that fail together, or one that began before the circuit opened, count once."""
        now = self._now()
        if self._until is not None and now < self._until:
            return
        if self._until is None:
            self.opened += 1
            if now - self._closed_at > 2 * self._longest:  # it had been well for a while
                self._streak = 0
        self.reason = reason
        self._until = now + min(self._longest, self._first * 2**self._streak)
        self._streak = min(self._streak + 1, 16)

    def succeeded(self) -> None:
        if self._until is not None:
            self._until = None
            self._closed_at = self._now()
            self.reason = ""
