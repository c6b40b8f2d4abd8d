"""Commits: what is asked of Kafka, and when, with a consumer that is a list."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from holdfast.replay.kafka.buffer import Buffer, Position, Share
from holdfast.replay.kafka.commits import Commits
from holdfast.replay.source import Taken


class FakeConsumer:
    """Keeps what is committed; answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, dict[int, int]]] = []
        self.fails: KafkaError | None = None
        self.on_poll: Any = None

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.asked.append((asynchronous, {each.partition: each.offset for each in offsets}))
        if self.fails:
            raise KafkaException(self.fails)
        return offsets

    def poll(self, _: float) -> None:
        if self.on_poll:
            self.on_poll()

    def offsets(self) -> list[dict[int, int]]:
        return [each for _, each in self.asked]


class Scene:
    """Two partitions of ten messages each, none settled, and time that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("holdfast.replay.kafka.commits.time.monotonic", lambda: self.now)
        self.buffer = Buffer(100, 10_000)
        self.shares = [Share("t", 0), Share("t", 1)]
        self.positions = {
            share.partition: [Position(share, offset, None, b"", (), 1) for offset in range(10)]
            for share in self.shares
        }
        for places in self.positions.values():
            for place in places:
                self.buffer.add(Taken(None, 1, position=place), place)
        self.consumer: Any = FakeConsumer()
        self.commits = Commits(self.buffer)

    def settle(self, partition: int, *offsets: int) -> None:
        self.buffer.settle(self.positions[partition][offset] for offset in offsets)

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.commits.tick(self.consumer, self.shares)

    def answer(self, error: KafkaError | None = None) -> None:
        places = [TopicPartition("t", partition, offset) for partition, offset in self.consumer.offsets()[-1].items()]
        self.commits.on_commit(error, places)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_commits_are_made_about_once_a_second_and_one_at_a_time(scene: Scene) -> None:
    """Two under way could overtake each other, and the group's offset would go back."""
    scene.settle(0, 0, 1, 3)
    scene.tick()
    scene.settle(0, 2)
    scene.settle(1, 0)
    scene.tick(0.1)
    scene.tick(5.0)
    assert scene.consumer.offsets() == [{0: 2}]
    scene.answer()
    scene.tick()
    assert scene.consumer.offsets() == [{0: 2}, {0: 4, 1: 1}]
    scene.answer()
    scene.tick()
    assert len(scene.consumer.asked) == 2, "nothing new"


def test_a_commit_that_failed_is_made_again(scene: Scene) -> None:
    """With all that is settled by then."""
    scene.settle(0, 0)
    scene.tick()
    scene.answer(KafkaError(KafkaError.NETWORK_EXCEPTION))
    scene.settle(0, 1)
    scene.tick()
    assert scene.consumer.offsets() == [{0: 1}, {0: 2}]


def test_a_commit_that_cannot_even_be_asked_for_is_made_again(scene: Scene) -> None:
    """The library may refuse it at once."""
    scene.settle(0, 0)
    scene.consumer.fails = KafkaError(KafkaError._STATE)
    scene.tick()
    scene.consumer.fails = None
    scene.tick()
    assert scene.consumer.offsets() == [{0: 1}, {0: 1}]


def test_what_is_given_back_is_committed_even_if_it_is_under_way(scene: Scene) -> None:
    """That one may fail, and there is no next time."""
    scene.settle(0, 0)
    scene.settle(1, 0)
    scene.tick()
    scene.commits.now(scene.consumer, scene.shares[:1])
    assert scene.consumer.asked == [(True, {0: 1, 1: 1}), (False, {0: 1})]
    scene.answer(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
    scene.shares.pop(0)
    scene.tick()
    assert scene.consumer.offsets()[-1] == {1: 1}


def test_what_is_somebody_elses_is_not_committed(scene: Scene) -> None:
    """It would set back what the new owner has committed."""
    scene.settle(0, 0, 1)
    scene.buffer.lose(scene.shares[:1])
    scene.settle(0, 2)
    scene.settle(1, 0)
    scene.tick()
    assert scene.consumer.offsets() == [{1: 1}]


def test_the_last_commit_waits_for_the_one_under_way(scene: Scene) -> None:
    """And for its own answer."""
    scene.settle(0, 0)
    scene.tick()
    scene.settle(0, 1)
    scene.consumer.on_poll = scene.answer
    scene.commits.finish(scene.consumer, scene.shares)
    assert scene.consumer.offsets() == [{0: 1}, {0: 2}]


def test_the_last_commit_is_given_up_when_kafka_does_not_answer(scene: Scene) -> None:
    """A stop is prompt; what was not committed is given again."""

    def a_moment() -> None:
        scene.now += 0.05

    scene.settle(0, 0)
    scene.consumer.on_poll = a_moment
    scene.commits.finish(scene.consumer, scene.shares)
    assert scene.now < 103
    assert scene.consumer.offsets() == [{0: 1}]
