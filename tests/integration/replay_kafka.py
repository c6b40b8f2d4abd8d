"""Captures in a real Kafka, sources that take them, and a look behind the curtain."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from holdfast.policy.uuid7 import uuid7
from holdfast.replay.kafka import KafkaSource, KafkaSourceSettings
from holdfast.replay.kafka.buffer import Position, Share
from holdfast.replay.source import Taken

# A group is formed at once, and a missing topic is found soon.
QUICK = {
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "500",
    "topic.metadata.refresh.interval.ms": "1000",
    "reconnect.backoff.max.ms": "500",
}


def capture_id(number: int) -> str:
    """One for each number."""
    return uuid7(1_700_000_000_000 + number, number.to_bytes(10))


def number_of(identifier: str) -> int:
    """Of a `capture_id`."""
    return int(identifier.replace("-", "")[:12], 16) - 1_700_000_000_000


def capture(number: int, key: str, body: str = "") -> bytes:
    """A captured request as JSON."""
    return json.dumps(
        {
            "id": capture_id(number),
            "schema": 1,
            "timestamp": 1_700_000_000.0 + number,
            "method": "POST",
            "uri": key,
            "path": key,
            "query_string": "",
            "headers": {},
            "body": body,
            "remote_addr": "127.0.0.1",
            "backend_url": "http://127.0.0.1:1",
            "error": "connection_refused",
            "error_reason": "",
            "request_id": "",
            "route": "user",
        }
    ).encode()


def create(address: str, topic: str, partitions: int = 1, copies: int = 1, **config: str) -> None:
    """A topic; ready when this returns."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    made = admin.create_topics([NewTopic(topic, partitions, copies, config=config)], operation_timeout=10)
    made[topic].result(timeout=20)


def delete(address: str, topic: str) -> None:
    """Gone when this returns."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    admin.delete_topics([topic], operation_timeout=10)[topic].result(timeout=20)


def config_of(address: str, topic: str) -> dict[str, str]:
    """Its settings."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(timeout=20)
    return {name: entry.value for name, entry in found.items()}


def topic_of(address: str, topic: str) -> Any:
    """Its metadata."""
    return AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(topic, timeout=10).topics[topic]


def produce(
    address: str,
    topic: str,
    messages: Iterable[tuple[str | None, bytes | None]],
    headers: Sequence[tuple[str, bytes | None]] = (),
    **options: str,
) -> None:
    """(key, value) in this order; stored when this returns."""
    config = {"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
    producer = Producer({**config, **options})
    for key, value in messages:
        producer.produce(topic, value, key, headers=list(headers))
        producer.poll(0)
    assert producer.flush(30) == 0


def captures(numbers: Iterable[int], keys: int = 7, body: str = "") -> list[tuple[str, bytes]]:
    """Captures of these numbers, for a few keys in turn."""
    return [(f"/k/{number % keys}", capture(number, f"/k/{number % keys}", body)) for number in numbers]


def messages_in(address: str, topic: str) -> list[Message]:
    """All that the topic has, partition by partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": str(uuid.uuid4()), "enable.auto.commit": False})
    found: list[Message] = []
    for number in consumer.list_topics(topic, timeout=20).topics[topic].partitions:
        place = TopicPartition(topic, number, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=20)
        consumer.assign([place])
        while end and (not found or found[-1].partition() != number or (found[-1].offset() or 0) < end - 1):
            found += consumer.consume(500, timeout=0.5)
    consumer.close()
    return found


def shares(source: KafkaSource) -> list[Share]:
    """The partitions that are assigned to it, of all topics."""
    return [share for reading in source._readings for share in list(reading._shares.values())]


def retries_assigned(source: KafkaSource) -> bool:
    """Whether it has partitions of topics of retries, and of the first one."""
    return {share.is_retry for share in shares(source)} == {True, False}


def committed(address: str, group: str, topic: str, partitions: int = 1) -> list[int]:
    """The group's offset in each partition; -1001 where it has none. Retries are read by a group of their own.

    Not by the admin client, which ends the process if the group's coordinator has just started.
    """
    group = f"{group}-retries" if ".retry." in topic else group
    asker = Consumer({"bootstrap.servers": address, "group.id": group, "enable.auto.commit": False, "log_level": 0})
    found = asker.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=20)
    asker.close()
    assert not any(each.error for each in found)
    return [each.offset for each in sorted(found, key=lambda each: each.partition)]


async def until(
    condition: Callable[[], object | Awaitable[object]],
    within: float = 30.0,
    what: Callable[[], str] = lambda: "it did not come about in time",
) -> None:
    """Look again and again; `what` is asked when it has failed."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.02)


class Engine:
    """Takes what a source has, and keeps it."""

    def __init__(self, source: KafkaSource) -> None:
        self.source = source
        self.taken: list[Taken] = []
        self.wakes = 0

    def woken(self) -> None:
        self.wakes += 1

    async def take(self, count: int, within: float = 30.0) -> list[Taken]:
        """So many more."""
        found: list[Taken] = []

        async def enough() -> bool:
            found.extend(await self.source.take(count - len(found)))
            return len(found) >= count

        await until(enough, within, lambda: f"{count} messages, of which {len(found)} came")
        self.taken += found
        return found

    async def nothing(self, seconds: float) -> None:
        """That nothing comes can only be seen by waiting."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert await self.source.take(1) == []
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    address: str, topic: str, options: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[Engine]:
    """A source that has started, and is stopped in the end. The group is the topic's name, unless it is given."""
    chosen = KafkaSourceSettings(**{"group": topic, "retry_delays": (60.0,), **settings})
    engine = Engine(KafkaSource(address, topic, {**QUICK, **(options or {})}, chosen))
    await engine.source.start(engine.woken)
    try:
        yield engine
    finally:
        await engine.source.stop()


def at(taken: Taken) -> Position:
    """Where it is in Kafka."""
    assert isinstance(taken.position, Position)
    return taken.position


def numbers(taken: Iterable[Taken]) -> list[int]:
    """Of the captures."""
    return [number_of(each.arrival.id) for each in taken if each.arrival]
