"""The relay: everything arrives, in order, whatever the broker does meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from holdfast.brokers import open_broker
from holdfast.errors import CaptureRefused
from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord, Relay, RelayLimits
from holdfast.outbox.ledger import Ledger
from tests.unit.outbox.fake_broker import FakeBroker
from tests.unit.outbox.records import Clock, make_record, pages_of, scribble

QUICK = RelayLimits(first_pause=0.005, longest_pause=0.02, patience=0.01)


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def start(outbox: Outbox, broker: FakeBroker, clock: Clock) -> Iterator[Callable[..., Relay]]:
    """Starts relays, and stops them at the end."""
    relays: list[Relay] = []

    def start_one(limits: RelayLimits = QUICK, box: Outbox = outbox) -> Relay:
        relays.append(Relay(box, broker, limits, jitter=lambda: 0.5, clock=clock))
        relays[-1].start()
        return relays[-1]

    yield start_one
    for relay in relays:
        relay.stop(0.5)


def store(outbox: Outbox, count: int, start: int = 0, **changes: object) -> list[OutboxRecord]:
    records = [make_record(b"%d" % number, **changes) for number in range(start, start + count)]
    for record in records:
        outbox.append_sync(record)
    return records


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def settled(outbox: Outbox, within: float = 10.0) -> None:
    """Until nothing is pending any more."""
    until(lambda: outbox.stats().pending == 0, within)


def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        threading.Event().wait(0.005)


def test_what_is_pending_is_published_in_order(outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]) -> None:
    """With its key, its value and its headers, and marked as sent afterwards."""
    records = store(outbox, 50)
    relay = start()
    broker.wait_for(50)
    settled(outbox)
    assert broker.values() == numbers(50)
    assert (broker.log[0].key, broker.log[0].headers) == (records[0].key, records[0].headers)
    found = outbox.get(records[0].id)
    assert found
    assert (found.state, found.sent) == ("sent", outbox._clock())
    assert (relay.stats.published, relay.stats.errors, relay.stats.last_success) == (50, 0, outbox._clock())


def test_an_append_wakes_the_relay_at_once(outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]) -> None:
    """No polling delay: far below the second after which it looks by itself."""
    start()
    until(lambda: broker.starts == 1)
    threading.Event().wait(0.05)
    began = time.monotonic()
    for number in range(5):
        store(outbox, 1, number)
        broker.wait_for(number + 1)
        settled(outbox)
    assert time.monotonic() - began < 1.0


def test_a_record_is_not_marked_before_it_is_delivered(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """Taken by the producer is not taken by the broker."""
    broker.down = True
    store(outbox, 5)
    relay = start()
    until(lambda: relay.stats.in_flight == 5)
    assert outbox.stats().pending == 5
    broker.down = False
    settled(outbox)
    assert broker.values() == numbers(5)


def test_with_the_broker_down_little_is_on_its_way(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """Memory stays flat however long the backlog is: bounded by records and by bytes."""
    broker.down = True
    store(outbox, 300)
    relay = start(RelayLimits(records=20))
    until(lambda: relay.stats.in_flight == 20)
    store(outbox, 100, 300)
    assert broker.most_waiting == 20
    broker.down = False
    settled(outbox)
    assert broker.values() == numbers(400)
    assert broker.most_waiting == 20


def test_large_records_are_bounded_by_their_bytes(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """One that is larger than the bound goes alone."""
    broker.down = True
    for size in (50_000, 50_000, 50_000, 500_000, 10):
        outbox.append_sync(make_record(b"x" * size))
    relay = start(RelayLimits(bytes=120_000))
    until(lambda: relay.stats.in_flight == 2)
    broker.down = False
    settled(outbox)
    assert [len(value) for value in broker.values()] == [50_000, 50_000, 50_000, 500_000, 10]


@pytest.mark.parametrize("trouble", ["fail_next", "fatal_next"])
def test_after_a_failure_it_begins_again_with_the_oldest(
    trouble: str, outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """On a new connection; so that no record comes for the first time after a later one."""
    setattr(broker, trouble, 1)
    store(outbox, 200)
    relay = start()
    settled(outbox)
    setattr(broker, trouble, 3)
    store(outbox, 200, 200)
    settled(outbox)
    assert broker.values() == numbers(400), "what was reported as delivered is not sent again"
    assert relay.stats.errors >= 2
    assert broker.starts >= 3


def test_a_broker_that_cannot_be_reached_is_tried_again(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """With the last error for the health page."""
    broker.unreachable = True
    store(outbox, 3)
    relay = start()
    until(lambda: relay.stats.errors > 3)
    assert relay.stats.last_error == "cannot be reached"
    assert relay.stats.last_success is None
    broker.unreachable = False
    settled(outbox)
    assert broker.values() == numbers(3)


@pytest.mark.parametrize(("trouble", "told"), [("4/4 brokers are down",) * 2, ("", "nothing was confirmed for 0 s")])
def test_a_broker_that_is_away_is_reported_once(
    trouble: str,
    told: str,
    outbox: Outbox,
    broker: FakeBroker,
    start: Callable[..., Relay],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kafka fails nothing while it is away, so without this nobody would hear of it; and again when it is back."""
    caplog.set_level(logging.INFO, "holdfast")
    broker.down, broker.trouble = True, trouble
    store(outbox, 3)
    relay = start()
    until(lambda: relay.stats.errors > 0)
    threading.Event().wait(0.2)
    assert (relay.stats.errors, relay.stats.last_error) == (1, told)
    broker.down, broker.trouble = False, ""
    settled(outbox)
    assert [record.message for record in caplog.records] == ["relay cannot publish", "relay publishes again"]


