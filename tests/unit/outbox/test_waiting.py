"""The index of what somebody of a key may have to wait for: right whatever changes a state, and made when asked for."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.outbox import Outbox, read_all
from holdfast.outbox.database import connect
from holdfast.outbox.waiting import WAITING
from tests.unit.outbox.records import Clock, make_record


def waiting(outbox: Outbox, key: str) -> list[tuple[str, str]]:
    """(id, state), oldest first."""
    return [(row.id, row.state) for row in outbox.waiting(key, 0, 100)]


def sent(outbox: Outbox, *ids: str) -> None:
    """As the relay marks them."""
    for seqs in outbox.queries.seqs(ids):
        outbox.mark_sent(seqs).result(5)


def test_nobody_pays_for_it_who_does_not_ask(outbox: Outbox) -> None:
    """No table, no trigger; the first question makes both, of what is there by then."""
    first = make_record(key="/a")
    outbox.append_sync(first)
    db = connect(outbox.path, read_only=True)
    names = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'waiting%'"
    assert db.execute(names).get == 0
    assert waiting(outbox, "/a") == [(first.id, "pending")]
    assert db.execute(names).get == 5
    db.close()
    second = make_record(key="/a")
    outbox.append_sync(second)
    assert waiting(outbox, "/a") == [(first.id, "pending"), (second.id, "pending")]
    assert waiting(outbox, "/b") == []


def test_it_is_the_same_after_a_restart_and_for_the_command_line(
    open_outbox: Callable[..., Outbox], path: Path, clock: Clock
) -> None:
    """Triggers belong to the file, so that another process keeps it right too."""
    outbox = open_outbox()
    records = [make_record(key="/a") for _ in range(3)]
    for record in records:
        outbox.append_sync(record)
    assert len(waiting(outbox, "/a")) == 3
    outbox.close()
    again = open_outbox()
    with read_all(path, clock) as reader:
        reader.discard([records[0].id])
        assert waiting(again, "/a") == [(records[1].id, "pending"), (records[2].id, "pending")]
        for queries in reader.slots():
            for seqs in queries.seqs([records[1].id]):
                reader.settle(queries, seqs, "sent")
        assert waiting(again, "/a") == [(records[1].id, "sent"), (records[2].id, "pending")]
        reader.requeue([records[0].id])
    assert waiting(again, "/a")[0] == (records[0].id, "pending")


def test_what_is_forgotten_comes_back_if_it_is_queued_again(outbox: Outbox) -> None:
    """And what was queued again meanwhile is not forgotten."""
    record = make_record(key="/a")
    outbox.append_sync(record)
    sent(outbox, record.id)
    (row,) = outbox.waiting("/a", 0, 10)
    outbox.requeue([record.id])
    outbox.forget("/a", [row.seq])
    outbox.tidy()  # comes after it in the writer's queue
    assert waiting(outbox, "/a") == [(record.id, "pending")]
    sent(outbox, record.id)
    outbox.forget("/a", [row.seq])
    outbox.tidy()
    assert waiting(outbox, "/a") == []
    outbox.requeue([record.id])
    assert waiting(outbox, "/a") == [(record.id, "pending")]


def test_it_agrees_with_the_records_whatever_happens(
    open_outbox: Callable[..., Outbox], clock: Clock, seed: int
) -> None:
    """Any order of storing, sending, giving up, queueing again, quarantining and pruning."""
    outbox, dice = open_outbox(retention=100.0), random.Random(seed)
    ids: list[str] = []
    outbox.waiting("/0", 0, 1)
    for _ in range(150):
        match dice.randrange(6):
            case 0 | 1:
                record = make_record(key=f"/{dice.randrange(3)}", created=clock.now)
                outbox.append_sync(record)
                ids.append(record.id)
            case 2 if ids:
                sent(outbox, dice.choice(ids))
            case 3 if ids:
                outbox.discard([dice.choice(ids)])
            case 4 if ids:
                outbox.requeue([dice.choice(ids)])
            case 5 if ids:
                for seqs in outbox.queries.seqs([dice.choice(ids)]):
                    outbox.quarantine(seqs).result(5)
        clock.advance(dice.randrange(20))
        outbox.tidy()
    known = [(record.key, record.id, record.state) for record in outbox.export()]
    for key in ("/0", "/1", "/2"):
        assert waiting(outbox, key) == [(i, s) for k, i, s in known if k == key and s in ("pending", "sent")]


def test_it_is_made_anew_with_a_damaged_file(outbox: Outbox) -> None:
    """It is left behind by the rescue, as nothing in it cannot be made from the records."""
    records = [make_record(key="/a") for _ in range(3)]
    for record in records:
        outbox.append_sync(record)
    assert len(waiting(outbox, "/a")) == 3
    outbox.salvage()
    assert [found for found, _ in waiting(outbox, "/a")] == [record.id for record in records]


def test_two_who_ask_first_at_once_make_it_once(outbox: Outbox) -> None:
    """Live requests ask from several threads."""
    outbox.append_sync(make_record(key="/a"))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(waiting(outbox, "/a")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4


def test_an_outbox_that_is_closed_says_that_it_cannot_tell(outbox: Outbox) -> None:
    """Not that nobody waits."""
    outbox.append_sync(make_record(key="/a"))
    outbox.close()
    with pytest.raises(StoreUnavailable, match="cannot be indexed"):
        outbox.waiting("/a", 0, 10)


def test_the_question_is_answered_out_of_the_index_alone(outbox: Outbox) -> None:
    """However many records of other keys there are: a search in `waiting`, and one in the ledger for each row of it."""
    outbox.waiting("/a", 0, 1)
    db = connect(outbox.path, read_only=True)
    plan = [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {WAITING}", ("/a", 0, 10)).fetchall()]
    db.close()
    assert plan == [
        "SEARCH w USING PRIMARY KEY (key=? AND seq>?)",
        "SEARCH l USING INTEGER PRIMARY KEY (rowid=?)",
    ]
