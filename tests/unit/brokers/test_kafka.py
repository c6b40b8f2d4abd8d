"""Options, errors and health of the Kafka broker, without a Kafka."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError

from holdfast.brokers import ConnectionLost, Message, open_broker
from holdfast.brokers.kafka import DEFAULTS, KafkaBroker, translate
from holdfast.errors import BrokerUnavailable, PoisonRecord

NOBODY = "kafka://127.0.0.1:1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no.such.option": "1"}, "no.such.option"),
        ({"compression.type": "rar"}, "rar"),
        ({"linger.ms": "soon"}, "linger.ms"),
        ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere.pem"}, "ssl.ca.location"),
        ({"client.id": "x", "security.protocol": "ssl", "linger.ms": "x"}, "option linger.ms:"),
        ({"enable.idempotence": "true", "max.in.flight": "9"}, "max.in.flight"),
        ({"acks": "1"}, "acks: it can only be all"),
        ({"bootstrap.servers": "elsewhere:9092"}, "bootstrap.servers: it is set by Holdfast"),
        ({"delivery.report.only.error": "true"}, "delivery.report.only.error: it can only be false"),
    ],
)
def test_an_option_that_cannot_work_is_a_fault(options: dict[str, str], message: str) -> None:
    """With librdkafka's own words, or because it would break the promise that captures arrive."""
    with pytest.raises(ValueError, match=message):
        open_broker(NOBODY, "t", options)


@pytest.mark.parametrize(
    "options",
    [
        {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"},
        {"compression.type": "zstd", "linger.ms": "100", "message.max.bytes": "1000000"},
        {"acks": "-1"},
        {"message.max.bytes": "5000"},
        {"enable.idempotence": "false"},
    ],
)
def test_any_option_of_librdkafka_can_be_set(options: dict[str, str]) -> None:
    """Over the defaults."""
    assert open_broker(NOBODY, "t", options).name == "kafka"


def test_the_defaults_are_for_at_least_once_in_order() -> None:
    """All replicas, no gaps, no giving up."""
    wanted = {"acks": "all", "enable.idempotence": True, "enable.gapless.guarantee": True, "message.timeout.ms": 0}
    assert wanted.items() <= DEFAULTS.items()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), PoisonRecord),
        (KafkaError(KafkaError.INVALID_RECORD), PoisonRecord),
        (KafkaError(KafkaError._MSG_TIMED_OUT), BrokerUnavailable),
        (KafkaError(KafkaError._PURGE_QUEUE), BrokerUnavailable),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), BrokerUnavailable),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), BrokerUnavailable),
        (KafkaError(KafkaError._FATAL), ConnectionLost),
        (KafkaError(KafkaError._GAPLESS_GUARANTEE), ConnectionLost),
        (KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "x", True), ConnectionLost),
    ],
)
def test_an_error_of_kafka_is_one_of_ours(error: KafkaError, kind: type[Exception]) -> None:
    """The record's fault, the producer's end, or a reason to try later."""
    assert type(translate(error)) is kind


def test_a_broker_that_is_not_there_is_no_error_before_it_answers() -> None:
    """Messages wait; health says where it was looked for; closing does not hang."""
    broker = open_broker(NOBODY, "t")
    broker.start()
    outcomes: list[Exception | None] = []
    broker.publish(Message("k", b"v"), outcomes.append)
    broker.poll(0.2)
    assert outcomes == []
    health = broker.health(0.3)
    assert not health.ok
    assert "127.0.0.1:1" in health.detail
    assert broker.flush(0.1) == 1
    began = time.monotonic()
    broker.close()
    assert time.monotonic() - began < 5
    assert [type(outcome) for outcome in outcomes] == [BrokerUnavailable]


def test_a_full_queue_means_later() -> None:
    """librdkafka's BufferError."""
    broker = open_broker(NOBODY, "t", {"queue.buffering.max.messages": "2"})
    broker.start()
    for _ in range(2):
        broker.publish(Message("k", b"v"), lambda _: None)
    with pytest.raises(BrokerUnavailable, match="does not keep up"):
        broker.publish(Message("k", b"v"), lambda _: None)
    broker.close()


def test_a_record_beyond_the_producers_own_bound_is_refused_at_once() -> None:
    """It would never get out."""
    broker = open_broker(NOBODY, "t", {"message.max.bytes": "10000", "batch.size": "10000"})
    broker.start()
    with pytest.raises(PoisonRecord, match="too large"):
        broker.publish(Message("k", b"x" * 20_000), lambda _: None)
    broker.close()


def test_publishing_before_the_start_is_a_lost_connection() -> None:
    """The relay then starts it."""
    with pytest.raises(ConnectionLost):
        open_broker(NOBODY, "t").publish(Message("k", b"v"), lambda _: None)


def test_secrets_are_not_shown() -> None:
    """A broker has no text form with its options in it."""
    broker = KafkaBroker("a:1", "t", {"sasl.password": "hunter2", "sasl.mechanism": "PLAIN"})
    assert "hunter2" not in repr(broker)
