"""The source under load and in trouble: a bounded buffer, a slow replayer, a backlog, a Kafka that is away."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid

import pytest

from holdfast.errors import BrokerUnavailable
from tests.integration.replay_kafka import (
    Engine,
    at,
    captures,
    committed,
    create,
    messages_in,
    number_of,
    numbers,
    produce,
    running,
    until,
)
from tests.services.kafka import KafkaServer


@pytest.fixture
def topic() -> str:
    return f"replay-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize(
    ("bound", "body"),
    [({"buffer_messages": 100}, ""), ({"buffer_bytes": 100_000}, "x" * 2_000)],
    ids=["count", "bytes"],
)
async def test_the_buffer_is_bounded_and_everything_gets_through(
    kafka_url: str, topic: str, bound: dict[str, int], body: str
) -> None:
    """1,500 captures through a buffer of a hundred messages, or bytes, in order; partitions are paused meanwhile."""
    create(kafka_url, topic, partitions=3)
    produce(kafka_url, topic, captures(range(1500), body=body))
    found: list[int] = []
    most = [0, 0]
    async with running(kafka_url, topic, **bound) as engine:
        await until(lambda: engine.source._first.held()[0] >= 30)
        await asyncio.sleep(0.5)  # it would overflow by now
        while len(found) < 1500:
            taken = await engine.take(1)
            taken += await engine.source.take(10)
            held = engine.source._first.held()
            most = [max(pair) for pair in zip(most, held, strict=True)]
            found += numbers(taken)
            await engine.source.settle(taken)
    for key in range(7):
        assert [each for each in found if each % 7 == key] == list(range(key, 1500, 7))
    assert most[0] <= bound.get("buffer_messages", 100)
    assert most[1] <= bound.get("buffer_bytes", 1_000_000) + len(captures([1], body=body)[0][1]) + 100
    assert committed_all(kafka_url, topic) == 1500


def committed_all(address: str, topic: str) -> int:
    return sum(max(0, each) for each in committed(address, topic, topic, 3))


async def test_a_replayer_that_settles_nothing_for_long_stays_a_member(
    kafka_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than max.poll.interval.ms, with a full buffer: nothing is lost, assigned anew or given twice."""
    caplog.set_level(logging.INFO, logger="holdfast.replay")
    create(kafka_url, topic, partitions=3)
    produce(kafka_url, topic, captures(range(1000)))
    async with running(kafka_url, topic, {"max.poll.interval.ms": "6000"}, buffer_messages=200) as engine:
        taken = await engine.take(150)
        began = time.monotonic()
        await engine.nothing(9.0)
        assert time.monotonic() - began > 8.0
        assert not any(each.is_lost for each in taken)
        await engine.source.settle(taken)
        while len(engine.taken) < 1000:
            await engine.source.settle(await engine.take(min(100, 1000 - len(engine.taken))))
        assert len(set(numbers(engine.taken))) == 1000
    events = [record.message for record in caplog.records if record.name.startswith("holdfast.replay")]
    assigned = [each for each in events if "partitions" in each].count("partitions assigned")
    assert assigned == 2, "once in each of the two groups"
    assert "partitions lost" not in events
    assert committed_all(kafka_url, topic) == 1000


@pytest.mark.timeout(180)
async def test_a_backlog_is_read_from_its_beginning_at_some_speed(
    kafka_url: str, topic: str, record_property: pytest.RecordProperty, capsys: pytest.CaptureFixture[str]
) -> None:
    """20,000 captures of 1 kB, taken and settled by an engine that does nothing else; the rate is shown."""
    create(kafka_url, topic, partitions=3)
    produce(kafka_url, topic, captures(range(20_000), body="x" * 600))
    async with running(kafka_url, topic) as engine:
        taken = await engine.take(1)
        began = time.monotonic()
        while len(taken) < 20_000:
            more = await engine.source.take(500)
            await engine.source.settle(more)
            taken += more
            if not more:
                await asyncio.sleep(0.002)
        took = time.monotonic() - began
        await engine.source.settle(taken[:1])
    rate = round(20_000 / took)
    record_property("captures_per_second", rate)
    with capsys.disabled():
        print(f" {rate} captures/s ", end="")
    assert len(set(numbers(taken))) == 20_000
    assert committed_all(kafka_url, topic) == 20_000
    assert rate > 500


