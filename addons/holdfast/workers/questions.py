"""What workers ask each other goes through the parent; it asks them for their figures itself, every few seconds.

A worker that has not answered in time is named in the answer as one that does not. What it was asked stays on its line:
a purge reaches it once it reads again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from holdfast.workers.crew import Crew, Member
from holdfast.workers.figures import Family, Figures, Ledger, Named, families_in
from holdfast.workers.wire import NIL, Answers, Ask, Reply, Said, raw

EVERY = 2.0  # seconds between two looks at the figures: what a worker that is killed has counted since is lost
PATIENCE = 2.0  # seconds that a worker has to answer
SILENT = 10.0  # seconds without a word after which something is wrong with it
_LOOKS = ("figures", "health")
_FIGURES = msgspec.msgpack.Decoder(Figures)


class WorkerState(Struct, frozen=True):
    """One worker, as the parent sees it. `since` in epoch seconds, `silent` in seconds."""

    number: int
    pid: int
    state: str
    since: float
    restarts: int
    silent: float


class Whole(Struct, frozen=True):
    """The figures of all."""

    families: list[Family]
    minutes: list[Named]
    workers: list[WorkerState]


@dataclass(slots=True)
class _Open:
    """A question that not all have answered. `asker` None: the parent's own."""

    kind: str
    asker: Member | None
    asked_as: int
    deadline: float
    waiting: set[int]
    said: list[Said] = field(default_factory=list)


class Questions:
    """All of the parent's; its metrics are its own process's, beside those of the workers."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._ledger = Ledger()
        self._open: dict[int, _Open] = {}
        self._ids = count(1)
        self._next = 0.0
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def asked(self, asker: Member, ask: Ask) -> None:
        """By a worker: `figures` of all, `workers` of the parent, anything else of all others."""
        if ask.kind == "workers":
            self._tell(asker, ask.id, [Said(0, raw(self._states()))])
            return
        others = [each for each in self._listening(ask.kind) if each is not asker or ask.kind == "figures"]
        self._ask(ask.kind, others, asker, ask)

    def replied(self, member: Member, reply: Reply) -> None:
        """By a worker, perhaps too late."""
        found = self._open.get(reply.id)
        if found is None or member.number not in found.waiting:
            return
        found.waiting.discard(member.number)
        if found.kind == "figures" and not reply.error:
            self._ledger.note(str(member.number), _FIGURES.decode(reply.payload))
        else:
            found.said.append(Said(member.number, reply.payload, reply.error))
        self._close_if_done(reply.id)

    def ended(self, member: Member) -> None:
        """It answers no more, and nobody need wait for it: what it held is gone with it."""
        self._ledger.ended(str(member.number))
        for number, each in list(self._open.items()):
            each.waiting.discard(member.number)
            if each.asker is member:
                del self._open[number]
            else:
                self._close_if_done(number)

    def look_after(self) -> None:
        """Ask for figures when it is time; give up on who does not answer."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY
            self._ask("figures", self._listening("figures"), None, Ask(0, "figures", NIL))
        for number, each in list(self._open.items()):
            if each.deadline <= now:
                each.said += [Said(worker, NIL, "does not answer") for worker in sorted(each.waiting)]
                each.waiting.clear()
                self._close_if_done(number)

    def wait(self, most: float) -> float:
        """Seconds until there is something to look after, at most these."""
        now = time.monotonic()
        return max(0.0, min([most, self._next - now, *(each.deadline - now for each in self._open.values())]))

    # -- parts ------------------------------------------------------------------------------------------------------

    def _listening(self, kind: str) -> list[Member]:
        """Who is to be asked: what changes nothing, and so need not be known later, only who has been heard of."""
        since = time.monotonic() - EVERY - PATIENCE if kind in _LOOKS else 0.0
        return [each for each in self._crew.alive() if each.listens and each.heard >= since]

    def _ask(self, kind: str, members: list[Member], asker: Member | None, ask: Ask) -> None:
        number = next(self._ids)
        waiting = {each.number for each in members}
        self._open[number] = _Open(kind, asker, ask.id, time.monotonic() + PATIENCE, waiting)
        for each in members:
            if each.line:
                each.line.send(Ask(number, kind, ask.payload))
        self._close_if_done(number)

    def _close_if_done(self, number: int) -> None:
        found = self._open[number]
        if found.waiting:
            return
        del self._open[number]
        if found.asker is None:
            return
        if found.kind == "figures":
            families = self._ledger.families(families_in(self._own_metrics()))
            found.said = [Said(0, raw(Whole(families, self._ledger.minutes(), self._states())))]
        self._tell(found.asker, found.asked_as, found.said)

    def _tell(self, asker: Member, asked_as: int, said: list[Said]) -> None:
        if asker.line:
            asker.line.send(Answers(asked_as, said))

    def _states(self) -> list[WorkerState]:
        now = time.monotonic()
        return [
            WorkerState(each.number, each.pid, each.state, each.since, max(0, each.starts - 1), now - each.heard)
            for each in self._crew.members
        ]

    def _own_metrics(self) -> Iterator[Metric]:
        yield from _of_workers(self._states())
        yield from self._registry.collect()


def _of_workers(states: Iterable[WorkerState]) -> Iterator[Metric]:
    up = GaugeMetricFamily("holdfast_worker_up", "1 while the worker serves.", labels=["worker"])
    restarts = CounterMetricFamily("holdfast_worker_restarts", "How often it was started again.", labels=["worker"])
    for each in states:
        up.add_metric([str(each.number)], float(each.state == "serving"))
        restarts.add_metric([str(each.number)], each.restarts)
    yield from (up, restarts)
