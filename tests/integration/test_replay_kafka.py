"""Captures taken from a real Kafka: what is settled is never given again, and what is not always is."""

from __future__ import annotations

import asyncio
import random
import time
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from holdfast.errors import BrokerUnavailable
from holdfast.replay.kafka import publish
from tests.integration.replay_kafka import (
    at,
    capture,
    capture_id,
    captures,
    committed,
    config_of,
    create,
    delete,
    messages_in,
    number_of,
    numbers,
    produce,
    retries_assigned,
    running,
    shares,
    topic_of,
    until,
)

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def topic() -> str:
    return f"replay-{uuid.uuid4().hex[:12]}"


async def test_a_message_is_what_was_published(kafka_url: str, topic: str) -> None:
    """The capture, its key, value and header; and the engine is woken for it."""
    create(kafka_url, topic)
    headers = [("holdfast-id", capture_id(4).encode()), ("traceparent", TRACE), ("holdfast-redrive", b"2"), ("x", None)]
    produce(kafka_url, topic, [("/k/1", capture(4, "/k/1"))], headers)
    async with running(kafka_url, topic) as engine:
        (taken,) = await engine.take(1)
        assert engine.wakes
        assert taken.arrival
        assert (taken.arrival.id, taken.arrival.key, taken.arrival.redrive) == (capture_id(4), "/k/1", 2)
        assert taken.arrival.traceparent == TRACE.decode()
        assert (taken.size, taken.poison, taken.due, taken.place) == (len(capture(4, "/k/1")), "", 0.0, "")
        value, found = await engine.source.value(taken)
        assert value == capture(4, "/k/1")
        assert found == tuple((name, each or b"") for name, each in headers)


async def test_what_is_settled_is_not_given_again_and_what_is_not_is(kafka_url: str, topic: str) -> None:
    """Whatever the order: only what has nothing open before it is committed."""
    create(kafka_url, topic)
    produce(kafka_url, topic, captures(range(100)))
    async with running(kafka_url, topic) as engine:
        taken = await engine.take(100)
        assert numbers(taken) == list(range(100))
        await engine.source.settle([*taken[50:90], *reversed(taken[:30])])
        await until(lambda: committed(kafka_url, topic, topic) == [30])
        await engine.source.settle(taken[31:50])
    assert committed(kafka_url, topic, topic) == [30]
    async with running(kafka_url, topic) as engine:
        taken = await engine.take(70)
        assert numbers(taken) == list(range(30, 100))
        await engine.source.settle(taken)
    assert committed(kafka_url, topic, topic) == [100], "stop commits what was settled just before"
    async with running(kafka_url, topic) as engine:
        produce(kafka_url, topic, captures([100]))
        assert numbers(await engine.take(1)) == [100]


async def test_settled_in_any_order_nothing_is_lost_over_many_restarts(kafka_url: str, topic: str, seed: int) -> None:
    """Each time some are settled; the lowest that was not is the first of its partition the next time."""
    dice = random.Random(seed)
    create(kafka_url, topic, partitions=3)
    produce(kafka_url, topic, captures(range(300)))
    settled: set[int] = set()

    def rest() -> int:
        return 300 - sum(max(0, each) for each in committed(kafka_url, topic, topic, 3))

    for _ in range(5):
        async with running(kafka_url, topic) as engine:
            taken = await engine.take(rest())
            chosen = dice.sample(taken, dice.randrange(len(taken)))
            await engine.source.settle(chosen)
            settled |= set(numbers(chosen))
            lowest: dict[int, int] = {}
            for each in taken:
                if each not in chosen:
                    place = at(each).share.partition
                    lowest[place] = min(at(each).offset, lowest.get(place, at(each).offset))
        found = committed(kafka_url, topic, topic, 3)
        assert {place: max(found[place], 0) for place in lowest} == lowest
    async with running(kafka_url, topic) as engine:
        assert settled | set(numbers(await engine.take(rest()))) == set(range(300))


