"""Idle connections to a server: how many are kept, for how long, and which of them a request gets.

The one that was used last is given out first: it is the least likely to have been closed by the server, and the others
grow old enough to be closed. Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FRESH = 1.0
"""Seconds. A server closes what has been idle for a while, and may be doing it right now: a request that cannot be sent
again takes no connection that has been idle for longer."""


@dataclass(slots=True)
class IdleRules:
    """The profile's `upstream.keepalive`: whether they are shared, how many to a server, and seconds.

    `active` is how many may be in use beside those, None: as many as are asked for.
    """

    shared: bool = True
    connections: int = 32
    timeout: float = 60.0
    active: int | None = None


class Idle[Connection]:
    """The idle connections to one server."""

    def __init__(self, rules: IdleRules) -> None:
        self._rules = rules
        self._since: dict[Connection, float] = {}  # oldest first

    def put(self, connection: Connection, now: float) -> list[Connection]:
        """It is idle from now on; those that are one too many because of it, which are idle here no more."""
        self._since.pop(connection, None)
        self._since[connection] = now
        too_many = len(self._since) - self._rules.connections
        return self._without(list(self._since)[:too_many]) if too_many > 0 else []

    def take(self, connection: Connection) -> None:
        """It is idle no more, if it was."""
        self._since.pop(connection, None)

    def newest(self) -> Iterator[Connection]:
        """The one used last first; what is taken out meanwhile does no harm."""
        return reversed(list(self._since))

    def oldest(self) -> Connection | None:
        """The one that has been idle for longest, which is idle here no more."""
        return self._without(list(self._since)[:1])[0] if self._since else None

    def is_fresh(self, connection: Connection, now: float) -> bool:
        """Whether a request may go on it that cannot be sent again."""
        return now - self._since.get(connection, now) <= FRESH

    def expired(self, now: float) -> list[Connection]:
        """Those that have been idle for the whole timeout, which are idle here no more."""
        limit = now - self._rules.timeout
        return self._without([connection for connection, since in self._since.items() if since <= limit])

    def next_expiry(self) -> float | None:
        """When `expired` is worth asking again; None while there is none."""
        return next((since + self._rules.timeout for since in self._since.values()), None)

    def clear(self) -> list[Connection]:
        """All of them, which are idle here no more."""
        return self._without(list(self._since))

    def __contains__(self, connection: object) -> bool:
        """Whether this one is idle."""
        return connection in self._since

    def __len__(self) -> int:
        """How many there are."""
        return len(self._since)

    def _without(self, connections: list[Connection]) -> list[Connection]:
        for each in connections:
            del self._since[each]
        return connections
