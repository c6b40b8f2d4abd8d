"""Promise 1 to its end: what was promised reaches a real Kafka, whatever is killed in between."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from tests.e2e import raw
from tests.e2e.harness import Gateway, until
from tests.e2e.test_crash import Load, doomed

RUNS = 5


class Reader:
    """Reads a topic from its beginning, in a thread when asked to."""

    def __init__(self, address: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": f"reader-{uuid.uuid4()}",
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": True,
                "topic.metadata.refresh.interval.ms": 500,
                "log_level": 0,
            }
        )
        self._consumer.subscribe([topic])
        self.messages: list[Message] = []

    async def holds(self, ids: Iterable[str]) -> bool:
        """Read on for a moment; whether every one of these has been seen."""
        await asyncio.to_thread(self._read)
        return set(ids) <= {self.id_of(message) for message in self.messages}

    def _read(self) -> None:
        for message in self._consumer.consume(500, timeout=0.5):
            error = message.error()
            if error is None:
                self.messages.append(message)
            elif error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise RuntimeError(str(error))

    @staticmethod
    def id_of(message: Message) -> str:
        """The id in the message's header."""
        return dict(message.headers() or [])["holdfast-id"].decode()

    def envelopes(self) -> dict[str, dict[str, Any]]:
        """The last message of each id."""
        return {self.id_of(message): json.loads(message.value() or b"") for message in self.messages}

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


@pytest.mark.timeout(240)
async def test_everything_promised_reaches_the_topic_after_a_restart(tmp_path: Path, kafka_url: str, seed: int) -> None:
    """Killed at random moments while it captures and relays; then started once more and left in peace."""
    dice = random.Random(seed)
    topic = f"crash-{uuid.uuid4()}"
    promised: dict[str, bytes] = {}
    made = doomed("outbox.db", broker=f"kafka://{kafka_url}", topic=topic)
    for _ in range(RUNS):
        async with Gateway(tmp_path, made=made) as gateway:
            load = Load(gateway.port, dice)
            await load.run(dice.uniform(0.05, 1.2))
            gateway.kill()
            await load.drain()
            promised |= load.promised
    reader = Reader(kafka_url, topic)
    try:
        async with Gateway(tmp_path, made=made) as gateway:
            await until(lambda: reader.holds(promised), within=60, what=f"{len(promised)} ids, seed {seed}")
            # An id is published with one content only, however often.
            by_id: dict[str, set[bytes]] = {}
            for message in reader.messages:
                by_id.setdefault(reader.id_of(message), set()).add(message.value() or b"")
            assert all(len(values) == 1 for values in by_id.values())
            await until(lambda: _none_pending(gateway), within=30, what="an empty outbox")
    finally:
        reader.close()
    envelopes = reader.envelopes()
    assert all(envelopes[identifier]["id"] == identifier for identifier in promised)
    damaged = [i for i, body in promised.items() if raw.body_of(envelopes[i]) != body]
    assert not damaged, f"seed {seed}: bodies differ: {damaged[:3]}"


async def _none_pending(gateway: Gateway) -> bool:
    return not (await gateway.admin("/captures?state=pending")).json()["captures"]


async def test_a_message_is_what_the_contract_says(tmp_path: Path, kafka_url: str) -> None:
    """Key, headers and every field of the value."""
    topic = f"contract-{uuid.uuid4()}"
    made = doomed("outbox.db", broker=f"kafka://{kafka_url}", topic=topic)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    reader = Reader(kafka_url, topic)
    try:
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            headers = [
                ("X-Request-ID", "r-1"),
                ("Traceparent", trace),
                ("Idempotency-Key", "k"),
                ("A", "1"),
                ("A", "2"),
            ]
            answer = await client.request("POST", "/api/users/7?x=%20", headers, b'{"n":1}')
            identifier = answer.capture_id or ""
            await until(lambda: reader.holds([identifier]), within=30, what="the message")
    finally:
        reader.close()
    (message,) = reader.messages
    assert message.key() == b"/api/users/7"
    held = {name: value.decode() for name, value in message.headers() or []}
    assert held["holdfast-id"] == identifier
    assert held["traceparent"] == trace
    assert held["content-type"].startswith("application/json")
    value = reader.envelopes()[identifier]
    assert held["holdfast-schema"] == str(value["schema"])
    expected = {
        "id": identifier,
        "method": "POST",
        "uri": "/api/users/7?x=%20",
        "path": "/api/users/7",
        "query_string": "x=%20",
        "body": '{"n":1}',
        "body_encoding": "utf-8",
        "body_truncated": False,
        "remote_addr": "127.0.0.1",
        "error": "connection_refused",
        "route": "user",
        "request_id": "r-1",
        "idempotency_key": "k",
        "response": None,
    }
    assert {key: value[key] for key in expected} == expected
    assert value["backend_url"].startswith("http://127.0.0.1:")
    assert value["error_reason"]
    assert isinstance(value["timestamp"], float)
    assert {"attempts", "duration_ms", "redacted", "headers"} <= value.keys()
    assert value["headers"]["x-request-id"] == "r-1"
