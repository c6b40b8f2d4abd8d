"""What every broker must do: `embedded://`, `file://`, and a real Kafka where there is one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from holdfast.brokers import Broker, Message, open_broker
from holdfast.brokers.file import read_lines
from holdfast.errors import BrokerUnavailable

type Made = tuple[Broker, Callable[[int], list[Message]]]


@pytest.fixture(params=["file", "kafka"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A broker that publishes, and a way to read back so many messages of its topic."""
    topic = f"contract-{uuid.uuid4().hex}"
    if request.param == "file":
        return open_broker(f"file://{tmp_path}/", topic), lambda _: list(read_lines(tmp_path / f"{topic}.jsonl"))
    address = request.getfixturevalue("kafka_url")
    return open_broker(f"kafka://{address}", topic), lambda count: consume(address, topic, count)


@pytest.fixture(params=["embedded", "file", "kafka"])
def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    """Started or not, publishing or not."""
    address = request.getfixturevalue("kafka_url") if request.param == "kafka" else ""
    url = {"embedded": "embedded://", "file": f"file://{tmp_path}/a.jsonl", "kafka": f"kafka://{address}"}
    return open_broker(url[request.param], f"contract-{uuid.uuid4().hex}")


def consume(address: str, topic: str, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        for each in consumer.consume(count, timeout=1.0):
            headers = tuple((name, value) for name, value in each.headers() or [])
            found.append(Message((each.key() or b"").decode(), each.value() or b"", headers))  # type: ignore[arg-type]
    consumer.close()
    return found


class Reports:
    """The outcomes that a broker reports."""

    def __init__(self) -> None:
        self.outcomes: list[Exception | None] = []

    def __call__(self, error: Exception | None) -> None:
        self.outcomes.append(error)


def deliver(broker: Broker, *messages: Message) -> list[Exception | None]:
    reports = Reports()
    for message in messages:
        broker.publish(message, reports)
    deadline = time.monotonic() + 20
    while len(reports.outcomes) < len(messages) and time.monotonic() < deadline:
        broker.poll(0.1)
    return reports.outcomes


def test_what_is_published_can_be_read_back(made: Made) -> None:
    """Key, value and headers, whatever bytes the value is."""
    broker, read = made
    broker.start()
    messages = [
        Message(
            "/api/users", b'{"schema":1,"body":"\xc3\xa9"}', (("holdfast-id", b"1"), ("traceparent", b"00-1-1-00"))
        ),
        Message("/api/ключ", b"\x00\xff\n\r", (("content-type", b"application/json"),)),
        Message("", b"plain\ntext", ()),
        Message("k", b"", ()),
    ]
    assert deliver(broker, *messages) == [None] * 4
    broker.close()
    assert read(4) == messages


def test_messages_keep_their_order(made: Made) -> None:
    """Those with one key at least."""
    broker, read = made
    broker.start()
    messages = [Message("k", b"%d" % number) for number in range(300)]
    assert deliver(broker, *messages) == [None] * 300
    broker.close()
    assert [message.value for message in read(300)] == [message.value for message in messages]


def test_a_delivery_is_reported_only_from_within_poll_flush_or_close(made: Made) -> None:
    """The relay needs no locks."""
    broker, _ = made
    broker.start()
    reports = Reports()
    broker.publish(Message("k", b"v"), reports)
    assert reports.outcomes == []
    assert broker.flush(20) == 0
    assert reports.outcomes == [None]
    broker.close()


def test_every_message_is_reported_once(made: Made) -> None:
    """Also if the broker is closed before it had the time."""
    broker, _ = made
    broker.start()
    reports = Reports()
    for _ in range(20):
        broker.publish(Message("k", b"v"), reports)
    broker.close()
    assert len(reports.outcomes) == 20
    assert all(outcome is None or isinstance(outcome, BrokerUnavailable) for outcome in reports.outcomes)


def test_it_can_be_started_again(made: Made) -> None:
    """As the relay does after a failure; what was delivered before stays."""
    broker, read = made
    for number in range(2):
        broker.start()
        assert deliver(broker, Message("k", b"%d" % number)) == [None]
        broker.close()
        broker.close()
    assert [message.value for message in read(2)] == [b"0", b"1"]


def test_it_says_that_it_is_well(made: Made) -> None:
    """With a sentence for people."""
    broker, _ = made
    broker.start()
    assert deliver(broker, Message("k", b"v")) == [None]
    health = broker.health(10)
    assert health.ok, health.detail
    assert health.detail
    broker.close()


def test_it_says_what_it_is(any_broker: Broker) -> None:
    """Its scheme, that what it delivers is durable, and whether there is anything to publish."""
    assert any_broker.name in ("embedded", "file", "kafka")
    assert any_broker.durable
    assert any_broker.publishes is (any_broker.name != "embedded")


def test_health_never_raises(any_broker: Broker) -> None:
    """Not before the start, and not after the end."""
    assert any_broker.health(0.5).detail
    any_broker.start()
    any_broker.close()
    assert any_broker.health(0.5).detail


def test_what_publishes_nothing_says_so() -> None:
    """Rather than losing a message quietly."""
    broker = open_broker("embedded://", "t")
    broker.start()
    with pytest.raises(BrokerUnavailable, match="outbox"):
        broker.publish(Message("k", b"v"), Reports())
    broker.poll(0)
    assert broker.flush(0) == 0
    broker.close()
