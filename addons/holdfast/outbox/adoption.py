"""Outboxes that other processes have left behind: taken over until they have nothing more to send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from holdfast.errors import CaptureRefused
from holdfast.outbox.feed import Feed
from holdfast.outbox.store import Outbox, file_bytes

log = logging.getLogger(__name__)
_LOOK_AGAIN = 3600.0  # at one that had nothing to send: what is past its retention is to go there, too


class Adoption:
    """Looks for slots beside an outbox whose process is gone, once in `every` seconds; commits in them call `wake`."""

    def __init__(self, outbox: Outbox, every: float, wake: Callable[[], None]) -> None:
        self._outbox = outbox
        self._every = every
        self._wake = wake
        # Not at once: processes that start together would take each other's slots.
        self._next = time.monotonic() + every
        self._seen: dict[Path, tuple[float, int]] = {}

    def adopt_if_due(self) -> list[Outbox]:
        """Those that have something to send, their locks held."""
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + self._every
        return [outbox for outbox in self._outbox.leftovers(self._is_news) if self._has_work(outbox)]

    def _has_work(self, outbox: Outbox) -> bool:
        if not outbox.stats().pending:
            self.put_back(outbox)
            return False
        log.info("taking over the outbox of a process that is gone", extra={"file": str(outbox.path)})
        outbox.on_commit(self._wake)
        return True

    def let_go(self, feeds: Iterable[Feed]) -> list[Feed]:
        """Give back those that are done; the others."""
        kept = []
        for feed in feeds:
            if not feed.is_done():
                kept.append(feed)
                continue
            feed.close()
            self.put_back(feed.outbox)
        return kept

    def put_back(self, outbox: Outbox) -> None:
        """It has nothing more to send: tidied, closed, and not looked at for a while."""
        try:
            outbox.tidy()
        except CaptureRefused as error:
            log.warning("adopted outbox could not be tidied", extra={"reason": str(error)})
        finally:
            outbox.close()
        self._seen[outbox.path] = time.monotonic() + _LOOK_AGAIN, file_bytes(outbox.path)

    def _is_news(self, path: Path) -> bool:
        until, size = self._seen.get(path, (0.0, 0))
        return time.monotonic() > until or file_bytes(path) != size
