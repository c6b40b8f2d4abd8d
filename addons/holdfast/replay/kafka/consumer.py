"""The thread that reads from Kafka. It polls whatever the replayer does: what there is no room for is paused.

So a slow upstream never looks to Kafka like a member that is gone. A member of the group that fails is made anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from holdfast.errors import BrokerUnavailable, PoisonRecord
from holdfast.replay.kafka.buffer import Buffer, Position, Share
from holdfast.replay.kafka.commits import Commits
from holdfast.replay.kafka.messages import RawHeaders, due_of, read_arrival
from holdfast.replay.kafka.options import Configs, made
from holdfast.replay.kafka.topics import Finding, Topics, look
from holdfast.replay.kafka.watch import Watch, oldest
from holdfast.replay.source import SourceHealth, Taken

log = logging.getLogger(__name__)
_POLL = 0.1  # seconds
_GRACE = 0.1  # for the replayer to make room, before librdkafka throws away what it has fetched ahead
_AT_ONCE = 500  # messages between two looks at everything else
_LOOK_EVERY = 30.0  # at the topics
_LOOK_AGAIN = 2.0  # while the first is missing
_AGAIN = 3.0  # after a failure of the member
_ANSWER = 1.0  # for what is nice to know
_SETTLING = 2.0  # for what is on its way to the upstream from a partition that is given back
_SILENT = 30.0  # after so long without a turn, what was found last says nothing any more


class Reading:
    """A member of a group that reads some of the topics: fills the buffer, and commits what is settled.

    `clock`: epoch seconds. `woken` is called when there is something to take, or to let go; `create`: whether missing
    topics of ours are made.
    """

    def __init__(
        self,
        configs: Configs,
        topics: Topics,
        reads: Sequence[str],
        buffer: Buffer,
        *,
        create: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._configs = configs
        self._topics = topics
        self._reads = list(reads)
        self._buffer = buffer
        self._create = create
        self._clock = clock
        self._woken: Callable[[], None] = _nothing
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._shares: dict[tuple[str, int], Share] = {}
        self._delays = dict(topics.places)
        self._commits = Commits(buffer)
        self._finding = Finding()
        self._next_look = 0.0
        self._trouble = ""  # of the member, until it has worked again
        self._turned = 0.0  # when the thread was seen at work last
        self._health = SourceHealth(ok=False, detail="not started")

    @property
    def health(self) -> SourceHealth:
        """As it was found last; for any thread."""
        silent = time.monotonic() - self._turned
        if self._thread and silent > _SILENT:
            return replace(self._health, ok=False, detail=f"Kafka has kept the reader waiting for {silent:.0f} s")
        return self._health

    def start(self, woken: Callable[[], None]) -> None:
        """In the background; Kafka may be away. BrokerUnavailable while what was stopped before has not ended."""
        if self._thread and self._thread.is_alive():
            raise BrokerUnavailable("the former member of the group has not ended yet")
        self._woken = woken
        self._stopping.clear()
        self._turned = time.monotonic()
        self._health = SourceHealth(ok=False, detail=f"Kafka at {self._configs.servers} is being asked")
        self._thread = threading.Thread(target=self._run, name="replay-kafka", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Commit what is settled, and leave; whether that was done in so many seconds. Blocks."""
        self._stopping.set()
        self._buffer.wake()
        if self._thread:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
        self._thread = None
        return True

    # --- the thread ---

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._attend()
            except Exception as error:  # noqa: BLE001 - the thread must live: without it nothing is ever replayed
                self._trouble = error.args[0].str() if isinstance(error, KafkaException) else str(error)
                log.warning("kafka source failed, begins anew", extra={"reason": self._trouble})
                self._health = SourceHealth(ok=False, detail=f"the member of the group has failed: {self._trouble}")
                self._stopping.wait(_AGAIN)

    def _attend(self) -> None:
        """From the first look at the topics to the end of a member of the group."""
        admin = AdminClient(dict(self._configs.admin))
        watch = Watch(admin, self._topics.main)
        while not self._look(admin, watch) and not self._stopping.is_set():
            self._stopping.wait(_LOOK_AGAIN)
        if self._stopping.is_set():
            return
        self._commits.begin()
        consumer = made(Consumer, {**self._configs.consumer, "on_commit": self._commits.on_commit})
        try:
            consumer.subscribe(
                self._reads,
                on_assign=lambda member, places: self._on_assign(member, places, watch),
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._stopping.is_set():
                self._turn(consumer)
                if time.monotonic() >= self._next_look and watch.answers:
                    self._look(admin, watch)
                if watch.tick(self._shares, time.monotonic()):
                    self._ask_where(consumer)
                    self._report(watch)
            self._pause(consumer, [each for each in self._shares.values() if not each.is_paused])
            self._commits.finish(consumer, self._shares.values())
        finally:
            self._close(consumer)

    def _look(self, admin: AdminClient, watch: Watch) -> bool:
        """Whether the first topic is there."""
        self._finding = look(admin, self._topics, self._create)
        self._turned = time.monotonic()
        self._next_look = time.monotonic() + (_LOOK_EVERY if self._finding.has_main else _LOOK_AGAIN)
        if not self._finding.has_main:
            self._report(watch)
        return self._finding.has_main

    def _close(self, consumer: Consumer) -> None:
        self._buffer.lose(list(self._shares.values()))
        self._shares.clear()
        try:
            consumer.close()
        except (KafkaException, RuntimeError) as error:
            log.warning("kafka consumer cannot be closed", extra={"reason": str(error)})
        self._health = SourceHealth(ok=False, detail="stopped")

    def _turn(self, consumer: Consumer) -> None:
        """Shut and open what has to be, read what there is room for, commit."""
        self._turned = time.monotonic()
        self._shut_and_open(consumer)
        timeout = self._patience()
        for _ in range(_AT_ONCE):
            message = consumer.poll(timeout)
            if message is None:
                break
            timeout = 0.0
            share = self._on_message(consumer, message)
            if share and self._buffer.is_shut:
                break
        self._commits.tick(consumer, self._shares.values())

    def _patience(self) -> float:
        """How long to wait for a message; where none can come for want of room, that is waited for first."""
        shares = self._shares.values()
        if shares and self._buffer.is_shut and all(each.is_paused for each in shares):
            self._buffer.wait(_POLL)
            return 0.0
        return _POLL

    def _shut_and_open(self, consumer: Consumer) -> None:
        shares = self._shares.values()
        if self._buffer.is_shut and any(not each.is_paused for each in shares):
            self._buffer.wait(_GRACE)
        now = self._clock()
        waiting = {each.key for each in shares if self._is_to_wait(each, now)}
        self._pause(consumer, [each for each in shares if each.key in waiting and not each.is_paused])
        self._resume(consumer, [each for each in shares if each.key not in waiting and each.is_paused])

    def _is_to_wait(self, share: Share, now: float) -> bool:
        return (share.waits_for >= 0 and now < share.waits_until) or self._buffer.is_shut

    def _pause(self, consumer: Consumer, shares: Sequence[Share]) -> None:
        if shares:
            consumer.pause([TopicPartition(*each.key) for each in shares])
        for each in shares:
            each.is_paused = True

    def _resume(self, consumer: Consumer, shares: Sequence[Share]) -> None:
        if shares:
            consumer.resume([TopicPartition(*each.key) for each in shares])
        for each in shares:
            each.is_paused = False

    # --- messages ---

    def _on_message(self, consumer: Consumer, message: Message) -> Share | None:
        """The partition that it came from, if it is ours."""
        error = message.error()
        share = self._shares.get((message.topic() or "", _number(message.partition())))
        if error:
            self._on_error(consumer, error, share, message)
        elif share:
            self._trouble = ""
            self._on_capture(consumer, share, message)
        return share

    def _on_error(self, consumer: Consumer, error: KafkaError, share: Share | None, message: Message) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            offset = _number(message.offset())
            # If it is paused, there is a message before that is not due.
            if share and not share.is_paused and not self._is_passed_over(consumer, share, offset):
                share.waits_for = -1
                self._buffer.in_lock(lambda: share.offsets.reach(offset))
        elif error.fatal():
            raise KafkaException(error)
        else:
            self._trouble = error.str()
            log.debug("kafka reports an error", extra={"error": error.name(), "detail": error.str()})

    def _on_capture(self, consumer: Consumer, share: Share, message: Message) -> None:
        offset = _number(message.offset())
        if not self._buffer.in_lock(lambda: share.offsets.follows(offset)):
            share = self._begin_anew(share)
        if self._is_passed_over(consumer, share, offset):
            return
        taken, position = _taken(share, message)
        if share.is_retry and self._is_early(consumer, share, taken, offset):
            return
        share.waits_for = -1
        self._buffer.add(taken, position)
        self._wake()

    def _is_passed_over(self, consumer: Consumer, share: Share, offset: int) -> bool:
        """Whether this lies behind what waits; then that is sought once more, and if in vain, it is there no more.

        It should not happen. But what is passed over would be lost with the next commit.
        """
        wanted = share.waits_for
        if not 0 <= wanted < offset or share.sought == wanted:
            share.sought = -1
            return False
        log.debug("a message that waits was passed over", extra={"topic": share.topic, "partition": share.partition})
        share.sought = wanted
        consumer.seek(TopicPartition(*share.key, wanted))
        return True

    def _is_early(self, consumer: Consumer, share: Share, taken: Taken, offset: int) -> bool:
        """Whether it is not due; then its partition stands still until it is, and begins with it."""
        now = self._clock()
        if share.waits_for != offset:
            # No longer than twice the topic's delay: a header that is wrong must not stop a partition for ever.
            share.waits_until = min(taken.due, now + 2 * (share.delay or 0.0))
        if share.waits_until <= now:
            return False
        self._pause(consumer, [share])
        try:
            consumer.seek(TopicPartition(*share.key, offset))
        except KafkaException as error:
            log.debug("partition cannot be set back", extra={"detail": error.args[0].str()})
            return False  # it is held in memory instead; the next turn opens its partition
        share.waits_for = offset
        share.waiting_since = taken.arrival.captured if taken.arrival else now
        return True

    def _begin_anew(self, share: Share) -> Share:
        """Its offsets have gone back: the topic was made anew, or its log cut. What we held is not there any more."""
        log.warning("a partition begins anew", extra={"topic": share.topic, "partition": share.partition})
        self._buffer.lose([share])
        self._shares[share.key] = fresh = Share(share.topic, share.partition, share.delay)
        fresh.is_paused = share.is_paused
        return fresh

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop that was to be woken is closed
            self._woken()

    # --- rebalances; called from within `poll` and `close` ---

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition], watch: Watch) -> None:
        self._buffer.lose(self._without(places))  # none, unless Kafka has forgotten to take them away
        for each in places:
            self._shares[each.topic, each.partition] = Share(each.topic, each.partition, self._delays.get(each.topic))
        consumer.incremental_assign(places)
        watch.ask_soon()
        log.info("partitions assigned", extra={"count": len(places), "all": len(self._shares)})

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        gone = self._without(places)
        self._buffer.recall(gone, _SETTLING)
        self._commits.now(consumer, gone)
        self._let_go(consumer, gone, places)
        log.info("partitions given back", extra={"count": len(places), "all": len(self._shares)})

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._let_go(consumer, self._without(places), places)
        log.warning("partitions lost", extra={"count": len(places)})

    def _let_go(self, consumer: Consumer, gone: list[Share], places: list[TopicPartition]) -> None:
        self._buffer.lose(gone)
        self._wake()  # as there is something to let go
        self._resume(consumer, [each for each in gone if each.is_paused])  # or it is paused when it comes back
        consumer.incremental_unassign(places)

    def _without(self, places: Sequence[TopicPartition]) -> list[Share]:
        found = (self._shares.pop((each.topic, each.partition), None) for each in places)
        return [share for share in found if share]

    # --- what is told of it ---

    def _ask_where(self, consumer: Consumer) -> None:
        """Those begin that have given nothing yet, as there was no room for them."""
        unknown = [share for share in self._shares.values() if share.low is None]
        if not unknown:
            return
        try:
            found = consumer.committed([TopicPartition(*share.key) for share in unknown], timeout=_ANSWER)
        except KafkaException:
            return
        offsets = {(each.topic, each.partition): each.offset for each in found if not each.error}
        for share in unknown:
            if share.key in offsets:
                share.began = max(-1, offsets[share.key])

    def _report(self, watch: Watch) -> None:
        shares = list(self._shares.values())
        lows = self._buffer.in_lock(lambda: {share.key: share.low for share in shares})
        troubles = [*self._finding.trouble]
        if not self._finding.answers or (self._finding.has_main and not watch.answers):
            why = watch.trouble or self._trouble
            troubles = [f"Kafka at {self._configs.servers} does not answer{f': {why}' if why else ''}", *troubles]
        elif watch.trouble:
            troubles.append(f"some partitions cannot be read: {watch.trouble}")
        detail = f"{len(shares)} partitions of group {self._configs.consumer['group.id']}"
        self._health = SourceHealth(
            ok=not troubles,
            detail="; ".join(troubles) or detail,
            lag=watch.lag(lows) if shares else None,
            oldest=oldest(shares, self._buffer),
        )


def _taken(share: Share, message: Message) -> tuple[Taken, Position]:
    value, key = message.value(), message.key()
    arrival, poison, headers = None, "", _headers(message)
    try:
        if headers is None:
            raise PoisonRecord("the names of its header fields are not text")
        arrival = read_arrival(key, value, headers)
    except PoisonRecord as error:
        poison = str(error)
    headers = headers or []
    weight = len(value or b"") + len(key or b"") + sum(len(name) + len(each or b"") for name, each in headers)
    position = Position(share, _number(message.offset()), key, value, headers, weight)
    taken = Taken(arrival, len(value or b""), poison=poison, position=position)
    if share.is_retry:
        taken.due, taken.place = due_of(headers), share.topic
    return taken, position


def _headers(message: Message) -> RawHeaders | None:
    """None if the library cannot make text of a name."""
    try:
        found: Any = message.headers()
    except (UnicodeDecodeError, KafkaException):
        return None
    return list(found or [])


def _number(value: int | None) -> int:
    return -1 if value is None else value


def _nothing() -> None:
    """Nobody is to be told."""