def test_what_cannot_be_marked_is_not_piled_up(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full the relay stops, as a crash would send all of that again."""

    def full(*_: object) -> int:
        raise CaptureRefused("disk_full", "no room")

    store(outbox, 500)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "move", full)
        relay = start(RelayLimits(records=20, first_pause=0.001, longest_pause=0.002))
        until(lambda: relay.stats.errors > 20)
        assert len(broker.log) <= 80
    settled(outbox)
    assert broker.values() == numbers(500)


def test_pauses_grow_to_a_cap_and_begin_anew_after_a_success(outbox: Outbox, broker: FakeBroker) -> None:
    """Doubled each time, between half and the whole of it by the dice."""
    pauses: list[float] = []
    relay = Relay(outbox, broker, RelayLimits(first_pause=1, longest_pause=10), jitter=lambda: 0.0)
    relay._stopping.wait = lambda timeout=None: bool(pauses.append(timeout or 0))  # type: ignore[method-assign]
    for _ in range(6):
        relay._pause()
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    relay._on_delivery(relay._feeds[0], 1, 0, False, None)
    relay._jitter = lambda: 1.0
    relay._pause()
    assert pauses[-1] == 1.0


def test_a_full_producer_is_waited_for(outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]) -> None:
    """It has other records to work on, so that is no failure."""
    broker.full_at = 7
    store(outbox, 100)
    relay = start()
    settled(outbox)
    assert broker.values() == numbers(100)
    assert relay.stats.errors == 0


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refused_record_goes_into_quarantine_and_the_rest_goes_on(
    at_once: bool, outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """A broker refuses the whole batch for one record: its neighbours are sent, in order, by themselves."""
    broker.too_large, broker.refuse_at_once = 100, at_once
    store(outbox, 25)
    large = make_record(b"x" * 101)
    outbox.append_sync(large)
    store(outbox, 25, 25)
    relay = start()
    settled(outbox)
    assert broker.values() == numbers(50)
    found = outbox.get(large.id)
    assert found
    assert (found.state, len(found.value)) == ("quarantined", 101)
    assert (relay.stats.quarantined, outbox.stats().quarantined, outbox.stats().damaged) == (1, 1, 0)
    assert "too large" in relay.stats.last_error
    assert max(broker.batches) == 10  # not one by one for ever


def test_a_quarantined_record_can_be_queued_again(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """Once the broker takes it, it is sent, though later ones were sent before."""
    broker.too_large = 100
    large = make_record(b"x" * 101)
    outbox.append_sync(large)
    store(outbox, 5)
    start()
    settled(outbox)
    broker.too_large = 1000
    assert outbox.requeue([large.id]) == 1
    broker.wait_for(6)
    settled(outbox)
    assert broker.values() == [*numbers(5), large.value]


def test_a_discarded_record_is_not_sent(outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]) -> None:
    """What is not on its way yet stays where it is."""
    records = store(outbox, 5)
    outbox.discard([records[1].id, records[3].id])
    start()
    settled(outbox)
    assert broker.values() == [b"0", b"2", b"4"]


def test_a_restart_goes_on_where_it_was(outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]) -> None:
    """What was not confirmed is sent by the next relay; what was marked is not sent again."""
    store(outbox, 100)
    relay = start()
    broker.wait_for(30)
    broker.down = True
    store(outbox, 10, 100)
    assert relay.stop(0.05) >= 0
    pending = outbox.stats().pending
    assert pending >= 10
    broker.down = False
    start()
    settled(outbox)
    assert broker.values() == numbers(110)


def test_stop_lets_what_is_on_its_way_arrive(outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]) -> None:
    """And marks it, so that a restart sends nothing twice."""
    store(outbox, 100)
    relay = start(RelayLimits(records=1000))
    until(lambda: relay.stats.published > 0)
    left = relay.stop(5.0)
    assert left == 0
    assert outbox.stats().sent == relay.stats.published == len(broker.log)


def test_marks_that_cannot_be_written_are_written_later(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full nothing is sent twice by this process."""

    def full(*_: object) -> int:
        raise CaptureRefused("disk_full", "no room")

    store(outbox, 30)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "move", full)
        relay = start()
        broker.wait_for(30)
        until(lambda: "no room" in relay.stats.last_error)
    settled(outbox)
    assert broker.values() == numbers(30)


