"""`holdfast consume` with a real Kafka: topics of retries, dead letters, duplicates, several consumers."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Consumer as Client
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from holdfast.policy.envelope import CapturedRequest, message_headers, to_json
from holdfast.policy.uuid7 import Uuid7Source
from tests.e2e.harness import Gateway, addon, profile, run_cli, until
from tests.e2e.replayed import Consumer, Origin

SESSION = 6.0  # seconds


@pytest.fixture
def topic() -> str:
    """Of the test's own."""
    return f"consumed-{uuid.uuid4()}"


def made_for(origin: Origin, kafka: str, topic: str, audit: str = "audit.db", **more: Any) -> dict[str, Any]:
    """A profile with short times whose captures go to this topic."""
    patient = {"upstream__response_timeout": "5s", "upstream__deadline": "8s"}
    made = profile(origin.url, upstream__retry={"attempts": 1}, **patient)
    rules = {
        "audit": audit,
        "attempts": 4,
        "schedule": {"delays": ["50ms"]},
        "kafka": {"retry_delays": ["1s", "2s"]},
        **more,
    }
    made["addons"].insert(3, {"replayer": rules})
    quick = {"session.timeout.ms": str(int(SESSION * 1000)), "heartbeat.interval.ms": "1000"}
    return addon(made, "failure_sink", broker=f"kafka://{kafka}", topic=topic, kafka=quick)


def create(kafka: str, topic: str, partitions: int) -> None:
    """A topic with so many partitions."""
    client = AdminClient({"bootstrap.servers": kafka})
    for done in client.create_topics([NewTopic(topic, partitions, 1)]).values():
        done.result(20)