async def test_lag_and_the_oldest_are_known(kafka_url: str, topic: str) -> None:
    """Of all partitions that are ours, those too that there was no room for yet."""
    create(kafka_url, topic, partitions=3)
    produce(kafka_url, topic, captures(range(500)))
    async with running(kafka_url, topic, retry_delays=(60.0,), buffer_messages=50) as engine:

        async def is_known() -> bool:
            health = await engine.source.health()
            return health.lag == 500 and health.oldest is not None

        await until(is_known)
    async with running(kafka_url, topic, retry_delays=(60.0,), buffer_messages=1000) as engine:
        taken = await engine.take(500)
        await engine.source.settle([each for each in taken if each.arrival and number_of(each.arrival.id) < 50])

        async def is_less() -> bool:
            health = await engine.source.health()
            return (health.lag, health.oldest) == (450, 1_700_000_050.0)

        await until(is_less)


@pytest.mark.timeout(240)
async def test_a_kafka_that_is_away_is_waited_for_but_not_at_the_end(own_kafka: KafkaServer, topic: str) -> None:
    """A start needs none, and health says so; a stop is prompt, and what it cannot commit is given again."""
    address = own_kafka.address
    create(address, topic)
    produce(address, topic, captures(range(10)))
    own_kafka.kill()
    async with running(address, topic) as engine:
        await until(lambda: "does not answer" in engine.source._readings[0].health.detail)
        assert (await engine.source.health()).ok is False
        own_kafka.start().wait_ready()
        taken = await engine.take(10, within=60)
        await until(lambda: engine.source._readings[0].health.ok)
        await engine.source.settle(taken[:4])
        await until(lambda: committed(address, topic, topic) == [4])
        own_kafka.kill()
        await engine.source.settle(taken[4:])
        began = time.monotonic()
    took = time.monotonic() - began
    print(f"stopped in {took:.1f} s")
    assert took < 15
    own_kafka.start().wait_ready()
    async with running(address, topic) as engine:
        assert numbers(await engine.take(6, within=60)) == [4, 5, 6, 7, 8, 9]


async def test_what_cannot_be_moved_stays_where_it_is(own_kafka: KafkaServer, topic: str) -> None:
    """Without an answer of Kafka nothing is settled, and health says why; afterwards it goes on."""
    create(own_kafka.address, topic)
    produce(own_kafka.address, topic, captures(range(2)))
    async with running(own_kafka.address, topic, {"message.timeout.ms": "1500"}, retry_delays=(1.0,)) as engine:
        one, other = await engine.take(2)
        await until(lambda: engine.source._readings[0].health.ok)
        own_kafka.pause()
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await engine.source.hand_on(one, f"{topic}.retry.1s", time.time(), ())
        with pytest.raises(BrokerUnavailable):
            await engine.source.bury(other, "status_404", ())
        assert time.monotonic() - began < 10
        assert at(one).share.offsets.open == 2
        health = await engine.source.health()
        assert not health.ok
        own_kafka.resume()
        await moved(engine, topic)
        again = await engine.take(1)
        assert numbers(again) == [0]
        assert again[0].place == f"{topic}.retry.1s"
    dead = messages_in(own_kafka.address, f"{topic}.dlq")
    assert dict(dead[-1].headers() or [])["holdfast-reason"] == b"status_404"
    assert committed(own_kafka.address, topic, topic) == [2]


async def moved(engine: Engine, topic: str) -> None:
    """Both, as soon as Kafka takes them."""
    one, other = engine.taken[:2]

    async def try_it() -> bool:
        try:
            await engine.source.hand_on(one, f"{topic}.retry.1s", time.time() + 0.5, ())
            await engine.source.bury(other, "status_404", ())
        except BrokerUnavailable:
            return False
        return True

    await until(try_it)
