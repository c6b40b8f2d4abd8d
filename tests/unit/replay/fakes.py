"""What the tests of replays run on: time that passes at once, an audit in memory, sources and an upstream to break.

with virtual_time() as loop:
    loop.run_until_complete(...)          # an hour of waiting takes no time
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal, cast

from prometheus_client import CollectorRegistry

from holdfast.audit import Arrival, AttemptLog, Outcome, Record, Standing
from holdfast.audit.rows import Held as Row
from holdfast.audit.rules import Book
from holdfast.engine.leg import Leg
from holdfast.policy.breaker import Breaker, BreakerRules
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.pool import Pool, PoolServer
from holdfast.policy.replaying.requests import ReplayRequest, Unsendable
from holdfast.policy.replaying.schedule import Listed
from holdfast.policy.replaying.verdict import Answer, ReplayRules
from holdfast.replay.lanes import Held
from holdfast.replay.report import ReplayReport
from holdfast.replay.sending import Sent
from holdfast.replay.source import Headers, SourceHealth, Taken

EPOCH = 1_700_000_000.0


# --- time ---


class _Idle(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Lets the time pass where a loop would wait for it."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            return cast(list[Any], super().select(5))  # only a thread can end this
        if not ready and timeout:
            self.loop.passed += timeout
        return cast(list[Any], ready)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock goes on only when there is nothing to be done; what belongs into a thread is done at once."""

    def __init__(self) -> None:
        self.passed = 100.0
        selector = _Idle()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.passed

    def now(self) -> float:
        """Epoch seconds."""
        return EPOCH + self.passed

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)
        return done


@contextlib.contextmanager
def virtual_time() -> Iterator[VirtualLoop]:
    """A loop of its own; tasks that are left are cancelled."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        for _ in range(20):
            loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()


def in_virtual_time[**P](test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test on a loop whose time passes at once."""

    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with virtual_time() as loop:
            loop.run_until_complete(cast(Any, test(*args, **kwargs)))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = __import__("inspect").signature(test)  # type: ignore[attr-defined]  # for pytest's fixtures
    return run


async def settle_down(steps: int = 50) -> None:
    """Let everything run that needs no time to pass."""
    for _ in range(steps):
        await asyncio.sleep(0)


