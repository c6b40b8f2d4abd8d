"""Notices in a real Kafka: keyed by route, and not lost by a broker that is away for a moment."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, addon, profile, until
from tests.services.kafka import KafkaServer


class Reader:
    """Reads a topic from its beginning."""

    def __init__(self, address: str, topic: str) -> None:
        self.messages: list[Message] = []
        group = {"group.id": topic, "auto.offset.reset": "earliest", "allow.auto.create.topics": True}
        self._consumer = Consumer({"bootstrap.servers": address, **group, "log_level": 0})
        self._consumer.subscribe([topic])

    def has(self, number: int) -> bool:
        """Read on for a moment; whether there are so many."""
        self.messages += [each for each in self._consumer.consume(10, timeout=0.2) if each.error() is None]
        return len(self.messages) >= number

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


@pytest.fixture
def topic() -> str:
    return f"events-{uuid.uuid4().hex}"


@pytest.fixture
def reader(kafka_url: str, topic: str) -> Iterator[Reader]:
    made = Reader(kafka_url, topic)
    yield made
    made.close()


def notifying(upstream: str, address: str, topic: str, **settings: Any) -> dict[str, Any]:
    made = profile(upstream, upstream__retry={"attempts": 1})
    return addon(made, "notifier", kafka=f"kafka://{address}", topic=topic, **settings)


async def test_notices_are_published_in_order_under_the_route(
    tmp_path: Path, kafka_url: str, topic: str, reader: Reader
) -> None:
    """With what they are in a header."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=notifying(origin.url, kafka_url, topic)) as gateway,
    ):
        async with raw.RawClient(gateway.port) as client:
            async with origin.refusing():
                answer = await client.request("POST", "/api/users", body=b"{}")
            for _ in range(3):
                assert (await client.request("GET", "/api/users")).status == 200
        await until(lambda: reader.has(2), within=30, what="two messages")
    first, second = reader.messages
    assert (first.key(), second.key()) == (b"users", b"users")
    headers = dict(first.headers() or [])
    assert (headers["content-type"], headers["holdfast-event"]) == (b"application/json", b"holdfast.route.failing")
    document = json.loads(first.value() or b"")
    assert (document["type"], document["data"]["capture_ids"]) == ("holdfast.route.failing", [answer.capture_id])
    assert json.loads(second.value() or b"")["type"] == "holdfast.route.recovered"
    assert dict(second.headers() or [])["holdfast-id"] != headers["holdfast-id"]


@pytest.mark.timeout(180)
async def test_a_broker_that_is_away_is_tried_again(tmp_path: Path, own_kafka: KafkaServer, topic: str) -> None:
    """Frozen for the first try: health says so, requests go on, and the notice arrives once."""
    address = own_kafka.address
    made = notifying("http://127.0.0.1:9", address, topic, timeout="2s", repeat=["1s"] * 20)
    own_kafka.pause()
    try:
        async with Gateway(tmp_path, made=made) as gateway:
            async with raw.RawClient(gateway.port) as client:
                assert (await client.request("POST", "/api/users", body=b"{}")).status == 503
                await until(lambda: _failing(gateway), within=20, what="health to see it")
                own_kafka.resume()
                assert (await client.request("POST", "/api/users", body=b"{}")).status == 503
            await until(lambda: _sent(gateway), within=60, what="the notice to be sent")
    finally:
        own_kafka.resume()
    reader = Reader(address, topic)
    try:
        await until(lambda: reader.has(1), within=30, what="the message")
        assert not reader.has(2)
    finally:
        reader.close()


async def _failing(gateway: Gateway) -> bool:
    return bool((await gateway.admin("/health")).json()["notifier"]["status"] == "failing")


async def _sent(gateway: Gateway) -> bool:
    return (await gateway.metrics())["holdfast_notices_total", "outcome=sent", "type=failing"] == 1
