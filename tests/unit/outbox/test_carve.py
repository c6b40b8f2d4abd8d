"""Rows found page by page: all that are there, none that were deleted, whatever else is in the file."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord, carve
from holdfast.outbox.record import from_capture
from tests.unit.outbox.records import Clock, contents, make_record, pages_of, scribble

# Around the sizes at which SQLite moves a part of a row to other pages.
SIZES = st.one_of(
    st.integers(0, 300),
    st.integers(3500, 4400),
    st.integers(7800, 8700),
    st.integers(0, 60_000),
)


def carved(path: Path) -> list[OutboxRecord]:
    pages = carve.Pages(path)
    try:
        found = {row[0]: from_capture(row) for row in carve.captures(pages)}
        return [found[seq] for seq in sorted(found)]
    finally:
        pages.close()


def states(path: Path) -> list[str]:
    """The states of all records, oldest first."""
    pages = carve.Pages(path)
    try:
        newest = {row[0]: row for row in sorted(carve.ledger(pages), key=lambda row: row[11])}
        return [newest[seq][8] for seq in sorted(newest)]
    finally:
        pages.close()


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(SIZES, min_size=1, max_size=20), closed=st.booleans(), status=st.none() | st.integers(0, 2**40))
def test_every_row_is_found(tmp_path_factory, sizes: list[int], closed: bool, status: int | None) -> None:  # type: ignore[no-untyped-def]
    """Whether it is in the database or still in its log, in one page or in many."""
    path = tmp_path_factory.mktemp("carve") / "holdfast.db"
    outbox = Outbox.open(path, OutboxLimits(), Clock())
    dice = random.Random(len(sizes))
    records = [make_record(dice.randbytes(size), status=status, key="k" * (size % 5000)) for size in sizes]
    for record in records:
        outbox.append_sync(record)
    if closed:
        outbox.close()
    try:
        assert [contents(record) for record in carved(path)] == [contents(record) for record in records]
        assert states(path) == ["pending"] * len(records)
    finally:
        outbox.close()


def test_the_newest_state_of_a_record_is_found(outbox: Outbox, path: Path) -> None:
    """Also where older pages still tell another."""
    records = [make_record() for _ in range(3)]
    for record in records:
        outbox.append_sync(record)
    outbox.discard([records[0].id])
    outbox.mark_sent([outbox.list(limit=1)[0].seq]).result()
    assert states(path) == ["discarded", "pending", "sent"]
    outbox.close()
    assert states(path) == ["discarded", "pending", "sent"]


def test_what_was_deleted_does_not_come_back(outbox: Outbox, path: Path, clock: Clock) -> None:
    """Pages that are not in use still hold old rows: they would be sent again."""
    for number in range(200):
        outbox.append_sync(make_record(bytes([number]) * 2000))
    outbox.discard(state="pending")
    clock.advance(90_000)
    outbox.tidy()
    outbox.close()
    assert path.stat().st_size > 100_000  # some free pages are kept
    assert carved(path) == []
    assert states(path) == []


def test_a_garbled_page_costs_only_its_own_rows(outbox: Outbox, path: Path) -> None:
    """Nothing around it is needed: not the tree above it, not the page before."""
    records = [make_record(random.Random(number).randbytes(1000)) for number in range(100)]
    for record in records:
        outbox.append_sync(record)
    outbox.close()
    leaves = pages_of(path, "captures")
    scribble(path, leaves[10])
    scribble(path, 1, 2)
    found = {contents(record) for record in carved(path)}
    assert found < {contents(record) for record in records}
    assert len(found) >= 96
