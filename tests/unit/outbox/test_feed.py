"""What the relay is handed: each record once, in order, and after a rewind only what is not delivered."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import pytest

from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.outbox import Outbox, OutboxRecord
from holdfast.outbox.feed import Feed
from holdfast.outbox.queries import DamagedOutbox
from holdfast.outbox.record import CaptureRow
from tests.unit.outbox.records import make_record


@pytest.fixture
def feed(outbox: Outbox) -> Feed:
    return Feed(outbox)


def store(outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.append_sync(make_record())


def take(feed: Feed, count: int = 1) -> list[int]:
    """The numbers of the next records, which are then on their way."""
    taken = []
    for _ in range(count):
        record = feed.peek()
        assert record
        feed.take(record)
        taken.append(record.seq)
    return taken


def wait_for_marks(feed: Feed) -> None:
    feed.write_marks()
    if feed._marks:
        feed._marks.exception(10)


def test_each_record_comes_once_and_in_order(feed: Feed, outbox: Outbox) -> None:
    """More than are read at once, and those that are appended meanwhile."""
    store(outbox, 300)
    first = take(feed, 300)
    assert feed.peek() is None
    store(outbox, 2)
    assert first + take(feed, 2) == sorted(record.seq for record in outbox.list(limit=1000))


def test_values_are_read_together_and_large_ones_one_by_one(
    feed: Feed, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that neither many small ones cost a query each, nor a few large ones the memory of all."""
    ranges = []
    read = feed._queries.pending_captures

    def counted(first: int, last: int) -> list[CaptureRow]:
        rows = read(first, last)
        ranges.append(len(rows))
        return rows

    monkeypatch.setattr(feed._queries, "pending_captures", counted)
    for size in (10, 10, 700_000, 700_000, 10):
        outbox.append_sync(make_record(b"x" * size))
    assert len(take(feed, 5)) == 5
    assert ranges == [3, 2]


def test_values_that_cannot_be_read_together_are_read_one_by_one(
    feed: Feed, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which finds the one at fault. It is not tried again for each of them."""
    tries = []

    def damaged(first: int, last: int) -> list[CaptureRow]:
        tries.append(first)
        raise DamagedOutbox("a page makes no sense")

    monkeypatch.setattr(feed._queries, "pending_captures", damaged)
    store(outbox, 300)
    assert len(take(feed, 300)) == 300
    assert len(tries) == 2, "once for each of the two times that rows are read"


def test_looking_at_the_next_record_does_not_take_it(feed: Feed, outbox: Outbox) -> None:
    """There may be no room for it yet."""
    store(outbox, 2)
    assert feed.peek() is feed.peek()
    assert not feed.in_flight


def test_the_bytes_on_their_way_are_counted(feed: Feed, outbox: Outbox) -> None:
    """Down to nothing when all is delivered."""
    outbox.append_sync(make_record(b"x" * 1000))
    (seq,) = take(feed)
    assert feed.in_flight_bytes > 1000
    feed.delivered(seq)
    assert (feed.in_flight, feed.in_flight_bytes) == ({}, 0)


def test_after_a_rewind_only_what_was_not_delivered_comes_again(feed: Feed, outbox: Outbox) -> None:
    """Also what is delivered and not yet marked stays away."""
    store(outbox, 6)
    taken = take(feed, 5)
    feed.delivered(taken[1])
    feed.delivered(taken[3])
    feed.rewind()
    assert take(feed, 3) == [taken[0], taken[2], taken[4]]


def test_rows_that_were_read_before_the_marks_were_written_are_not_sent_again(feed: Feed, outbox: Outbox) -> None:
    """They still say that the record is pending."""
    store(outbox, 5)
    taken = take(feed, 4)
    for seq in taken[:3]:
        feed.delivered(seq)
    feed.rewind()
    assert feed.peek() is not None  # the rows are read here
    wait_for_marks(feed)
    feed.write_marks()
    assert feed.unmarked() == 0
    assert take(feed, 2)[0] == taken[3]
    assert feed.peek() is None


def test_marks_that_fail_are_kept_for_the_next_time(
    feed: Feed, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the relay is told, so that it waits."""
    store(outbox, 3)
    for seq in take(feed, 3):
        feed.delivered(seq)
    failed: Future[int] = Future()
    failed.set_exception(CaptureRefused("disk_full"))
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "mark_sent", lambda seqs: failed)
        feed.write_marks()
        with pytest.raises(StoreUnavailable, match="disk_full"):
            feed.write_marks()
    assert feed.unmarked() == 3
    feed.rewind()
    assert feed.peek() is None
    wait_for_marks(feed)
    feed.write_marks()
    assert outbox.stats().sent == 3


def test_a_record_that_was_given_up_comes_again_only_if_it_is_queued_again(feed: Feed, outbox: Outbox) -> None:
    """Even when its state cannot be written, or rows from before still name it."""
    store(outbox, 2)
    taken = take(feed, 2)
    feed.rewind()
    assert take(feed) == taken[:1]
    feed.give_up(taken[0], "too large")
    feed.rewind()
    assert take(feed) == taken[1:]
    outbox.tidy()  # waits its turn behind the change of state
    assert outbox.requeue(state="quarantined") == 1
    feed.delivered(taken[1])
    feed.rewind()
    assert take(feed) == taken[:1]


def test_suspects_are_sent_alone_until_each_is_cleared(feed: Feed, outbox: Outbox) -> None:
    """By its delivery, by being given up, or because somebody discarded it."""
    store(outbox, 4)
    taken = take(feed, 3)
    for seq in taken:
        feed.suspect(seq)
    feed.rewind()
    assert feed.needs_solitude()
    feed.delivered(take(feed)[0])
    feed.give_up(take(feed)[0], "too large")
    assert feed.needs_solitude()
    outbox.discard([record.id for record in outbox.list() if record.seq == taken[2]])
    feed.rewind()
    assert not feed.needs_solitude()


def test_it_is_done_when_everything_sent_is_marked(feed: Feed, outbox: Outbox) -> None:
    """An adopted outbox is let go then."""
    assert feed.is_done()
    store(outbox, 1)
    assert not feed.is_done()
    (seq,) = take(feed)
    assert not feed.is_done()
    feed.delivered(seq)
    assert not feed.is_done()
    feed.wait_for_marks(5)
    assert feed.is_done()


def test_an_older_record_that_is_queued_again_is_found(
    feed: Feed, outbox: Outbox, open_outbox: Callable[..., Outbox]
) -> None:
    """Once nothing newer is left to do."""
    records: list[OutboxRecord] = []
    for _ in range(3):
        records.append(make_record())
        outbox.append_sync(records[-1])
    for seq in take(feed, 3):
        feed.delivered(seq)
    feed.wait_for_marks(5)
    assert feed.peek() is None
    outbox.requeue([records[0].id])
    found = feed.peek()
    assert found
    assert found.message.value == records[0].value
    assert outbox.list(state="pending")[0].seq == found.seq
