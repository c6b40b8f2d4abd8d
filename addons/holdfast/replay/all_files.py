"""The outboxes of all workers, for the one that replays: its own, those of its siblings, and those that nobody has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from holdfast.outbox.reader import OutboxReader
from holdfast.outbox.record import OutboxStats
from holdfast.outbox.store import Outbox
from holdfast.replay.outbox import OwnFiles, Slot


class AllFiles(OwnFiles):
    """A sibling's file is read and marked as the command line does it, while its owner is at work.

    One whose owner has gone is read in the same way until it is taken over, to be tidied. What was given out of it by
    then is settled where it was taken from, and is the same.
    """

    def __init__(self, outbox: Callable[[], Outbox | None], woken: Callable[[], None], reader: OutboxReader) -> None:
        super().__init__(outbox, woken)
        self._reader = reader
        self._others: dict[Path, Slot] = {}

    def slots(self) -> list[Slot]:
        """Those that there are now."""
        own = super().slots()
        paths = {each.queries.path for each in own}
        if not own:
            return []  # which is the own one is not known yet
        for queries in self._reader.slots():
            if queries.path not in paths and queries.path not in self._others:
                self._others[queries.path] = Slot(queries, None)
        for path in paths & self._others.keys():
            del self._others[path]
        return [*own, *self._others.values()]

    async def sent(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are settled."""
        if slot.outbox:
            await super().sent(slot, seqs)
        else:
            await asyncio.to_thread(self._reader.settle, slot.queries, seqs, "sent")

    async def quarantine(self, slot: Slot, seqs: Sequence[int]) -> None:
        """They are dead."""
        if slot.outbox:
            await super().quarantine(slot, seqs)
        else:
            await asyncio.to_thread(self._reader.settle, slot.queries, seqs, "quarantined")

    def stats(self) -> OutboxStats:
        """How many wait in all of them, and for how long; the rest is of the own one."""
        own, now = super().stats(), time.time()
        others = [each.queries for each in list(self._others.values())]
        ages = [now - oldest for each in others if (oldest := each.oldest_pending()) is not None]
        return replace(
            own,
            pending=own.pending + sum(each.how_many_pending() for each in others),
            oldest_pending_seconds=max([own.oldest_pending_seconds, *ages]),
        )

    def close(self) -> None:
        """Let go of everything."""
        super().close()
        self._reader.close()
        self._others.clear()
