"""How a capture leaves the replayer: delivered, dead, waiting in a topic of retries, or somebody else's.

The outcome is stored first, then the source is told, then the next of its key is let go. What has been stored is not
undone: telling the source is tried until it works. Whoever calls these has made the capture `busy`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence

from holdfast.audit import Outcome, Record, Standing
from holdfast.errors import BrokerUnavailable, PoisonRecord, StoreUnavailable
from holdfast.gateway import Settled
from holdfast.policy.replaying.schedule import tier_for
from holdfast.policy.replaying.verdict import RetryLater
from holdfast.policy.wire import encode_body, first_value
from holdfast.replay.lanes import Held, Lanes
from holdfast.replay.recorder import Recorder
from holdfast.replay.report import ReplayReport
from holdfast.replay.sending import Sent
from holdfast.replay.source import Headers, Source, Taken

logger = logging.getLogger(__name__)
_AGAIN = 1.0  # seconds between two tries to tell the source
_FOLLOWS = 1.0  # seconds in the topic of retries at least: if nothing is before it there, it is not to go in circles
_SHOWN = 1024  # bytes of the last answer's body in a dead letter's header
_BURIED: tuple[Outcome, ...] = ("dead", "parked")
_MOST_OF_A_LANE = 1000  # held, where nothing waits elsewhere; the others of the key stay in the source

Listener = Callable[[Settled], None]
CallingBack = Callable[[Settled, Sent | None], tuple[str, bytes] | None]
"""(outcome, the replay it comes from) -> URL and document of a callback, if somebody wants one."""


class Settling:
    """`clock` gives epoch seconds; what waits longer than `hold` seconds goes to a topic of retries."""

    def __init__(
        self,
        source: Source,
        lanes: Lanes,
        recorder: Recorder,
        report: ReplayReport,
        tell: Listener,
        calling_back: CallingBack,
        clock: Callable[[], float],
        hold: float,
    ) -> None:
        self.trouble = ""  # why the source cannot be told
        self.left_over: list[Taken] = []  # messages of captures that were leaving when they came: to arrive anew
        self._stopping = asyncio.Event()
        self._source = source
        self._lanes = lanes
        self._recorder = recorder
        self._report = report
        self._tell = tell
        self._calling_back = calling_back
        self._clock = clock
        self._hold = hold

    def stop(self) -> None:
        """From now on the source is told once: what it does not hear is told by the next start."""
        self._stopping.set()

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
        settled = _settled(held, outcome, reason, sent, self._clock())
        record = Record(
            id=held.arrival.id,
            attempt=sent.log if sent else None,
            outcome=outcome,
            reason=reason,
            value=value,
            headers=headers,
            callback=self._calling_back(settled, sent),
        )
        held.is_leaving = True  # what comes from now on may be there to have it sent again
        if not await self._record(held, record):
            held.is_leaving = False
            return
        held.attempts = settled.attempts
        self._report.settled(held.arrival, held.attempts, outcome)
        self._tell(settled)
        await self._close(held, reason if outcome in _BURIED else "", sent)

    async def retry(self, held: Held, verdict: RetryLater, sent: Sent) -> None:
        """It waits, and everything of its key behind it."""
        due = self._clock() + verdict.delay
        place = tier_for(verdict.delay, self._source.places, self._hold) or ""
        waits = Record(id=held.arrival.id, attempt=sent.log, counts=verdict.counts, due=due, place=place)
        if not await self._record(held, waits):
            return
        held.attempts += verdict.counts
        held.due = due
        if not place or not await self._hand_on(held, place, due):
            self._lanes.at(held, due)  # asked for again then
            return
        await self.clear_lane(held, place)

    async def follow(self, held: Held, place: str) -> None:
        """An older one of its key waits in that topic of retries: it goes there too, and what is behind it."""
        due = self._clock() + _FOLLOWS
        await self._recorder.record(Record(id=held.arrival.id, due=due, place=place))
        if await self._hand_on(held, place, due):
            await self.clear_lane(held, place)
        else:
            self._lanes.at(held, due + _AGAIN)

    async def clear_lane(self, held: Held, place: str) -> None:
        """It has been handed on: whatever comes after it here goes there too, in order; what comes meanwhile as well.

        Not once it is back: those that are left wait for it here.
        """
        while behind := self._followers(held):
            due = self._clock() + _FOLLOWS
            await self._recorder.record_all([Record(id=each.arrival.id, due=due, place=place) for each in behind])
            for each in behind:
                if not await self._take_along(held, each, place, due):
                    self._drop(held)
                    return
        self._drop(held)

    def _followers(self, held: Held) -> list[Held]:
        return [] if held.is_back else self._lanes.behind(held)

    async def _take_along(self, first: Held, held: Held, place: str, due: float) -> bool:
        """False: it and those behind it stay, and find out for themselves what they wait for."""
        if first.is_back:
            return False
        if not self._lanes.holds(held) or held.busy:
            return True
        held.busy = True
        try:
            if not await self._hand_on(held, place, due):
                return False
        finally:
            held.busy = False
        self._lanes.drop(held)
        return True

    async def settled_elsewhere(self, held: Held, standing: Standing) -> None:
        """Somebody else has settled it, or a person has."""
        await self._close(held, standing.state if standing.state in _BURIED else "")

    async def duplicates(self, takens: Sequence[tuple[Taken, Standing]]) -> None:
        """They name what was settled before; if that was all before a crash, the source was not told of it."""
        for _ in takens:
            self._report.duplicate()
        for taken, standing in takens:
            if standing.state in _BURIED:
                await self._bury([taken], standing.state, _why(standing.state))
        others = [taken for taken, standing in takens if standing.state not in _BURIED]
        await self._until_told(lambda: self._source.settle(_ours(others)))

    async def poison(self, takens: Sequence[Taken]) -> None:
        """They name no capture."""
        for taken in takens:
            logger.warning("message is no capture", extra={"reason": taken.poison})
            self._report.poison()
            await self._bury([taken], "poison", _why(taken.poison))

    async def give_back(self, held: Held) -> None:
        """It is somebody else's now, who must not have to wait until our claim runs out."""
        # As it came: what it has been through here since is in the store already.
        await self._recorder.record(Record(id=held.arrival.id, due=held.due, place=held.takens[0].place))
        self.let_go(held)

    def let_go(self, held: Held) -> None:
        """It is not ours any more: the next of its key is looked at."""
        key = held.arrival.key
        self._drop(held)
        if self._lanes.length(key) < _MOST_OF_A_LANE // 2:
            self._source.ask_again(key)

    def has_room(self, taken: Taken, standing: Standing) -> bool:
        """Whether another one of its key can be held; if not it is set aside. What others wait for always can."""
        assert taken.arrival
        if self._source.places or self._lanes.length(taken.arrival.key) < _MOST_OF_A_LANE or not standing.behind:
            return True
        self._source.set_aside(taken)
        return False

    # -- the store --------------------------------------------------------------------------------------------------

    async def _record(self, held: Held, record: Record) -> bool:
        """Whether it has taken effect. If not, somebody else has had a say: the store is asked whose it is now."""
        held.claimed_until = 0.0  # whatever happens from here on, it is not sent again without being asked for
        if await self._recorder.record(record):
            return True
        self._lanes.at(held, 0.0)
        return False

    # -- the source -------------------------------------------------------------------------------------------------

    async def _close(self, held: Held, buried: str, sent: Sent | None = None) -> None:
        """The source is told of each message that names it; `buried` is why it is dead."""
        if buried:
            await self._bury(held.takens, buried, _why(buried, held, sent))
        else:
            await self._until_told(lambda: self._source.settle(_ours(held.takens)))
        self.let_go(held)

    async def _bury(self, takens: Sequence[Taken], reason: str, headers: Headers) -> None:
        """The first of them; the others are the same."""
        ours = _ours(takens)
        if not ours:
            return
        try:
            await self._until_told(lambda: self._source.bury(ours[0], reason, headers))
        except PoisonRecord as error:  # not even there: a capture's message is in the audit store as well
            logger.warning("dead letter refused", extra={"reason": str(error)})
            ours = [ours[0], *ours]
        await self._until_told(lambda: self._source.settle(ours[1:]))

    async def _hand_on(self, held: Held, place: str, due: float) -> bool:
        """False: it will never be taken there. What is handed on may be back here before this is known."""
        held.is_leaving = True
        ours = _ours(held.takens)
        attempts = (("holdfast-attempts", str(held.attempts).encode()),)
        try:
            if ours:
                await self._until_told(lambda: self._source.hand_on(ours[0], place, due, attempts))
        except PoisonRecord as error:
            logger.warning("topic of retries refuses it", extra={"id": held.arrival.id, "reason": str(error)})
            held.is_leaving = False
            return False
        await self._until_told(lambda: self._source.settle(ours[1:]))
        return True

    def _drop(self, held: Held) -> None:
        following = self._lanes.drop(held)
        if following and not following.busy:
            following.claimed_until = 0.0
            self._lanes.at(following, 0.0)

    async def _until_told(self, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await action()
            except (BrokerUnavailable, StoreUnavailable) as error:
                if not self.trouble:
                    logger.warning("outcomes cannot be passed on to the source", extra={"reason": str(error)})
                self.trouble = str(error) or type(error).__name__
                if self._stopping.is_set():
                    raise
                await self._pause()
            else:
                self.trouble = ""
                return

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_AGAIN):
                await self._stopping.wait()
        except TimeoutError:
            pass


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
        attempts=held.attempts + (sent is not None),
        status=sent.log.status if sent else None,
        last_error=sent.log.error if sent else None,
        settled=now,
        redrive=held.redrive,
        traceparent=arrival.traceparent,
    )


def _why(reason: str, held: Held | None = None, sent: Sent | None = None) -> Headers:
    """What goes into the header of a dead letter: the reason, the attempts, the last answer."""
    fields = [("holdfast-reason", reason.encode("utf-8", "replace")[:500])]
    if held:
        fields.append(("holdfast-attempts", str(held.attempts).encode()))
    if sent:
        fields.append(("holdfast-answer", _last_answer(sent)))
    return tuple(fields)


def _last_answer(sent: Sent) -> bytes:
    """JSON of the server, its status or the error, and the beginning of the body; the whole is in the audit store."""
    log = sent.log
    body, encoding = encode_body(log.body[:_SHOWN], first_value(log.headers, "content-type"))
    told = {"server": log.server, "status": log.status, "error": log.error, "body": body, "body_encoding": encoding}
    return json.dumps(told | {"body_truncated": log.body_truncated or len(log.body) > _SHOWN}).encode()
