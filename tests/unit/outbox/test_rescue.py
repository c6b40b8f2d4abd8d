"""Damaged files: what is whole is carried over in its order and its state, the rest costs only itself."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.outbox import Outbox, OutboxRecord
from holdfast.outbox import rescue as rescue_module
from holdfast.outbox.database import connect
from holdfast.outbox.rescue import finish, rescue
from holdfast.outbox.slots import lock_path
from tests.unit.outbox.records import NOW, Clock, contents, make_record, pages_of, scribble

COUNT = 120


@pytest.fixture
def records(open_outbox: Callable[..., Outbox], clock: Clock) -> list[OutboxRecord]:
    """120 records in a closed outbox; every tenth is sent, the second discarded."""
    outbox = open_outbox()
    made = [make_record(random.Random(number).randbytes(500 + 37 * number)) for number in range(COUNT)]
    for record in made:
        outbox.append_sync(record)
        clock.advance(0.001)
    seqs = [record.seq for record in outbox.list(limit=COUNT, newest_first=False)]
    outbox.mark_sent(seqs[::10]).result()
    outbox.discard([made[1].id])
    outbox.close()
    return made


def aside(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.glob("*corrupt*"))


def check(outbox: Outbox, records: list[OutboxRecord], most_lost: int) -> None:
    """What is to be sent is intact and in its order, and it is all but a few.

    Records that were sent may be among them, if their state was lost.
    """
    listed = outbox.list(limit=1000, newest_first=False, state="pending")
    found = [whole for record in listed if (whole := outbox.get(record.id)) and whole.state == "pending"]
    ids = {record.id for record in found}
    assert [contents(record) for record in found] == [contents(record) for record in records if record.id in ids]
    expected = {record.id for index, record in enumerate(records) if index % 10 and index != 1}
    assert len(expected - ids) <= most_lost


def test_a_garbled_middle_of_the_file_costs_only_the_records_in_it(
    records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """Whatever pages it hits: the outbox opens, says how many it saved, and every other record is there."""
    scribble(path, path.stat().st_size // 4096 // 2, count=6)
    outbox = open_outbox()
    check(outbox, records, most_lost=20)
    outbox.append_sync(make_record())


@pytest.mark.parametrize("page", range(1, 40))
def test_any_page_may_be_garbled(
    page: int, records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """The header, the pointer map, the root of a table, an index, a leaf, an overflow page: one after the other."""
    scribble(path, page, seed=page)
    outbox = open_outbox()
    check(outbox, records, most_lost=8)
    outbox.append_sync(make_record())


def test_a_garbled_ledger_costs_nothing(
    records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """Captures whose state is lost are to be sent, maybe again: at least once."""
    for page in pages_of(path, "ledger"):
        scribble(path, page)
    outbox = open_outbox()
    assert outbox.stats().pending == COUNT
    assert outbox.stats().salvaged == COUNT
    assert [contents(record) for record in outbox.export()] == [contents(record) for record in records]
    assert aside(path) == [f"holdfast.db.corrupt-{int(NOW)}"]


def test_what_a_damaged_tree_does_not_lead_to_is_found(
    records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """Garble every page of every tree but the leaves of the records themselves: nothing is lost."""
    for table in ("captures", "ledger"):
        for page in pages_of(path, table, "internal"):
            scribble(path, page)
    outbox = open_outbox()
    check(outbox, records, most_lost=0)
    assert outbox.stats().rescues == 1


def test_a_tree_in_the_place_of_another_is_noticed(
    records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """A write that went astray: each tree is sound in itself, and the rows are of the wrong table."""
    content = bytearray(path.read_bytes())
    source, target = pages_of(path, "ledger", "internal")[0], pages_of(path, "captures", "internal")[0]
    content[(target - 1) * 4096 : target * 4096] = content[(source - 1) * 4096 : source * 4096]
    path.write_bytes(content)
    outbox = open_outbox()
    check(outbox, records, most_lost=0)
    outbox.append_sync(make_record())


def test_a_record_whose_value_is_lost_stays_visible(
    records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """Its client has an id, and that id must not lead to nothing."""
    lost = set(pages_of(path, "captures")[5:8])
    scribble(path, 1)
    for page in lost:
        scribble(path, page)
    outbox = open_outbox()
    missing = outbox.list(limit=1000, state="quarantined")
    assert 1 <= len(missing) <= 12
    for record in missing:
        shown = outbox.get(record.id)
        assert shown is not None
        assert (shown.state, shown.value, shown.path) == ("quarantined", b"", "/api/users")


@pytest.mark.parametrize("size", [1, 99, 100, 2000, 4095, 4096, 4097, 8192, 10_000, 20_493, 28_685])
def test_a_file_may_end_anywhere(
    size: int, records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """In the middle of its header, or of its first pages."""
    os.truncate(path, size)
    outbox = open_outbox()
    assert outbox.stats().rescues == 1
    outbox.append_sync(make_record())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file_gives_what_is_left_of_it(
    share: float, records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """As a copy that was cut short, or a file system that lost its tail."""
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    outbox = open_outbox()
    assert outbox.stats().rescues == 1
    check(outbox, records, most_lost=COUNT - int(COUNT * share * share) + 15)
    outbox.append_sync(make_record())


@pytest.mark.parametrize("content", [b"", b"\x00" * 8192, b"garbage" * 5000])
def test_a_file_with_nothing_left_in_it_is_put_aside(
    content: bytes, records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """An outbox that cannot be opened at all must not keep captures from being taken."""
    path.write_bytes(content)
    outbox = open_outbox()
    assert (outbox.stats().records, outbox.stats().rescues) == (0, 1)
    assert aside(path) == [f"holdfast.db.corrupt-{int(NOW)}"]
    outbox.append_sync(make_record())


def test_what_is_only_in_the_log_is_salvaged_too(open_outbox: Callable[..., Outbox], path: Path) -> None:
    """After a kill most records are in the -wal file, and a database that was cut to nothing makes SQLite delete it."""
    outbox = open_outbox()
    record = make_record(b"x" * 9000)
    outbox.append_sync(record)
    copies = {name: path.with_name(name).read_bytes() for name in ("holdfast.db", "holdfast.db-wal")}
    outbox.close()
    path.with_name("holdfast.db-wal").write_bytes(copies["holdfast.db-wal"])
    path.write_bytes(b"")
    again = open_outbox()
    assert contents(again.get(record.id)) == contents(record)
    assert len(aside(path)) == 2  # the log as well


def test_damage_in_the_log_does_not_cut_off_what_comes_behind_it(
    open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """SQLite would silently drop every transaction behind a damaged frame."""
    outbox = open_outbox()
    records = [make_record(random.Random(number).randbytes(6000)) for number in range(30)]
    for record in records:
        outbox.append_sync(record)
    copies = {name: path.with_name(name).read_bytes() for name in ("holdfast.db", "holdfast.db-wal")}
    outbox.close()
    for name, content in copies.items():
        path.with_name(name).write_bytes(content)
    scribble(path.with_name("holdfast.db-wal"), 30)
    again = open_outbox()
    found = {record.id for record in again.list(limit=100, state="pending")}
    assert again.stats().rescues == 1
    assert len({record.id for record in records} - found) <= 2


@pytest.mark.parametrize("place", [0, 3, 4, 8, 12, 16, 23, 24, 31])
def test_a_wrong_byte_in_the_header_of_the_log_costs_nothing(
    place: int, open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """SQLite ignores such a log, and would begin a new one over records that are nowhere else."""
    log = path.with_name("holdfast.db-wal")
    outbox = open_outbox()
    records = [make_record(b"x" * 900) for _ in range(5)]
    for record in records:
        outbox.append_sync(record)
    copies = {each: each.read_bytes() for each in (path, log)}
    outbox.close()
    for each, content in copies.items():
        each.write_bytes(content)
    garbled = bytearray(copies[log])
    garbled[place] ^= 1
    log.write_bytes(garbled)
    again = open_outbox()
    assert [contents(record) for record in again.export()] == [contents(record) for record in records]
    assert (again.stats().pending, again.stats().rescues) == (5, 1)


@pytest.mark.parametrize("place", [18, 19])
def test_an_outbox_that_never_held_anything_and_may_not_be_written_is_begun_anew(
    place: int, open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """One wrong byte of the header of a file whose tables are not made yet: no reason to refuse every capture."""
    connect(path, create=True).close()
    lock_path(path).write_text("outbox holdfast.db, last opened by process 1\n")
    content = bytearray(path.read_bytes())
    content[place] = 210
    path.write_bytes(content)
    outbox = open_outbox()
    outbox.append_sync(make_record())
    assert (outbox.stats().pending, outbox.stats().rescues) == (1, 1)
    assert aside(path) == [f"holdfast.db.corrupt-{int(NOW)}"]


@pytest.mark.parametrize("place", range(68, 72))
def test_a_copy_with_a_wrong_mark_is_known_by_its_tables(
    place: int, records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """Put back from a backup, without its lock file, it is still not another program's database."""
    lock_path(path).unlink()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    outbox = open_outbox()
    assert outbox.stats().rescues == 1
    check(outbox, records, most_lost=0)


