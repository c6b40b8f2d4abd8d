"""One file for each process, and what becomes of a file whose process is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.outbox import Outbox, OutboxLimits, slots
from tests.unit.outbox.records import Clock, make_record

LIMITS = OutboxLimits()


def test_a_second_process_takes_the_next_slot(outbox: Outbox, path: Path, clock: Clock) -> None:
    """The lock belongs to an open file, so that a second outbox of one process is treated the same."""
    second, third = (Outbox.open(path, LIMITS, clock) for _ in range(2))
    assert [each.path.name for each in (outbox, second, third)] == ["holdfast.db", "holdfast.1.db", "holdfast.2.db"]
    second.close()
    assert Outbox.open(path, LIMITS, clock).path == second.path
    third.close()


def test_a_slot_is_free_when_its_process_was_killed(path: Path) -> None:
    """The kernel lets go of the lock, however the process ends."""
    code = (
        "import sys, time; from holdfast.outbox import *\n"
        "box = Outbox.open(sys.argv[1], OutboxLimits()); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        other = Outbox.open(path, LIMITS)
        assert other.path.name == "holdfast.1.db"
        other.close()
        process.send_signal(signal.SIGKILL)
        process.wait()
    again = Outbox.open(path, LIMITS)
    assert again.path.name == "holdfast.db"
    again.close()


def test_only_slots_of_this_outbox_are_found(tmp_path: Path) -> None:
    """Not what was put aside, not another outbox, in the order of their numbers."""
    names = ["a.db", "a.2.db", "a.10.db", "a.db.corrupt-1", "a.1.db.lock", "b.db", "a.x.db", "a.1.db-wal"]
    for name in names:
        (tmp_path / name).touch()
    assert [each.name for each in slots.existing(tmp_path / "a.db")] == ["a.db", "a.2.db", "a.10.db"]
    assert slots.existing(tmp_path / "nowhere" / "a.db") == []


def test_leftovers_are_those_that_nobody_holds(outbox: Outbox, path: Path, clock: Clock) -> None:
    """Each comes locked, and is not given to two at a time."""
    left, held = (Outbox.open(path, LIMITS, clock) for _ in range(2))
    left.append_sync(make_record())
    left.close()
    adopted = list(outbox.leftovers(lambda _: True))
    assert [each.path for each in adopted] == [left.path]
    assert adopted[0].stats().pending == 1
    assert list(held.leftovers(lambda _: True)) == []
    adopted[0].close()
    assert list(held.leftovers(lambda _: False)) == []
    held.close()


def test_a_lock_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """With the name of the file."""
    (tmp_path / "holdfast.db.lock").mkdir()
    with pytest.raises(StoreUnavailable, match=r"holdfast\.db\.lock cannot be opened"):
        slots.claim(tmp_path / "holdfast.db")


def test_the_lock_says_whose_it_is(outbox: Outbox, path: Path) -> None:
    """For a person who wonders; and so that a file of garbage is known to have been an outbox."""
    assert "last opened by process" in slots.lock_path(path).read_text()
    assert slots.was_outbox(path)
    assert not slots.was_outbox(path.with_name("other.db"))
