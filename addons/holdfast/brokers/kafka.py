"""`kafka://host:9092,host:9092`: publishes to a Kafka topic, and calls nothing delivered that all replicas do not have.

The producer is idempotent and repeats forever, so that messages with the same key keep their order; a gap in the order
is a fatal error of the producer (`ConnectionLost`), after which everything that was not delivered is published anew.
Options are librdkafka's own: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Mapping
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer

from holdfast.brokers.base import BrokerHealth, ConnectionLost, Delivery, Message
from holdfast.errors import BrokerUnavailable, PoisonRecord

log = logging.getLogger(__name__)
_LAST_ANSWERS = 1.0  # seconds to wait for them when the producer is given up
type Config = dict[str, str | int | bool]

_SERVER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")

DEFAULTS: Config = {
    "client.id": "holdfast",
    "acks": "all",
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,  # repeat until it works: the outbox is what bounds the backlog
    "linger.ms": 5,
    "compression.type": "lz4",
    "partitioner": "murmur2_random",  # the one of Kafka's own clients, so that keys meet theirs in a partition
    "batch.size": 1_000_000,
    "message.max.bytes": 67_108_864,  # what is too large is for the topic to say, and only a batch of its own grows so
    "queue.buffering.max.messages": 10_000,
    "queue.buffering.max.kbytes": 131_072,
    "reconnect.backoff.max.ms": 5_000,
    "socket.keepalive.enable": True,
}
# What the promise that a capture reaches the broker rests on.
_FIXED = {
    "acks": ("all", "-1"),
    "delivery.report.only.error": ("false",),
    "dr_msg_cb": (),
    "bootstrap.servers": (),
    "metadata.broker.list": (),
}
_POISON = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)


class KafkaBroker:
    """A topic of a Kafka cluster. ValueError for servers, a topic or an option that cannot be meant."""

    name = "kafka"
    durable = True
    publishes = True

    def __init__(self, servers: str, topic: str, options: Mapping[str, str]) -> None:
        self._servers = check_servers(servers)
        if not _TOPIC.fullmatch(topic):
            raise ValueError(f"{topic!r} is not a Kafka topic: use up to 249 of the characters a-z A-Z 0-9 . _ -")
        self._topic = topic
        self._config = _config(options)
        self._producer: Producer | None = None
        self._fatal = ""
        self.trouble = ""
        _try_out(self._config, options)

    def start(self) -> None:
        self._fatal = ""
        self._producer = self._connect()

    def publish(self, message: Message, on_delivery: Delivery) -> None:
        producer = self._running()
        try:
            producer.produce(
                self._topic,
                message.value,
                message.key or None,
                headers=list(message.headers),
                on_delivery=partial(self._report, on_delivery),
            )
        except BufferError as error:
            raise BrokerUnavailable("Kafka does not keep up: the queue to it is full") from error
        except KafkaException as error:
            raise translate(error.args[0]) from error

    def poll(self, timeout: float) -> None:
        try:
            self._running().poll(timeout)
        except KafkaException as error:  # a fatal error of the producer
            raise ConnectionLost(error.args[0].str()) from error
        if self._fatal:
            raise ConnectionLost(self._fatal)

    def flush(self, timeout: float) -> int:
        try:
            return self._producer.flush(timeout) if self._producer else 0
        except KafkaException as error:
            raise ConnectionLost(error.args[0].str()) from error

    def health(self, timeout: float) -> BrokerHealth:
        try:
            # Between two connections the question is the same, and the answer what keeps the next one from working.
            producer = self._producer or self._connect()
            found = producer.list_topics(self._topic, timeout=timeout).topics.get(self._topic)
        except BrokerUnavailable as error:
            return BrokerHealth(ok=False, detail=f"Kafka cannot be asked: {error}")
        except KafkaException as error:
            return BrokerHealth(ok=False, detail=f"Kafka at {self._servers} does not answer: {error.args[0].str()}")
        if found is None or (found.error and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
            return BrokerHealth(ok=False, detail=f"Kafka has no topic {self._topic!r}: create it")
        if found.error:
            return BrokerHealth(ok=False, detail=f"Kafka's topic {self._topic!r}: {found.error.str()}")
        headless = [str(number) for number, each in found.partitions.items() if each.leader < 0]
        if headless:
            return BrokerHealth(
                ok=False, detail=f"Kafka's topic {self._topic!r} has no leader for partition {', '.join(headless)}"
            )
        return BrokerHealth(ok=True, detail=f"topic {self._topic} with {len(found.partitions)} partitions")

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            # What is on the wire may be stored already: whoever publishes it anew without knowing makes a duplicate.
            producer.purge(in_queue=True, in_flight=False)
            deadline = time.monotonic() + _LAST_ANSWERS
            while len(producer) and time.monotonic() < deadline:
                _report(producer, 0.05)
            producer.purge()
            _report(producer, 0.0)

    def _connect(self) -> Producer:
        return _producer(
            {**self._config, "bootstrap.servers": self._servers, "error_cb": self._on_error, "logger": _Quiet()}
        )

    def _running(self) -> Producer:
        if self._producer is None:
            raise ConnectionLost("not connected to Kafka")
        return self._producer

    def _report(self, on_delivery: Delivery, error: KafkaError | None, _: object) -> None:
        if error is None:
            self.trouble = ""
        on_delivery(translate(error) if error else None)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()
        self.trouble = error.str()
        log.debug("kafka client reports an error", extra={"error": error.name(), "detail": error.str()})


def translate(error: KafkaError) -> PoisonRecord | BrokerUnavailable:
    """The house's error for one of librdkafka's."""
    if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError._GAPLESS_GUARANTEE, KafkaError._STATE):
        return ConnectionLost(error.str())
    if error.code() in _POISON:
        return PoisonRecord(f"Kafka refuses it: {error.str()}")
    return BrokerUnavailable(error.str())


def _report(producer: Producer, timeout: float) -> None:
    with contextlib.suppress(KafkaException):  # the fatal error that it is closed for
        producer.poll(timeout)


class _Quiet:
    """Takes librdkafka's log lines. It calls an unreachable broker an error, which for us is a state to sit out."""

    def log(self, _level: int, message: str, *args: object) -> None:
        log.debug(message, *args)


