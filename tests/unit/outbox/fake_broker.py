"""A broker that does as it is told: refuses, fails, forgets, and remembers what it was given."""

from __future__ import annotations

import threading
from collections.abc import Callable

from holdfast.brokers import BrokerHealth, ConnectionLost, Delivery, Message
from holdfast.errors import BrokerUnavailable, PoisonRecord


class FakeBroker:
    """Delivers in `poll` what was published before, in batches, as Kafka does.

    `down`: nothing is delivered, and nothing is reported. `fail_next`: so many batches are reported as failed.
    `too_large`: the batch with a value that is longer is refused as a whole. `full_at`: how many it takes at a time.
    `fatal_next`: so many polls lose the connection instead.
    """

    name = "fake"
    durable = True
    publishes = True
    trouble = ""

    def __init__(self, batch: int = 10) -> None:
        self.log: list[Message] = []  # what consumers would see
        self.starts = 0
        self.batches: list[int] = []
        self.down = False
        self.unreachable = False
        self.fail_next = 0
        self.fatal_next = 0
        self.too_large = 1 << 30
        self.refuse_at_once = False
        self.full_at = 1 << 30
        self.batch = batch
        self.most_waiting = 0
        self.on_poll: Callable[[], None] = lambda: None
        self._waiting: list[tuple[Message, Delivery]] = []
        self._changed = threading.Condition()

    def values(self) -> list[bytes]:
        return [message.value for message in self.log]

    def start(self) -> None:
        if self.unreachable:
            raise BrokerUnavailable("cannot be reached")
        self.starts += 1

    def publish(self, message: Message, on_delivery: Delivery) -> None:
        if len(self._waiting) >= self.full_at:
            raise BrokerUnavailable("full")
        if self.refuse_at_once and len(message.value) > self.too_large:
            raise PoisonRecord("too large")
        self._waiting.append((message, on_delivery))
        self.most_waiting = max(self.most_waiting, len(self._waiting))

    def poll(self, timeout: float) -> None:
        self.on_poll()
        if self.fatal_next:
            self.fatal_next -= 1
            raise ConnectionLost("fatal")
        if self.down or not self._waiting:
            threading.Event().wait(min(timeout, 0.005))
            return
        group, self._waiting = self._waiting[: self.batch], self._waiting[self.batch :]
        self._deliver(group)

    def _deliver(self, group: list[tuple[Message, Delivery]]) -> None:
        error: Exception | None = None
        if self.fail_next:
            self.fail_next -= 1
            error = BrokerUnavailable("not now")
        elif any(len(message.value) > self.too_large for message, _ in group):
            error = PoisonRecord("too large")
        if not error:
            self.batches.append(len(group))
        for message, on_delivery in group:
            if not error:
                self.log.append(message)
            on_delivery(error)
        with self._changed:
            self._changed.notify_all()

    def flush(self, timeout: float) -> int:
        for _ in range(len(self._waiting)):
            self.poll(0)
        return len(self._waiting)

    def health(self, timeout: float) -> BrokerHealth:
        return BrokerHealth(ok=not self.down, detail="fake")

    def close(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, on_delivery in waiting:
            on_delivery(BrokerUnavailable("purged"))

    def wait_for(self, count: int, within: float = 10.0) -> None:
        """Until so many messages have arrived; AssertionError if they do not."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.log) >= count, within), f"{len(self.log)} of {count}"
