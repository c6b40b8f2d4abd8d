"""The metrics of all workers as one: what each has counted is added up, what each shows is joined by its meaning.

What an ended worker had counted is added for good, so that no counter goes backwards. A gauge of ours is the sum, the
highest or the lowest of all; one of another package's addon, of which nobody knows that, gets the label `worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct
from prometheus_client import CollectorRegistry, Metric

from holdfast.policy.minutes import KEPT, Counts, Minutes

type Labels = tuple[tuple[str, str], ...]
type Named = tuple[int, list[tuple[str, str, int]]]  # a minute, counted from the epoch: route, fate, how many
type How = Literal["sum", "max", "min", "each"]

_COUNTED = frozenset({"counter", "histogram", "summary"})
# Gauges of ours that are not to be added up. What is shared by all, or holds for each, is not N times as much.
_HIGHEST = (
    "holdfast_build_info",
    "holdfast_faults_active",
    "holdfast_outbox_oldest_seconds",
    "holdfast_replay_",
    "holdfast_understudy_",
    "holdfast_upstream_forced_open",
    "holdfast_upstream_open",
    "process_max_fds",
)
_LOWEST = ("holdfast_cache_store_up", "holdfast_fast_lane_open", "holdfast_profile_", "process_start_time_seconds")
_OURS = ("holdfast_", "process_")


class Sample(NamedTuple):
    """One line of a scrape."""

    name: str
    labels: Labels
    value: float


class Family(Struct, frozen=True, array_like=True):
    """One metric. `kind` is its type, as prometheus_client calls it."""

    name: str
    told: str
    kind: str
    samples: list[Sample]


class Figures(Struct, frozen=True, array_like=True):
    """Of one worker: the newest two minutes of its requests, and its metrics, which are unpacked when asked for."""

    minutes: list[Named]
    families: Raw


_FAMILIES = msgspec.msgpack.Decoder(list[Family])


def families_in(metrics: Iterable[Metric]) -> list[Family]:
    """As a registry collects them."""
    return [
        Family(m.name, m.documentation, m.type, [Sample(s.name, tuple(s.labels.items()), s.value) for s in m.samples])
        for m in metrics
    ]


def figures_of(registry: CollectorRegistry, minutes: Minutes) -> Figures:
    """Of this process, now."""
    newest = [(n, [(*key, count) for key, count in counts.items()]) for n, counts in minutes.newest()]
    return Figures(newest, Raw(msgspec.msgpack.encode(families_in(registry.collect()))))


def how_joined(family: Family) -> How:
    """What becomes of the values that several workers have for the same labels."""
    if family.kind in _COUNTED:
        return "sum"
    if not family.name.startswith(_OURS):
        return "each" if family.kind in ("gauge", "unknown") else "max"
    if family.name.startswith(_HIGHEST):
        return "max"
    return "min" if family.name.startswith(_LOWEST) else "sum"


_JOIN: Mapping[How, Callable[[float, float], float]] = {
    "sum": float.__add__,
    "max": max,
    "min": min,
    "each": max,
}


def joined(parts: Mapping[str, Iterable[Family]]) -> list[Family]:
    """The families of all parts, which are named, as one list; in the order in which they are first met."""
    known: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, Labels], float]] = {}
    for part, families in parts.items():
        for family in families:
            how = how_joined(known.setdefault(family.name, family))
            sums, join = values.setdefault(family.name, {}), _JOIN[how]
            for name, labels, value in family.samples:
                key = (name, (*labels, ("worker", part)) if how == "each" else labels)
                sums[key] = join(sums[key], float(value)) if key in sums else float(value)
    return [
        Family(name, each.told, each.kind, [Sample(*key, value) for key, value in values[name].items()])
        for name, each in known.items()
    ]


class Ledger:
    """What the workers have told, by their names (`1`, `2`, ...), and what those that have ended had told."""

    def __init__(self) -> None:
        self._last: dict[str, Figures] = {}
        self._ended: list[Family] = []
        self._minutes: dict[int, dict[str, Counts]] = {}
        self._life: dict[str, int] = {}

    def note(self, worker: str, figures: Figures) -> None:
        """It has told this; what it told before is in it."""
        self._last[worker] = figures
        life = f"{worker}.{self._life.get(worker, 0)}"
        for number, counts in figures.minutes:
            minute = self._minutes.setdefault(number, {})
            minute[life] = {(route, fate): count for route, fate, count in counts}
        for old in sorted(self._minutes)[:-KEPT]:
            del self._minutes[old]

    def ended(self, worker: str) -> None:
        """What it has counted stays; what it has shown does not. The next of its name counts from nothing."""
        self._life[worker] = self._life.get(worker, 0) + 1
        last = self._last.pop(worker, None)
        if last:
            told = [family for family in _FAMILIES.decode(last.families) if family.kind in _COUNTED]
            self._ended = joined({"": self._ended, worker: told})

    def families(self, parent: Iterable[Family]) -> list[Family]:
        """Of all, with those of the parent."""
        told = {worker: _FAMILIES.decode(figures.families) for worker, figures in self._last.items()}
        return joined({"parent": parent, **dict(sorted(told.items())), "": self._ended})

    def minutes(self) -> list[Named]:
        """Of all, oldest first."""
        return [
            (number, [(*key, count) for key, count in _added(lives.values()).items()])
            for number, lives in sorted(self._minutes.items())
        ]


class Collected:
    """For prometheus_client's `generate_latest`: families as if they were this process's own."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Called once."""
        for family in self._families:
            metric = Metric(family.name, family.told, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric


def _added(several: Iterable[Counts]) -> Counts:
    sums: Counts = {}
    for counts in several:
        for key, count in counts.items():
            sums[key] = sums.get(key, 0) + count
    return sums
