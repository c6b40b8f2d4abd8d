"""Case by case, each with a chain, servers and stores of its own; step by step."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.caching.settings import CacheSettings
from holdfast.errors import HoldfastError, ProfileError
from holdfast.failure_sink import settings_in
from holdfast.gateway import Settled
from holdfast.interceptor import REPLAY
from holdfast.outbox import OutboxReader
from holdfast.profile.cases import CaseSettings, ExpectSettings, PurgeSettings, ReceivedSettings, StepSettings
from holdfast.profile.settings import Profile
from holdfast.profile.tested import line_of, server_urls, steps_of
from holdfast.rehearsal.client import Answered, ask, request_of
from holdfast.rehearsal.clock import Clock, MovableLoop, in_real_time
from holdfast.rehearsal.judging import Capture, Difference, Got, Outcome, judged, received
from holdfast.rehearsal.servers import Servers
from holdfast.rehearsal.stage import Stage, StageFailure, staged
from holdfast.rehearsal.standins import stood_in
from holdfast.testing import Received

ANSWERED_WITHIN = 20.0
"""Real seconds in which a request must be answered, and a capture delivered; the time may be moved much further."""
NOTED_WITHIN = 1.0
"""Real seconds from the end of the answer until the chain has noted the request's fate."""

WRITTEN_WITHIN = 0.05
"""Real seconds that whoever has sent something gets to note what became of it."""
LOOKS = 5
"""After so many in a row, a millisecond apart, that find nothing under way, nothing is."""


@dataclass(frozen=True, slots=True)
class Miss:
    """One thing that did not come as it was to. `step` counts from 1; `path` is that within the test."""

    file: str
    line: int
    step: int
    path: str
    expected: str
    got: str


