"""The scrapes of the last minute: how fast counters rise, and how that went.

A counter that has gone back belongs to a gateway that was started again, so what it shows has been counted since. Times
are seconds of a monotonic clock, rates are per second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from holdfast.top.scrape import Scrape

SPAN = 60.0  # seconds
type Group = tuple[str, tuple[str, ...]]  # a counter, and the labels by which it is told apart
type Sums = dict[tuple[str, ...], float]  # by the values of those labels


@dataclass(frozen=True, slots=True)
class Rise:
    """How much the counters of a group have risen, and in how many seconds."""

    sums: Sums
    seconds: float

    def rate(self, *values: str) -> float:
        """Of those whose first labels have these values."""
        return self.count(*values) / self.seconds

    def count(self, *values: str) -> float:
        """The same, not by time."""
        return sum(rise for own, rise in self.sums.items() if own[: len(values)] == values)


@dataclass(frozen=True, slots=True)
class _Point:
    when: float
    totals: Mapping[Group, Sums]  # as if the gateway had never been started again


class History:
    """Keeps the groups it is made with, for a minute."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = tuple(groups)
        self._points: deque[_Point] = deque()
        self.latest: Scrape | None = None
        self.restarts = 0

    def add(self, scrape: Scrape) -> None:
        """The next one; one that is not later than the latest is not counted."""
        before = self.latest
        if before and scrape.when <= before.when:
            return
        totals = {group: dict(sums) for group, sums in self._points[-1].totals.items()} if self._points else {}
        anew = before is not None and is_restarted(before, scrape)
        self.restarts += anew
        for group in self._groups:
            name, told_by = group
            sums = totals.setdefault(group, {})
            last = {} if before is None or anew else before.values.get(name, {})
            for labels, value in scrape.values.get(name, {}).items():
                own = dict(labels)
                key = tuple(own.get(label, "") for label in told_by)
                # What is there at the first scrape has been counted before anybody looked.
                rise = 0.0 if before is None else _rise(last.get(labels, 0.0), value)
                sums[key] = sums.get(key, 0.0) + rise
        self._points.append(_Point(scrape.when, totals))
        self.latest = scrape
        # One from before the minute stays: the minute begins somewhere between it and the next.
        while len(self._points) > 2 and self._points[1].when <= scrape.when - SPAN:
            self._points.popleft()

    def now(self, group: Group) -> Rise | None:
        """Between the last two scrapes, None before there are two."""
        return self._between(self._points[-2], self._points[-1], group) if len(self._points) > 1 else None

    def minute(self, group: Group) -> Rise | None:
        """Within the last minute, or since the first scrape if that was later; None before there are two."""
        if len(self._points) < 2:
            return None
        end = self._points[-1]
        begin = next((point for point in self._points if point.when >= end.when - SPAN), self._points[0])
        return self._between(begin if begin is not end else self._points[-2], end, group)

    def line(self, group: Group, columns: int, *values: str) -> tuple[float | None, ...]:
        """The rates of the last minute in so many equal parts, oldest first; None for what nobody has seen."""
        if not self._points:
            return (None,) * columns
        times = [point.when for point in self._points]
        sums = [sum(v for k, v in p.totals.get(group, {}).items() if k[: len(values)] == values) for p in self._points]
        step, end = SPAN / columns, times[-1]
        edges = [_at(times, sums, end - SPAN + step * number) for number in range(columns + 1)]
        return tuple(
            None if low is None or high is None else max(0.0, high - low) / step for low, high in pairwise(edges)
        )

    def _between(self, begin: _Point, end: _Point, group: Group) -> Rise:
        low = begin.totals.get(group, {})
        sums = {key: total - low.get(key, 0.0) for key, total in end.totals.get(group, {}).items()}
        return Rise(sums, end.when - begin.when)


def is_restarted(before: Scrape, after: Scrape) -> bool:
    """Whether another process has answered. What a gateway without a time of its start says shows it by going back."""
    if before.started is not None and after.started is not None:
        return before.started != after.started
    counters = (name for name in after.values if name.endswith("_total"))
    return any(
        value < before.values.get(name, {}).get(labels, 0.0)
        for name in counters
        for labels, value in after.values[name].items()
    )


def quantile(share: float, buckets: Mapping[str, float]) -> float | None:
    """The value that `share` of the observations do not exceed, from counts by upper bound (cumulative, with `+Inf`).

    As Prometheus' histogram_quantile: linear within a bucket; the largest bound where it is above all; None of none.
    """
    bounds = sorted((float(bound), count) for bound, count in buckets.items())
    if not bounds or bounds[-1][1] <= 0:
        return None
    wanted, lower, below = share * bounds[-1][1], 0.0, 0.0
    for bound, count in bounds:
        if count >= wanted and count > below:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / (count - below)
        lower, below = bound, count
    return lower


def _rise(last: float, value: float) -> float:
    return value - last if value >= last else value


def _at(times: Sequence[float], sums: Sequence[float], when: float) -> float | None:
    """The sum at that time, on the straight line between the two scrapes around it."""
    right = bisect_right(times, when)
    if right == 0:
        return None
    if right == len(times):
        return sums[-1]
    share = (when - times[right - 1]) / (times[right] - times[right - 1])
    return sums[right - 1] + (sums[right] - sums[right - 1]) * share
