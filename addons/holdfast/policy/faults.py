"""Faults that somebody has asked for: which rule acts on which request, when, and with what dice.

Nothing here knows the clock or the dice. Times are handed in; what is random is a hash of the seed, the rule's name and
the number of the request, so that the same seed and the same order of requests give the same faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

Kind = Literal["latency", "status", "reset", "hang", "truncate", "corrupt", "slow", "refuse"]
Place = Literal["client", "upstream"]
LONGEST = 600.0
"""Seconds until a client that is left hanging, and stays, is let go."""
TICK = 0.1
"""Seconds between two pieces of a slow body."""
_NAME = re.compile(r"[a-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose answer is about to go out, or an attempt at `server` (its URL) that is about to begin.

    `path` is without its query.
    """

    at: Place
    route: str
    method: str
    path: str
    server: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. No route, methods, path or server: any. `delay` and `jitter` in seconds, `rate` in bytes a second.

    `share` is how likely it acts on a request; `script` says so for one after the other in its place, and `repeat` that
    it begins again. `times` bounds how often it acts, `lasts` for how many seconds. `after` is how many bytes of a body
    still pass; None: half of them.
    """

    name: str
    kind: Kind
    at: Place = "client"
    route: str | None = None
    methods: frozenset[str] = frozenset()
    path: re.Pattern[str] | None = None
    server: str | None = None
    delay: float = 0.0
    jitter: float = 0.0
    status: int = 503
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    after: int | None = None
    rate: int = 1024
    share: float = 1.0
    script: tuple[bool, ...] = ()
    repeat: bool = False
    times: int | None = None
    lasts: float | None = None

    def concerns(self, asked: Asked) -> bool:
        """Whether it is for such a request."""
        if asked.at != self.at or self.route not in (None, asked.route) or self.server not in (None, asked.server):
            return False
        return (not self.methods or asked.method in self.methods) and (
            self.path is None or bool(self.path.search(asked.path))
        )


@dataclass(frozen=True, slots=True)
class Injection:
    """What happens to one request. `number` counts those that the rule was asked about, from 0."""

    rule: Rule
    number: int
    seed: int

    @property
    def delay(self) -> float:
        """Seconds: the rule's delay, give or take its jitter."""
        rule = self.rule
        swing = (2 * drawn(self.seed, rule.name, self.number, "jitter") - 1) * rule.jitter
        return max(0.0, rule.delay + swing)

    def cut(self, length: int | None) -> int:
        """How many bytes pass before a body breaks off; `length` is the announced one, 0 or None if there is none."""
        if not length:
            return self.rule.after or 0
        return min(length // 2 if self.rule.after is None else self.rule.after, length - 1)

    def corrupted(self, data: bytes, offset: int) -> bytes:
        """The same number of bytes, about one in a hundred of them another. `offset`: where they are in the body."""
        changed = bytearray(data)
        for n in range(1 + len(data) // 100 if data else 0):
            what = f"{offset}:{n}"
            where = int(drawn(self.seed, self.rule.name, self.number, f"where {what}") * len(data))
            flip = 1 + int(drawn(self.seed, self.rule.name, self.number, f"flip {what}") * 255)
            changed[where] = data[where] ^ flip  # of the original: two flips of one byte undo nothing
        return bytes(changed)

    def pieces(self, data: bytes) -> Iterable[tuple[bytes, float]]:
        """The body at the rule's rate: a piece, and how many seconds it takes."""
        rate = max(1, self.rule.rate)
        size = max(1, int(rate * TICK))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            yield piece, len(piece) / rate


def drawn(seed: int, name: str, number: int, what: str) -> float:
    """Uniform in [0, 1), and always the same for the same arguments."""
    found = blake2b(f"{seed}\0{name}\0{number}\0{what}".encode(), digest_size=8).digest()
    return (int.from_bytes(found) >> 11) / 2**53


@dataclass(slots=True)
class Tally:
    """How a rule has fared: of how many requests it was asked, on how many it acted; since when, on the clock."""

    rule: Rule
    since: float
    asked: int = 0
    fired: int = 0

    def over(self, now: float) -> str:
        """Why it acts no more: `times`, `script` or `lasts`; empty while it may."""
        rule = self.rule
        if rule.times is not None and self.fired >= rule.times:
            return "times"
        if rule.script and not rule.repeat and self.asked >= len(rule.script):
            return "script"
        return "lasts" if rule.lasts is not None and now - self.since >= rule.lasts else ""

    def ask(self, seed: int) -> Injection | None:
        """Whether it acts on the next request."""
        rule, number = self.rule, self.asked
        self.asked += 1
        if rule.script:
            acts = rule.script[number % len(rule.script)]
        else:
            acts = rule.share >= 1 or drawn(seed, rule.name, number, "share") < rule.share
        if not acts:
            return None
        self.fired += 1
        return Injection(rule, number, seed)


@dataclass(slots=True)
class FaultPlan:
    """The rules in their order. The first that concerns a request decides, be it that nothing happens.

    One that is over concerns nothing, so that another of the same route can follow it.
    """

    seed: int
    tallies: list[Tally] = field(default_factory=list)

    def decide(self, asked: Asked, now: float) -> Injection | None:
        """What happens to it. `now` is monotonic seconds."""
        for tally in self.tallies:
            if tally.rule.concerns(asked) and not tally.over(now):
                return tally.ask(self.seed)
        return None

    def put(self, rule: Rule, now: float) -> None:
        """In place of the one of this name, with counts of its own, or behind the others."""
        fresh = Tally(rule, now)
        for index, tally in enumerate(self.tallies):
            if tally.rule.name == rule.name:
                self.tallies[index] = fresh
                return
        self.tallies.append(fresh)

    def drop(self, name: str) -> bool:
        """Whether there was one of this name."""
        kept = [tally for tally in self.tallies if tally.rule.name != name]
        dropped = len(kept) < len(self.tallies)
        self.tallies = kept
        return dropped

    def active(self, now: float) -> list[Tally]:
        """Those that may still act."""
        return [tally for tally in self.tallies if not tally.over(now)]


def plan_of(rules: Sequence[Rule], seed: int, now: float) -> FaultPlan:
    """A plan that nothing has happened to."""
    return FaultPlan(seed, [Tally(rule, now) for rule in rules])


def check_rule_name(name: str) -> str:
    """The name itself; ValueError for one that is not fit to be a label."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a fault: use 1 to 64 of a-z, 0-9, `_`, `.`, `-`")
    return name


def parse_script(words: Sequence[str]) -> tuple[bool, ...]:
    """`fail` and `pass`, each maybe with `*3` behind it. ValueError for anything else."""
    steps: list[bool] = []
    for word in words:
        step, _, count = word.strip().partition("*")
        if step not in ("fail", "pass") or ("*" in word and not (count.isascii() and count.isdigit() and int(count))):
            raise ValueError(f"{word!r} is no step of a script: write fail, pass, or one of them like fail*3")
        steps += [step == "fail"] * min(int(count or 1), 10_001)
        if len(steps) > 10_000:
            raise ValueError("a script has at most 10000 steps")
    return tuple(steps)


def said(rule: str, kind: str, at: str) -> str:
    """A member of `Holdfast-Fault`: which rule has done what, and where."""
    return f"{rule}; kind={kind}; at={at}"
