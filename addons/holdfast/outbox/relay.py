"""The thread that publishes what the outbox holds, in order, and marks a record as sent once the broker has it.

Whatever fails, the way back is the same: drop the connection, wait a little longer each time, and begin again with the
oldest record that is not sent. So records with the same key keep their order, and some may be published twice.
A refused record is published once more by itself, as a broker refuses a whole batch for one; if it is refused alone,
it goes into quarantine.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from holdfast.brokers.base import Broker, ConnectionLost
from holdfast.errors import BrokerUnavailable, CaptureRefused, PoisonRecord, StoreUnavailable
from holdfast.outbox.adoption import Adoption
from holdfast.outbox.feed import Feed, Outgoing
from holdfast.outbox.share import Share
from holdfast.outbox.store import Outbox

log = logging.getLogger(__name__)
_IDLE = 1.0  # an append wakes the relay at once; this is for what other processes do to the file
_POLL = 0.05
_PIECE = 256  # records published at a time beside live traffic
_EXPECTED = (BrokerUnavailable, PoisonRecord, StoreUnavailable, CaptureRefused)


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How much is on its way at once, and how patient the relay is. Sizes in bytes, times in seconds."""

    records: int = 2000
    bytes: int = 32 << 20
    first_pause: float = 0.1
    longest_pause: float = 30.0
    adopt_every: float = 30.0  # how often to look for outboxes whose process is gone
    patience: float = 3.0  # with a broker in trouble before it is called an outage; ten times that without a reason


@dataclass(slots=True)
class RelayStats:
    """What the relay has done since its start. `last_success` in epoch seconds."""

    published: int = 0
    errors: int = 0
    quarantined: int = 0
    in_flight: int = 0
    adopted: int = 0
    last_error: str = ""
    last_success: float | None = None


