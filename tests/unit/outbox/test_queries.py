"""Looking things up: by id, by filter, in pages, while it is being written, from this process and from others."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import apsw
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.outbox import Outbox, OutboxLimits, OutboxReader, OutboxRecord, read_all
from tests.unit.outbox.records import NOW, Clock, contents, make_record, new_id, pages_of, scribble


@pytest.fixture
def records(outbox: Outbox, clock: Clock) -> list[OutboxRecord]:
    """Six records, a second apart."""
    made = []
    for number in range(6):
        route, error = ("users", "user")[number % 2], ("connection_refused", "http_502", "http_503")[number % 3]
        status = int(error[5:]) if error.startswith("http_") else None
        made.append(make_record(b"v%d" % number, route=route, error=error, status=status, created=NOW + number))
        clock.advance(1)
        outbox.append_sync(made[-1])
    return made


@pytest.fixture(params=["own", "reader"])
def view(request: pytest.FixtureRequest, outbox: Outbox, path: Path, clock: Clock) -> Outbox | OutboxReader:
    """The outbox itself, and the same from outside."""
    return outbox if request.param == "own" else read_all(path, clock)


def test_a_record_is_found_by_its_id(view: Outbox, records: list[OutboxRecord]) -> None:
    """In upper case as well, whole, with its order and its state."""
    found = view.get(records[2].id.upper())
    assert contents(found) == contents(records[2])
    assert found
    assert (found.state, found.sent) == ("pending", None)
    assert found.seq > 0


@pytest.mark.parametrize(
    "text",
    ["", "x", "' OR 1=1 --", "../../etc/passwd", "%", "{", "0" * 36, "00000000-0000-7000-8000-00000000000", "é" * 36],
)
def test_what_is_not_a_uuid_is_simply_not_found(text: str, view: Outbox, records: list[OutboxRecord]) -> None:
    """No error, and never a query with it in the text."""
    assert view.get(text) is None
    assert view.discard([text]) == 0


def test_a_uuid_that_is_not_there_is_not_found(view: Outbox, records: list[OutboxRecord]) -> None:
    """The same answer."""
    assert view.get(new_id()) is None


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ({}, [5, 4, 3, 2, 1, 0]),
        ({"route": "user"}, [5, 3, 1]),
        ({"status": 502}, [4, 1]),
        ({"error": "http_503"}, [5, 2]),
        ({"since": NOW + 4}, [5, 4]),
        ({"route": "users", "since": NOW + 1}, [4, 2]),
        ({"state": "sent"}, []),
        ({"route": "' OR 1=1 --"}, []),
        ({"status": 2**80}, []),
        ({"limit": 2}, [5, 4]),
        ({"limit": 0}, []),
        ({"limit": -5}, []),
        ({"limit": 2, "newest_first": False}, [0, 1]),
    ],
)
def test_a_list_is_filtered(
    where: dict[str, object], numbers: list[int], view: Outbox, records: list[OutboxRecord]
) -> None:
    """Newest first, unless it is asked for otherwise."""
    found = view.list(**where)  # type: ignore[arg-type]
    assert [record.id for record in found] == [records[number].id for number in numbers]


def test_a_list_leaves_out_what_is_large(view: Outbox, records: list[OutboxRecord]) -> None:
    """A hundred records of 16 MiB would not fit into memory."""
    assert {(record.key, record.value, record.headers) for record in view.list()} == {("", b"", ())}


def test_an_export_gives_whole_records_oldest_first(view: Outbox, records: list[OutboxRecord]) -> None:
    """One at a time, as many as there are."""
    assert [contents(record) for record in view.export()] == [contents(record) for record in records]
    assert [record.value for record in view.export(route="user")] == [b"v1", b"v3", b"v5"]


def test_an_export_survives_what_happens_meanwhile(view: Outbox, outbox: Outbox, clock: Clock) -> None:
    """More than a page, with records that come and go in between."""
    made = [make_record() for _ in range(1200)]
    for record in made:
        outbox.append_sync(record)
    running = view.export(state="pending")
    first = [record.id for record in islice(running, 600)]
    outbox.discard([record.id for record in made[:300]])
    late = make_record()
    outbox.append_sync(late)
    assert first + [record.id for record in running] == [record.id for record in [*made, late]]


def test_discarding_is_for_what_is_not_sent(view: Outbox, outbox: Outbox, records: list[OutboxRecord]) -> None:
    """By ids or by filter; the count is of those that were."""
    outbox.mark_sent([outbox.list(newest_first=False)[0].seq]).result()
    assert view.discard([records[0].id, records[1].id, new_id()]) == 1
    assert view.discard([records[1].id]) == 0
    assert view.discard(route="user", state="pending") == 2
    assert [record.state for record in view.list(newest_first=False)] == [
        *("sent", "discarded", "pending", "discarded", "pending", "discarded"),
    ]


def test_what_was_settled_can_be_queued_again(view: Outbox, records: list[OutboxRecord]) -> None:
    """To be sent once more, at its old place."""
    view.discard(state="pending")
    assert view.requeue([records[3].id, records[4].id]) == 2
    assert [record.id for record in view.list(state="pending")] == [records[4].id, records[3].id]
    found = view.get(records[3].id)
    assert found
    assert found.sent is None


def test_the_figures(view: Outbox, outbox: Outbox, records: list[OutboxRecord], clock: Clock) -> None:
    """By state; bytes as the bounds count them; the age of the oldest that is to be sent."""
    outbox.discard([records[0].id])
    clock.advance(4)
    stats = view.stats()
    assert (stats.pending, stats.sent, stats.discarded, stats.quarantined) == (5, 0, 1, 0)
    assert stats.bytes == sum(record.size for record in records)
    assert stats.oldest_pending_seconds == 9.0
    assert stats.file_bytes >= 4096


def test_a_reader_marks_what_it_has_taken_out(outbox: Outbox, path: Path, records: list[OutboxRecord]) -> None:
    """How an outbox without a broker is emptied."""
    with read_all(path) as reader:
        (slot,) = reader.slots()
        (seqs,) = slot.seqs([records[0].id, records[1].id])
        assert reader.settle(slot, seqs, "sent") == 2
        assert reader.settle(slot, seqs, "sent") == 0
        assert reader.settle(slot, seqs, "quarantined") == 0
    found = outbox.get(records[0].id)
    assert found
    assert found.state == "sent"
    assert found.sent


def test_a_reader_sees_all_slots(outbox: Outbox, path: Path, clock: Clock, records: list[OutboxRecord]) -> None:
    """In one order, as if they were one."""
    other = Outbox.open(path, OutboxLimits(), clock)
    clock.advance(1)
    theirs = make_record(created=NOW + 6.5)
    other.append_sync(theirs)
    clock.advance(1)
    last = make_record(created=NOW + 7.5)
    outbox.append_sync(last)
    with read_all(path, clock) as reader:
        assert [record.id for record in reader.list(limit=3)] == [last.id, theirs.id, records[5].id]
        assert contents(reader.get(theirs.id)) == contents(theirs)
        assert [record.id for record in reader.export()] == [r.id for r in [*records, theirs, last]]
        assert reader.stats().pending == 8
        assert reader.discard(state="pending") == 8
    assert other.list(state="pending") == []
    other.close()


def test_where_there_is_no_outbox_nothing_is_found(tmp_path: Path) -> None:
    """And none is made."""
    with read_all(tmp_path / "holdfast.db") as reader:
        assert reader.list() == []
        assert reader.get(new_id()) is None
        assert list(reader.export()) == []
        assert reader.stats().records == 0
        assert reader.discard(state="pending") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_reader_works_after_the_gateway_has_stopped(open_outbox: Callable[..., Outbox], path: Path) -> None:
    """Read and write."""
    record = make_record()
    outbox = open_outbox()
    outbox.append_sync(record)
    outbox.close()
    with read_all(path) as reader:
        assert contents(reader.get(record.id)) == contents(record)
        assert reader.discard([record.id]) == 1
    assert open_outbox().stats().discarded == 1


def test_the_owner_learns_what_others_have_changed(
    open_outbox: Callable[..., Outbox], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its bounds stay right."""
    monkeypatch.setattr("holdfast.outbox.ledger._RECOUNT_EVERY", 0.0)
    outbox = open_outbox(max_records=2)
    for _ in range(2):
        outbox.append_sync(make_record())
    with read_all(path) as reader:
        reader.discard(state="pending")
    outbox.append_sync(make_record())
    assert outbox.stats().pending == 1