def test_a_rescue_that_finds_no_room_leaves_everything_as_it_is(
    records: list[OutboxRecord], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged file may be all there is; the next start tries again."""
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(rescue_module, "_copy_captures", full)
    with pytest.raises(StoreUnavailable, match="free space"):
        rescue(path, NOW)
    assert path.read_bytes() == before
    assert aside(path) == []


@pytest.mark.parametrize("steps", range(5))
def test_a_crash_in_the_middle_of_a_rescue_loses_nothing(
    steps: int,
    records: list[OutboxRecord],
    open_outbox: Callable[..., Outbox],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After any number of its renames the next start gets all records, from the old file or from the new one."""
    path.with_name("holdfast.db-wal").write_bytes(b"")
    path.with_name("holdfast.db-shm").write_bytes(b"")
    done = 0
    rename = os.rename

    def crashing(source: Path, target: Path) -> None:
        nonlocal done
        if done == steps:
            raise KeyboardInterrupt
        done += 1
        rename(source, target)

    monkeypatch.setattr(os, "rename", crashing)
    with pytest.raises(KeyboardInterrupt):
        rescue(path, NOW)
    monkeypatch.undo()
    outbox = open_outbox()
    check(outbox, records, most_lost=0)
    assert not path.with_name("holdfast.db.salvaged").exists()


def test_there_is_nothing_to_finish_after_a_sound_end(records: list[OutboxRecord], path: Path) -> None:
    """Called at every start, it touches nothing."""
    before = path.read_bytes()
    finish(path, NOW)
    assert path.read_bytes() == before
    assert aside(path) == []


def test_a_second_rescue_in_the_same_second_keeps_the_first_file(
    records: list[OutboxRecord], open_outbox: Callable[..., Outbox], path: Path
) -> None:
    """Nothing that was put aside is overwritten."""
    for _ in range(2):
        scribble(path, 1)
        open_outbox().close()
    assert aside(path) == [f"holdfast.db.corrupt-{int(NOW)}", f"holdfast.db.corrupt-{int(NOW)}-1"]


def test_damage_that_appears_while_running_is_salvaged(outbox: Outbox, path: Path) -> None:
    """A write that meets a garbled page begins the file anew, and is not lost itself."""
    records = [make_record(b"x" * 800) for _ in range(200)]
    for record in records:
        outbox.append_sync(record)
    outbox._writer._ledger._checkpoint()  # type: ignore[union-attr]
    for table in ("ledger", "sqlite_autoindex_ledger_1"):
        for page in pages_of(path, table):
            scribble(path, page)
    outbox._writer._ledger.db.cache_flush()  # type: ignore[union-attr]
    outbox._writer._ledger.db.release_memory()  # type: ignore[union-attr]
    last = make_record()
    outbox.append_sync(last)
    assert outbox.get(last.id)
    assert outbox.stats().pending >= 201