class Topics:
    """Puts captures into a topic, as a gateway would, and reads others to their end."""

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._ids = Uuid7Source(time.time, secrets.token_bytes)
        self._producer = Producer({"bootstrap.servers": kafka, "log_level": 0, "linger.ms": 5})

    def captured(self, path: str, body: str = "x", age: float = 0.0) -> CapturedRequest:
        """A record of a POST."""
        return CapturedRequest(
            id=self._ids.next(),
            timestamp=time.time() - age,
            method="POST",
            uri=path,
            path=path,
            query_string="",
            headers={"content-type": "text/plain"},
            body=body,
            remote_addr="192.0.2.1",
            backend_url="http://192.0.2.9:1",
            error="connection_refused",
            error_reason="the upstream refused the connection",
            request_id=str(uuid.uuid4()),
            route="users",
        )

    def publish(self, topic: str, *records: CapturedRequest | bytes) -> None:
        """Returns once they are stored."""
        for each in records:
            if isinstance(each, bytes):
                self._producer.produce(topic, each, "junk")
            else:
                self._producer.produce(topic, to_json(each), each.path, headers=list(message_headers(each)))
        assert self._producer.flush(20) == 0

    def read(self, topic: str, most: int, within: float = 10.0) -> list[Message]:
        """The first messages of a topic."""
        client = Client(
            {
                "bootstrap.servers": self._kafka,
                "group.id": str(uuid.uuid4()),
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
        client.subscribe([topic])
        found: list[Message] = []
        try:
            for _ in range(int(within * 10)):
                found += [each for each in client.consume(most, timeout=0.1) if each.error() is None]
                if len(found) >= most:
                    break
        finally:
            client.close()
        return found


@pytest.fixture
def topics(kafka_url: str) -> Iterator[Topics]:
    """Of the shared broker."""
    return Topics(kafka_url)


async def test_a_request_that_fails_while_the_upstream_is_down_is_delivered_by_a_consumer(
    tmp_path: Path, kafka_url: str, topic: str
) -> None:
    """Gateway, outbox, Kafka, consumer, upstream; in order, and the command line says so."""
    async with Origin() as origin:
        await origin.stop()
        async with Gateway(tmp_path, origin.url, made=made_for(origin, kafka_url, topic)) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                answers = [await client.post("/api/users", content=f"body {n}".encode()) for n in range(5)]
            ids = [answer.headers["holdfast-capture-id"] for answer in answers]
            await origin.start()
            async with Consumer(gateway, tmp_path / "consumer") as consumer:
                await until(lambda: len(origin.replays()) == 5, within=30, what="all to be delivered")
                await until(consumer.replayed, within=10)
                assert await consumer.terminate() == 0
        assert [seen.capture_id for seen in origin.replays()] == ids
        assert [seen.body for seen in origin.replays()] == [f"body {n}".encode() for n in range(5)]
        assert {seen.headers["holdfast-replay"] for seen in origin.replays()} == {"1"}


async def test_poison_goes_to_the_dead_letters_and_stops_nothing(
    tmp_path: Path, kafka_url: str, topic: str, topics: Topics
) -> None:
    """No JSON, another schema, no capture at all: buried with the reason, the next one is delivered."""
    create(kafka_url, topic, 1)
    good = topics.captured("/api/good")
    newer = to_json(good).replace(b'"schema":1', b'"schema":99')
    topics.publish(topic, b"\xff\xfe no json", b'{"id": "1"}', newer, good)
    async with Origin() as origin:
        gateway = Gateway(tmp_path, origin.url, made=made_for(origin, kafka_url, topic))
        async with Consumer(gateway, tmp_path / "consumer"):
            await until(origin.replays, within=30, what="the good one to be delivered")
            buried = await asyncio.to_thread(topics.read, f"{topic}.dlq", 3)
    assert [message.value() for message in buried] == [b"\xff\xfe no json", b'{"id": "1"}', newer]
    for message in buried:
        headers = dict(message.headers() or [])
        assert headers["holdfast-reason"]
        assert headers["holdfast-topic"] == topic.encode()


async def test_what_the_upstream_refuses_for_good_is_a_dead_letter_with_its_last_answer(
    tmp_path: Path, kafka_url: str, topic: str, topics: Topics
) -> None:
    """A 422 is final: one attempt, the topic of dead letters, the audit store."""
    create(kafka_url, topic, 1)
    bad = topics.captured("/api/bad")
    topics.publish(topic, bad)
    async with Origin(lambda *_: 422) as origin:
        gateway = Gateway(tmp_path, origin.url, made=made_for(origin, kafka_url, topic))
        async with Consumer(gateway, tmp_path / "consumer") as consumer:
            await until(lambda: consumer.replayed("dead"), within=30, what="it to be dead")
            (letter,) = await asyncio.to_thread(topics.read, f"{topic}.dlq", 1)
    headers = dict(letter.headers() or [])
    assert (headers["holdfast-id"], headers["holdfast-reason"]) == (bad.id.encode(), b"status_422")
    assert headers["holdfast-attempts"] == b"1"
    answer = json.loads(headers["holdfast-answer"])
    assert (answer["server"], answer["status"], answer["body"]) == (origin.url, 422, "ok")
    assert len(origin.log) == 1


async def test_a_key_that_fails_waits_in_the_topics_of_retries_with_all_behind_it_and_others_go_on(
    tmp_path: Path, kafka_url: str, topic: str, topics: Topics
) -> None:
    """One partition; the failing key's records come back in their order, after the others have been delivered."""
    create(kafka_url, topic, 1)
    failing = [topics.captured("/api/failing", str(n)) for n in range(4)]
    others = [topics.captured(f"/api/other{n}") for n in range(6)]
    topics.publish(topic, *failing[:2], *others, *failing[2:])
    seen_others: list[int] = []

    def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> int:
        if target != "/api/failing":
            seen_others.append(1)
            return 200
        return 200 if (len(seen_others) == 6 and headers["holdfast-replay"] != "1") or body != b"0" else 500

    async with Origin(answer) as origin:
        made = made_for(origin, kafka_url, topic, hold="0s", schedule={"delays": ["900ms"]})
        gateway = Gateway(tmp_path, origin.url, made=made)
        async with Consumer(gateway, tmp_path / "consumer"):
            await until(lambda: len(origin.replays()) == 10, within=40, what="all to be delivered")
            waited = await asyncio.to_thread(topics.read, f"{topic}.retry.1s", 4)
    assert origin.by_key()["/api/failing"] == [record.id for record in failing]
    assert [seen.target for seen in origin.replays()[:6]] == [record.path for record in others]
    assert [dict(message.headers() or [])["holdfast-id"].decode() for message in waited] == [r.id for r in failing]


async def test_what_kafka_gives_twice_is_sent_once(tmp_path: Path, kafka_url: str, topic: str, topics: Topics) -> None:
    """The same record three times, the last one after the first was delivered."""
    create(kafka_url, topic, 1)
    record = topics.captured("/api/once")
    topics.publish(topic, record, record)
    async with Origin() as origin:
        gateway = Gateway(tmp_path, origin.url, made=made_for(origin, kafka_url, topic))
        async with Consumer(gateway, tmp_path / "consumer") as consumer:
            await until(consumer.replayed, within=30)
            last = topics.captured("/api/last")
            topics.publish(topic, record, last)
            await until(lambda: "/api/last" in origin.by_key(), within=20)
    assert [seen.capture_id for seen in origin.log] == [record.id, last.id]


async def test_what_is_too_old_is_not_sent(tmp_path: Path, kafka_url: str, topic: str, topics: Topics) -> None:
    """`expires_after`."""
    create(kafka_url, topic, 1)
    old, young = topics.captured("/api/old", age=3600), topics.captured("/api/young")
    topics.publish(topic, old, young)
    async with Origin() as origin:
        gateway = Gateway(tmp_path, origin.url, made=made_for(origin, kafka_url, topic, expires_after="30m"))
        async with Consumer(gateway, tmp_path / "consumer") as consumer:
            await until(lambda: consumer.replayed("dead"), within=30)
            await until(consumer.replayed, within=10)
            (letter,) = await asyncio.to_thread(topics.read, f"{topic}.dlq", 1)
    assert dict(letter.headers() or [])["holdfast-reason"] == b"expired"
    assert [seen.target for seen in origin.log] == ["/api/young"]


@pytest.mark.timeout(180)
async def test_three_consumers_share_the_work_and_take_over_from_one_that_is_killed(
    tmp_path: Path, kafka_url: str, postgres_url: str, topic: str, topics: Topics
) -> None:
    """Within the session timeout; each id once in the audit store, each key in its order."""
    create(kafka_url, topic, 6)
    database = f"consume_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {database}")
    audit = postgres_url.rsplit("/", 1)[0] + "/" + database
    records: list[CapturedRequest] = []

    async def all_have_replayed() -> bool:
        batch = [topics.captured(f"/api/{n}", "x") for n in range(12) for _ in range(3)]
        await asyncio.to_thread(topics.publish, topic, *batch)
        records.extend(batch)
        return all([await consumer.replayed() > 0 for consumer in consumers])

    async with Origin() as origin:
        made = made_for(origin, kafka_url, topic, audit=audit, concurrency=2)
        gateway = Gateway(tmp_path, origin.url, made=made)
        consumers = [Consumer(gateway, tmp_path / f"consumer{n}") for n in range(3)]
        async with consumers[0], consumers[1], consumers[2]:
            await until(all_have_replayed, within=60, every=0.5, what="all three to replay")
            await all_have_replayed()
            consumers[0].kill()
            within = SESSION + 30  # the session, the rebalance, and the rest of the work on a busy machine
            await until(lambda: len(_delivered(origin)) == len(records), within=within, what="a take-over")
            # A claim of the one that was killed may have to run out for what it had under way.
            await until(lambda: _all_settled(audit, len(records)), within=90, every=0.5, what="all to be settled")
    for key, ids in origin.by_key().items():
        assert list(dict.fromkeys(ids)) == [record.id for record in records if record.path == key]


def _delivered(origin: Origin) -> set[str]:
    return {seen.capture_id for seen in origin.replays()}


async def _all_settled(audit: str, count: int) -> bool:
    return await asyncio.to_thread(_settled, audit) == count


def _settled(audit: str) -> int:
    with psycopg.connect(audit) as db:
        row = db.execute("SELECT count(*), count(DISTINCT event_id) FROM processed_events").fetchone()
    assert row
    assert row[0] == row[1]
    return int(row[0])


async def test_a_profile_with_nothing_to_consume_is_refused(tmp_path: Path) -> None:
    """With status 2 and what to write instead."""
    for broker, addons, said in (
        ("file:///tmp/x.jsonl", ["replayer"], "file:// cannot be consumed"),
        ("embedded://", [], "has no replayer"),
    ):
        file = tmp_path / "profile.yaml"
        sink = {"failure_sink": {"broker": broker, "outbox": "o.db"}}
        file.write_text(
            json.dumps({"version": 1, "upstream": {"servers": ["http://127.0.0.1:9"]}, "addons": [*addons, sink]})
        )
        code, _, err = await run_cli("consume", "--profile", str(file), cwd=tmp_path)
        assert (code, said in err) == (2, True), err
