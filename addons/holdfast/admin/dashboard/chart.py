"""The last hour as bars, one for each minute, and the words beside them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from holdfast.admin.dashboard.wording import counted, minute
from holdfast.policy.fate import FATES
from holdfast.policy.minutes import Minute

WIDTH, HEIGHT = 10, 100  # of a minute's place, and of the whole, in the units of the picture
GAP = 2
LEAST = 2.0  # of a part: what has happened is seen, however much else has
STACKED = ("ok", "hit", "stale", "retried", "rejected", "captured", "failed")  # the first at the bottom


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a column; `y` is its upper edge, and counts from the top."""

    fate: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One minute; `x` is its left edge. `counts` are by fate, in the order of `FATES`."""

    begun: float
    x: int
    counts: tuple[int, ...]
    bars: tuple[Bar, ...]

    def count(self, fate: str) -> int:
        """How many ended so."""
        return self.counts[FATES.index(fate)]

    @property
    def words(self) -> str:
        """`12:04 UTC: 41 ok, 2 captured`."""
        return f"{minute(self.begun)} UTC: {in_words(zip(FATES, self.counts, strict=True)) or 'none'}"


@dataclass(frozen=True, slots=True)
class Chart:
    """`top` is what the full height stands for; `sums` are by fate, those that occurred."""

    columns: tuple[Column, ...]
    top: int
    sums: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """All requests."""
        return sum(count for _, count in self.sums)

    @property
    def words(self) -> str:
        """For who does not see it."""
        return f"{counted(self.total, 'request')} in the last hour" + (f": {in_words(self.sums)}" if self.sums else "")

    def share(self, *fates: str) -> float | None:
        """Of the requests that ended in one of these ways, 0..1; None of none."""
        return sum(count for fate, count in self.sums if fate in fates) / self.total if self.total else None

    @property
    def busy(self) -> list[Column]:
        """The minutes with requests, newest first."""
        return [column for column in reversed(self.columns) if any(column.counts)]


@dataclass(frozen=True, slots=True)
class Strip:
    """The fates of one route side by side: (fate, left edge, width) of 100."""

    parts: tuple[tuple[str, float, float], ...]


def chart_of(hour: Sequence[Minute], route: str = "") -> Chart:
    """Of all routes, or of one."""
    counts = [tuple(each.of(fate, route) for fate in FATES) for each in hour]
    top = nice_top(max((sum(each) for each in counts), default=0))
    columns = tuple(
        Column(each.begun, n * WIDTH, own, _bars(dict(zip(FATES, own, strict=True)), top))
        for n, (each, own) in enumerate(zip(hour, counts, strict=True))
    )
    sums = ((fate, sum(own[n] for own in counts)) for n, fate in enumerate(FATES))
    return Chart(columns, top, tuple((fate, total) for fate, total in sums if total))


def strip_of(fates: Iterable[tuple[str, int]]) -> Strip:
    """Shares of the whole, at least a little of each."""
    given = dict(fates)
    least = LEAST / 100 * sum(given.values())
    weights = {fate: max(given[fate], least) for fate in STACKED if given.get(fate)}
    left, parts = 0.0, []
    for fate, weight in weights.items():
        width = weight / sum(weights.values()) * 100
        parts.append((fate, round(left, 2), round(width, 2)))
        left += width
    return Strip(tuple(parts))


def in_words(fates: Iterable[tuple[str, int]]) -> str:
    """`41 ok, 2 captured`."""
    return ", ".join(f"{count} {fate}" for fate, count in fates if count)


def nice_top(most: int) -> int:
    """The next of 5, 10, 20, 50, 100 ..."""
    step = 1
    while True:
        for factor in (5, 10, 20):
            if most <= factor * step:
                return factor * step
        step *= 10


def _bars(counts: dict[str, int], top: int) -> tuple[Bar, ...]:
    y, bars = float(HEIGHT), []
    for fate in STACKED:
        if counts.get(fate):
            height = max(LEAST, counts[fate] / top * HEIGHT)
            y = max(0.0, y - height)
            bars.append(Bar(fate, round(y, 2), round(height, 2)))
    return tuple(bars)
