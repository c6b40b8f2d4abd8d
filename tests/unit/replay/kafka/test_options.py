"""Options, names of topics and what the source refuses to begin with, without a Kafka."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import BrokerUnavailable, StoreUnavailable
from holdfast.replay.kafka import KafkaSource, KafkaSourceSettings, publish
from holdfast.replay.kafka.options import configs
from holdfast.replay.kafka.topics import name_topics
from holdfast.replay.source import Taken

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group.id": "x"}, "group.id: it is set by Holdfast"),
        ({"group.instance.id": "x"}, "group.instance.id: it is set by Holdfast"),
        ({"bootstrap.servers": "elsewhere:9092"}, "bootstrap.servers: it is set by Holdfast"),
        ({"enable.auto.commit": "true"}, "enable.auto.commit: it can only be false"),
        ({"enable.auto.offset.store": "true"}, "enable.auto.offset.store: it can only be false"),
        ({"partition.assignment.strategy": "range"}, "it can only be cooperative-sticky"),
        ({"isolation.level": "read_uncommitted"}, "isolation.level: it can only be read_committed"),
        ({"auto.offset.reset": "latest"}, "auto.offset.reset: it can only be earliest"),
        ({"enable.idempotence": "false"}, "enable.idempotence: it can only be true"),
        ({"allow.auto.create.topics": "true"}, "allow.auto.create.topics: it can only be false"),
        ({"group.protocol": "consumer"}, "group.protocol: it can only be classic"),
        ({"message.timeout.ms": "0"}, "message.timeout.ms: it can only be 1 to 60000"),
        ({"message.timeout.ms": "60001"}, "message.timeout.ms: it can only be 1 to 60000"),
        ({"delivery.timeout.ms": "5"}, "delivery.timeout.ms: it is set by Holdfast"),
        ({"acks": "1"}, "acks: it can only be all"),
        ({"no.such.option": "1"}, "no.such.option"),
        ({"client.id": "x", "fetch.wait.max.ms": "soon"}, "option fetch.wait.max.ms: "),
        ({"max.poll.interval.ms": "2000", "client.id": "x"}, "option max.poll.interval.ms: .*session.timeout"),
    ],
)
def test_an_option_that_cannot_work_is_a_fault(options: dict[str, str], message: str) -> None:
    """With librdkafka's own words, or because it would break a promise."""
    with pytest.raises(ValueError, match=message):
        KafkaSource(NOBODY, "t", options)


def test_options_reach_every_client_that_has_them() -> None:
    """What secures a connection is said once; ours win over theirs, theirs over the defaults."""
    options = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "u"}
    options |= {"sasl.password": "p", "session.timeout.ms": "6000", "client.id": "me", "enable.auto.commit": "False"}
    found = configs(" a:1 , b:2", "t", options, KafkaSourceSettings(group="g", instance_id="i-1"))
    for config in (found.consumer, found.producer, found.admin):
        assert {"sasl.username": "u", "client.id": "me", "bootstrap.servers": "a:1,b:2"}.items() <= config.items()
    wanted = {"group.id": "g", "group.instance.id": "i-1", "session.timeout.ms": "6000"}
    assert wanted.items() <= found.consumer.items()
    assert {"acks": "all", "enable.idempotence": True}.items() <= found.producer.items()
    assert "group.instance.id" not in configs("a:1", "t", {}, KafkaSourceSettings()).consumer


def test_nothing_is_committed_by_itself_and_rebalances_are_cooperative() -> None:
    """What the promises rest on."""
    wanted: dict[str, Any] = {
        "enable.auto.commit": False,
        "partition.assignment.strategy": "cooperative-sticky",
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
    }
    assert wanted.items() <= configs("a:1", "t", {}, KafkaSourceSettings()).consumer.items()


def test_topics_of_retries_are_named_by_their_delay() -> None:
    """In the largest unit that is whole."""
    found = name_topics("t", (0.25, 1, 90, 120, 5400, 7200, 86400))
    assert [name for name, _ in found.places] == [
        f"t.retry.{each}" for each in ("250ms", "1s", "90s", "2m", "90m", "2h", "1d")
    ]
    assert found.dead_letters == "t.dlq"
    assert [name for name, _ in name_topics("t", KafkaSourceSettings().retry_delays).places] == [
        "t.retry.30s",
        "t.retry.2m",
        "t.retry.10m",
        "t.retry.1h",
    ]
    assert name_topics("t", (), "elsewhere").ours == ("elsewhere",)


@pytest.mark.parametrize(
    ("topic", "settings", "message"),
    [
        ("a topic", {}, "not a Kafka topic"),
        ("t" * 245, {}, "not a Kafka topic"),
        ("t", {"dead_letters": "ü"}, "not a Kafka topic"),
        ("t", {"dead_letters": "t"}, "two of the topics are the same"),
        ("t", {"retry_delays": (2, 1)}, "shortest first"),
        ("t", {"retry_delays": (1, 1)}, "each once"),
        ("t", {"retry_delays": (0,)}, "above 0"),
        ("t", {"retry_delays": (float("nan"),)}, "above 0"),
        ("t", {"group": ""}, "group needs a name"),
        ("t", {"buffer_messages": 1}, "room for two messages"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_a_fault(topic: str, settings: dict[str, Any], message: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ValueError, match=message):
        KafkaSource(NOBODY, topic, {}, KafkaSourceSettings(**settings))


def test_servers_are_checked() -> None:
    """In the words of the gateway's broker."""
    with pytest.raises(ValueError, match="credentials do not belong"):
        KafkaSource("u:p@h:1", "t")


async def test_another_sources_message_is_refused() -> None:
    """Nothing is done with it."""
    with pytest.raises(StoreUnavailable, match="another source"):
        await KafkaSource(NOBODY, "t").settle([Taken(None, 0)])


def test_publishing_without_a_kafka_says_so_in_time() -> None:
    """Nothing is stored then."""
    with pytest.raises(BrokerUnavailable, match=r"^0 of 1 messages are stored: "):
        publish(NOBODY, "t", {}, [("k", b"v", ())], timeout=0.3)
