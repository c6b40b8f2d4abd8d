"""How much waits in Kafka for us, asked every few seconds without waiting for the answer.

Only leaders of partitions are asked this way. librdkafka's admin client ends the process (an assertion) when a question
to a group's coordinator meets a broker that starts: https://github.com/confluentinc/librdkafka/issues/3663

And while a question waits for a leader that is gone, it tries to connect to it without a pause, thousands of times a
second (librdkafka 2.16): so no question waits for long, and one that has failed is not asked again at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from holdfast.replay.kafka.buffer import Buffer, Share

EVERY = 5.0  # seconds
_AGAIN = 1.0  # after a question that has failed, as for a topic that was just made; then twice that, up to `EVERY`
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_PATIENCE = 1.0  # for an answer

type Place = tuple[str, int]


@dataclass(slots=True)
class _Round:
    """One set of questions, and when they were asked."""

    ends: Mapping[TopicPartition, Future[Any]] = field(default_factory=dict)
    starts: Mapping[TopicPartition, Future[Any]] = field(default_factory=dict)

    def is_done(self) -> bool:
        return all(each.done() for group in (self.ends, self.starts) for each in group.values())


class Watch:
    """Asks for the partitions that it is given; for the thread that reads. Times are those of a monotonic clock."""

    def __init__(self, admin: AdminClient, main: str) -> None:
        self._admin = admin
        self._main = main
        self._round: _Round | None = None
        self._due = 0.0
        self._again = _AGAIN
        self._ends: dict[Place, int] = {}
        self._starts: dict[Place, int] = {}
        self.answers = True  # whether Kafka has answered when it was asked last
        self.trouble = ""  # what has kept it from answering, for some partitions at least

    def tick(self, places: Iterable[Place], now: float) -> bool:
        """Ask if it is time, or collect the answers; whether there were any."""
        if self._round and self._round.is_done():
            self._collect(self._round)
            self._round = None
            if self.trouble:
                self._due, self._again = now + self._again, min(EVERY, 2 * self._again)
            else:
                self._again = _AGAIN
            return True
        if not self._round and now >= self._due:
            self._due = now + EVERY
            self._ask(sorted(places))
        return False

    def ask_soon(self) -> None:
        """Something has changed."""
        self._due = 0.0

    def lag(self, lows: Mapping[Place, int | None]) -> int | None:
        """How many offsets lie between these and the ends (-1: from the start); None where that is not known yet."""
        total = 0
        for place, low in lows.items():
            begin = self._starts.get(place) if low == -1 else low
            if place not in self._ends or begin is None:
                return None
            total += max(0, self._ends[place] - begin)
        return total

    def _ask(self, places: Sequence[Place]) -> None:
        asked = [TopicPartition(topic, number) for topic, number in {*places, (self._main, 0)}]
        level, patience = IsolationLevel.READ_COMMITTED, _PATIENCE

        def offsets(spec: Any) -> Mapping[TopicPartition, Future[Any]]:
            wanted = dict.fromkeys(asked, spec)
            return self._admin.list_offsets(wanted, isolation_level=level, request_timeout=patience)

        try:
            self._round = _Round(offsets(_LATEST), offsets(_EARLIEST))
        except KafkaException as error:
            self.trouble = error.args[0].str()

    def _collect(self, asked: _Round) -> None:
        starts = self._offsets(asked.starts)
        self.trouble = ""
        ends = self._offsets(asked.ends)
        self.answers = bool(ends)
        if ends:
            self._ends, self._starts = ends, starts

    def _offsets(self, asked: Mapping[TopicPartition, Future[Any]]) -> dict[Place, int]:
        found = {(each.topic, each.partition): self._result(future) for each, future in asked.items()}
        return {place: info.offset for place, info in found.items() if info}

    def _result(self, future: Future[Any]) -> Any:
        try:
            return future.result(timeout=0)
        except KafkaException as error:
            self.trouble = error.args[0].str()
        return None


def oldest(shares: Sequence[Share], buffer: Buffer) -> float | None:
    """When the oldest was captured of those that are held, or wait for their time; epoch seconds."""

    def found() -> list[float]:
        held = [each.arrival.captured for share in shares for each in share.held.values() if each.arrival]
        return [*held, *(share.waiting_since for share in shares if share.waits_for >= 0)]

    return min(buffer.in_lock(found), default=None)
