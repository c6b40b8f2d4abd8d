"""What a case is, how its rounds are played, and how they are judged.

A round asks every contender once, one after the other, so that what else happens to the machine happens to all of them.
Ratios are taken within a round; what is told is the median over the rounds, with the smallest and the largest.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.bench.load import Ask, Connection, Sample, h2load, wrk
from tests.bench.peers import World
from tests.bench.running import Broken, Missing, Running

ROUNDS, SECONDS, WARM_UP = 5, 4, 2  # wrk takes whole seconds
BUSY = 0.10  # cores used by others, from which on a measurement is called disturbed
STEAL = 0.02  # of all cores, taken by the host
MIB = 1 << 20
SHORT_ROUNDS, SHORT_SECONDS, SHORT_WARM_UP = 1, 1, 0


@dataclass(frozen=True)
class Target:
    """A bound that this project has set itself: for `figure` of ours, or for it beside that of `against`."""

    figure: str  # rate, p50, p99 ... a key of what a contender measured
    bound: float
    against: str = ""
    most: bool = False  # the bound is an upper one
    by: str = "ratio"  # or difference
    unit: str = "x"

    def told(self) -> str:
        """For people."""
        word = "at most" if self.most else "at least"
        other = f"{self.against}'s" if self.against else ""
        if self.against and self.by == "ratio":
            return f"{self.figure}: {word} {self.bound:g} x {other}"
        above = f" above {other}" if self.against else ""
        return f"{self.figure}: {word} {self.bound:g} {self.unit}{above}"


@dataclass
class Verdict:
    """A target and what it came to: the median and the extremes of the rounds; None: it could not be measured."""

    target: Target
    value: float | None = None
    low: float = 0.0
    high: float = 0.0
    why: str = ""  # it could not be

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value <= self.target.bound if self.target.most else self.value >= self.target.bound


@dataclass
class Measured:
    """What a case has come to: the figures of each contender, one for each round. The first contender is ours."""

    name: str
    about: str
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: dict[str, list[list[float]]] = field(default_factory=dict)  # curves over time: pairs of seconds and value
    broken: str = ""

    def add(self, contender: str, **figures: float) -> None:
        """One round of one contender."""
        for name, value in figures.items():
            self.figures.setdefault(contender, {}).setdefault(name, []).append(value)

    def median(self, contender: str, figure: str) -> float:
        return statistics.median(self.figures[contender][figure])

    def judge(self, targets: Iterable[Target]) -> None:
        """Hold the figures against the targets."""
        ours = next(iter(self.figures.values()), {})
        for target in targets:
            mine, other = ours.get(target.figure), self.figures.get(target.against, {}).get(target.figure)
            if not mine or (target.against and not other):
                why = "; ".join(self.missing) or f"{target.against or 'it'} was not measured"
                self.verdicts.append(Verdict(target, why=why))
                continue
            values = list(mine)
            if other:
                pairs = zip(mine, other, strict=True)
                values = [a - b if target.by == "difference" else a / b for a, b in pairs]
            self.verdicts.append(Verdict(target, statistics.median(values), min(values), max(values)))


@dataclass(frozen=True)
class Contender:
    """Something that is asked. `start` launches it (or gives one that runs); `ask` is what it is asked."""

    name: str
    start: Callable[[World], Running]
    ask: Ask
    streams: int = 0  # of HTTP/2 on each connection; 0: HTTP/1.1 and wrk
    hits: bool = False  # hardly anything of it may reach the origin
    optional: bool = True  # if it is not installed, the others are measured


@dataclass(frozen=True)
class Case:
    """A name for the command line, a sentence, how it is measured, and what it should come to."""

    name: str
    about: str
    play: Callable[[Case, World, Measured], None]
    targets: Sequence[Target] = ()
    contenders: Sequence[Contender] = ()
    seconds: int = SECONDS

    def measure(self, world: World) -> Measured:
        """Play it; what is broken or missing is noted, and everything it has started is ended."""
        measured = self._try(world)
        if measured.broken:  # once more: on a machine that is too busy a Redis that is asked may be late
            first, measured = measured.broken.splitlines()[0], self._try(world)
            measured.notes.append(f"the second try; the first was broken: {first}")
        measured.judge(self.targets)
        return measured

    def _try(self, world: World) -> Measured:
        measured = Measured(self.name, self.about)
        with ExitStack() as own:
            world.own = own
            try:
                self.play(self, world, measured)
            except Missing as missing:
                measured.missing.append(str(missing))
            except Broken as broken:
                measured.broken = str(broken)
        return measured


def rounds_of(case: Case, world: World) -> tuple[int, int, int]:
    """How many, how long each, how long before them."""
    if world.short:
        return SHORT_ROUNDS, world.seconds or SHORT_SECONDS, SHORT_WARM_UP
    return ROUNDS, world.seconds or case.seconds, WARM_UP


def under_load(case: Case, world: World, measured: Measured) -> None:
    """Every contender under full load, round by round."""
    rounds, seconds, warm_up = rounds_of(case, world)
    running = _started(case, world, measured)
    if warm_up:
        for contender, server in running:
            _once(world, contender, server, warm_up)
    samples: list[Sample] = []
    for _ in range(rounds):
        for contender, server in running:
            sample = _once(world, contender, server, seconds)
            if contender.hits and sample.origin > 0.01 * sample.requests + 20:
                raise Broken(f"{contender.name}: {sample.origin} of {sample.requests} hits were asked of the origin")
            samples.append(sample)
            measured.add(
                contender.name,
                rate=sample.rate,
                p50=sample.p50,
                p99=sample.p99,
                cpu=sample.cpu,
                rss=sample.rss / MIB,
                pss=sample.pss / MIB,
            )
    measured.notes += _disturbed(samples)


def _disturbed(samples: Sequence[Sample]) -> list[str]:
    """A warning where others kept the machine busy: what was measured then says little."""
    others, stolen = max(s.others for s in samples), max(s.stolen for s in samples)
    told = []
    if others > BUSY:
        told.append(f"disturbed: other processes used up to {others:.1f} cores")
    if stolen > STEAL:
        told.append(f"disturbed: the host took up to {stolen:.0%} of the CPU away")
    return told


def _started(case: Case, world: World, measured: Measured) -> list[tuple[Contender, Running]]:
    """All that are installed, started together, each asked once, so that what can be stored is."""
    found: list[tuple[Contender, Running]] = []
    for contender in case.contenders:
        try:
            server = contender.start(world)
        except Missing as missing:
            if not contender.optional:
                raise
            measured.missing.append(f"{contender.name}: {missing}")
            continue
        if server.is_down():
            server.launch()
        found.append((contender, server))
    for contender, server in found:
        first_answers(server.wait(), contender.ask)
        server.settle()
    return found


def first_answers(server: Running, ask: Ask) -> None:
    """Until it is as it will be asked for: the first answer of a cache is a miss."""
    connection = Connection(server)
    try:
        for attempt in range(20):
            try:
                connection.ask(ask)
                return
            except Broken:
                if attempt == 19:
                    raise
    finally:
        connection.close()


def _once(world: World, contender: Contender, server: Running, seconds: int) -> Sample:
    if contender.streams:
        return h2load(world, server, contender.ask, seconds, contender.streams)
    return wrk(world, server, contender.ask, seconds)
