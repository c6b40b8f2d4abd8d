"""Commits to Kafka: about once a second, one at a time, and the last word when a partition is given back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from holdfast.replay.kafka.buffer import Buffer, Share

log = logging.getLogger(__name__)
EVERY = 1.0  # seconds
_PATIENCE = 60.0  # librdkafka answers for every commit; if ever not, we go on
_LAST = 2.0  # for the last commit


class Commits:
    """For the thread that reads. One commit is on its way at a time: two could overtake each other, and go back."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._asked: list[tuple[Share, int]] = []
        self._asked_at = 0.0
        self._due = 0.0

    def tick(self, consumer: Consumer, shares: Iterable[Share]) -> None:
        """Commit if it is time."""
        now = time.monotonic()
        if self._asked and now > self._asked_at + _PATIENCE:
            self._fail()
        if now >= self._due and not self._asked:
            self._due = now + EVERY
            self._ask(consumer, shares)

    def now(self, consumer: Consumer, shares: Sequence[Share]) -> None:
        """Commit what these have, before they are given back; Kafka's answer is waited for."""

        def forget() -> None:  # whatever is under way may fail, and nobody would ask again
            for share in shares:
                share.offsets.fail()

        self._buffer.in_lock(forget)
        asked = self._collect(shares)
        if not asked:
            return
        try:
            answers = consumer.commit(offsets=_places(asked), asynchronous=False)
        except KafkaException as error:
            self._note(error.args[0])
            return
        for each in answers:
            if each.error:
                self._note(each.error)

    def finish(self, consumer: Consumer, shares: Iterable[Share]) -> None:
        """The last commit of a member that stops: waited for, but not for long."""
        deadline = time.monotonic() + _LAST
        shares = list(shares)
        while time.monotonic() < deadline:
            if not self._asked:
                self._ask(consumer, shares)
                if not self._asked:
                    break
            consumer.poll(0.05)

    def begin(self) -> None:
        """With a new member."""
        self._asked, self._due = [], 0.0

    def on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        """Kafka's answer; called from within `poll`."""
        asked, self._asked = self._asked, []
        failed = {(each.topic, each.partition): each.error for each in places if each.error}
        for reason in {str(each): each for each in (error, *failed.values()) if each}.values():
            self._note(reason)

        def settle() -> None:
            for share, offset in asked:
                if error or share.key in failed:
                    share.offsets.fail()
                else:
                    share.offsets.confirm(offset)

        self._buffer.in_lock(settle)

    def _ask(self, consumer: Consumer, shares: Iterable[Share]) -> None:
        self._asked = self._collect(shares)
        self._asked_at = time.monotonic()
        if self._asked:
            try:
                consumer.commit(offsets=_places(self._asked), asynchronous=True)
            except KafkaException as error:
                self._note(error.args[0])
                self._fail()

    def _collect(self, shares: Iterable[Share]) -> list[tuple[Share, int]]:
        def found() -> list[tuple[Share, int]]:
            # Of what is somebody else's by now, a commit of ours would set back theirs.
            wanted = ((share, share.offsets.to_commit()) for share in shares if not share.is_lost)
            return [(share, offset) for share, offset in wanted if offset is not None]

        return self._buffer.in_lock(found)

    def _fail(self) -> None:
        asked, self._asked = self._asked, []

        def fail() -> None:
            for share, _ in asked:
                share.offsets.fail()

        self._buffer.in_lock(fail)

    @staticmethod
    def _note(error: KafkaError) -> None:
        # What is not committed is given again: nothing is lost, and the next commit says it all.
        log.debug("offsets were not committed", extra={"error": error.name(), "detail": error.str()})


def _places(asked: Sequence[tuple[Share, int]]) -> list[TopicPartition]:
    return [TopicPartition(*share.key, offset) for share, offset in asked]