@dataclass(slots=True)
class Result:
    """What became of a case. `told` says what happened, step by step."""

    case: CaseSettings
    seconds: float = 0.0
    misses: list[Miss] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all came as it was to."""
        return not self.misses


def play(
    profile: Profile, cases: Sequence[CaseSettings], tell: Callable[[Result], None], *, with_stores: bool = False
) -> list[Result]:
    """Play the cases one after the other; `tell` hears of each at once. ProfileError if no chain can be made."""

    async def all_of_them() -> list[Result]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovableLoop)
        results = []
        # Where mitmproxy keeps its own certificates: made once, and never those of the person who asks.
        with tempfile.TemporaryDirectory(prefix="holdfast-tests-", ignore_cleanup_errors=True) as folder:
            for number, case in enumerate(cases):
                place = tempfile.mkdtemp(prefix=f"{number}-", dir=folder)
                results.append(await _Play(profile, case, Clock(loop), Path(place)).played(with_stores))
                tell(results[-1])
        return results

    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        return runner.run(all_of_them())


class _Play:
    """One case."""

    def __init__(self, profile: Profile, case: CaseSettings, clock: Clock, folder: Path) -> None:
        self._given = profile
        self._clock = clock
        self._folder = folder
        self._servers = Servers(server_urls(profile), folder, clock)
        self._result = Result(case)
        self._captured: str | None = None  # the last capture's id
        self._seen = 0  # of what the servers have got

    async def played(self, with_stores: bool) -> Result:
        began, case = time.monotonic(), self._result.case
        steps = steps_of(case)
        await self._servers.start()
        profile = stood_in(
            self._given,
            self._servers.addresses(),
            self._servers.ca_file,
            self._folder,
            with_stores=with_stores,
            replays=any(step.expect and step.expect.delivered is not None for _, step in steps),
        )
        try:
            async with staged(profile, self._clock, self._folder.parent, self._servers.refused) as stage:
                self._result.log = stage.log
                for number, (path, step) in enumerate(steps, 0 if case.steps else 1):
                    await self._step(stage, profile, number, path, step)
        except ProfileError:
            raise
        except (StageFailure, HoldfastError) as error:
            self._miss(0, "", "", "a gateway", str(error))
        finally:
            self._clock.relax()
            await self._servers.stop()
        self._result.log = [self._servers.shown(line) for line in self._result.log]
        self._result.seconds = time.monotonic() - began
        return self._result

    async def _step(self, stage: Stage, profile: Profile, number: int, path: str, step: StepSettings) -> None:
        if step.wait:
            await self._clock.pass_by(float(step.wait))
        if step.purge:
            await self._purge(stage, number, path, step.purge)
        await self._servers.follow(step.upstream, step.servers)
        expect = step.expect or ExpectSettings()
        if step.request is not None:
            outcome = await self._ask(stage, profile, step)
            self._captured = outcome.capture_id or self._captured
            self._tell(number, step, outcome)
            for difference in judged(expect, outcome, self._servers.named):
                self._note(number, path, difference)
        if expect.delivered is not None:
            await self._delivered(stage, number, path, expect.delivered)

    async def _purge(self, stage: Stage, number: int, path: str, purge: PurgeSettings) -> None:
        assert stage.gateway.cache  # a profile without one has been refused
        urls = [f"http://127.0.0.1:{stage.port}{each}" for each in purge.paths]
        try:
            await stage.gateway.cache.purge(tags=purge.tags, urls=urls, everything=purge.all, soft=purge.soft)
        except (HoldfastError, ValueError) as error:
            self._miss(number, path, "purge", "a purge", str(error))

    async def _ask(self, stage: Stage, profile: Profile, step: StepSettings) -> Outcome:
        assert step.request is not None
        before, self._seen = len(stage.witness.ended), len(self._servers.received)
        try:
            answered = await in_real_time(ask(stage.port, request_of(step.request)), ANSWERED_WITHIN)
        except TimeoutError:
            answered = Answered(trouble=f"nothing came within {ANSWERED_WITHIN:g} s")
        await _until(lambda: len(stage.witness.ended) > before, NOTED_WITHIN)
        await self._quiet(stage)
        self._clock.relax()
        exchange: dict[str, Any] = dict(stage.witness.ended[before]) if len(stage.witness.ended) > before else {}
        return Outcome(
            answered=answered,
            fate=exchange.get("fate"),
            route=exchange.get("route"),
            cache=_cache_result(profile, exchange) if stage.gateway.cache and exchange else None,
            attempts=list(exchange.get("attempts", ())),
            got=[_got(*each) for each in self._servers.received[self._seen :] if not each[1].header(REPLAY)],
            capture_id=exchange.get("capture_id"),
            capture=await asyncio.to_thread(_capture, profile, exchange.get("capture_id")),
        )

    async def _quiet(self, stage: Stage) -> None:
        """Wait until what the answer has set off, such as a refresh of the cache, has ended."""
        until, idle = time.monotonic() + NOTED_WITHIN, 0
        while idle < LOOKS and time.monotonic() < until:
            await asyncio.sleep(0.001)
            idle = 0 if stage.gateway.in_flight else idle + 1

    async def _delivered(self, stage: Stage, number: int, path: str, wanted: bool | ReceivedSettings) -> None:
        """Wait until the last capture is settled."""
        told = stage.witness.settled
        if self._captured is None:
            self._note(number, path, Difference("delivered", "a capture", "none so far"))
            return
        await self._settled(lambda: any(each.id == self._captured for each in told))
        settled: Settled | None = next((each for each in told if each.id == self._captured), None)
        outcome = "not settled" if settled is None else settled.outcome
        got = outcome if settled is None or not settled.last_error else f"{outcome} ({settled.last_error})"
        if wanted is False:
            if outcome in ("not settled", "delivered"):
                self._note(number, path, Difference("delivered", "given up", got))
        elif outcome != "delivered":
            self._note(number, path, Difference("delivered", "delivered", got))
        elif isinstance(wanted, ReceivedSettings):
            replays = [_got(*each) for each in self._servers.received if each[1].header(REPLAY)]
            for difference in received("delivered", wanted, replays[-1], self._servers.named):
                self._note(number, path, difference)

    async def _settled(self, is_settled: Callable[[], bool]) -> None:
        """Wait for it in a time that goes fast, but not so soon after a server was asked: that is written down."""
        until, count, last = time.monotonic() + ANSWERED_WITHIN, 0, 0.0
        while not is_settled() and (now := time.monotonic()) < until:
            if count != len(self._servers.received):
                count, last = len(self._servers.received), now
            elif now > last + WRITTEN_WITHIN:
                self._clock.hurry()
            await asyncio.sleep(0.001)
        self._clock.relax()

    def _tell(self, number: int, step: StepSettings, outcome: Outcome) -> None:
        assert step.request is not None
        request, answered = request_of(step.request), outcome.answered
        parts = [f"step {number}: {request.method} {request.path}: {answered.status or answered.trouble}"]
        parts += [f"fate {outcome.fate}"] if outcome.fate else []
        parts += [f"route {outcome.route}"] if outcome.route else []
        parts += [
            f"attempt {count}: {self._servers.shown(each['server'])} {each['error'] or each['status']}"
            for count, each in enumerate(outcome.attempts, 1)
        ]
        self._result.told.append(", ".join(parts))

    def _note(self, number: int, path: str, difference: Difference) -> None:
        inside = f"{path}.expect" if path else "expect"
        shown = self._servers.shown
        self._miss(number, inside, difference.path, shown(difference.expected), shown(difference.got))

    def _miss(self, number: int, inside: str, path: str, expected: str, got: str) -> None:
        case, at = self._result.case, f"{inside}.{path}" if inside and path else inside or path
        self._result.misses.append(Miss(case.file, line_of(case, at), number, at, expected, got))


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until it holds, but no longer than so many real seconds."""
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:  # noqa: ASYNC110 (nobody tells: all that can be done is to look)
        await asyncio.sleep(0.001)


def _cache_result(profile: Profile, exchange: dict[str, Any]) -> str:
    skipped = {route for e in profile.addons if isinstance(e.settings, CacheSettings) for route in e.settings.skip}
    missed = "pass" if "cache_pass" in exchange or exchange.get("route") in skipped else "miss"
    return str(exchange.get("cached", missed))


def _got(server: int, each: Received) -> Got:
    return Got(server=server, method=each.method, path=each.target, headers=each.headers, body=each.body)


def _capture(profile: Profile, capture_id: str | None) -> Capture | None:
    sink = settings_in(profile)
    if capture_id is None or sink is None:
        return None
    with OutboxReader(sink.outbox) as outbox:
        record = outbox.get(capture_id)
    return Capture(key=record.key, document=json.loads(record.value)) if record else None
