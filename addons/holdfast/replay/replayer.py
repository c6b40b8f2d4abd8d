"""The loop of the replayer: takes captures, asks the audit store whose they are, sends what is due, has it settled.

A crash at any point costs at most a second replay of what was on its way: the record stays where it came from until its
outcome is on the disk, and an outcome that is on the disk keeps a record from being sent again.

No head of a lane is ever forgotten: it is in the schedule, in the queue for its servers, or a task is busy with it, and
whatever becomes of that task, the head is looked at again afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from holdfast.audit import Arrival, Audit, Standing
from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.policy.replaying.verdict import ReplayRules
from holdfast.replay.delivering import Delivering, Preparing, Sender
from holdfast.replay.lanes import Held, Lanes
from holdfast.replay.queues import Fitness, Queues
from holdfast.replay.recorder import Recorder
from holdfast.replay.report import ReplayReport
from holdfast.replay.settling import CallingBack, Listener, Settling
from holdfast.replay.source import Source, Taken
from holdfast.replay.tasks import Tasks

logger = logging.getLogger(__name__)
_AWAY = (HoldfastError, OSError)
_BATCH = 500
_LOOK = 1.0  # seconds between two looks at what no event announces
_ELSEWHERE = 1.0  # seconds until it is asked again whether a capture that somebody else has is settled
_BUSY = 5.0  # the same at most, where it is on its way: a claim may be given back before it runs out
_HELD_PER_SECOND = 5000  # with many held ones that takes its time
_UNSETTLED = 500, 256 * 1024 * 1024  # replays whose outcome is not noted everywhere yet, and bytes of them


@dataclass(frozen=True, slots=True)
class ReplayLimits:
    """`window` captures are held at most; a claim lasts `claim` seconds, and is renewed while a replay takes longer;
    what waits for longer than `hold` seconds goes to a topic of retries, where the source has any.
    """

    window: int = 20_000
    claim: float = 12.0
    hold: float = 10.0


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
        calling_back: CallingBack = lambda settled, sent: None,
        *,
        owner: str,
        clock: Callable[[], float],
        limits: ReplayLimits | None = None,
    ) -> None:
        self.lanes = Lanes()
        self.queues = queues
        self.recorder = Recorder(audit, owner)
        self._limits = limits or ReplayLimits()
        self._settling = Settling(
            source, self.lanes, self.recorder, report, tell, calling_back, clock, self._limits.hold
        )
        self._source = source
        self._audit = audit
        self._owner = owner
        self._clock = clock
        self._held_up = ""
        self._wake = asyncio.Event()
        self._delivering = Delivering(
            source, sender, prepare, rules, queues, self._settling, report, clock, self._wake.set
        )
        self._untaken = ""  # why the source gives nothing
        self._news = True  # whether the source may have something
        self._looked = -_LOOK  # the loop's time: at what no event announces
        self._tasks = Tasks(self.lanes, clock, self._wake.set)
        self._searching = False
        self._stopping = False

    @property
    def trouble(self) -> str:
        """Why nothing is replayed just now: the source or the audit store cannot be used. Empty if they can."""
        return self._held_up or self._untaken or self.recorder.trouble or self._settling.trouble

    # -- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `stop`. An outage of the source or of the audit store is sat out."""
        recording = asyncio.create_task(self.recorder.run(), name="replay outcomes")
        renewing = asyncio.create_task(self._renew(), name="replay claims")
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
                except Exception as error:  # the loop must live: everything that was captured waits for it
                    logger.exception("the replayer failed and goes on")
                    await self._sit_out(error)
                    continue
                self._recovered()
                if not more:
                    await self._rest()
            await self._finish()
        finally:
            recording.cancel()
            renewing.cancel()
            self._tasks.cancel()
            with contextlib.suppress(*_AWAY):
                await self._source.stop()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is on its way has ended."""
        self._stopping = True
        self._settling.stop()
        self.recorder.stop()
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
        await self._tasks.ended(self._limits.claim)
        with contextlib.suppress(*_AWAY):
            await self._audit.release(self._owner)

    async def _renew(self) -> None:
        """What is on its way stays ours, however long it takes; of one that is killed others soon take over."""
        while True:
            await asyncio.sleep(self._limits.claim / 4)
            ours = {held.arrival.id: held for held in self.lanes.under_way()}
            asked = self._clock()
            with contextlib.suppress(*_AWAY):
                for standing in await self._audit.claim(list(ours), self._owner, self._limits.claim) if ours else ():
                    held = ours[standing.id]
                    if standing.claimed and held.claimed_until:
                        held.claimed_until = asked + self._limits.claim

    async def _sit_out(self, error: Exception) -> None:
        """For a moment, whatever else happens."""
        if not self._held_up:
            logger.warning("replays are held up", extra={"reason": str(error)})
        self._held_up = str(error) or type(error).__name__
        self._wake.clear()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOOK
        while not self._stopping and (left := deadline - loop.time()) > 0:
            await self._woken_within(left)

    def _recovered(self) -> None:
        if self._held_up:
            logger.info("replays go on")
        self._held_up = ""

    async def _rest(self) -> None:
        """Until something happens, or the next time at which something is to be done."""
        waits = [_LOOK]
        following = self.lanes.next_time()
        paced = self.queues.wait() if self._may_send() else None
        if following is not None:
            waits.append(following - self._clock())
        if paced is not None:
            waits.append(paced)
        if min(waits) <= 0:
            await asyncio.sleep(0)  # whatever there is to be done, others have their turn
        else:
            await self._woken_within(min(waits))

    async def _woken_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                self._wake.clear()

    # -- one turn ---------------------------------------------------------------------------------------------------

    async def _turn(self) -> bool:
        """Whether there may be more to do at once."""
        now = asyncio.get_running_loop().time()
        if now - self._looked > _LOOK:
            self._looked, self._news = now, True
            self._drop_lost()
        took = await self._take()
        looked = await self._look()
        self._send_what_may()
        return took or looked

    def _drop_lost(self) -> None:
        for held in self.lanes.lost():
            if held.claimed_until > self._clock():
                held.is_leaving = True
                self._tasks.errand(partial(self._settling.give_back, held), held)
            else:
                self._settling.let_go(held)

    async def _take(self) -> bool:
        if self.recorder.trouble:
            return False
        batch = [*self._left_over(), *await self._taken()]
        poison = [taken for taken in batch if not taken.arrival]
        if poison:
            self._tasks.errand(partial(self._settling.poison, poison), messages=len(poison))
        known = [(taken, taken.arrival) for taken in batch if taken.arrival]
        if known:
            try:
                await self._arrived(known)
            except BaseException:
                self._settling.left_over += [taken for taken, _ in known]
                raise
        return self._news and bool(batch)

    async def _taken(self) -> list[Taken]:
        """What is new. A source that is away does not keep what is here from being sent."""
        room = min(_BATCH, self._limits.window - len(self.lanes) - self._tasks.messages)
        if not self._news or room <= 0:
            return []
        self._news = False  # before it is asked: what comes meanwhile is news
        try:
            found = await self._source.take(room)
        except _AWAY as error:
            if not self._untaken:
                logger.warning("nothing can be taken from the source", extra={"reason": str(error)})
            self._untaken = str(error) or type(error).__name__
            return []
        self._untaken = ""
        self._news = self._news or len(found) == room
        return found

    def _left_over(self) -> list[Taken]:
        """Those whose capture has left meanwhile."""
        found, waiting = list[Taken](), list[Taken]()
        for taken in self._settling.left_over:
            here = taken.arrival and taken.arrival.id in self.lanes.by_id
            if not taken.is_lost:
                (waiting if here else found).append(taken)
        self._settling.left_over = waiting
        return found

    async def _arrived(self, known: Sequence[tuple[Taken, Arrival]]) -> None:
        asked, before = self._clock(), [self.lanes.by_id.get(arrival.id) for _, arrival in known]
        standings = await self._until_known([arrival for _, arrival in known])
        settled, new = list[tuple[Taken, Standing]](), list[tuple[Held, Standing]]()
        for (taken, arrival), standing, then in zip(known, standings, before, strict=True):
            held = self.lanes.by_id.get(arrival.id)
            if standing is None:
                taken.poison = "the audit store cannot hold it"
                self._tasks.errand(partial(self._settling.poison, [taken]), messages=1)
            elif held or then:
                self._named_again(taken, then, held)
            elif standing.state != "open":
                settled.append((taken, standing))
            elif self._settling.has_room(taken, standing):
                new.append((Held(arrival, [taken]), standing))
                self.lanes.add(new[-1][0])
        self._line_up(new, asked)
        if settled:
            self._tasks.errand(partial(self._settling.duplicates, settled), messages=len(settled))

    def _line_up(self, new: Sequence[tuple[Held, Standing]], asked: float) -> None:
        """Once all are here: an older one may have come with a younger one, behind it."""
        for held, standing in new:
            if not standing.behind:
                # From a topic of retries, say: it has arrived before all of its key, and has only now come to us.
                self.lanes.to_front(held)
            if self.lanes.is_head(held):
                self._head(held, standing, asked)

    def _named_again(self, taken: Taken, then: Held | None, held: Held | None) -> None:
        """It was published twice; or it is what was handed on, given back, or is to be sent again by a person."""
        if held and held is (then or held) and not held.is_leaving:
            held.takens.append(taken)
            return
        # Nobody knows whether the store was asked before it has left, or after.
        self._settling.left_over.append(taken)
        if held:
            held.is_back = True

    async def _until_known(self, arrivals: list[Arrival]) -> list[Standing | None]:
        """What has been taken cannot be given back: it waits for the audit store. None for what it refuses."""
        while True:
            try:
                return [*await self._audit.arrive(arrivals, self._owner, self._limits.claim)]
            except StoreUnavailable as error:
                await self._sit_out(error)
                if self._stopping:
                    raise
            except ValueError as error:
                logger.warning("capture cannot be stored", extra={"reason": str(error)})
                if len(arrivals) == 1:
                    return [None]
                return [standing for each in arrivals for standing in await self._until_known([each])]

    def _head(self, held: Held, standing: Standing, asked: float) -> None:
        """An older one of its key may be held too, or wait in a topic of retries: then this one goes behind it."""
        older = self.lanes.by_id.get(standing.behind)
        if older and older.arrival.key == held.arrival.key:
            self.lanes.to_front(older)
            self.lanes.at(older, 0.0)
        elif standing.behind and standing.behind_place and self._source.places:
            self._tasks.errand(partial(self._settling.follow, held, standing.behind_place), held)
        else:
            self._stands(held, standing, asked)

    def _stands(self, held: Held, standing: Standing, asked: float) -> None:
        """When to look at a head next, after what the audit store has said of it at the time `asked`, or later."""
        held.attempts, held.redrive = standing.attempts, standing.redrive
        held.due = max(standing.due, *(taken.due for taken in held.takens))
        held.claimed_until = asked + self._limits.claim if standing.claimed else 0.0
        if standing.claimed:
            self.lanes.at(held, held.due)
        else:
            now = self._clock()
            soon = max(_ELSEWHERE, len(self.lanes) / _HELD_PER_SECOND)
            self.lanes.at(held, max(now + soon, min(standing.busy_until, now + max(_BUSY, soon))))

    async def _look(self) -> bool:
        """At heads whose time has come: send those that are ours, ask for the others."""
        ripe = self.lanes.ripe(self._clock(), _BATCH)
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
        asked = self._clock()
        try:
            standings = await self._audit.claim([held.arrival.id for held in helds], self._owner, self._limits.claim)
        except BaseException:
            for held in helds:
                self.lanes.at(held, asked + _LOOK)
            raise
        found = {standing.id: standing for standing in standings}
        for held in helds:
            standing = found.get(held.arrival.id)
            if not self.lanes.holds(held) or held.busy:
                continue
            if standing is None:  # the store has been put back to what it was some time ago
                self._settling.left_over += held.takens
                self._settling.let_go(held)
            elif standing.state != "open":
                held.is_leaving = True
                self._tasks.errand(partial(self._settling.settled_elsewhere, held, standing), held)
            else:
                self._head(held, standing, asked)
        behind = {each.behind for each in standings if each.behind and not each.behind_place}
        self._search([each for each in behind if each not in self.lanes.by_id])

    def _search(self, ids: list[str]) -> None:
        """For what holds others up and is not here."""
        if ids and not self._searching:
            self._searching = True
            self._tasks.errand(partial(self._find, ids))

    async def _find(self, ids: list[str]) -> None:
        try:
            gone = await self._source.wanted(ids)
            if discarded := [each for each, fate in gone.items() if fate == "discarded"]:
                await self._audit.settle(discarded, "discarded", "discarded")
            if damaged := [each for each, fate in gone.items() if fate == "dead"]:
                await self._audit.settle(damaged, "dead", "damaged")
            self._news = True
        finally:
            self._searching = False

    # -- sending ----------------------------------------------------------------------------------------------------

    def _may_send(self) -> bool:
        """Bounded is also what has been sent and waits for the store, or the source, to be told of it."""
        count, size = _UNSETTLED
        full = len(self._tasks.sending) >= count or self._tasks.bytes >= size
        return not (self._stopping or self.recorder.trouble or full)

    def _send_what_may(self) -> None:
        if not self._may_send():
            return
        for held in self.queues.ready(self._fitness):
            self._tasks.send(partial(self._delivering.replay, held), held)
            if not self._may_send():
                return

    def _fitness(self, held: Held) -> Fitness:
        if held.busy or not self.lanes.is_head(held):
            return "gone"
        if held.is_lost:
            self.lanes.at(held, self._clock() + _LOOK)  # it is dropped before, but for a message that comes meanwhile
            return "gone"
        if self._is_ours(held):
            return "fit"
        self.lanes.at(held, 0.0)
        return "not ours"
