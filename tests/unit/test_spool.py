"""spool: bounded disk space for bodies that are too large to hold."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.spool import SpoolRoom


def test_a_body_comes_back_as_it_was_written_and_leaves_no_file(tmp_path: Path) -> None:
    """In pieces; the file has no name at any time."""
    room = SpoolRoom(tmp_path / "made", 100, 1000)
    spool = room.open("a")
    assert spool
    assert spool.write(b"one ")
    assert spool.write(b"two")
    assert list((tmp_path / "made").iterdir()) == []
    spool.whole = True
    assert room.of("a") is spool
    assert spool.read() == b"one two"
    assert room.used == 7
    spool.close()
    spool.close()
    assert (room.used, room.of("a")) == (0, None)


def test_half_a_body_is_nothing(tmp_path: Path) -> None:
    """Neither before its end has come, nor after a piece of it was refused."""
    room = SpoolRoom(tmp_path, 10, 1000)
    spool = room.open("a")
    assert spool
    assert spool.write(b"12345")
    assert room.of("a") is None
    assert not spool.write(b"678901")
    spool.whole = True
    assert (room.of("a"), room.used) == (None, 0)
    assert not spool.write(b"1")


def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    """What one gives back another may take."""
    room = SpoolRoom(tmp_path, 10, 15)
    first, second, third = room.open("1"), room.open("2"), room.open("3")
    assert first and second and third
    assert first.write(b"x" * 10)
    assert not second.write(b"x" * 6)
    first.close()
    assert third.write(b"x" * 10)


def test_a_spool_that_is_forgotten_gives_its_space_back(tmp_path: Path) -> None:
    """However its stream has ended."""
    room = SpoolRoom(tmp_path, 10, 15)
    spool = room.open("a")
    assert spool
    spool.write(b"x" * 10)
    del spool
    gc.collect()
    assert (room.used, room.of("a")) == (0, None)


def test_a_folder_that_cannot_be_made_means_no_spool(tmp_path: Path) -> None:
    """The request goes on without."""
    (tmp_path / "file").write_text("")
    assert SpoolRoom(tmp_path / "file" / "below", 10, 10).open("a") is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.booleans()), max_size=40))
def test_the_account_never_leaves_its_bounds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, bool]]
) -> None:
    """Any order of writing and closing."""
    room = SpoolRoom(tmp_path_factory.getbasetemp(), 20, 40)
    spools = [room.open(str(n)) for n in range(4)]
    for which, size, end in steps:
        spool = spools[which]
        assert spool
        spool.write(b"x" * size)
        if end:
            spool.close()
        assert 0 <= room.used <= 40
        assert room.used == sum(each.size for each in spools if each)