async def test_what_is_no_capture_comes_as_poison_and_is_buried_as_it_was(kafka_url: str, topic: str) -> None:
    """Value, key and header to the byte, with the reason and the place that it came from."""
    create(kafka_url, topic, partitions=2)
    headers = [("a", b"1"), ("b", None), ("holdfast-due", b"5")]
    odd = [("k", b"\xff not json"), (None, None), ("k", capture(1, "/k") + b"}")]
    produce(kafka_url, topic, odd, headers)
    async with running(kafka_url, topic) as engine:
        for taken in await engine.take(3):
            assert taken.arrival is None
            assert "not JSON" in taken.poison
            await engine.source.bury(taken, taken.poison, (("holdfast-error", b"e"), ("a", b"2")))
        dead = engine.source.dead_letters
    found = messages_in(kafka_url, dead)
    assert {(each.key(), each.value()) for each in found} == {
        (key.encode() if key else None, value) for key, value in odd
    }
    for each in found:
        held = each.headers() or []
        assert held[0] == ("b", None)
        by_name = dict(held)
        assert by_name["holdfast-topic"] == topic.encode()
        assert b"not JSON" in (by_name["holdfast-reason"] or b"")
        assert {"holdfast-partition", "holdfast-offset", "holdfast-error"} <= by_name.keys()
        assert (by_name["a"], len(held), "holdfast-due" in by_name) == (b"2", 7, False)
        if each.key():
            assert each.partition() == int(by_name["holdfast-partition"] or b"-1"), "a key has its partition"
    assert sum(max(0, each) for each in committed(kafka_url, topic, topic, 2)) == 3


async def test_a_retry_comes_back_when_it_is_due_with_its_key_and_header(kafka_url: str, topic: str) -> None:
    """Not before; and then it says where it was."""
    create(kafka_url, topic, partitions=4)
    produce(kafka_url, topic, captures(range(20)), [("x", b"1"), ("holdfast-due", b"1"), ("try", b"0")])
    async with running(kafka_url, topic, retry_delays=(2.0, 60.0)) as engine:
        place, due = f"{topic}.retry.2s", time.time() + 2.0
        assert engine.source.places == ((place, 2.0), (f"{topic}.retry.1m", 60.0))
        first = await engine.take(20)
        before = {number_of(each.arrival.id): at(each) for each in first if each.arrival}
        for each in first:
            assert each.due == 0.0
            await engine.source.hand_on(each, place, due, (("try", b"1"),))
        again = await engine.take(20)
        assert time.time() >= due
        for each in again:
            assert each.arrival
            was = before[number_of(each.arrival.id)]
            assert (each.place, at(each).key, at(each).share.partition) == (place, was.key, was.share.partition)
            assert each.due == pytest.approx(due, abs=0.001)
            held = dict((await engine.source.value(each))[1])
            assert (held["x"], held["try"], float(held["holdfast-due"])) == (b"1", b"1", each.due)
        for key in range(7):
            assert [each for each in numbers(again) if each % 7 == key] == list(range(key, 20, 7))
        await engine.source.settle(again)
        await engine.nothing(0.5)
    for name in (place, topic):
        assert sum(max(0, each) for each in committed(kafka_url, topic, name, 4)) == 20


async def test_a_retry_that_is_not_due_stops_only_its_own_partition(kafka_url: str, topic: str) -> None:
    """Not the other partitions, nor those behind it for longer than itself."""
    create(kafka_url, topic, partitions=2)
    place = f"{topic}.retry.30s"
    async with running(kafka_url, topic, retry_delays=(30.0,)) as engine:
        await until(lambda: retries_assigned(engine.source))
        late = time.time() + 4.0
        for partition, due, number in ((0, late, 1), (0, 0.0, 2), (1, 0.0, 3), (1, late, 4), (1, 0.0, 5)):
            producer = Producer({"bootstrap.servers": kafka_url})
            header = [("holdfast-due", f"{due:.3f}".encode())]
            producer.produce(place, capture(number, "/k"), "/k", partition=partition, headers=header)
            assert producer.flush(10) == 0
        assert numbers(await engine.take(1)) == [3]
        produce(kafka_url, topic, captures([9]))
        assert numbers(await engine.take(1)) == [9]
        assert time.time() < late
        await until(lambda: engine.source._readings[1].health.oldest is not None)
        rest = await engine.take(4)
        assert time.time() >= late
        assert sorted(numbers(rest)) == [1, 2, 4, 5]
        for pair in ([1, 2], [4, 5]):
            assert [each for each in numbers(rest) if each in pair] == pair