def test_a_damaged_record_is_skipped_and_counted(
    outbox: Outbox, open_outbox: Callable[..., Outbox], path: Path, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """A garbled page costs the records on it; the others arrive, and those are in quarantine."""
    for number in range(100):
        outbox.append_sync(make_record(b"%d" % number + b" " * 800))
    outbox.close()
    scribble(path, pages_of(path, "captures")[10])
    outbox = open_outbox()
    start(QUICK, outbox)
    settled(outbox)
    stats = outbox.stats()
    assert len(broker.log) == 100 - stats.quarantined
    assert 1 <= stats.quarantined == stats.damaged < 10
    assert [int(value) for value in broker.values()] == sorted(int(value) for value in broker.values())


def test_records_that_a_damaged_tree_does_not_lead_to_are_found_and_sent(
    outbox: Outbox,
    open_outbox: Callable[..., Outbox],
    path: Path,
    broker: FakeBroker,
    start: Callable[..., Relay],
) -> None:
    """The page above them is garbled while the outbox is in use; they themselves are whole."""
    for number in range(200):
        outbox.append_sync(make_record(b"%d" % number + b" " * 800))
    outbox.close()
    outbox = open_outbox()
    for page in pages_of(path, "captures", "internal"):
        scribble(path, page)
    start(QUICK, outbox)
    settled(outbox)
    assert [int(value) for value in broker.values()] == list(range(200))
    stats = outbox.stats()
    assert (stats.rescues, stats.salvaged, stats.damaged, stats.quarantined) == (1, 200, 0, 0)


def test_a_damaged_ledger_row_is_repaired_from_its_capture(
    outbox: Outbox, path: Path, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """The record itself is whole, so it is sent."""
    records = store(outbox, 3)
    db = apsw.Connection(str(path))
    db.execute("UPDATE ledger SET route = 'other' WHERE id = ?", (records[1].id,))
    db.close()
    start()
    settled(outbox)
    assert broker.values() == numbers(3)
    assert [record.route for record in outbox.list()] == ["users"] * 3


def test_an_error_in_our_own_code_does_not_end_the_relay(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay]
) -> None:
    """Without its thread nothing would ever be sent."""
    polls = 0

    def stumble() -> None:
        nonlocal polls
        polls += 1
        if polls == 2:
            raise ZeroDivisionError

    broker.on_poll = stumble
    store(outbox, 30)
    start()
    settled(outbox)
    assert broker.values() == numbers(30)


def test_the_outbox_of_a_process_that_is_gone_is_relayed_too(
    outbox: Outbox, broker: FakeBroker, start: Callable[..., Relay], path: Path, clock: Clock
) -> None:
    """Its lock is taken, its records are sent, and the lock is let go."""
    gone, alive = (Outbox.open(path, OutboxLimits(), clock) for _ in range(2))
    store(gone, 20)
    store(alive, 5, 500)
    gone.close()
    relay = start(RelayLimits(adopt_every=0.05))
    broker.wait_for(20)
    until(lambda: Outbox.open(path, OutboxLimits(), clock).path == gone.path)
    assert broker.values() == numbers(20)
    assert relay.stats.adopted == 1
    assert alive.stats().pending == 5
    alive.close()


def test_a_broker_that_publishes_nothing_has_no_relay(outbox: Outbox) -> None:
    """With embedded:// records stay pending, and can be looked up."""
    store(outbox, 3)
    relay = Relay(outbox, open_broker("embedded://", "t"))
    relay.start()
    assert relay._thread is None
    assert relay.stop() == 0
    assert outbox.stats().pending == 3
