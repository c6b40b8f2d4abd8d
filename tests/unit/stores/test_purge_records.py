"""Which tag was purged when."""

from __future__ import annotations

from holdfast.stores import EVERYTHING, url_tag
from holdfast.stores.purge_records import PurgeRecords, Verdict


def test_only_what_was_begun_before_is_hit() -> None:
    """The clock moves on with every purge."""
    records = PurgeRecords()
    before = records.clock
    records.note(["t"], soft=False)
    assert records.verdict("k", ("t",), before) is Verdict.GONE
    assert records.verdict("k", ("t",), records.clock) is Verdict.USABLE
    assert records.verdict("k", ("u",), before) is Verdict.USABLE


def test_every_entry_has_two_tags_of_its_own() -> None:
    """Everything, and its URL."""
    for tag in (EVERYTHING, url_tag("k")):
        records = PurgeRecords()
        records.note([tag], soft=True)
        assert records.verdict("k", (), 1) is Verdict.STALE


def test_news_that_come_late_or_twice_change_nothing() -> None:
    """A record never goes back, and neither does the clock."""
    records = PurgeRecords()
    records.note(["t"], soft=False, at=500)
    records.note(["t"], soft=False, at=300)
    assert records.clock == 501
    assert records.verdict("k", ("t",), 500) is Verdict.GONE
    assert records.verdict("k", ("t",), 501) is Verdict.USABLE


def test_forgetting_drops_what_is_older_only() -> None:
    """Of both kinds."""
    records = PurgeRecords()
    for number in range(10):
        records.note([f"t{number}"], soft=bool(number % 2))
    records.forget(6)
    assert len(records) == 5
    assert records.verdict("k", ("t5",), 6) is Verdict.STALE