def check_servers(servers: str) -> str:
    """Its servers without spaces. ValueError for what is none, and for credentials, which it does not show."""
    for server in servers.split(","):
        if "@" in server:
            raise ValueError(
                "credentials do not belong into a kafka:// URL: give sasl.username and the like as options"
            )
        if not _SERVER.fullmatch(server.strip()):
            raise ValueError(f"{server!r} is not a Kafka server: write kafka://host:9092,host:9092")
    return ",".join(server.strip() for server in servers.split(","))


def _config(options: Mapping[str, str]) -> Config:
    for name, allowed in _FIXED.items():
        if name in options and str(options[name]).lower() not in allowed:
            wanted = f"it can only be {allowed[0]}" if allowed else "it is set by Holdfast"
            raise ValueError(f"Kafka option {name}: {wanted}")
    config = {**DEFAULTS, **options}
    if str(config["enable.idempotence"]).lower() == "false":
        # Without idempotence only one request at a time keeps the order.
        config |= {"enable.gapless.guarantee": False}
        config.setdefault("max.in.flight.requests.per.connection", 1)
    return config


def _try_out(config: Config, options: Mapping[str, str]) -> None:
    """ValueError if librdkafka does not take the options. Without servers it connects to nothing."""
    try:
        _producer({**config, "logger": _Quiet()})
    except BrokerUnavailable as error:
        # librdkafka may call an option by another of its names, so the one that is meant is found by leaving it out.
        wrong = [name for name in options if _is_taken({key: options[key] for key in options if key != name})]
        raise ValueError(f"Kafka option {', '.join(wrong) or 'in several places'}: {error}") from error


def _is_taken(options: Mapping[str, str]) -> bool:
    try:
        _producer({**DEFAULTS, **options, "logger": _Quiet()})
    except BrokerUnavailable:
        return False
    return True


def _producer(config: Mapping[str, object]) -> Producer:
    try:
        return Producer(dict(config))
    except KafkaException as error:
        raise BrokerUnavailable(error.args[0].str()) from error
    except (TypeError, ValueError) as error:
        raise BrokerUnavailable(str(error)) from error
