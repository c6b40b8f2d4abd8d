"""Outcomes on their way to the audit store: those that come while one transaction is written share the next.

While the store is away they wait, in memory, and are tried again. Nothing is told to the source before its outcome is
on the disk, so that a crash meanwhile costs a second replay, not an outcome.
"""

from __future__ import annotations

import asyncio
import logging

from holdfast.audit import Audit, Record
from holdfast.errors import StoreUnavailable

logger = logging.getLogger(__name__)
_AT_ONCE = 500
_AGAIN = (0.2, 5.0)  # seconds between two tries, the first and the longest


class Recorder:
    """Of one owner. `trouble` is why the store cannot be written just now; empty if it can."""

    def __init__(self, audit: Audit, owner: str) -> None:
        self.trouble = ""
        self._audit = audit
        self._owner = owner
        self._waiting: list[tuple[Record, asyncio.Future[bool]]] = []
        self._filled = asyncio.Event()

    async def record(self, record: Record) -> bool:
        """Returns once it is on the disk; whether it has taken effect (see `audit`, invariant 2)."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        self._filled.set()
        return await done

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._filled.wait()
            batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            if not self._waiting:
                self._filled.clear()
            effects = await self._write([record for record, _ in batch])
            for (_, done), effect in zip(batch, effects, strict=True):
                if not done.done():
                    done.set_result(effect)

    async def _write(self, records: list[Record]) -> list[bool]:
        pause = _AGAIN[0]
        while True:
            try:
                effects = await self._audit.record(records, self._owner)
            except StoreUnavailable as error:
                if not self.trouble:
                    logger.warning("outcomes cannot be stored", extra={"reason": str(error)})
                self.trouble = str(error)
                await asyncio.sleep(pause)
                pause = min(_AGAIN[1], pause * 2)
            else:
                if self.trouble:
                    logger.info("outcomes are stored again")
                self.trouble = ""
                return effects
