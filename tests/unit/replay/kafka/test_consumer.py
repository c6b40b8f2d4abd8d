"""The thread that reads, turn by turn, over a Kafka of a few lists: what it gives, holds back, pauses and seeks."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from holdfast.policy.uuid7 import uuid7
from holdfast.replay.kafka.buffer import Buffer, Position
from holdfast.replay.kafka.consumer import Reading
from holdfast.replay.kafka.options import KafkaSourceSettings, configs
from holdfast.replay.kafka.topics import name_topics
from holdfast.replay.source import Taken

RETRY = "t.retry.10s"


class FakeMessage:
    """One of a log; or, with an error, the end of it."""

    def __init__(self, place: tuple[str, int], offset: int, due: float = 0.0, error: KafkaError | None = None) -> None:
        self._place, self._offset, self._error = place, offset, error
        self._headers = [("holdfast-due", f"{due:.3f}".encode())] if due else []

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"no capture"

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers


class FakeConsumer:
    """Gives each partition in its order, the partitions in turn, and the end of each when it is reached."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.logs: dict[tuple[str, int], list[FakeMessage]] = {}
        self.at: dict[tuple[str, int], int] = {}
        self.ended: set[tuple[str, int]] = set()
        self.paused: set[tuple[str, int]] = set()
        self.committed: dict[tuple[str, int], int] = {}
        self.dice = random.Random(1)

    def fill(self, place: tuple[str, int], dues: list[float], step: int = 1) -> None:
        self.logs[place] = [FakeMessage(place, number * step, due) for number, due in enumerate(dues)]
        self.at[place] = 0

    def poll(self, timeout: float) -> FakeMessage | None:
        places = [place for place in self.logs if place not in self.paused]
        self.dice.shuffle(places)
        for place in places:
            rest = [each for each in self.logs[place] if each.offset() >= self.at[place]]
            if rest:
                self.at[place] = rest[0].offset() + 1
                return rest[0]
            if place not in self.ended:
                self.ended.add(place)
                return FakeMessage(place, self.at[place], error=KafkaError(KafkaError._PARTITION_EOF))
        self.now += timeout
        return None

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused |= {(each.topic, each.partition) for each in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused -= {(each.topic, each.partition) for each in places}

    def seek(self, place: TopicPartition) -> None:
        self.at[place.topic, place.partition] = place.offset
        self.ended.discard((place.topic, place.partition))

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        for each in offsets:
            assert each.offset > self.committed.get((each.topic, each.partition), -1), "a commit went back"
            self.committed[each.topic, each.partition] = each.offset
        return offsets

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        """Nothing to do: the logs are there."""

    incremental_unassign = incremental_assign


class Scene:
    """A reader that has been assigned what the consumer has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, messages: int = 1000) -> None:
        self.consumer: Any = FakeConsumer()
        monkeypatch.setattr("holdfast.replay.kafka.consumer._GRACE", 0.0)
        monkeypatch.setattr("holdfast.replay.kafka.consumer._POLL", 0.01)
        monkeypatch.setattr("holdfast.replay.kafka.consumer._SETTLING", 0.0)
        settings = KafkaSourceSettings(retry_delays=(10.0,))
        self.buffer = Buffer(messages, 1 << 20)
        found = configs("a:1", "t", {}, settings)
        topics, both = name_topics("t", (10.0,)), ["t", "t.retry.10s"]
        self.reading = Reading(found, topics, both, self.buffer, create=False, clock=lambda: self.consumer.now)

    def assign(self) -> None:
        class Watched:
            def ask_soon(self) -> None:
                """It is not asked at all."""

        watch: Any = Watched()
        self.reading._on_assign(self.consumer, [TopicPartition(*place) for place in self.consumer.logs], watch)

    def turn(self, times: int = 1) -> list[Taken]:
        for _ in range(times):
            self.reading._turn(self.consumer)
            self.reading._commits._due = 0.0
            if self.reading._commits._asked:
                asked = [TopicPartition(*share.key, offset) for share, offset in self.reading._commits._asked]
                self.reading._commits.on_commit(None, asked)
        return self.buffer.take(10_000)


def places(taken: list[Taken]) -> list[tuple[str, int, int]]:
    found = [each.position for each in taken if isinstance(each.position, Position)]
    return [(each.share.topic, each.share.partition, each.offset) for each in found]


def settle(scene: Scene, taken: list[Taken]) -> None:
    scene.buffer.settle(each.position for each in taken if isinstance(each.position, Position))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_what_is_not_due_is_given_when_it_is(scene: Scene) -> None:
    """Its partition stands still until then, and no other."""
    scene.consumer.fill((RETRY, 0), [1005.0, 0.0])
    scene.consumer.fill((RETRY, 1), [0.0])
    scene.assign()
    assert places(scene.turn(3)) == [(RETRY, 1, 0)]
    assert scene.consumer.paused == {(RETRY, 0)}
    scene.consumer.now = 1005.0
    assert places(scene.turn(3)) == [(RETRY, 0, 0), (RETRY, 0, 1)]
    assert scene.consumer.paused == set()


def test_what_waits_is_not_passed_over_even_if_the_library_does(scene: Scene) -> None:
    """The next commit would be behind it, and it would be lost."""
    scene.consumer.fill((RETRY, 0), [1005.0, 0.0, 0.0])
    scene.assign()
    assert scene.turn(3) == []
    scene.consumer.now = 1006.0
    scene.consumer.at[RETRY, 0] = 1
    assert places(scene.turn(5)) == [(RETRY, 0, 0), (RETRY, 0, 1), (RETRY, 0, 2)]


def test_an_end_that_comes_before_what_waits_does_not_pass_it_over(scene: Scene) -> None:
    """As if the library went on behind the last message."""
    scene.consumer.fill((RETRY, 0), [1005.0])
    scene.assign()
    assert scene.turn(3) == []
    scene.consumer.now = 1006.0
    scene.consumer.at[RETRY, 0] = 1
    assert places(scene.turn(5)) == [(RETRY, 0, 0)]


def test_what_waited_and_is_there_no_more_holds_up_nothing(scene: Scene) -> None:
    """The topic's retention may have taken it."""
    scene.consumer.fill((RETRY, 0), [1005.0, 0.0])
    scene.assign()
    assert scene.turn(3) == []
    del scene.consumer.logs[RETRY, 0][0]
    scene.consumer.now = 1006.0
    assert places(scene.turn(5)) == [(RETRY, 0, 1)]


def test_offsets_that_go_back_begin_anew(scene: Scene) -> None:
    """The topic was made anew: what was held of the former is lost."""
    scene.consumer.fill(("t", 0), [0.0] * 5)
    scene.assign()
    old = scene.turn(3)
    scene.consumer.at["t", 0] = 0
    new = scene.turn(3)
    assert places(new) == [("t", 0, number) for number in range(5)]
    assert all(each.is_lost for each in old)
    settle(scene, [*old, *new])
    scene.turn()
    assert scene.consumer.committed == {("t", 0): 5}


def test_a_partition_that_is_given_back_and_comes_again_is_not_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library keeps a pause over that, and nobody would end it."""
    scene = Scene(monkeypatch, messages=8)
    scene.consumer.fill(("t", 0), [0.0] * 20)
    scene.assign()
    taken = scene.turn(3)
    assert scene.consumer.paused == {("t", 0)}
    settle(scene, taken[:2])
    scene.reading._on_revoke(scene.consumer, [TopicPartition("t", 0)])
    assert (scene.consumer.paused, scene.consumer.committed) == (set(), {("t", 0): 2})
    assert all(each.is_lost for each in taken[2:])
    assert scene.buffer.held() == (0, 0)
    scene.consumer.at["t", 0] = 2
    scene.assign()
    assert places(scene.turn(3))[0] == ("t", 0, 2)


def test_what_is_on_its_way_is_settled_before_its_partition_is_given_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever is next does not get it again; what was read and not taken is theirs."""
    monkeypatch.setattr("holdfast.replay.kafka.consumer._SETTLING", 30.0)
    scene.consumer.fill(("t", 0), [0.0] * 9)
    scene.consumer.fill(("t", 1), [0.0] * 9)
    scene.assign()
    taken = scene.turn(3)
    scene.consumer.logs["t", 0] += [FakeMessage(("t", 0), number) for number in range(9, 20)]
    scene.reading._turn(scene.consumer)
    ours = [place for place in places(taken) if place[1] == 0]
    delivering = threading.Timer(0.1, lambda: settle(scene, taken))
    delivering.start()
    scene.reading._on_revoke(scene.consumer, [TopicPartition("t", 0)])
    delivering.join()
    assert scene.consumer.committed["t", 0] == len(ours) == 9
    assert scene.buffer.take(100) == []
    assert scene.buffer.held() == (0, 0)


def test_everything_is_given_once_in_order_in_time_and_committed_in_the_end(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Small buffers, random settling and dues, gaps, and a library that now and then passes over what stands still."""
    dice = random.Random(seed)
    for _ in range(20):
        scene = Scene(monkeypatch, messages=dice.choice((4, 16, 100)))
        consumer = scene.consumer
        consumer.dice = dice
        for number in range(3):
            consumer.fill(("t", number), [0.0] * dice.randrange(40), step=dice.choice((1, 3)))
            dues = [1000.0 + dice.choice((0, 0, 0, 1, 3, 19)) for _ in range(dice.randrange(40))]
            consumer.fill((RETRY, number), dues, step=dice.choice((1, 3)))
        scene.assign()
        given = all_given(scene, dice)
        for place, log in consumer.logs.items():
            assert [offset for *where, offset in given if tuple(where) == place] == [each.offset() for each in log]
            assert not log or consumer.committed[place] == consumer.at[place]
        assert consumer.paused == set()
        assert scene.buffer.held() == (0, 0)


def all_given(scene: Scene, dice: random.Random) -> list[tuple[str, int, int]]:
    """Until all is settled; a failure if that takes too long."""
    consumer, held, given = scene.consumer, [], []
    for _ in range(3000):
        taken = scene.turn()
        assert all(each.due <= consumer.now for each in taken)
        given += places(taken)
        held += taken
        dice.shuffle(held)
        done = [held.pop() for _ in range(dice.randrange(len(held) + 1))]
        settle(scene, done)
        shares = scene.reading._shares.values()
        still = [each for each in shares if each.is_paused and each.waits_for >= 0 and each.sought != each.waits_for]
        if still and dice.random() < 0.1:
            slipped = dice.choice(still)
            consumer.at[slipped.key] = slipped.waits_for + 1
        for share in scene.reading._shares.values():
            low = min((p[2] for p in places(held) if p[:2] == share.key), default=1 << 40)
            assert consumer.committed.get(share.key, -1) <= low, "committed past what is not settled"
        consumer.now += 0.05
        if not held and not scene.buffer.held()[0] and len(given) == sum(map(len, consumer.logs.values())):
            scene.turn(3)
            return given
    raise AssertionError(f"{len(given)} were given")


def test_a_capture_is_read_on_the_way(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine gets what it says, or why it says nothing."""
    identifier = uuid7(1_700_000_000_000, b"0123456789")
    record = {"id": identifier, "schema": 1, "timestamp": 1.0, "method": "POST", "uri": "/a", "path": "/a"}
    record |= {"query_string": "", "headers": {}, "body": "", "remote_addr": "", "backend_url": "", "error": "e"}
    record |= {"error_reason": "", "request_id": "", "route": "r"}
    scene.consumer.fill(("t", 0), [0.0, 0.0])
    scene.assign()
    monkeypatch.setattr(scene.consumer.logs["t", 0][0], "value", lambda: json.dumps(record).encode())
    good, bad = scene.turn(3)
    assert good.arrival
    assert (good.arrival.id, good.arrival.key, good.poison) == (identifier, "k", "")
    assert bad.arrival is None
    assert "not JSON" in bad.poison


def test_a_reader_that_hangs_is_not_well(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it found last says nothing any more."""
    monkeypatch.setattr(scene.reading, "_thread", object())
    scene.reading._turned -= 60.0
    assert not scene.reading.health.ok
    assert "kept the reader waiting" in scene.reading.health.detail