async def test_a_due_far_away_stops_a_partition_for_twice_its_delay_only(kafka_url: str, topic: str) -> None:
    """It is given then, with the time that it says."""
    create(kafka_url, topic)
    async with running(kafka_url, topic, retry_delays=(1.0,)) as engine:
        await until(lambda: retries_assigned(engine.source))
        began = time.time()
        produce(kafka_url, f"{topic}.retry.1s", captures([1]), [("holdfast-due", b"99999999999")])
        (taken,) = await engine.take(1)
        assert 2.0 <= time.time() - began < 5.0
        assert taken.due == 99_999_999_999.0


async def test_a_transactions_markers_and_what_was_aborted_are_passed(kafka_url: str, topic: str) -> None:
    """They are never given, and hold up no commit: nothing is left to read."""
    create(kafka_url, topic)
    producer = Producer({"bootstrap.servers": kafka_url, "transactional.id": topic})
    producer.init_transactions(20)
    for first in (0, 10, 20):
        producer.begin_transaction()
        for key, value in captures(range(first, first + 10)):
            producer.produce(topic, value, key)
        producer.flush()
        if first == 10:
            producer.abort_transaction(20)
        else:
            producer.commit_transaction(20)
    async with running(kafka_url, topic) as engine:
        taken = await engine.take(20)
        assert numbers(taken) == [*range(10), *range(20, 30)]
        await engine.source.settle(taken)
        await until(lambda: committed(kafka_url, topic, topic) == [33])

        async def is_empty() -> bool:
            return (await engine.source.health()).lag == 0

        await until(is_empty)


async def test_topics_are_created_like_the_first(kafka_url: str, topic: str) -> None:
    """As many partitions, room and time for what was stored there; dead letters stay for good."""
    create(kafka_url, topic, partitions=3, **{"max.message.bytes": "2000000", "retention.ms": "86400000"})
    async with running(kafka_url, topic, retry_delays=(1.0, 60.0), dead_letters=f"{topic}.dead") as engine:

        async def is_well() -> bool:
            health = await engine.source.health()
            expected = f"3 partitions of group {topic}; 6 partitions of group {topic}-retries"
            return health.ok and health.detail == expected

        await until(is_well)
    for name, kept in (("retry.1s", "86402000"), ("retry.1m", "86520000"), ("dead", "-1")):
        assert len(topic_of(kafka_url, f"{topic}.{name}").partitions) == 3
        config = config_of(kafka_url, f"{topic}.{name}")
        assert (config["max.message.bytes"], config["cleanup.policy"]) == ("2065536", "delete")
        assert config["retention.ms"] == kept, "as long as in the first, from when it is due"


async def test_topics_that_are_missing_or_differ_are_named(kafka_url: str, topic: str) -> None:
    """Where they are not to be created, and reading goes on without them."""
    create(kafka_url, topic, partitions=3)
    create(kafka_url, f"{topic}.retry.1s", partitions=2)
    produce(kafka_url, topic, captures(range(3)))
    options = {"topic.metadata.propagation.max.ms": "500"}
    async with running(kafka_url, topic, options, create_topics=False, retry_delays=(1.0, 60.0)) as engine:
        assert len(await engine.take(3)) == 3
        health = await engine.source.health()
        await until(lambda: "no topic" in engine.source._readings[0].health.detail)
        health = await engine.source.health()
        assert not health.ok
        assert f"Kafka has no topic {topic}.retry.1m, {topic}.dlq: create each with 3 partitions" in health.detail
        assert f"topic {topic}.retry.1s has 2 partitions and {topic} has 3" in health.detail
        with pytest.raises(BrokerUnavailable):
            await engine.source.bury(engine.taken[0], "r", ())
    assert f"{topic}.dlq" not in AdminClient({"bootstrap.servers": kafka_url}).list_topics(timeout=10).topics


