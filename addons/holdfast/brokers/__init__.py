"""Where captures are published: `kafka://`, `file://`, or nowhere (`embedded://`).

`open_broker` makes one from a profile's URL. Nothing connects before `Broker.start`.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.brokers.base import Broker, BrokerHealth, ConnectionLost, Delivery, Message

__all__ = ["SCHEMES", "Broker", "BrokerHealth", "ConnectionLost", "Delivery", "Message", "open_broker"]

SCHEMES = ("embedded", "file", "kafka")


def open_broker(url: str, topic: str, options: Mapping[str, str] | None = None) -> Broker:
    """The broker that a URL names, not started yet. ValueError, with what to write instead, if there is none.

    `options` are librdkafka's; the other brokers have none and ignore them, so that a profile may switch by its URL.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ValueError(f"{url!r} names no known broker: it begins with one of {known}")
    if scheme == "kafka":
        from holdfast.brokers.kafka import KafkaBroker  # a gateway without Kafka does not load its library

        return KafkaBroker(rest, topic, options or {})
    if scheme == "file":
        from holdfast.brokers.file import FileBroker

        return FileBroker(rest, topic)
    if rest:
        raise ValueError(f"write embedded:// without anything behind it, not {url!r}")
    from holdfast.brokers.embedded import EmbeddedBroker

    return EmbeddedBroker()
