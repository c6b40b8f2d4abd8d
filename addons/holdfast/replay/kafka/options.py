"""Settings of the source, and librdkafka's options: those that a profile may set, those that Holdfast rests on."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import Consumer, KafkaException

from holdfast.brokers.kafka import DEFAULTS, KafkaBroker

log = logging.getLogger(__name__)
type Options = Mapping[str, str]
type Config = dict[str, Any]

_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")
_OURS = "it is set by Holdfast"
# What the promises rest on: nothing is committed before it is settled, and a rebalance stops nobody but the loser.
_FIXED: dict[str, tuple[str, ...]] = {
    "group.id": (),
    "group.instance.id": (),
    "enable.auto.commit": ("false",),
    "enable.auto.offset.store": ("false",),
    "enable.partition.eof": ("true",),
    "enable.idempotence": ("true",),
    "partition.assignment.strategy": ("cooperative-sticky",),
    "group.protocol": ("classic",),
    "isolation.level": ("read_committed",),
    "auto.offset.reset": ("earliest", "smallest", "beginning"),
    "allow.auto.create.topics": ("false",),
    "delivery.timeout.ms": (),  # another name of message.timeout.ms
}
_LONGEST = 60_000  # milliseconds that moving one message may take
_CONSUMER: Config = {
    "client.id": "holdfast-replay",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "partition.assignment.strategy": "cooperative-sticky",
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "allow.auto.create.topics": False,
    # What librdkafka fetches ahead is thrown away with every pause, and is memory besides the buffer.
    "queued.min.messages": 1000,
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 50,
    "fetch.wait.max.ms": 100,  # a partition that is resumed waits for the end of the fetch that is under way
    "topic.metadata.refresh.interval.ms": 10_000,  # topics that we have just made are found by it
    "reconnect.backoff.max.ms": 5_000,
    "socket.keepalive.enable": True,
}
_PRODUCER: Config = {
    **DEFAULTS,
    "client.id": "holdfast-replay",
    "linger.ms": 1,  # most are waited for, one by one
    "enable.gapless.guarantee": False,  # a message that was not delivered in time is published anew, and may be late
    "message.timeout.ms": 20_000,
    "topic.metadata.propagation.max.ms": 5_000,  # after that, a topic that is not there is missing
    "allow.auto.create.topics": False,
}
_ADMIN: Config = {"client.id": "holdfast-replay", "reconnect.backoff.max.ms": 5_000, "socket.keepalive.enable": True}


@dataclass(frozen=True, slots=True)
class KafkaSourceSettings:
    """Delays in seconds, shortest first; sizes in bytes. `dead_letters`: a topic; None: `<topic>.dlq`.

    The topics of retries are read by a group of their own, `<group>-retries`: within one group the partitions of all
    topics are spread as if they were alike, and a member might have nothing but retries. Three quarters of the buffer
    are for first arrivals, the rest for retries, so that neither keeps the other out.
    A partition that the group has never read begins with its oldest message.
    """

    group: str = "holdfast-replay"
    instance_id: str | None = None  # of a static member; None: a member that leaves when it stops
    retry_delays: tuple[float, ...] = (30.0, 120.0, 600.0, 3600.0)
    dead_letters: str | None = None
    create_topics: bool = True
    buffer_messages: int = 2000
    buffer_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Configs:
    """For each kind of client, as librdkafka takes it; without callbacks. `servers`: "host:port,host:port"."""

    servers: str
    consumer: Config
    producer: Config
    admin: Config

    def for_retries(self) -> Configs:
        """The same for the group that reads the topics of retries."""
        return replace(self, consumer={**self.consumer, "group.id": f"{self.consumer['group.id']}-retries"})


class Quiet:
    """Takes librdkafka's log lines: what it calls errors are for us states to sit out."""

    def log(self, _level: int, message: str, *args: object) -> None:
        """As logging has it."""
        log.debug(message, *args)


def configs(servers: str, topic: str, options: Options, settings: KafkaSourceSettings) -> Configs:
    """ValueError for servers, a topic, an option or a setting that cannot be meant."""
    for name, allowed in _FIXED.items():
        if name in options and str(options[name]).lower() not in allowed:
            raise ValueError(f"Kafka option {name}: {f'it can only be {allowed[0]}' if allowed else _OURS}")
    KafkaBroker(servers, topic, options)  # checks servers, topic and options with what to write instead
    # 0 is: for ever. What was given up, and is stored at some time after all, would come twice.
    if not 0 < int(options.get("message.timeout.ms", _LONGEST)) <= _LONGEST:
        raise ValueError(f"Kafka option message.timeout.ms: it can only be 1 to {_LONGEST}")
    _check(settings)
    member = {"group.instance.id": settings.instance_id} if settings.instance_id else {}
    servers = ",".join(each.strip() for each in servers.split(","))
    place: Config = {"bootstrap.servers": servers, "logger": Quiet()}
    found = Configs(
        servers=servers,
        consumer={**_CONSUMER, **options, "group.id": settings.group, **member, **place},
        producer={**_PRODUCER, **options, **place},
        admin={**_ADMIN, **options, **place},
    )
    _try_out(found.consumer, options)
    return found


def check_topic(name: str) -> str:
    """The same; ValueError if Kafka has no topics of such a name."""
    if not _TOPIC.fullmatch(name):
        raise ValueError(f"{name!r} is not a Kafka topic: use up to 249 of the characters a-z A-Z 0-9 . _ -")
    return name


def made[T](kind: Callable[[dict[str, Any]], T], config: Mapping[str, Any]) -> T:
    """A client of librdkafka; ValueError in its own words where it does not take the options."""
    try:
        return kind(dict(config))
    except KafkaException as error:
        raise ValueError(error.args[0].str()) from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def _check(settings: KafkaSourceSettings) -> None:
    if not settings.group:
        raise ValueError("the consumer group needs a name")
    if settings.buffer_messages < 2 or settings.buffer_bytes < 1:
        raise ValueError("the buffer needs room for two messages at least")


def _try_out(config: Config, options: Options) -> None:
    """ValueError if a consumer does not take the options. Without servers it connects to nothing."""
    offline = {name: value for name, value in config.items() if name != "bootstrap.servers"}
    refused = _refusal(offline)
    if refused:
        # librdkafka may call an option by another of its names, so the one that is meant is found by leaving it out.
        wrong = [name for name in options if not _refusal({**offline, name: _CONSUMER.get(name)})]
        raise ValueError(f"Kafka option {', '.join(wrong) or 'in several places'}: {refused}")


def _refusal(config: Config) -> str:
    try:
        made(Consumer, {name: value for name, value in config.items() if value is not None}).close()
    except ValueError as error:
        return str(error)
    return ""