class Relay:
    """Publishes an outbox, and those that processes which are gone have left beside it. Does nothing for a broker that
    publishes nothing. `jitter` returns a random number between 0 and 1; `share` says how much of the interpreter it may
    take, None: what it can get.
    """

    def __init__(
        self,
        outbox: Outbox,
        broker: Broker,
        limits: RelayLimits | None = None,
        *,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        share: Share | None = None,
    ) -> None:
        self.stats = RelayStats()
        self._broker = broker
        self._limits = limits or RelayLimits()
        self._jitter = jitter
        self._clock = clock
        self._share = share
        self._feeds = [Feed(outbox)]
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._flush_timeout = 0.0
        self._connected = False
        self._generation = 0
        self._failed: Exception | None = None  # the first delivery of this generation that failed
        self._refused = False  # whether one of them was refused for what it is
        self._is_alone = False
        self._failures = 0  # since the last success
        self._in_trouble = False
        self._progress = (0, time.monotonic())  # how much was published when that last changed, and when it did
        self._adoption = Adoption(outbox, self._limits.adopt_every, self._wake.set)
        self._thread: threading.Thread | None = None
        outbox.on_commit(self._wake.set)

    # --- any thread ---

    def start(self) -> None:
        if self._broker.publishes and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
            self._thread.start()

    def stop(self, flush_timeout: float = 5.0) -> int:
        """Let what is on its way arrive, for so long; how many records are still to be sent. Blocks."""
        self._flush_timeout = flush_timeout
        self._stopping.set()
        self._wake.set()
        if self._thread:
            self._thread.join()
            self._thread = None
        return self.stats.in_flight

    # --- the relay's thread ---

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - the thread must live: without it nothing is ever sent
                self._recover(error)
        self._end()

    def _turn(self) -> None:
        """Publish what there is room for, then wait for deliveries or, if nothing is on its way, for an append."""
        self._connect()
        self._adopt()
        self._wake.clear()
        filled = self._fill()
        self.stats.in_flight = self._load()[0]
        if self.stats.in_flight and self._is_alone:
            self._broker.flush(_POLL)  # as no other will join it
        elif self.stats.in_flight:
            self._broker.poll(0.0 if filled else _POLL)
        else:
            self._broker.poll(0.0)
            self._wake.wait(_POLL if any(feed.unmarked() for feed in self._feeds) else _IDLE)
        for feed in self._feeds:
            feed.write_marks()
        if self._failed:
            raise self._failed
        self._watch()
        self._feeds[1:] = self._adoption.let_go(self._feeds[1:])
        if self._share and (rest := self._share.rest()):
            self._stopping.wait(rest)

    def _connect(self) -> None:
        if not self._connected:
            self._broker.start()
            self._connected = True
            self._refused = False

    def _adopt(self) -> None:
        adopted = self._adoption.adopt_if_due()
        self.stats.adopted += len(adopted)
        self._feeds += map(Feed, adopted)

    def _fill(self) -> bool:
        """Publish until the bounds are reached; whether anything was published."""
        alone = next((feed for feed in self._feeds if feed.needs_solitude()), None)
        self._is_alone = alone is not None
        if alone:
            record = None if self._load()[0] else alone.peek()
            return record is not None and self._publish(alone, record, alone=True)
        filled, most = 0, _PIECE if self._share and self._share.is_tight else self._limits.records
        for feed in self._feeds:
            while filled < most and self._may_send(feed) and (record := feed.peek()) and self._has_room(record):
                if not self._publish(feed, record):
                    return filled > 0
                filled += 1
        return filled > 0

    def _may_send(self, feed: Feed) -> bool:
        return feed.unmarked() < 2 * self._limits.records

    def _load(self) -> tuple[int, int]:
        records = size = 0
        for feed in self._feeds:
            records += len(feed.in_flight)
            size += feed.in_flight_bytes
        return records, size

    def _has_room(self, record: Outgoing) -> bool:
        records, size = self._load()
        return records == 0 or (records < self._limits.records and size + record.size <= self._limits.bytes)

    def _publish(self, feed: Feed, record: Outgoing, *, alone: bool = False) -> bool:
        """Whether the broker took it; if not, that is no failure while it has other records to work on."""
        # The number and not the record itself, which may be large.
        on_delivery = partial(self._on_delivery, feed, record.seq, self._generation, alone)
        try:
            self._broker.publish(record.message, on_delivery)
        except PoisonRecord as error:
            feed.take(record)
            self._quarantine(feed, record.seq, error)
        except ConnectionLost:
            raise
        except BrokerUnavailable:
            if not self._load()[0]:
                raise
            return False
        else:
            feed.take(record)
        return True

    def _on_delivery(self, feed: Feed, seq: int, generation: int, alone: bool, error: Exception | None) -> None:
        if error is None:  # true whatever has happened to the connection since
            feed.delivered(seq)
            self.stats.published += 1
            self.stats.last_success = self._clock()
            self._failures = 0
            if self._in_trouble:
                self._in_trouble = False
                log.info("relay publishes again")
        elif generation != self._generation:
            return
        elif isinstance(error, PoisonRecord) and alone:
            self._refused = True
            self._quarantine(feed, seq, error)
        elif isinstance(error, PoisonRecord):
            self._refused = True
            feed.suspect(seq)
            self._failed = self._failed or error
        else:
            self._failed = self._failed or error

    def _quarantine(self, feed: Feed, seq: int, error: Exception) -> None:
        self.stats.quarantined += 1
        self.stats.errors += 1
        self.stats.last_error = str(error)
        feed.give_up(seq, str(error))

    # --- after a failure ---

    def _recover(self, error: Exception) -> None:
        if not isinstance(error, StoreUnavailable | CaptureRefused):
            self._disconnect()
        self._note(error)
        if self._refused:  # the way is free: it is the record that is wrong
            self._refused = False
        else:
            self._pause()

    def _watch(self) -> None:
        """A broker that is away fails nothing, as its client has time. So it is noticed by what does not happen."""
        now = time.monotonic()
        if not self.stats.in_flight or self.stats.published != self._progress[0]:
            self._progress = self.stats.published, now
        stuck = now - self._progress[1]
        if stuck > self._limits.patience * (1 if self._broker.trouble else 10) and not self._in_trouble:
            self._note(BrokerUnavailable(self._broker.trouble or f"nothing was confirmed for {stuck:.0f} s"))

    def _note(self, error: Exception) -> None:
        self.stats.errors += 1
        self.stats.last_error = str(error) or type(error).__name__
        if not isinstance(error, _EXPECTED):
            log.warning("relay failed", exc_info=error)
        elif not self._in_trouble and not self._refused:  # once for each outage
            log.warning("relay cannot publish", extra={"reason": str(error)})
            self._in_trouble = True

    def _disconnect(self) -> None:
        self._close_broker()  # reports what was not reported yet, refusals among it
        self._connected = False
        self._generation += 1
        self._failed = None
        for feed in self._feeds:
            feed.rewind()

    def _close_broker(self) -> None:
        try:
            self._broker.close()
        except Exception as error:  # it is given up anyway, and the thread must live
            log.warning("broker cannot be closed", exc_info=error)

    def _pause(self) -> None:
        longest = min(self._limits.longest_pause, self._limits.first_pause * 2 ** min(self._failures, 20))
        self._failures += 1
        self._stopping.wait(longest * (1 + self._jitter()) / 2)

    # --- the end ---

    def _end(self) -> None:
        try:
            if self._connected:
                self._broker.flush(self._flush_timeout)
        except Exception as error:  # noqa: BLE001 - what could not be flushed is sent by the next start
            self._note(error)
        self.stats.in_flight = self._load()[0]
        self._close_broker()
        for feed in self._feeds:
            feed.wait_for_marks(self._flush_timeout + 1.0)
            feed.close()
        for feed in self._feeds[1:]:
            feed.outbox.close()
