"""Outcomes on their way to the audit store: those that come while one transaction is written share the next.

While the store is away they wait, in memory, and are tried again. Nothing is told to the source before its outcome is
on the disk, so that a crash meanwhile costs a second replay, not an outcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from holdfast.audit import Audit, Record
from holdfast.errors import StoreUnavailable

logger = logging.getLogger(__name__)
_AT_ONCE = 500
_AGAIN = (0.2, 5.0)  # seconds between two tries, the first and the longest
_Waiting = tuple[Record, asyncio.Future[bool]]


class Recorder:
    """Of one owner. `trouble` is why the store cannot be written just now; empty if it can."""

    def __init__(self, audit: Audit, owner: str) -> None:
        self.trouble = ""
        self._audit = audit
        self._owner = owner
        self._waiting: list[_Waiting] = []
        self._filled = asyncio.Event()
        self._stopping = asyncio.Event()

    async def record(self, record: Record) -> bool:
        """Returns once it is on the disk; whether it has taken effect (see `audit`, invariant 2).

        ValueError for what no store can hold; StoreUnavailable only after `stop`.
        """
        return (await self.record_all([record]))[0]

    async def record_all(self, records: Sequence[Record]) -> list[bool]:
        """The same for several, written in this order."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[bool]] = [loop.create_future() for _ in records]
        self._waiting += zip(records, futures, strict=True)
        self._filled.set()
        results = await asyncio.gather(*futures, return_exceptions=True)
        for each in results:
            if isinstance(each, BaseException):
                raise each
        return [each is True for each in results]

    def stop(self) -> None:
        """From now on each record is tried once: whoever waits for a store that is away is told so."""
        self._stopping.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._filled.wait()
            batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            if not self._waiting:
                self._filled.clear()
            await self._store(batch)

    async def _store(self, batch: list[_Waiting]) -> None:
        try:
            effects = await self._write([record for record, _ in batch])
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told; the others must not wait for ever
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for each in batch:  # one of them cannot be stored, whatever is tried
                    await self._store([each])
                return
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
        else:
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
                self.trouble = str(error) or type(error).__name__
                if self._stopping.is_set():
                    raise
                await self._pause(pause)
                pause = min(_AGAIN[1], pause * 2)
            else:
                if self.trouble:
                    logger.info("outcomes are stored again")
                self.trouble = ""
                return effects

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
