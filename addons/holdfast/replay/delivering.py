"""One replay of one capture, from its message to what is done about the answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from holdfast.errors import BrokerUnavailable, PoisonRecord, StoreUnavailable
from holdfast.policy.replaying.requests import ReplayRequest, Unsendable
from holdfast.policy.replaying.verdict import Dead, Delivered, ReplayRules, judge
from holdfast.replay.lanes import Held
from holdfast.replay.queues import Queues
from holdfast.replay.report import ReplayReport
from holdfast.replay.sending import Sent
from holdfast.replay.settling import Settling
from holdfast.replay.source import Headers, Source

logger = logging.getLogger(__name__)
_NOTHING: tuple[bytes, Headers] = (b"", ())


class Sender(Protocol):
    """Sends one request; bounded in time, raises nothing for what the upstream does."""

    async def send(self, request: ReplayRequest, capture_id: str) -> Sent:
        """What came of it."""


Preparing = Callable[[bytes, Headers, Held, int], Awaitable[ReplayRequest | Unsendable]]
"""(value, header, capture, number of the replay) -> what is sent. PoisonRecord for a record that cannot be read."""


class Delivering:
    """`rules` by route; `clock` gives epoch seconds; `woken` is called when another replay may begin."""

    def __init__(
        self,
        source: Source,
        sender: Sender,
        prepare: Preparing,
        rules: Callable[[str], ReplayRules],
        queues: Queues,
        settling: Settling,
        report: ReplayReport,
        clock: Callable[[], float],
        woken: Callable[[], None],
    ) -> None:
        self._source = source
        self._sender = sender
        self._prepare = prepare
        self._rules = rules
        self._queues = queues
        self._settling = settling
        self._report = report
        self._clock = clock
        self._woken = woken

    async def replay(self, held: Held) -> None:
        """Of one that is under way in the queues, which are told how it ends, whatever happens."""
        rules, sent = self._rules(held.arrival.route), None
        try:
            message, found = await self._prepared(held, rules)
            if isinstance(found, ReplayRequest):
                sent = await self._sender.send(found, held.arrival.id)
        finally:
            # Before the outcome is stored: another one may begin meanwhile.
            if sent:
                self._queues.ended(held, answered=sent.answered)
            else:
                self._queues.given_up(held)
            self._woken()
        if sent:
            held.failures = 0
            await self._judge(held, rules, sent, message)
        elif isinstance(found, Unsendable):
            await self._settling.conclude(held, "dead", found.reason, message=message)
        else:
            await self._settling.conclude(held, "discarded", "discarded")

    async def _prepared(
        self, held: Held, rules: ReplayRules
    ) -> tuple[tuple[bytes, Headers], ReplayRequest | Unsendable | None]:
        """The message, and what is sent of it. None: it is not there any more."""
        taken = next((each for each in held.takens if not each.is_lost), held.takens[0])
        message: tuple[bytes, Headers] | None = _NOTHING
        try:
            message = await self._source.value(taken)
            if message is None:
                return _NOTHING, None
            if rules.is_expired(self._clock() - held.arrival.captured):
                return message, Unsendable("expired")
            return message, await self._prepare(*message, held, held.attempts + 1)
        except (StoreUnavailable, BrokerUnavailable, OSError):
            raise
        except Exception as error:  # whatever is in it: it will be the same the next time, and others wait behind it
            logger.warning(
                "capture cannot be read",
                extra={"id": held.arrival.id, "reason": str(error)},
                exc_info=not isinstance(error, PoisonRecord),
            )
            return message or _NOTHING, Unsendable("poison")

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
