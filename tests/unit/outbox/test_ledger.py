"""The bounds: what is refused, what makes room, what is pruned, and that the file shrinks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import CaptureRefused
from holdfast.outbox import Outbox, OutboxRecord
from tests.unit.outbox.records import Clock, make_record


def refused(outbox: Outbox, record: OutboxRecord) -> str:
    with pytest.raises(CaptureRefused) as caught:
        outbox.append_sync(record)
    return caught.value.reason


def send(outbox: Outbox, *records: OutboxRecord) -> None:
    seqs = {record.id: record.seq for record in outbox.list(limit=10_000)}
    outbox.mark_sent(seqs[record.id] for record in records).result()


def test_at_the_bound_of_records_an_append_is_refused(open_outbox: Callable[..., Outbox]) -> None:
    """Unsent records are never dropped to make room."""
    outbox = open_outbox(max_records=3)
    for _ in range(3):
        outbox.append_sync(make_record())
    assert refused(outbox, make_record()) == "outbox_full"
    assert outbox.stats().pending == 3


def test_at_the_bound_of_bytes_an_append_is_refused(open_outbox: Callable[..., Outbox]) -> None:
    """A smaller record may still fit."""
    outbox = open_outbox(max_bytes=10_000)
    outbox.append_sync(make_record(b"x" * 6000))
    assert refused(outbox, make_record(b"x" * 6000)) == "outbox_full"
    outbox.append_sync(make_record(b"x" * 100))
    assert outbox.stats().bytes <= 10_000


def test_a_record_over_its_own_bound_is_too_large(open_outbox: Callable[..., Outbox]) -> None:
    """Counted by its contents: exactly the bound is still allowed to be stored."""
    outbox = open_outbox(max_record=2000)
    fits = make_record(b"", headers=())
    spare = 2000 - sum(len(text) for text in (fits.id, fits.key, fits.route, fits.method, fits.path, fits.error))
    outbox.append_sync(make_record(b"x" * spare, headers=()))
    assert refused(outbox, make_record(b"x" * (spare + 1), headers=())) == "too_large"


def test_the_oldest_sent_records_make_room(open_outbox: Callable[..., Outbox], clock: Clock) -> None:
    """Before their retention is over, but only as many as it takes, a batch at a time."""
    outbox = open_outbox(max_records=300)
    records = [make_record() for _ in range(300)]
    for record in records:
        outbox.append_sync(record)
        clock.advance(1)
    send(outbox, *records[:299])
    outbox.append_sync(make_record())
    assert outbox.get(records[0].id) is None
    assert outbox.get(records[298].id) is not None
    assert outbox.stats().pending == 2


def test_room_is_not_made_for_what_can_never_fit(open_outbox: Callable[..., Outbox]) -> None:
    """Sent records stay if deleting all of them would not be enough."""
    outbox = open_outbox(max_records=2)
    first = make_record()
    outbox.append_sync(first)
    outbox.append_sync(make_record())
    assert refused(outbox, make_record()) == "outbox_full"
    send(outbox, first)
    outbox.append_sync(make_record())
    assert refused(outbox, make_record()) == "outbox_full"


@pytest.mark.parametrize("state", ["sent", "discarded"])
def test_settled_records_go_after_their_retention(state: str, open_outbox: Callable[..., Outbox], clock: Clock) -> None:
    """Counted from when they were sent or discarded, not from when they were captured."""
    outbox = open_outbox(retention=100)
    record, other = make_record(), make_record()
    outbox.append_sync(record)
    outbox.append_sync(other)
    clock.advance(1000)
    if state == "sent":
        send(outbox, record)
    else:
        outbox.discard([record.id])
    clock.advance(99)
    outbox.tidy()
    assert outbox.get(record.id)
    clock.advance(1)
    outbox.tidy()
    assert outbox.get(record.id) is None
    assert outbox.get(other.id)
    assert outbox.stats().records == 1


def test_quarantined_records_are_never_pruned(open_outbox: Callable[..., Outbox], clock: Clock) -> None:
    """They were not sent, and only a person can say that they are not needed."""
    outbox = open_outbox(retention=0, max_records=1)
    record = make_record()
    outbox.append_sync(record)
    outbox.quarantine([outbox.list()[0].seq]).result()
    clock.advance(10**9)
    outbox.tidy()
    assert outbox.get(record.id)
    assert refused(outbox, make_record()) == "outbox_full"


def test_the_file_shrinks_when_its_records_are_gone(open_outbox: Callable[..., Outbox], clock: Clock) -> None:
    """After an outage of the broker the space is given back to the machine."""
    outbox = open_outbox(retention=1)
    for _ in range(100):
        outbox.append_sync(make_record(b"x" * 200_000))
    full = outbox.stats().file_bytes
    send(outbox, *outbox.list(limit=1000))
    clock.advance(2)
    outbox.tidy()
    assert full > 20_000_000
    assert outbox.path.stat().st_size < 2_000_000
    assert outbox.stats().bytes == 0


def test_totals_follow_every_change_of_state(outbox: Outbox) -> None:
    """And are the same when they are counted anew."""
    records = [make_record(b"x" * 100 * number) for number in range(1, 7)]
    for record in records:
        outbox.append_sync(record)
    send(outbox, *records[:3])
    outbox.discard([records[3].id])
    outbox.requeue([records[0].id])
    stats = outbox.stats()
    assert (stats.pending, stats.sent, stats.discarded, stats.records) == (3, 2, 1, 6)
    assert stats.bytes == sum(record.size for record in records)


def test_totals_are_the_same_after_a_restart(open_outbox: Callable[..., Outbox]) -> None:
    """They are counted from the rows."""
    outbox = open_outbox()
    for number in range(5):
        outbox.append_sync(make_record(b"x" * number))
    send(outbox, *outbox.list(limit=2))
    before = outbox.stats()
    outbox.close()
    after = open_outbox().stats()
    assert (after.pending, after.sent, after.bytes) == (before.pending, before.sent, before.bytes)


def test_a_number_is_never_used_again(open_outbox: Callable[..., Outbox], clock: Clock) -> None:
    """Even if the clock stands still, and the record that had it is gone."""
    outbox = open_outbox(retention=0)
    outbox.append_sync(make_record())
    outbox.append_sync(make_record())
    first, second = outbox.list(newest_first=False)
    assert first.seq < second.seq
    clock.advance(-1000)
    outbox.append_sync(make_record())
    assert outbox.list(limit=1)[0].seq > second.seq


def test_a_file_that_was_deleted_is_begun_anew(outbox: Outbox, path: Path) -> None:
    """What is written to a file without a name would be lost with the process."""
    outbox.append_sync(make_record())
    for each in (path, path.with_name("holdfast.db-wal"), path.with_name("holdfast.db-shm")):
        each.unlink()
    record = make_record()
    outbox.append_sync(record)
    assert path.exists()
    assert outbox.get(record.id)
    assert outbox.stats().records == 1
