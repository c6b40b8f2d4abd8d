"""Order per key across live requests and captures: whether something older of a key is not settled yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from holdfast.gateway import ReplayLedger
from holdfast.outbox import Outbox, OutboxReader
from holdfast.outbox.waiting import Waiting

_AT_ONCE = 100


class Waiters(Protocol):
    """Who waits in one outbox file. StoreUnavailable if it cannot be known."""

    def waiting(self, key: str, after: int, limit: int) -> list[Waiting]:
        """The oldest records of the key behind a number that are pending, or published and not forgotten."""

    def forget(self, key: str, seqs: Iterable[int]) -> None:
        """These are settled."""


async def holds_up(outbox: Outbox, key: str, replays: ReplayLedger | None) -> bool:
    """Whether a capture of this key is pending or, where there is a replayer, published and not settled.

    Nothing is read while the outbox holds nothing of the kind. What is found settled is forgotten, so that a key which
    had a thousand captures costs that once. StoreUnavailable if it cannot be known.
    """
    if not outbox.has_any("pending") and not (replays and outbox.has_any("sent")):
        return False
    return await _holds_up(outbox, key, replays)


async def siblings_hold_up(reader: OutboxReader, own: Outbox, key: str, replays: ReplayLedger | None) -> bool:
    """The same of the outboxes beside the own one, which other workers write to, or have left behind.

    They are read: what is in them when a client has its answer must be known to whoever gets the client's next request.
    """
    for sibling in await asyncio.to_thread(reader.others, own.path, published=replays is not None):
        if await _holds_up(sibling, key, replays):
            return True
    return False


async def _holds_up(waiters: Waiters, key: str, replays: ReplayLedger | None) -> bool:
    after = 0
    while rows := await asyncio.to_thread(waiters.waiting, key, after, _AT_ONCE):
        if any(row.state == "pending" for row in rows):
            return True
        settled = await replays.settled([row.id for row in rows]) if replays else {row.id for row in rows}
        done = [row.seq for row in rows if row.id in settled]
        if done:
            await asyncio.to_thread(waiters.forget, key, done)
        if len(done) < len(rows):
            return True
        after = rows[-1].seq
    return False