async def until(question: Callable[[], object], within: float = 60.0, every: float = 0.05) -> None:
    """Let the time pass until this holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not question():
        assert loop.time() < deadline, f"not within {within:g} s"
        await asyncio.sleep(every)


def epoch() -> float:
    """Epoch seconds of the running loop."""
    return cast(VirtualLoop, asyncio.get_running_loop()).now()


# --- captures ---


def arrival(name: str, key: str = "/a", *, route: str = "", captured: float = EPOCH, redrive: int = 0) -> Arrival:
    """Of a capture with this id."""
    return Arrival(name, key, route, "POST", key, "connection_refused", captured, redrive=redrive)


def taken(name: str, key: str = "/a", **more: Any) -> Taken:
    """A message that names it."""
    fields = {name: more.pop(name) for name in ("due", "place", "poison", "is_lost") if name in more}
    return Taken(arrival(name, key, **more), 10, position=name, **fields)


def held(name: str, key: str = "/a", **more: Any) -> Held:
    """As the lanes hold it."""
    message = taken(name, key, **more)
    assert message.arrival
    return Held(message.arrival, [message])


def sent(status: int | None = 200, error: str | None = None, **more: Any) -> Sent:
    """What came of a replay."""
    answer = Answer(status=status, error=error, **more)
    return Sent(answer, AttemptLog(at=EPOCH, server="s", status=status, error=error), answered=status is not None)


# --- the store ---


class MemoryAudit:
    """The rules of the real stores on a dictionary. `calls` counts rows that were touched, by method."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.arrivals: dict[str, Arrival] = {}
        self.open: dict[str, dict[str, Row]] = defaultdict(dict)  # by key, by id, in the order of arrival
        self.settled: dict[str, list[tuple[float, str]]] = defaultdict(list)  # by id: every time it was
        self.sent: dict[str, list[AttemptLog]] = defaultdict(list)
        self.letters: dict[str, bytes] = {}
        self.calls: dict[str, int] = defaultdict(int)
        self.fault: Exception | None = None
        self.refused: set[str] = set()  # ids that it cannot hold
        self._numbers = 0

    async def open_(self) -> None:
        """Nothing to do."""

    async def arrive(self, arrivals: Sequence[Arrival], owner: str, seconds: float) -> list[Standing]:
        self._check("arrive", len(arrivals))
        if any(each.id in self.refused for each in arrivals):
            raise ValueError("a number cannot be stored")
        keys = {each.key for each in arrivals}
        return self._decide([a.id for a in arrivals], keys, lambda book: book.arrive(arrivals, owner, seconds))

    async def claim(self, ids: Sequence[str], owner: str, seconds: float) -> list[Standing]:
        self._check("claim", len(ids))
        keys = {self.rows[each].key for each in ids if each in self.rows}
        return self._decide(ids, keys, lambda book: book.claim(ids, owner, seconds))

    async def release(self, owner: str) -> int:
        self._check("release", 1)
        ids = [row.id for row in self.rows.values() if row.owner == owner]
        return self._decide(ids, set(), lambda book: book.release(owner))

    async def record(self, records: Sequence[Record], owner: str) -> list[bool]:
        self._check("record", len(records))
        return self._decide([each.id for each in records], set(), lambda book: book.record(records, owner))

    async def settle(self, ids: Sequence[str], outcome: Outcome, reason: str) -> int:
        self._check("settle", len(ids))
        return self._decide(ids, set(), lambda book: book.settle(ids, outcome, reason))

    async def reopen(self, ids: Sequence[str]) -> dict[str, int]:
        return self._decide(ids, set(), lambda book: book.reopen(ids))

    def state(self, name: str) -> str:
        """Of a capture; empty for one that has not arrived."""
        return self.rows[name].state if name in self.rows else ""

    def older_open(self, name: str) -> list[str]:
        """Of its key, in their order."""
        row = self.rows[name]
        return [each.id for each in self.open[row.key].values() if each.seq < row.seq]

    def _check(self, method: str, count: int) -> None:
        self.calls[method] += count
        if self.fault:
            raise self.fault

    def _decide[T](self, ids: Iterable[str], keys: set[str], decide: Callable[[Book], T]) -> T:
        chosen = {each: self.rows[each] for each in ids if each in self.rows}
        for key in keys:
            lane = self.open[key]
            first = next(iter(lane.values()), None)
            claimed = [row for row in lane.values() if row.claim_until > 0] if len(lane) < 50 else []
            for row in (*([first] if first else ()), *claimed):
                chosen[row.id] = row
        book = Book(self.clock(), [replace(row) for row in chosen.values()])
        result = decide(book)
        for name, (about, row) in book.new.items():
            self._numbers += 1
            row.seq = self._numbers
            self.arrivals[name] = about
            self._put(row)
        for row in book.changed.values():
            self._put(row)
        for line in book.log:
            if line.kind == "settled":
                self.settled[line.id].append((book.now, line.outcome))
            if line.attempt:
                self.sent[line.id].append(line.attempt)
        self.letters.update({name: letter.value for name, letter in book.letters.items() if letter})
        return result

    def _put(self, row: Row) -> None:
        self.rows[row.id] = row
        lane = self.open[row.key]
        if row.state != "open":
            lane.pop(row.id, None)
        elif row.id in lane or not lane or next(reversed(lane.values())).seq < row.seq:
            lane[row.id] = row
        else:  # opened anew: back to its place
            self.open[row.key] = {each.id: each for each in sorted((*lane.values(), row), key=lambda one: one.seq)}


# --- a source ---


