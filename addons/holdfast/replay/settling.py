"""How a capture leaves the replayer: delivered, dead, waiting in a topic of retries, or somebody else's.

The outcome is stored first, then the source is told, then the next of its key is let go. What has been stored is not
undone: telling the source is tried until it works.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from holdfast.audit import Outcome, Record, Standing
from holdfast.errors import BrokerUnavailable, StoreUnavailable
from holdfast.gateway import Settled
from holdfast.policy.replaying.schedule import tier_for
from holdfast.policy.replaying.verdict import RetryLater
from holdfast.replay.lanes import Held, Lanes
from holdfast.replay.recorder import Recorder
from holdfast.replay.report import ReplayReport
from holdfast.replay.sending import Sent
from holdfast.replay.source import Headers, Source, Taken

logger = logging.getLogger(__name__)
_AGAIN = 1.0  # seconds between two tries to tell the source
_BURIED: tuple[Outcome, ...] = ("dead", "parked")
_MOST_OF_A_LANE = 1000  # held, where nothing waits elsewhere; the others of the key stay in the source

Listener = Callable[[Settled], None]


class Settling:
    """`clock` gives epoch seconds; what waits longer than `hold` seconds goes to a topic of retries."""

    def __init__(
        self,
        source: Source,
        lanes: Lanes,
        recorder: Recorder,
        report: ReplayReport,
        tell: Listener,
        clock: Callable[[], float],
        hold: float,
    ) -> None:
        self.trouble = ""  # why the source cannot be told
        self.stopping = False
        self._source = source
        self._lanes = lanes
        self._recorder = recorder
        self._report = report
        self._tell = tell
        self._clock = clock
        self._hold = hold

    async def conclude(
        self,
        held: Held,
        outcome: Outcome,
        reason: str,
        *,
        sent: Sent | None = None,
        message: tuple[bytes, Headers] = (b"", ()),
    ) -> None:
        """Its outcome is known. `message` is kept with what is dead."""
        if outcome == "dead" and held.redrive:
            outcome = "parked"
        value, headers = message if outcome in _BURIED else (b"", ())
        log = sent.log if sent else None
        record = Record(id=held.arrival.id, attempt=log, outcome=outcome, reason=reason, value=value, headers=headers)
        if await self._recorder.record(record):
            held.attempts += sent is not None
            self._report.settled(held.arrival, held.attempts, outcome)
            self._tell(_settled(held, outcome, reason, sent, self._clock()))
        if outcome in _BURIED:
            await self._until_told(lambda: self._bury(held, reason))
        else:
            await self._until_told(lambda: self._source.settle(_ours(held.takens)))
        self.let_go(held)

    async def retry(self, held: Held, verdict: RetryLater, sent: Sent) -> None:
        """It waits, and everything of its key behind it."""
        due = self._clock() + verdict.delay
        held.attempts += verdict.counts
        held.due = due
        place = tier_for(verdict.delay, self._source.places, self._hold) or ""
        waits = Record(id=held.arrival.id, attempt=sent.log, counts=verdict.counts, due=due, place=place)
        await self._recorder.record(waits)
        if place:
            await self._until_told(lambda: self._hand_on(held, place, due))
            await self.clear_lane(held, place)
        else:
            held.claimed_until = 0.0  # asked for again when it is due
            self._lanes.at(held, due)

    async def follow(self, held: Held, place: str) -> None:
        """An older one of its key waits in that topic of retries: it goes there too, behind it."""
        due = self._clock()  # when it gets there, the older one has been looked at
        await self._recorder.record(Record(id=held.arrival.id, due=due, place=place))
        await self._until_told(lambda: self._hand_on(held, place, due))

    async def clear_lane(self, held: Held, place: str) -> None:
        """It has been handed on: whatever of its key is here goes there too, in order; what comes meanwhile as well."""
        held.busy = True
        while behind := self._lanes.behind(held):
            await self.follow(behind[0], place)
            self._lanes.drop(behind[0])
        self._lanes.drop(held)

    async def settled_elsewhere(self, held: Held, standing: Standing | None) -> None:
        """Somebody else has settled it, or a person has."""
        await self._as_settled(held.takens, standing.state if standing else "")
        self.let_go(held)

    async def duplicate(self, taken: Taken, standing: Standing) -> None:
        """It names what was settled before; if that was all before a crash, the source was not told of it."""
        self._report.duplicate()
        await self._as_settled([taken], standing.state)

    async def poison(self, taken: Taken) -> None:
        """It names no capture."""
        logger.warning("message is no capture", extra={"reason": taken.poison})
        self._report.poison()
        await self._until_told(lambda: self._source.bury(taken, "poison", _why(taken.poison)))

    def let_go(self, held: Held) -> None:
        """It is not ours any more: the next of its key is looked at."""
        key = held.arrival.key
        following = self._lanes.drop(held)
        if following and not following.busy:
            following.claimed_until = 0.0
            self._lanes.at(following, 0.0)
        if self._lanes.length(key) < _MOST_OF_A_LANE // 2:
            self._source.ask_again(key)

    def has_room(self, taken: Taken) -> bool:
        """Whether another one of its key can be held; if not it is set aside."""
        assert taken.arrival
        if self._source.places or self._lanes.length(taken.arrival.key) < _MOST_OF_A_LANE:
            return True
        self._source.set_aside(taken)
        return False

    # -- the source -------------------------------------------------------------------------------------------------

    async def _as_settled(self, takens: Sequence[Taken], state: str) -> None:
        ours = _ours(takens)
        if state in _BURIED and ours:
            await self._until_told(lambda: self._source.bury(ours[0], state, _why(state)))
            ours = ours[1:]
        await self._until_told(lambda: self._source.settle(ours))

    async def _bury(self, held: Held, reason: str) -> None:
        first, *others = held.takens
        await self._source.bury(first, reason, _why(reason, held))
        if others:
            await self._source.settle(others)

    async def _hand_on(self, held: Held, place: str, due: float) -> None:
        first, *others = held.takens
        await self._source.hand_on(first, place, due, (("holdfast-attempts", str(held.attempts).encode()),))
        if others:
            await self._source.settle(others)

    async def _until_told(self, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await action()
            except (BrokerUnavailable, StoreUnavailable) as error:
                if not self.trouble:
                    logger.warning("outcomes cannot be passed on to the source", extra={"reason": str(error)})
                self.trouble = str(error) or type(error).__name__
                if self.stopping:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                self.trouble = ""
                return


def _ours(takens: Sequence[Taken]) -> list[Taken]:
    return [each for each in takens if not each.is_lost]


def _settled(held: Held, outcome: Outcome, reason: str, sent: Sent | None, now: float) -> Settled:
    arrival = held.arrival
    return Settled(
        id=arrival.id,
        key=arrival.key,
        route=arrival.route,
        method=arrival.method,
        path=arrival.path,
        error=arrival.error,
        captured=arrival.captured,
        outcome=outcome,
        reason=reason,
        attempts=held.attempts,
        status=sent.log.status if sent else None,
        last_error=sent.log.error if sent else None,
        settled=now,
        redrive=held.redrive,
        traceparent=arrival.traceparent,
    )


def _why(reason: str, held: Held | None = None) -> Headers:
    fields = [("holdfast-reason", reason.encode("utf-8", "replace")[:500])]
    if held:
        fields.append(("holdfast-attempts", str(held.attempts).encode()))
    return tuple(fields)
