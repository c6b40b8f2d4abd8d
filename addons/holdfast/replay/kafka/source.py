"""Topics of Kafka as a source: the threads that read, their buffers and the producer put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from holdfast.errors import StoreUnavailable
from holdfast.replay.kafka.buffer import Buffer, Position
from holdfast.replay.kafka.consumer import Reading
from holdfast.replay.kafka.messages import (
    DUE,
    OFFSET,
    PARTITION,
    REASON,
    TOPIC,
    due_header,
    text_header,
    with_changes,
)
from holdfast.replay.kafka.options import KafkaSourceSettings, configs
from holdfast.replay.kafka.producer import Publisher
from holdfast.replay.kafka.topics import name_topics
from holdfast.replay.source import Headers, SourceHealth, Taken

log = logging.getLogger(__name__)
_PATIENCE = 15.0  # seconds for the thread to end; it is left behind after that


class KafkaSource:
    """A member of the groups that share a topic and its retries. ValueError for what cannot be meant.

    `servers`: "host:port,host:port"; `options` are librdkafka's, for all its clients.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        options: Mapping[str, str] | None = None,
        settings: KafkaSourceSettings | None = None,
    ) -> None:
        settings = settings or KafkaSourceSettings()
        self._topics = name_topics(topic, settings.retry_delays, settings.dead_letters)
        found = configs(servers, topic, options or {}, settings)
        retries = settings.buffer_messages // 4, settings.buffer_bytes // 4
        rest = settings.buffer_messages - retries[0], settings.buffer_bytes - retries[1]
        topics, create = self._topics, settings.create_topics
        self._first, self._retries = Buffer(*rest), Buffer(*retries)
        self._readings = [Reading(found, topics, [topics.main], self._first, create=create)]
        if topics.places:
            again = [name for name, _ in topics.places]
            self._readings.append(Reading(found.for_retries(), topics, again, self._retries, create=create))
        self._publisher = Publisher(found.producer)
        self.places: tuple[tuple[str, float], ...] = self._topics.places

    @property
    def dead_letters(self) -> str:
        """The topic of dead letters."""
        return self._topics.dead_letters

    async def start(self, woken: Callable[[], None]) -> None:
        for reading in self._readings:
            reading.start(woken)
        self._publisher.start()

    async def stop(self) -> None:
        stops = [asyncio.to_thread(reading.stop, _PATIENCE) for reading in self._readings]
        *have_ended, _ = await asyncio.gather(*stops, self._publisher.stop())
        if not all(have_ended):
            log.warning("kafka consumer does not end, and is left behind")

    async def take(self, most: int) -> list[Taken]:
        """Retries first: what is younger of their keys waits for them."""
        found = self._retries.take(most)
        return found + self._first.take(most - len(found))

    def set_aside(self, taken: Taken) -> None:
        raise NotImplementedError("what Kafka has given waits in a topic of retries, or here")

    def ask_again(self, key: str) -> None:
        """Nothing was set aside."""

    async def wanted(self, ids: Sequence[str]) -> dict[str, Literal["discarded", "dead"]]:
        """Nothing is found by its id in Kafka."""
        return {}

    async def value(self, taken: Taken) -> tuple[bytes, Headers]:
        at = _position(taken)
        return at.value or b"", tuple((name, value or b"") for name, value in at.headers)

    async def settle(self, taken: Sequence[Taken]) -> None:
        self._settle(taken)

    async def bury(self, taken: Taken, reason: str, headers: Headers) -> None:
        """The reason is in the header `holdfast-reason`, where it was in `holdfast-topic`, `-partition`, `-offset`."""
        at = _position(taken)
        whence = (
            text_header(REASON, reason),
            (TOPIC, at.share.topic.encode()),
            (PARTITION, b"%d" % at.share.partition),
            (OFFSET, b"%d" % at.offset),
        )
        kept = [(name, value) for name, value in at.headers if name != DUE]
        await self._move(taken, self._topics.dead_letters, with_changes(kept, with_changes(whence, headers)))

    async def hand_on(self, taken: Taken, place: str, due: float, headers: Headers) -> None:
        if place not in dict(self.places):
            raise ValueError(f"{place!r} is no topic of retries")
        changes = with_changes(headers, [due_header(due)])
        await self._move(taken, place, with_changes(_position(taken).headers, changes))

    async def health(self) -> SourceHealth:
        """At most some seconds old."""
        found = _together([reading.health for reading in self._readings])
        if found.ok and self._publisher.trouble:
            return SourceHealth(False, f"messages cannot be moved: {self._publisher.trouble}", found.lag, found.oldest)
        return found

    async def _move(self, taken: Taken, topic: str, headers: Iterable[tuple[str, bytes | None]]) -> None:
        if taken.is_lost:  # somebody else will do it
            return
        at = _position(taken)
        await self._publisher.send(topic, at.key, at.value, list(headers))
        self._settle([taken])

    def _settle(self, taken: Iterable[Taken]) -> None:
        for each in map(_position, taken):
            (self._retries if each.share.is_retry else self._first).settle([each])


def _together(each: Sequence[SourceHealth]) -> SourceHealth:
    lags = [one.lag for one in each if one.lag is not None]
    failing = [one for one in each if not one.ok]
    return SourceHealth(
        ok=not failing,
        detail="; ".join(dict.fromkeys(one.detail for one in failing or each)),
        lag=sum(lags) if len(lags) == len(each) else None,
        oldest=min((one.oldest for one in each if one.oldest is not None), default=None),
    )


def _position(taken: Taken) -> Position:
    if not isinstance(taken.position, Position):
        raise StoreUnavailable("the message is from another source")
    return taken.position
