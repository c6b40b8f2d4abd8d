"""The loop of the replayer: takes captures, asks the audit store whose they are, sends what is due, has it settled.

A crash at any point costs at most a second replay of what was on its way: the record stays where it came from until its
outcome is on the disk, and an outcome that is on the disk keeps a record from being sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from holdfast.audit import Arrival, Audit, Standing
from holdfast.errors import HoldfastError, PoisonRecord, StoreUnavailable
from holdfast.policy.replaying.requests import ReplayRequest, Unsendable
from holdfast.policy.replaying.verdict import Dead, Delivered, ReplayRules, judge
from holdfast.replay.lanes import Held, Lanes
from holdfast.replay.queues import Queues
from holdfast.replay.recorder import Recorder
from holdfast.replay.report import ReplayReport
from holdfast.replay.sending import Sent
from holdfast.replay.settling import Listener, Settling
from holdfast.replay.source import Headers, Source, Taken

logger = logging.getLogger(__name__)
_AWAY = (HoldfastError, OSError)
_BATCH = 500
_LOOK = 1.0  # seconds between two looks at what no event announces
_ELSEWHERE = 1.0  # seconds until it is asked again whether a capture that somebody else has is settled


class Sender(Protocol):
    """Sends one request; bounded in time, raises nothing for what the upstream does."""

    async def send(self, request: ReplayRequest, capture_id: str) -> Sent:
        """What came of it."""


@dataclass(frozen=True, slots=True)
class ReplayLimits:
    """`window` captures are held at most; a claim lasts `claim` seconds, longer than a replay can take; what waits for
    longer than `hold` seconds goes to a topic of retries, where the source has any.
    """

    window: int = 20_000
    claim: float = 60.0
    hold: float = 10.0


Preparing = Callable[[bytes, Headers, Held, int], Awaitable[ReplayRequest | Unsendable]]
"""(value, header, capture, number of the replay) -> what is sent. PoisonRecord for a record that cannot be read."""


class Replayer:
    """Of one `owner`, a name that no other replayer has. The audit store is open; `clock` gives epoch seconds."""

    def __init__(
        self,
        source: Source,
        audit: Audit,
        sender: Sender,
        prepare: Preparing,
        rules: Callable[[str], ReplayRules],
        queues: Queues,
        report: ReplayReport,
        tell: Listener,
        *,
        owner: str,
        clock: Callable[[], float],
        limits: ReplayLimits | None = None,
    ) -> None:
        self.lanes = Lanes()
        self.queues = queues
        self.recorder = Recorder(audit, owner)
        self._limits = limits or ReplayLimits()
        self._settling = Settling(source, self.lanes, self.recorder, report, tell, clock, self._limits.hold)
        self._report = report
        self._source = source
        self._audit = audit
        self._sender = sender
        self._prepare = prepare
        self._rules = rules
        self._owner = owner
        self._clock = clock
        self._held_up = ""
        self._wake = asyncio.Event()
        self._news = True  # whether the source may have something
        self._looked = 0.0  # monotonic: at what no event announces
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def trouble(self) -> str:
        """Why nothing is replayed just now: the source or the audit store cannot be used. Empty if they can."""
        return self._held_up or self.recorder.trouble or self._settling.trouble

    # -- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `stop`. An outage of the source or of the audit store is sat out."""
        recording = asyncio.create_task(self.recorder.run(), name="replay outcomes")
        started = False
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    if not started:
                        await self._start()
                        started = True
                    more = await self._turn()
                except _AWAY as error:
                    await self._sit_out(error)
                    continue
                self._recovered()
                if not more:
                    await self._rest()
            await self._finish()
        finally:
            recording.cancel()
            for task in self._sending:
                task.cancel()
            with contextlib.suppress(*_AWAY):
                await self._source.stop()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is on its way has ended."""
        self._stopping = self._settling.stopping = True
        self._wake.set()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()

        def woken() -> None:
            loop.call_soon_threadsafe(self._on_news)

        await self._source.start(woken)

    def _on_news(self) -> None:
        self._news = True
        self._wake.set()

    async def _finish(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._limits.claim)
        with contextlib.suppress(*_AWAY):
            await self._audit.release(self._owner)

    async def _sit_out(self, error: Exception) -> None:
        if not self._held_up:
            logger.warning("replays are held up", extra={"reason": str(error)})
        self._held_up = str(error) or type(error).__name__
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK):
                await self._wake.wait()

    def _recovered(self) -> None:
        if self._held_up:
            logger.info("replays go on")
        self._held_up = ""

    async def _rest(self) -> None:
        """Until something happens, or the next time at which something is to be done."""
        waits = [_LOOK]
        following, paced = self.lanes.next_time(), self.queues.wait()
        if following is not None:
            waits.append(following - self._clock())
        if paced is not None:
            waits.append(paced)
        if min(waits) <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(waits)):
                await self._wake.wait()

    # -- one turn ---------------------------------------------------------------------------------------------------

    async def _turn(self) -> bool:
        """Whether there may be more to do at once."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._looked, self._news = now, True
            for held in self.lanes.lost():
                self._settling.let_go(held)
        took = await self._take() if self._news else False
        looked = await self._look()
        self._send_what_may()
        return took or looked

    async def _take(self) -> bool:
        room = min(_BATCH, self._limits.window - len(self.lanes))
        if room <= 0 or self.recorder.trouble:
            return False
        batch = await self._source.take(room)
        self._news = len(batch) == room
        known = [taken for taken in batch if taken.arrival]
        for taken in batch:
            if not taken.arrival:
                await self._settling.poison(taken)
        if known:
            standings = await self._until_known([taken.arrival for taken in known if taken.arrival])
            for taken, standing in zip(known, standings, strict=True):
                await self._arrived(taken, standing)
        return self._news

    async def _until_known(self, arrivals: list[Arrival]) -> list[Standing]:
        """What has been taken cannot be given back: it waits for the audit store."""
        while True:
            try:
                return await self._audit.arrive(arrivals, self._owner, self._limits.claim)
            except StoreUnavailable as error:
                await self._sit_out(error)
                if self._stopping:
                    raise

    async def _arrived(self, taken: Taken, standing: Standing) -> None:
        assert taken.arrival
        held = self.lanes.by_id.get(taken.arrival.id)
        if held:  # published twice: settled together
            held.takens.append(taken)
        elif standing.state != "open":
            await self._settling.duplicate(taken, standing)
        elif self._settling.has_room(taken):
            held = Held(taken.arrival, [taken])
            self.lanes.add(held)
            if self.lanes.is_head(held):
                await self._head(held, standing)
            elif not standing.behind:
                # It has arrived before all of its key, and has only now come to us: from a topic of retries, say.
                self.lanes.to_front(held)
                await self._head(held, standing)

    async def _head(self, held: Held, standing: Standing) -> None:
        """An older one of its key may be held too, or wait in a topic of retries: then this one goes behind it."""
        older = self.lanes.by_id.get(standing.behind)
        if older and older.arrival.key == held.arrival.key:
            self.lanes.to_front(older)
            self.lanes.at(older, 0.0)
        elif standing.behind and standing.behind_place and self._source.places:
            await self._settling.follow(held, standing.behind_place)
            await self._settling.clear_lane(held, standing.behind_place)
        else:
            self._stands(held, standing)

    def _stands(self, held: Held, standing: Standing) -> None:
        """When to look at a head next, after what the audit store has said of it."""
        now = self._clock()
        held.attempts, held.redrive = standing.attempts, standing.redrive
        held.due = max(standing.due, *(taken.due for taken in held.takens))
        held.claimed_until = now + self._limits.claim if standing.claimed else 0.0
        if standing.claimed:
            self.lanes.at(held, held.due)
        else:
            self.lanes.at(held, max(now + _ELSEWHERE, min(standing.busy_until, now + self._limits.claim)))

    async def _look(self) -> bool:
        """At heads whose time has come: send those that are ours, ask for the others."""
        ripe = [held for held in self.lanes.ripe(self._clock(), _BATCH) if not held.busy]
        asked = [held for held in ripe if not self._is_ours(held)]
        for held in ripe:
            if self._is_ours(held):
                self.queues.add(held)
        if asked:
            await self._ask(asked)
        return len(ripe) == _BATCH

    def _is_ours(self, held: Held) -> bool:
        """For long enough to send it."""
        return held.claimed_until > self._clock() + self._limits.claim / 2

    async def _ask(self, helds: list[Held]) -> None:
        try:
            standings = await self._audit.claim([held.arrival.id for held in helds], self._owner, self._limits.claim)
        except StoreUnavailable:
            for held in helds:
                self.lanes.at(held, self._clock() + _LOOK)
            raise
        found = {standing.id: standing for standing in standings}
        for held in helds:
            standing = found.get(held.arrival.id)
            if standing is None or standing.state != "open":
                await self._settling.settled_elsewhere(held, standing)
            else:
                await self._head(held, standing)

    def _send_what_may(self) -> None:
        if self.recorder.trouble or self._stopping:
            return
        for held in self.queues.ready():
            if held.busy or held.is_lost or self.lanes.by_id.get(held.arrival.id) is not held:
                self.queues.given_up(held)
            elif not self._is_ours(held):
                self.queues.given_up(held)
                self.lanes.at(held, 0.0)
            else:
                held.busy = True
                task = asyncio.create_task(self._replay(held), name=f"replay {held.arrival.id}")
                self._sending.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception():
            logger.error("a replay failed", exc_info=task.exception())

    # -- one capture ------------------------------------------------------------------------------------------------

    async def _replay(self, held: Held) -> None:
        under_way = True
        try:
            message = await self._source.value(held.takens[0])
            if message is None:
                await self._settling.conclude(held, "discarded", "discarded")
                return
            rules = self._rules(held.arrival.route)
            request = await self._request(held, *message)
            if isinstance(request, Unsendable):
                await self._settling.conclude(held, "dead", request.reason, message=message)
                return
            if rules.is_expired(self._clock() - held.arrival.captured):
                await self._settling.conclude(held, "dead", "expired", message=message)
                return
            sent = await self._sender.send(request, held.arrival.id)
            self.queues.ended(held, answered=sent.answered)
            under_way = False
            self._wake.set()  # another one may begin while the outcome of this one is stored
            await self._judge(held, rules, sent, message)
        except _AWAY as error:
            self._later(held, error)
        finally:
            held.busy = False
            if under_way:
                self.queues.given_up(held)

    async def _request(self, held: Held, value: bytes, headers: Headers) -> ReplayRequest | Unsendable:
        try:
            return await self._prepare(value, headers, held, held.attempts + 1)
        except PoisonRecord as poison:
            logger.warning("capture cannot be read", extra={"id": held.arrival.id, "reason": str(poison)})
            return Unsendable("poison")

    async def _judge(self, held: Held, rules: ReplayRules, sent: Sent, message: tuple[bytes, Headers]) -> None:
        age = self._clock() - held.arrival.captured
        verdict = judge(sent.answer, rules, held.attempts, age, random.random())
        self._report.attempt(held.arrival.route, sent)
        if isinstance(verdict, Delivered):
            await self._settling.conclude(held, "delivered", "", sent=sent)
        elif isinstance(verdict, Dead):
            await self._settling.conclude(held, "dead", verdict.reason, sent=sent, message=message)
        else:
            await self._settling.retry(held, verdict, sent)

    def _later(self, held: Held, error: Exception) -> None:
        """Something on our side did not work: the capture is as it was."""
        held.failures += 1
        pause = min(30.0, 0.5 * 2 ** min(held.failures, 6))
        logger.warning("replay put off", extra={"id": held.arrival.id, "reason": str(error), "seconds": pause})
        self.lanes.at(held, self._clock() + pause)
