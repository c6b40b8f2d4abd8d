"""Having captures sent again by the replayer, because a person wants it.

What the outbox still has is put back into it; where it publishes, a capture that a replayer has seen is published once
more, with a header that says how often a person has done so. Either way the replayer takes it from there, at its own
pace and in its order, and *parks* what fails again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from holdfast.captures import Capture
from holdfast.captures.view import Captures, Message

_SETTLING = 1.0  # seconds in which a replayer that has just given a record up tells the outbox
_OF_ITS_PAST = "holdfast-"  # header fields of where a message has been ...
_OF_ITSELF = ("holdfast-id", "holdfast-schema")  # ... and those of what it is
GONE = "its request is not kept here any more: the outbox has given its place to others after `retention`"
UNDER_WAY = "it is pending: it is sent anyway"

type Publishable = tuple[str | bytes | None, bytes, Sequence[tuple[str, bytes | None]]]
type Publish = Callable[[Sequence[Publishable]], None]


@dataclass(frozen=True, slots=True)
class Redriven:
    """What was done for one capture: `done` and how (`queued`, `published`), or why nothing was."""

    id: str
    done: bool
    detail: str
    gone: bool = False


class Redriver:
    """`publish` blocks until the broker has the messages; None where nothing is published to be replayed."""

    def __init__(self, captures: Captures, publish: Publish | None) -> None:
        self._captures = captures
        self._publish = publish

    async def redrive(self, chosen: Sequence[Capture]) -> list[Redriven]:
        """In this order, and one result for each. StoreUnavailable or BrokerUnavailable: some may have been sent."""
        again = [capture for capture in chosen if capture.known and self._publish]
        others = [capture for capture in chosen if not (capture.known and self._publish)]
        results = await self._requeued(others) | await self._published(again)
        return [results[capture.id] for capture in chosen]

    # -- by the outbox ----------------------------------------------------------------------------------------------

    async def _requeued(self, chosen: Sequence[Capture]) -> dict[str, Redriven]:
        results: dict[str, Redriven] = {}
        settled: list[str] = []
        being_told: list[str] = []
        for capture in chosen:
            record = await self._captures.record(capture.id)
            if capture.state == "pending" and (not capture.known or record is None or record.state == "pending"):
                results[capture.id] = Redriven(capture.id, False, UNDER_WAY)
                continue
            if record is None or not record.value:
                results[capture.id] = Redriven(capture.id, False, GONE, gone=True)
                continue
            results[capture.id] = Redriven(capture.id, True, "queued")
            if capture.known and capture.state != "pending":
                settled.append(capture.id)
            if record.state == "pending":
                being_told.append(capture.id)
        await self._put_back([each.id for each in results.values() if each.done], settled, being_told)
        return results

    async def _put_back(self, queued: list[str], settled: list[str], being_told: list[str]) -> None:
        outbox, audit = self._captures.outbox, self._captures.audit
        if not queued or outbox is None:
            return
        # First the audit store: what is queued while that still calls it settled, would be buried again. After a crash
        # in between it is pending there and not here, which is mended by asking for it once more.
        if audit and settled:
            await audit.reopen(settled)
        await asyncio.to_thread(outbox.requeue, queued)
        if being_told:
            await asyncio.sleep(_SETTLING)
            await asyncio.to_thread(outbox.requeue, being_told)

    # -- by the broker ----------------------------------------------------------------------------------------------

    async def _published(self, chosen: Sequence[Capture]) -> dict[str, Redriven]:
        results: dict[str, Redriven] = {}
        messages: list[Publishable] = []
        for capture in chosen:
            message = None if capture.state == "pending" else await self._captures.message(capture.id)
            if capture.state == "pending":
                results[capture.id] = Redriven(capture.id, False, UNDER_WAY)
            elif message is None:
                results[capture.id] = Redriven(capture.id, False, GONE, gone=True)
            else:
                messages.append((message.key or None, message.value, _headers(message, capture.redrive + 1)))
                results[capture.id] = Redriven(capture.id, True, "published")
        if messages:
            assert self._publish
            await asyncio.to_thread(self._publish, messages)
        return results


def _headers(message: Message, redrive: int) -> list[tuple[str, bytes | None]]:
    """Those of the capture, without where the message has been; `holdfast-redrive` opens it anew."""
    kept: list[tuple[str, bytes | None]] = [
        (name, value)
        for name, value in message.headers
        if name in _OF_ITSELF or not name.lower().startswith(_OF_ITS_PAST)
    ]
    return [*kept, ("holdfast-redrive", str(redrive).encode())]
