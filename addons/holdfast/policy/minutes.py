"""What became of the requests of the last hour: counted by minute, by route and by fate, in memory and bounded.

Times are epoch seconds, passed in: a minute is one of the clock on the wall. A clock that goes back counts into the
newest minute until it has caught up; one that goes back by more than is kept begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from holdfast.policy.fate import FATES, LOST

KEPT = 60  # minutes, the one that has just begun included
MOST_ROUTES = 50
OTHER = "other"  # those that came when there were as many as that
_SECONDS = 60

type Counts = dict[tuple[str, str], int]  # by route and fate


@dataclass(frozen=True, slots=True)
class Minute:
    """`begun` in epoch seconds; only what was counted is in `counts`."""

    begun: float
    counts: Mapping[tuple[str, str], int]

    def of(self, fate: str, route: str = "") -> int:
        """How many ended so; on any route unless one is named."""
        return sum(n for (own, found), n in self.counts.items() if found == fate and route in ("", own))


@dataclass(frozen=True, slots=True)
class RouteHour:
    """What became of the requests of one route; a fate that did not occur is not in `fates`."""

    route: str
    fates: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.fates.values())

    @property
    def lost(self) -> float:
        """The share that the upstream did not answer, 0..1."""
        return sum(self.fates.get(fate, 0) for fate in LOST) / self.total if self.total else 0.0


class Minutes:
    """`add` is on the way of every request: it costs a look-up and an addition."""

    def __init__(self, most_routes: int = MOST_ROUTES) -> None:
        self._most = most_routes
        self._number = 0  # of the newest minute, counted from the epoch
        self._counts: Counts = {}  # of that one
        self._past: deque[tuple[int, Counts]] = deque()
        self._routes: set[str] = set()

    def add(self, now: float, route: str, fate: str, times: int = 1) -> None:
        """A request has ended; or so many of this kind."""
        number = int(now) // _SECONDS
        if number != self._number:
            self._turn(number)
        key = (route, fate)
        if key not in self._counts:
            key = (self._known(route), fate)
        self._counts[key] = self._counts.get(key, 0) + times

    def hour(self, now: float) -> tuple[Minute, ...]:
        """As many minutes as are kept, oldest first; the last one has not ended."""
        return hour_of(dict(self._past) | {self._number: self._counts}, now)

    def newest(self) -> list[tuple[int, Counts]]:
        """The newest two in which anything was counted, by their numbers: minutes since the epoch."""
        newest = [*list(self._past)[-1:], (self._number, self._counts)]
        return [(number, counts) for number, counts in newest if counts]

    def _turn(self, number: int) -> None:
        if 0 < self._number - number < KEPT:
            return
        if number > self._number:
            self._past.append((self._number, self._counts))
        else:
            self._past.clear()
        self._number, self._counts = number, {}
        while self._past and self._past[0][0] <= number - KEPT:
            self._past.popleft()
        self._routes = {route for _, counts in self._past for route, _ in counts if route != OTHER}

    def _known(self, route: str) -> str:
        if route not in self._routes:
            if len(self._routes) >= self._most:
                return OTHER
            self._routes.add(route)
        return route


def hour_of(found: Mapping[int, Counts], now: float) -> tuple[Minute, ...]:
    """As many minutes as are kept, oldest first, of these, which are named by minutes since the epoch."""
    last, newest = int(now) // _SECONDS, max(found, default=0)
    if 0 < newest - last < KEPT:
        last = newest
    return tuple(Minute(float(n * _SECONDS), dict(found.get(n, {}))) for n in range(last - KEPT + 1, last + 1))


def by_route(minutes: tuple[Minute, ...]) -> list[RouteHour]:
    """Those that lose requests first, then the busiest."""
    sums: dict[str, dict[str, int]] = {}
    for minute in minutes:
        for (route, fate), count in minute.counts.items():
            fates = sums.setdefault(route, {})
            fates[fate] = fates.get(fate, 0) + count
    found = [RouteHour(route, dict(_in_order(fates))) for route, fates in sums.items()]
    return sorted(found, key=lambda each: (-each.lost * each.total, -each.total, each.route))


def _in_order(fates: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((fate, fates[fate]) for fate in (*FATES, *sorted(set(fates) - set(FATES))) if fate in fates)