async def test_the_first_topic_is_waited_for(kafka_url: str, topic: str) -> None:
    """Health says what to do meanwhile."""
    async with running(kafka_url, topic) as engine:
        await until(lambda: f"no topic '{topic}'" in engine.source._readings[0].health.detail)
        assert not (await engine.source.health()).ok
        create(kafka_url, topic)
        produce(kafka_url, topic, captures([1]))
        assert numbers(await engine.take(1)) == [1]


async def test_a_topic_that_is_made_anew_is_read_from_its_beginning(kafka_url: str, topic: str) -> None:
    """Its offsets go back, and so do commits; what was held of the former is lost."""
    create(kafka_url, topic)
    produce(kafka_url, topic, captures(range(20)))
    async with running(kafka_url, topic) as engine:
        old = await engine.take(20)
        await engine.source.settle(old[:10])
        await until(lambda: committed(kafka_url, topic, topic) == [10])
        delete(kafka_url, topic)
        await asyncio.sleep(1.0)
        create(kafka_url, topic)
        produce(kafka_url, topic, captures(range(100, 105)))
        new = await engine.take(5, within=60)
        assert numbers(new) == list(range(100, 105))
        assert all(each.is_lost for each in old[10:])
        await engine.source.settle([*old, *new])
        await until(lambda: committed(kafka_url, topic, topic) == [5])


async def test_publish_stores_all_in_their_order(kafka_url: str, topic: str) -> None:
    """For the command line; a topic that is missing is a reason."""
    create(kafka_url, topic, partitions=2)
    messages = [(f"k{number % 2}", b"%d" % number, (("holdfast-redrive", b"1"),)) for number in range(500)]
    await asyncio.to_thread(publish, kafka_url, topic, {}, messages)
    found = messages_in(kafka_url, topic)
    assert len(found) == 500
    for key in (b"k0", b"k1"):
        values = [int(each.value() or b"") for each in found if each.key() == key]
        assert values == sorted(values)
    assert all(each.headers() == [("holdfast-redrive", b"1")] for each in found)
    with pytest.raises(BrokerUnavailable, match="0 of 1 messages are stored"):
        await asyncio.to_thread(publish, kafka_url, f"{topic}.missing", {}, messages[:1], 1.0)


async def test_a_retry_that_waits_is_not_passed_over_in_a_rebalance(kafka_url: str, topic: str) -> None:
    """Librdkafka stops and starts every partition then, those that stand still too."""
    create(kafka_url, topic, partitions=4)
    place = f"{topic}.retry.30s"
    async with running(kafka_url, topic, retry_delays=(30.0,)) as one:
        await until(lambda: len(shares(one.source)) == 8)
        due = time.time() + 8.0
        header = [("holdfast-due", f"{due:.3f}".encode())]
        await asyncio.to_thread(produce, kafka_url, place, captures(range(80), keys=40), header)
        waiting = [share for share in shares(one.source) if share.is_retry]
        await until(lambda: all(share.waits_for == 0 for share in waiting))
        async with running(kafka_url, topic, retry_delays=(30.0,)) as other:
            await until(lambda: len(shares(other.source)) == 4)
            assert time.time() < due
            found: list[int] = []
            while len(found) < 80:
                for engine in (one, other):
                    taken = await engine.source.take(10)
                    assert not taken or time.time() >= due
                    found += numbers(taken)
                await asyncio.sleep(0.01)
            assert sorted(found) == list(range(80))
            for key in range(40):
                assert [each for each in found if each % 40 == key] == [key, key + 40]
            await one.nothing(0.5)
            await other.nothing(0.5)
