"""Messages from the replayer back to Kafka: to a topic of retries, to the dead letters, or to be replayed once more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from holdfast.brokers.kafka import translate
from holdfast.errors import BrokerUnavailable
from holdfast.replay.kafka.messages import RawHeaders
from holdfast.replay.kafka.options import KafkaSourceSettings, Options, check_topic, configs, made

log = logging.getLogger(__name__)
_POLL = 0.1
_AGAIN = 3.0
_LAST_ANSWERS = 2.0  # seconds for what is on its way when we stop
_MARGIN = 10.0  # seconds that librdkafka may be late with its word on a message


class Publisher:
    """An idempotent producer for one event loop. A message is delivered once all replicas in sync have it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = {**config, "error_cb": self._on_error}
        self._patience = int(config["message.timeout.ms"]) / 1000 + _MARGIN
        self._producer: Producer | None = None
        self._stopping = threading.Event()
        self._fatal = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_error = ""
        self.trouble = ""  # what has kept the last message from being delivered

    def start(self) -> None:
        """Connects in the background."""
        self._stopping.clear()
        self._producer = made(Producer, self._config)
        self._thread = threading.Thread(target=self._run, name="replay-publisher", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """What is on its way has a moment to arrive; the rest fails."""
        self._stopping.set()
        if self._thread:
            await asyncio.to_thread(self._thread.join, 2 * _LAST_ANSWERS)
        self._thread = self._producer = None

    async def send(self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders) -> None:
        """Returns when it is stored. BrokerUnavailable if that is not known; PoisonRecord if Kafka refuses it."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()

        def on_delivery(error: KafkaError | None, _: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(_tell, stored, error)

        try:
            self._produce(topic, key, value, headers, on_delivery)
            async with asyncio.timeout(self._patience):
                await stored
        except TimeoutError as error:
            self.trouble = self._last_error or "Kafka has not confirmed the message"
            raise BrokerUnavailable(self.trouble) from error
        except BrokerUnavailable as error:
            self.trouble = str(error)
            raise
        self.trouble = ""

    def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: RawHeaders, on_delivery: Any
    ) -> None:
        if self._producer is None:
            raise BrokerUnavailable("not connected to Kafka")
        try:
            self._producer.produce(topic, value, key, headers=list(headers), on_delivery=on_delivery)
        except BufferError as error:
            raise BrokerUnavailable("Kafka does not keep up: the queue to it is full") from error
        except KafkaException as error:
            raise translate(error.args[0]) from error

    # --- the thread that hears of deliveries ---

    def _run(self) -> None:
        while not self._stopping.is_set():
            producer = self._producer
            if producer is None:
                return
            with contextlib.suppress(KafkaException):  # the fatal error, which `_on_error` has heard of
                producer.poll(_POLL)
            if self._fatal.is_set():
                self._fatal.clear()
                self._anew(producer)
        if self._producer:
            _end(self._producer, _LAST_ANSWERS)

    def _anew(self, producer: Producer) -> None:
        try:
            self._producer = made(Producer, self._config)
        except ValueError as error:  # no more threads, or no more memory: it is tried again
            log.warning("kafka client cannot be made", extra={"reason": str(error)})
            self._fatal.set()
            self._stopping.wait(_AGAIN)
        _end(producer, 0.0)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            log.warning("kafka client failed, made anew", extra={"error": error.name(), "detail": error.str()})
            self._fatal.set()
        self._last_error = error.str()


def publish(
    servers: str,
    topic: str,
    options: Options,
    messages: Sequence[tuple[str | bytes | None, bytes, RawHeaders]],
    timeout: float = 30.0,
) -> None:
    """Publish (key, value, headers) in this order, and return when Kafka has all of them. Blocks for `timeout` seconds.

    BrokerUnavailable or PoisonRecord otherwise: some may have been stored, and come twice if all are published again.
    ValueError for servers, a topic or options that cannot be meant.
    """
    check_topic(topic)
    producer = made(Producer, configs(servers, topic, options, KafkaSourceSettings()).producer)
    deadline = time.monotonic() + timeout
    failures: list[KafkaError] = []
    stored = 0

    def on_delivery(error: KafkaError | None, _: object) -> None:
        nonlocal stored
        stored += error is None
        if error is not None:
            failures.append(error)

    for message in messages:
        while not _is_taken(producer, topic, message, on_delivery) and time.monotonic() < deadline:
            producer.poll(_POLL)
        if failures or time.monotonic() >= deadline:
            break
    _end(producer, max(0.0, deadline - time.monotonic()))
    if stored < len(messages):
        # The first reason: what is thrown away afterwards fails for no reason of its own.
        cause = translate(failures[0]) if failures else BrokerUnavailable("Kafka does not answer")
        raise type(cause)(f"{stored} of {len(messages)} messages are stored: {cause}")


def _is_taken(
    producer: Producer, topic: str, message: tuple[str | bytes | None, bytes, RawHeaders], on_delivery: Any
) -> bool:
    """False while there is no room."""
    key, value, headers = message
    try:
        producer.produce(topic, value, key, headers=list(headers), on_delivery=on_delivery)
    except BufferError:
        return False
    except KafkaException as error:
        on_delivery(error.args[0], None)
    return True


def _tell(stored: asyncio.Future[None], error: KafkaError | None) -> None:
    if stored.done():  # given up
        return
    if error:
        stored.set_exception(translate(error))
    else:
        stored.set_result(None)


def _end(producer: Producer, timeout: float) -> None:
    """Let what is on its way arrive for so long, and report what did not."""
    with contextlib.suppress(KafkaException):
        producer.flush(timeout)
        producer.purge()
        producer.poll(0.0)
