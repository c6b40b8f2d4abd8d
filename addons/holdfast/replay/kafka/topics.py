"""The topics of the replayer: what was captured, a topic for each delay of retries, and the dead letters.

All have as many partitions as the first, so that a key is in the partition of the same number everywhere. Who has that
partition of another topic is up to Kafka: the order of a key across topics is the audit store's to keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from holdfast.replay.kafka.options import check_topic

_PATIENCE = 3.0  # seconds for one question
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))
_MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_MORE_HEADERS = 65_536  # bytes that a message may have more in a topic of retries than in the first
# What they take over from the first, where that has a setting of its own.
_TAKEN_OVER = ("min.insync.replicas",)


@dataclass(frozen=True, slots=True)
class Topics:
    """Names; `places` are the topics of retries with their delay in seconds, shortest first."""

    main: str
    places: tuple[tuple[str, float], ...]
    dead_letters: str

    @property
    def ours(self) -> tuple[str, ...]:
        """Those that nobody else writes to."""
        return (*(name for name, _ in self.places), self.dead_letters)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at the topics has found. `trouble`: sentences for people, empty if all is as it should be."""

    answers: bool = False  # whether Kafka could be asked
    has_main: bool = False
    trouble: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    found: dict[str, TopicDescription] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Setting:
    value: str
    is_own: bool = False  # or else it is the brokers'


_UNKNOWN = _Setting("")


def name_topics(main: str, delays: Sequence[float], dead_letters: str | None = None) -> Topics:
    """ValueError for names and delays that cannot be meant."""
    check_topic(main)
    if any(not math.isfinite(delay) or delay < 0.001 for delay in delays):
        raise ValueError("a delay of retries is a number of seconds above 0")
    if list(delays) != sorted(set(delays)):
        raise ValueError("write the delays of retries with the shortest first, each once")
    topics = Topics(
        main,
        tuple((check_topic(f"{main}.retry.{_short(delay)}"), float(delay)) for delay in delays),
        check_topic(dead_letters or f"{main}.dlq"),
    )
    names = (main, *topics.ours)
    if len(set(names)) < len(names):
        raise ValueError(f"two of the topics are the same: {', '.join(names)}")
    return topics


def look(admin: AdminClient, topics: Topics, create: bool) -> Finding:
    """Ask Kafka for the topics, and create those of ours that are missing. Blocks for some seconds at most."""
    seen = _ask(admin, (topics.main, *topics.ours))
    if topics.main in seen.missing:
        return Finding(True, False, (f"Kafka has no topic {topics.main!r}: create it, or let a gateway publish to it",))
    main = seen.found.get(topics.main)
    if main is None:
        return Finding(bool(seen.found or seen.missing), False, tuple(seen.errors[:1]))
    trouble = [*seen.errors[:1], *_strays(main, seen)]
    if seen.missing and create:
        trouble += _create(admin, main, seen.missing, dict(topics.places))
    elif seen.missing:
        count = len(main.partitions)
        trouble.append(
            f"Kafka has no topic {', '.join(seen.missing)}: create each with {count} partitions, like {main.name}"
        )
    return Finding(True, True, tuple(trouble))


def _short(delay: float) -> str:
    milliseconds = round(delay * 1000)
    return next(f"{milliseconds // size}{unit}" for unit, size in _UNITS if milliseconds % size == 0)


def _ask(admin: AdminClient, names: Sequence[str]) -> _Seen:
    seen = _Seen()
    try:
        asked = admin.describe_topics(TopicCollection(list(names)), request_timeout=_PATIENCE)
    except KafkaException as error:
        seen.errors.append(f"Kafka cannot be asked: {error.args[0].str()}")
        return seen
    for name, future in asked.items():
        try:
            seen.found[name] = future.result(timeout=_PATIENCE + 1)
        except KafkaException as error:
            if error.args[0].code() in _MISSING:
                seen.missing.append(name)
            else:
                seen.errors.append(f"Kafka's topic {name!r}: {error.args[0].str()}")
        except TimeoutError:
            seen.errors.append("Kafka does not answer")
    return seen


def _strays(main: TopicDescription, seen: _Seen) -> list[str]:
    count = len(main.partitions)
    return [
        f"topic {name} has {len(each.partitions)} partitions and {main.name} has {count}: "
        "give it as many, so that keys keep their partition"
        for name, each in seen.found.items()
        if len(each.partitions) != count
    ]


def _create(admin: AdminClient, main: TopicDescription, names: Sequence[str], delays: Mapping[str, float]) -> list[str]:
    copies = min((len(each.replicas) for each in main.partitions), default=1)
    settings = _settings(admin, main.name)
    asked = admin.create_topics(
        [
            NewTopic(
                name,
                num_partitions=len(main.partitions),
                replication_factor=copies,
                config=_config(settings, delays.get(name)),
            )
            for name in names
        ],
        operation_timeout=_PATIENCE,
        request_timeout=_PATIENCE,
    )
    return [f"topic {name} cannot be created: {why}" for name, each in asked.items() if (why := _refusal(each))]


def _config(settings: Mapping[str, _Setting], delay: float | None) -> dict[str, str]:
    """Of a topic of retries, or (`delay` is None) of dead letters, after the settings of the first topic."""
    config = {"cleanup.policy": "delete", "retention.bytes": "-1"}
    config |= {name: settings[name].value for name in _TAKEN_OVER if name in settings and settings[name].is_own}
    largest = settings.get("max.message.bytes", _UNKNOWN).value
    if largest.isdigit():  # what was stored there must find room here too
        config["max.message.bytes"] = str(int(largest) + _MORE_HEADERS)
    kept = settings.get("retention.ms", _UNKNOWN).value
    if delay is None:
        config["retention.ms"] = "-1"  # a dead letter stays until somebody has seen it
    elif kept.isdigit():  # as long as in the first topic, from when it is due
        config["retention.ms"] = str(int(kept) + round(2000 * delay))
    return config


def _refusal(created: Future[None]) -> str:
    try:
        created.result(timeout=_PATIENCE + 1)
    except KafkaException as error:
        # Another replayer may have been quicker.
        return "" if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS else error.args[0].str()
    except TimeoutError:
        return "Kafka does not answer"
    return ""


def _settings(admin: AdminClient, topic: str) -> dict[str, _Setting]:
    """Of the first topic; what may not be asked is left to the brokers."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        found: Mapping[str, object] = admin.describe_configs([resource], request_timeout=_PATIENCE)[resource].result(
            timeout=_PATIENCE + 1
        )
    except (KafkaException, TimeoutError):
        return {}
    return {
        name: _Setting(str(getattr(entry, "value", "")), not getattr(entry, "is_default", True))
        for name, entry in found.items()
    }