@dataclass(slots=True)
class FakeSource:
    """`messages` wait to be taken; what becomes of them is noted. `fault` is raised by everything that tells it so."""

    places: tuple[tuple[str, float], ...] = ()
    messages: deque[Taken] = field(default_factory=deque)
    settled: list[str] = field(default_factory=list)
    buried: list[tuple[str, str, Headers]] = field(default_factory=list)
    handed_on: list[tuple[str, str, float]] = field(default_factory=list)
    aside: dict[str, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    asked: list[str] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)
    gone: dict[str, Literal["discarded", "dead"]] = field(default_factory=dict)
    discarded: set[str] = field(default_factory=set)
    fault: Exception | None = None
    take_fault: Exception | None = None
    refuses: Exception | None = None  # of `bury` and `hand_on`
    refused: set[str] = field(default_factory=set)  # only these, where there are any
    woken: Callable[[], None] = lambda: None
    starts: int = 0
    stops: int = 0

    def put(self, *messages: Taken) -> None:
        """Wait to be taken."""
        self.messages.extend(messages)
        self.woken()

    async def start(self, woken: Callable[[], None]) -> None:
        self.starts += 1
        self._maybe()
        self.woken = woken

    async def stop(self) -> None:
        self.stops += 1

    async def take(self, most: int) -> list[Taken]:
        if self.take_fault:
            raise self.take_fault
        return [self.messages.popleft() for _ in range(min(most, len(self.messages)))]

    def set_aside(self, message: Taken) -> None:
        assert message.arrival
        self.aside[message.arrival.key].append(message)

    def ask_again(self, key: str) -> None:
        self.asked.append(key)
        self.messages.extend(self.aside.pop(key, []))

    async def wanted(self, ids: Sequence[str]) -> dict[str, Literal["discarded", "dead"]]:
        self.looked_for += ids
        return {each: self.gone[each] for each in ids if each in self.gone}

    async def value(self, message: Taken) -> tuple[bytes, Headers] | None:
        self._maybe()
        assert message.arrival
        return None if message.arrival.id in self.discarded else (message.arrival.id.encode(), ())

    async def settle(self, messages: Sequence[Taken]) -> None:
        self._maybe()
        self.settled += [str(each.position) for each in messages]

    async def bury(self, message: Taken, reason: str, headers: Headers) -> None:
        self._maybe(message)
        self.buried.append((str(message.position), reason, headers))

    async def hand_on(self, message: Taken, place: str, due: float, headers: Headers) -> None:
        self._maybe(message)
        self.handed_on.append((str(message.position), place, due))

    async def health(self) -> SourceHealth:
        return SourceHealth(ok=True, detail="")

    def _maybe(self, message: Taken | None = None) -> None:
        if self.fault:
            raise self.fault
        if message and self.refuses and (not self.refused or message.position in self.refused):
            raise self.refuses


# --- an upstream ---


def make_leg(clock: Callable[[], float], *routes: str, max_fails: int = 0) -> Leg:
    """One pool for everything, and one of its own for each of these routes."""

    def pool(name: str) -> Pool:
        endpoint = Endpoint("http", f"{name or 'all'}.test", 80)
        return Pool([PoolServer(endpoint, Breaker(BreakerRules(max_fails=max_fails, fail_timeout=10.0)))])

    plans = {name: SimpleNamespace(pool=pool(name)) for name in ("", *routes)}
    leg = SimpleNamespace(plans=plans, clock=clock)
    leg.plan = lambda route: leg.plans.get(route) or leg.plans[""]
    return cast(Leg, leg)


@dataclass(slots=True)
class FakeSender:
    """`script` has the answers of each id, the last one again and again; without any it is 200. `seconds` each."""

    script: dict[str, list[Sent | Exception]] = field(default_factory=dict)
    seconds: float = 0.01
    sent: list[str] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)
    most: int = 0
    gate: asyncio.Event | None = None  # while it is not set, nobody is answered

    async def send(self, request: ReplayRequest, capture_id: str) -> Sent:
        self.sent.append(capture_id)
        self.under_way.add(capture_id)
        self.most = max(self.most, len(self.under_way))
        try:
            await asyncio.sleep(self.seconds)
            if self.gate:
                await self.gate.wait()
        finally:
            self.under_way.discard(capture_id)
        answers = self.script.get(capture_id, [sent()])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def prepare(value: bytes, headers: Headers, one: Held, number: int) -> ReplayRequest | Unsendable:
    """No more than the id, and the number of the replay."""
    return ReplayRequest("POST", "/" + one.arrival.id, ((b"n", b"%d" % number),), value)


def rules(**changes: Any) -> ReplayRules:
    """Three tries, a second apart."""
    return ReplayRules(**({"attempts": 3, "schedule": Listed((1.0,))} | changes))


def make_report(clock: Callable[[], float]) -> ReplayReport:
    """With a registry of its own."""
    return ReplayReport(CollectorRegistry(), clock)
