"""Idle connections to servers: how many are kept, for how long, and which of them a request gets.

The one that was used last is given out first: it is the least likely to have been closed by its server, and the others
grow old enough to be closed. Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FRESH = 1.0
"""Seconds. A server closes what has been idle for a while, and may be doing it right now: a request that cannot be sent
again takes no connection that has been idle for longer."""


@dataclass(frozen=True, slots=True)
class IdleRules:
    """The profile's `upstream.keepalive`: how many to a server, and seconds."""

    connections: int = 32
    timeout: float = 60.0


class Idle[Server, Connection]:
    """Connections, each with the time since which it has been idle."""

    def __init__(self, rules: IdleRules) -> None:
        self.rules = rules
        self._since: dict[Server, dict[Connection, float]] = {}  # oldest first

    def put(self, server: Server, connection: Connection, now: float) -> list[Connection]:
        """It is idle from now on; those that are one too many because of it, which are idle here no more."""
        ours = self._since.setdefault(server, {})
        ours.pop(connection, None)
        ours[connection] = now
        too_many = len(ours) - self.rules.connections
        return [self._drop(server, each) for each in list(ours)[:too_many]] if too_many > 0 else []

    def take(self, server: Server, connection: Connection) -> None:
        """It is idle no more, if it was."""
        if connection in self._since.get(server, ()):
            self._drop(server, connection)

    def newest(self, server: Server) -> Iterator[tuple[Connection, float]]:
        """Those to this server with the time since which each is idle; what is taken out meanwhile does no harm."""
        yield from reversed(list(self._since.get(server, {}).items()))

    def since(self, server: Server, connection: Connection) -> float | None:
        """When this one became idle."""
        return self._since.get(server, {}).get(connection)

    def expired(self, now: float) -> list[Connection]:
        """Those that have been idle for the whole timeout, which are idle here no more."""
        limit = now - self.rules.timeout
        late = [(s, c) for s, ours in self._since.items() for c, since in ours.items() if since <= limit]
        return [self._drop(server, connection) for server, connection in late]

    def next_expiry(self) -> float | None:
        """When `expired` is worth asking again; None while there is none."""
        oldest = [next(iter(ours.values())) for ours in self._since.values()]
        return min(oldest) + self.rules.timeout if oldest else None

    def clear(self) -> list[Connection]:
        """All of them, which are idle here no more."""
        cleared = list(self)
        self._since.clear()
        return cleared

    def __iter__(self) -> Iterator[Connection]:
        """All of them."""
        return iter([each for ours in self._since.values() for each in ours])

    def _drop(self, server: Server, connection: Connection) -> Connection:
        ours = self._since[server]
        del ours[connection]
        if not ours:
            del self._since[server]
        return connection


def fit(since: float, now: float, *, careful: bool) -> bool:
    """Whether a request may go on a connection that is idle since then. `careful`: it cannot be sent again."""
    return not careful or now - since <= FRESH
