"""Who waits for whom: what is pending, and what was published and is not settled by the replayer's word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.order import holds_up
from holdfast.outbox import Outbox, OutboxLimits
from tests.unit.outbox.records import make_record


class Ledger:
    """Knows what is settled, and remembers what it was asked."""

    def __init__(self, *settled: str) -> None:
        self.known = set(settled)
        self.asked: list[int] = []

    async def settled(self, ids: Sequence[str]) -> set[str]:
        self.asked.append(len(ids))
        return self.known & set(ids)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox.open(tmp_path / "holdfast.db", OutboxLimits())
    yield opened
    opened.close()


async def stored(outbox: Outbox, count: int = 1, *, sent: bool = False, key: str = "/a") -> list[str]:
    """Records of one key; their ids."""
    records = [make_record(key=key) for _ in range(count)]
    for record in records:
        await outbox.append(record)
    if sent:
        for seqs in outbox.queries.seqs([record.id for record in records]):
            outbox.mark_sent(seqs).result(5)
    return [record.id for record in records]


async def test_what_is_pending_holds_its_key_up_and_no_other(outbox: Outbox) -> None:
    """Until it is published, where nobody replays."""
    (first,) = await stored(outbox)
    assert await holds_up(outbox, "/a", None)
    assert not await holds_up(outbox, "/b", None)
    outbox.mark_sent(next(outbox.queries.seqs([first]))).result(5)
    assert not await holds_up(outbox, "/a", None)


async def test_nothing_is_read_while_nothing_is_captured(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway whose upstream is well pays nothing for the order of its keys."""
    monkeypatch.setattr(outbox, "waiting", lambda *_: pytest.fail("the outbox was read"))
    assert not await holds_up(outbox, "/a", Ledger())
    await stored(outbox, sent=True)
    assert not await holds_up(outbox, "/a", None)


async def test_what_is_published_holds_up_until_the_replayer_has_settled_it(outbox: Outbox) -> None:
    """Delivered or dead, as the ledger says."""
    first, second = await stored(outbox, 2, sent=True)
    ledger = Ledger(first)
    assert await holds_up(outbox, "/a", ledger)
    ledger.known.add(second)
    assert not await holds_up(outbox, "/a", ledger)


async def test_what_is_settled_is_asked_about_once(outbox: Outbox) -> None:
    """In pages; then it is forgotten."""
    ledger = Ledger(*await stored(outbox, 250, sent=True))
    assert not await holds_up(outbox, "/a", ledger)
    assert ledger.asked == [100, 100, 50]
    outbox.tidy()  # comes after what was to be forgotten
    ledger.asked.clear()
    (last,) = await stored(outbox, sent=True)
    assert await holds_up(outbox, "/a", ledger)
    ledger.known.add(last)
    assert not await holds_up(outbox, "/a", ledger)
    assert ledger.asked == [1, 1]


async def test_a_pending_record_behind_many_settled_ones_is_found(outbox: Outbox) -> None:
    """Pages are read to their end."""
    await stored(outbox, 150, sent=True)
    await stored(outbox)
    assert await holds_up(outbox, "/a", None)


async def test_what_cannot_be_known_is_not_denied(outbox: Outbox) -> None:
    """It is for `on_error` to say what is to become of the request then."""
    await stored(outbox)
    outbox.close()
    with pytest.raises(StoreUnavailable):
        await holds_up(outbox, "/a", None)
