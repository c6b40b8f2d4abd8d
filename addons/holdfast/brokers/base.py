"""What every broker offers, and the message it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.errors import BrokerUnavailable


@dataclass(frozen=True, slots=True)
class Message:
    """What is published. Messages with the same key keep their order."""

    key: str
    value: bytes = field(repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """Whether messages would get through just now; `detail` is a sentence for people."""

    ok: bool
    detail: str


class ConnectionLost(BrokerUnavailable):
    """The connection is of no more use: `close` it, `start` it again, and publish what was not delivered."""


# Called once for each message that was taken: with None when it is stored for good; with PoisonRecord when it, or one
# that it travelled with, was refused for what it is; with BrokerUnavailable for any other reason.
Delivery = Callable[[Exception | None], None]


class Broker(Protocol):
    """Where captures are published.

    One thread calls `start`, `publish`, `poll`, `flush` and `close`, and deliveries are reported on it, from within
    `poll`, `flush` and `close`. `health` may be called from any other. `start` and `close` may take turns.
    """

    name: str
    durable: bool  # what is delivered survives a power cut
    publishes: bool  # False: nothing is to be published, records stay in the outbox
    trouble: str  # what has kept messages from being delivered since the last one was; empty if nothing is known

    def start(self) -> None:
        """Connect, or begin to. BrokerUnavailable if that is not possible now."""

    def publish(self, message: Message, on_delivery: Delivery) -> None:
        """Take a message. Without a report: PoisonRecord, BrokerUnavailable (try later), ConnectionLost."""

    def poll(self, timeout: float) -> None:
        """Report deliveries, waiting up to `timeout` seconds for the first. ConnectionLost if there can be no more."""

    def flush(self, timeout: float) -> int:
        """Wait until everything taken is delivered; how many messages are still outstanding after `timeout` seconds."""

    def health(self, timeout: float) -> BrokerHealth:
        """Ask the broker; blocks for up to `timeout` seconds, and raises nothing."""

    def close(self) -> None:
        """Let go of everything, whatever is outstanding. May be called twice."""
