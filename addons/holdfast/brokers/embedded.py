"""`embedded://`: no broker at all. Captures stay in the outbox, where they are listed, exported and replayed from."""

from __future__ import annotations

from holdfast.brokers.base import BrokerHealth, Delivery, Message
from holdfast.errors import BrokerUnavailable


class EmbeddedBroker:
    """Publishes nothing, and says so."""

    name = "embedded"
    durable = True
    publishes = False
    trouble = ""

    def start(self) -> None:
        """Nothing to connect to."""

    def publish(self, message: Message, on_delivery: Delivery) -> None:
        raise BrokerUnavailable("embedded:// publishes nothing: captures stay in the outbox")

    def poll(self, timeout: float) -> None:
        """Nothing is ever delivered."""

    def flush(self, timeout: float) -> int:
        return 0

    def health(self, timeout: float) -> BrokerHealth:
        return BrokerHealth(ok=True, detail="no broker: captures stay in the outbox")

    def close(self) -> None:
        """Nothing to let go of."""
