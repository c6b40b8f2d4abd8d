"""Order per key across live requests and captures: whether something older of a key is not settled yet."""

from __future__ import annotations

import asyncio

from holdfast.gateway import ReplayLedger
from holdfast.outbox import Outbox

_AT_ONCE = 100


async def holds_up(outbox: Outbox, key: str, replays: ReplayLedger | None) -> bool:
    """Whether a capture of this key is pending or, where there is a replayer, published and not settled.

    Nothing is read while the outbox holds nothing of the kind. What is found settled is forgotten, so that a key which
    had a thousand captures costs that once. StoreUnavailable if it cannot be known.
    """
    if not outbox.has_any("pending") and not (replays and outbox.has_any("sent")):
        return False
    after = 0
    while rows := await asyncio.to_thread(outbox.waiting, key, after, _AT_ONCE):
        if any(row.state == "pending" for row in rows):
            return True
        settled = await replays.settled([row.id for row in rows]) if replays else {row.id for row in rows}
        done = [row.seq for row in rows if row.id in settled]
        if done:
            outbox.forget(key, done)
        if len(done) < len(rows):
            return True
        after = rows[-1].seq
    return False