def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    """Not with an error of the library."""
    (tmp_path / "holdfast.db").write_text("not a database at all" * 1000)
    with read_all(tmp_path / "holdfast.db") as reader, pytest.raises(StoreUnavailable, match=r"holdfast\.db"):
        reader.list()
    with read_all(tmp_path / "holdfast.db") as reader, pytest.raises(StoreUnavailable, match=r"holdfast\.db"):
        reader.discard(state="pending")


def test_a_reader_follows_a_file_that_was_replaced(open_outbox: Callable[..., Outbox], path: Path) -> None:
    """As a rescue does it."""
    outbox = open_outbox()
    first, second = make_record(), make_record()
    outbox.append_sync(first)
    reader = read_all(path)
    assert reader.get(first.id)
    outbox.close()
    path.rename(path.with_name("aside.db"))
    open_outbox().append_sync(second)
    assert reader.get(first.id) is None
    assert reader.get(second.id)
    reader.close()


def damage_a_capture(path: Path, record_id: str) -> None:
    """Change one byte of a stored value, in a way that SQLite cannot notice."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5000)
    seq = db.execute("SELECT seq FROM ledger WHERE id = ?", (record_id,)).get
    db.execute("UPDATE captures SET value = x'00' WHERE seq = ?", (seq,))
    db.close()


def test_a_damaged_value_is_put_into_quarantine_and_the_rest_goes_on(
    outbox: Outbox, path: Path, records: list[OutboxRecord]
) -> None:
    """It is never handed out as if it were right, and it is counted."""
    damage_a_capture(path, records[2].id)
    assert len(list(outbox.export())) == 5
    found = outbox.get(records[2].id)
    assert found
    assert (found.state, found.value, found.error) == ("quarantined", b"", "http_503")
    outbox.append_sync(make_record())  # behind the change of state, in the same queue
    stats = outbox.stats()
    assert (stats.quarantined, stats.pending, stats.damaged) == (1, 6, 1)


def test_a_reader_skips_a_damaged_value(outbox: Outbox, path: Path, records: list[OutboxRecord]) -> None:
    """It changes nothing, as it does not own the file."""
    damage_a_capture(path, records[2].id)
    with read_all(path) as reader:
        assert len(list(reader.export())) == 5
        assert len(reader.list(state="pending")) == 6


def test_a_garbled_page_of_values_costs_only_those(open_outbox: Callable[..., Outbox], path: Path) -> None:
    """Read from a live outbox, whose structure is sound."""
    outbox = open_outbox()
    made = [make_record(b"x" * 1000) for _ in range(60)]
    for record in made:
        outbox.append_sync(record)
    outbox.close()
    scribble(path, pages_of(path, "captures")[7])
    outbox = open_outbox()
    whole = list(outbox.export())
    assert 50 < len(whole) < 60
    outbox.append_sync(make_record())
    assert outbox.stats().damaged == outbox.stats().quarantined == 60 - len(whole)
