"""The servers behind one upstream: whose turn it is, and who is left alone.

First those that are no backups, then the backups; among them the ones this request has not tried yet. Whom the breaker
or the health check holds back is not asked at all, so that with all of them held back the answer is immediate.

Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from holdfast.policy.breaker import Breaker
from holdfast.policy.endpoint import Endpoint

Balance = Literal["round_robin", "least_outstanding"]


@dataclass(slots=True, eq=False)
class PoolServer:
    """One server and what is known of it."""

    endpoint: Endpoint
    breaker: Breaker
    weight: int = 1
    backup: bool = False
    healthy: bool = True  # what the active health check says; True without one
    outstanding: int = 0  # attempts under way
    turn: float = 0.0  # smooth weighted round robin: who has waited longest
    up: bool | None = None  # whether it answered the last attempt; None before the first
    since: float | None = None  # wall-clock time of the last change of `up`
    failures: int = 0  # in a row
    last_error: str | None = None
    answered: float | None = None  # monotonic seconds of the last attempt that it has answered

    def available(self, now: float) -> bool:
        """Whether it may be asked now."""
        return self.healthy and self.breaker.allows(now)

    def at(self, ip: str) -> PoolServer:
        """The same server at one of its addresses, of which nothing is known yet."""
        return PoolServer(replace(self.endpoint, ip=ip), self.breaker.heir(), self.weight, self.backup)


class Pool:
    """`keep` is the share of servers (0..1) that opening by failure rate must leave in service.

    `given` are the servers of the profile, `servers` those in use: a name with several addresses stands for as many.
    """

    def __init__(self, servers: Iterable[PoolServer], balance: Balance = "round_robin", keep: float = 0.0) -> None:
        self.given = self.servers = tuple(servers)
        self._balance = balance
        self._keep = keep
        self._resolved: dict[PoolServer, tuple[PoolServer, ...]] = {}
        self._taken_over = False

    def resolve(self, endpoint: Endpoint, ips: Iterable[str]) -> None:
        """This given server stands for these addresses from now on (none: for itself); known ones keep their state.

        Attempts under way at an address that is gone go on, and end as any other; none begins there.
        """
        for given in self.given:
            if given.endpoint == endpoint:
                known = {server.endpoint.ip: server for server in self._resolved.get(given, ())}
                self._resolved[given] = tuple(known.get(ip) or given.at(ip) for ip in dict.fromkeys(ips))
        self._put_in_use()

    def ips(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The addresses that this given server stands for now."""
        given = next((server for server in self.given if server.endpoint == endpoint), None)
        return tuple(server.endpoint.ip for server in self._resolved.get(given, ())) if given else ()

    def take_over(self, old: Pool) -> None:
        """What the old pool knows of the servers that both have: a changed profile forgets nothing.

        It can be done once: a server that was in two pools would have two weights and two turns.
        """
        if old._taken_over:
            return
        old._taken_over = True
        kept: list[PoolServer] = []
        for new in self.given:
            same = next((s for s in old.given if s.endpoint == new.endpoint and s not in kept), None)
            kept.append(_updated(same, new) if same else new)
            if same and same in old._resolved:
                self._resolved[same] = tuple(_updated(server, new) for server in old._resolved[same])
        self.given = tuple(kept)
        self._put_in_use()

    def pick(self, now: float, tried: Collection[Endpoint] = ()) -> PoolServer | None:
        """The server for the next attempt, None if all are held back. Its attempt has begun: end it by `end`."""
        if len(self.servers) == 1:  # as with most, and nothing to choose
            (only,) = self.servers
            return self._begin(only, now) if only.available(now) else None
        available = [server for server in self.servers if server.available(now)]
        for backup in (False, True):
            ranked = [server for server in available if server.backup is backup]
            fresh = [server for server in ranked if server.endpoint not in tried]
            # A backup that was not tried is better than a server that has just failed.
            if fresh or (ranked and (backup or not any(s.backup and s.endpoint not in tried for s in available))):
                return self._begin(self._choose(fresh or ranked, now), now)
        return None

    def end(self, server: PoolServer, now: float, *, failed: bool | None, server_error: bool = False) -> None:
        """The attempt has ended; `failed` None: nobody knows how. `server_error`: answered, with a 5xx."""
        server.outstanding -= 1
        if failed is None:
            server.breaker.abandoned(now)
        elif failed:
            server.breaker.failed(now, by_rate=self._spare(now))
        else:
            server.breaker.succeeded(now, server_error=server_error, by_rate=self._spare(now))

    def force(self, endpoint: Endpoint, is_open: bool, now: float, seconds: float | None = None) -> int:
        """A person opens or closes the circuit of this server, at all of its addresses; how many there are in use."""
        given = [server for server in self.given if server.endpoint == endpoint]
        in_use = [server for each in given for server in self._resolved.get(each) or (each,)]
        for server in {*given, *in_use}:
            server.breaker.force(is_open, now, seconds)
            server.healthy = server.healthy or not is_open  # until the next check says otherwise
        return len(in_use)

    def retry_in(self, now: float) -> float:
        """Seconds until the first server that is held back may be asked again."""
        return min((server.breaker.retry_in(now) for server in self.servers), default=0.0)

    def _put_in_use(self) -> None:
        self.servers = tuple(server for given in self.given for server in self._resolved.get(given) or (given,))

    def _spare(self, now: float) -> bool:
        """Whether one server less would leave enough."""
        closed = sum(server.breaker.state(now) == "closed" for server in self.servers)
        return (closed - 1) >= self._keep * len(self.servers)

    def _begin(self, server: PoolServer, now: float) -> PoolServer:
        server.breaker.permit(now)
        server.outstanding += 1
        return server

    def _choose(self, servers: list[PoolServer], now: float) -> PoolServer:
        weights = {server: server.weight * server.breaker.weight(now) for server in servers}
        for server, weight in weights.items():
            server.turn += weight
        if self._balance == "least_outstanding":
            chosen = min(servers, key=lambda s: ((s.outstanding + 1) / weights[s], -s.turn))
        else:
            chosen = max(servers, key=lambda s: s.turn)
        chosen.turn -= sum(weights.values())
        return chosen


def _updated(server: PoolServer, given: PoolServer) -> PoolServer:
    server.breaker.rules, server.weight, server.backup = given.breaker.rules, given.weight, given.backup
    return server
