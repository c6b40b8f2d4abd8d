"""The record, its size, its checksums."""

from __future__ import annotations

import pytest

from holdfast.outbox import OutboxLimits, OutboxStats
from holdfast.outbox.record import (
    ROW_COST,
    capture_intact,
    capture_row,
    from_capture,
    ledger_intact,
    ledger_row,
    storable,
)
from tests.unit.outbox.records import contents, make_record


def test_a_record_comes_back_from_its_row_as_it_was() -> None:
    """Headers and value included, whatever bytes they are."""
    record = make_record(b"\x00\xff\n", headers=(("a", b"\x00"), ("a", b"2")), status=502, key="ключ")
    assert contents(from_capture(capture_row(record, 7))) == contents(record)


@pytest.mark.parametrize("column", range(12))
def test_a_change_in_any_column_of_a_capture_is_noticed(column: int) -> None:
    """The checksum is over all that is stored."""
    row = list(capture_row(make_record(status=503), 7))
    row[column] = {int: 8, float: 1.5, str: "x", bytes: b"x"}[type(row[column])]
    assert not capture_intact(tuple(row))  # type: ignore[arg-type]


@pytest.mark.parametrize("column", range(13))
def test_a_change_in_any_column_of_the_ledger_is_noticed(column: int) -> None:
    """The state and the time it was reached included."""
    row = list(ledger_row(make_record(status=503), 7, 100))
    assert ledger_intact(tuple(row))  # type: ignore[arg-type]
    row[column] = "sent" if column == 8 else {int: 8, float: 1.5, str: "x", bytes: b"x"}.get(type(row[column]), 2.5)
    assert not ledger_intact(tuple(row))  # type: ignore[arg-type]


def test_a_state_that_does_not_exist_is_not_intact() -> None:
    """Even with a checksum that fits."""
    row = ledger_row(make_record(), 7, 100)
    assert not ledger_intact((*row[:8], "lost", *row[9:]))  # type: ignore[arg-type]


def test_text_without_a_utf8_form_is_stored_as_an_escape() -> None:
    """A raw request path may hold bytes that decode to lone surrogates; the capture must not fail for it."""
    record = storable(make_record(path="/caf\udce9", key="/ok"))
    assert (record.path, record.key) == ("/caf\\udce9", "/ok")
    plain = make_record(path="/café")
    assert storable(plain) is plain


def test_the_size_counts_the_contents_and_what_the_rows_cost() -> None:
    """So that the bound on bytes is one on the disk."""
    small, large = make_record(b""), make_record(b"x" * 1000)
    assert large.size - small.size == 1000
    assert small.size > ROW_COST


@pytest.mark.parametrize("limits", [{"max_records": 0}, {"max_bytes": -1}, {"retention": -1.0}, {"commit_timeout": 0}])
def test_limits_that_cannot_be_meant_are_refused(limits: dict[str, float]) -> None:
    """A bound of nothing would refuse every capture."""
    with pytest.raises(ValueError, match=next(iter(limits))):
        OutboxLimits(**limits)  # type: ignore[arg-type]


def test_stats_know_how_many_records_there_are() -> None:
    """In every state."""
    assert OutboxStats(pending=1, sent=2, discarded=3, quarantined=4).records == 10
