"""The write-ahead log read by itself, checked against one that SQLite wrote."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from holdfast.outbox.wal import FRAME_HEADER, HEADER, is_damaged, read_frames

FRAME = FRAME_HEADER + 4096


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A copy of the log after five transactions of several pages each."""
    db = apsw.Connection(str(tmp_path / "a.db"))
    db.execute("PRAGMA journal_mode=wal; CREATE TABLE t (a)").fetchall()
    for number in range(4):
        db.execute("INSERT INTO t VALUES (zeroblob(20000))", ()) if number else db.execute("INSERT INTO t VALUES (1)")
    copy = tmp_path / "copy-wal"
    copy.write_bytes((tmp_path / "a.db-wal").read_bytes())
    db.close()
    return copy


def damage(log: Path, frame: int, length: int = 100) -> None:
    """Overwrite the beginning of a frame, its header included."""
    with log.open("r+b") as file:
        file.seek(HEADER + frame * FRAME)
        file.write(b"\xa5" * length)


def test_every_frame_of_a_sound_log_is_intact(log: Path) -> None:
    """The checksums are SQLite's, so its own log passes, with the end of each transaction marked."""
    frames = read_frames(log, 4096)
    assert len(frames) == (log.stat().st_size - HEADER) // FRAME
    assert all(frame.intact and frame.current for frame in frames)
    assert sum(frame.commit for frame in frames) == 5
    assert not is_damaged(frames)


def test_a_page_is_found_at_its_offset(log: Path) -> None:
    """The first frame of a new database is its first page."""
    frame = read_frames(log, 4096)[0]
    assert log.read_bytes()[frame.offset :].startswith(b"SQLite format 3\x00")


def test_a_torn_last_transaction_is_no_damage(log: Path) -> None:
    """That is what a crash leaves: it was never confirmed to anybody."""
    for frame in range(len(read_frames(log, 4096)) - 6, len(read_frames(log, 4096))):
        torn = log.with_name(f"torn-{frame}")
        torn.write_bytes(log.read_bytes())
        damage(torn, frame)
        assert not is_damaged(read_frames(torn, 4096))
    log.write_bytes(log.read_bytes()[:-1000])
    assert not is_damaged(read_frames(log, 4096))


def test_damage_before_a_later_commit_is_noticed(log: Path) -> None:
    """SQLite would take it for the end of the log and drop what was committed behind it."""
    damage(log, 1)
    assert is_damaged(read_frames(log, 4096))


def test_a_damaged_header_is_noticed(log: Path) -> None:
    """SQLite would ignore the whole log."""
    with log.open("r+b") as file:
        file.write(b"\xa5" * HEADER)
    frames = read_frames(log, 4096)
    assert is_damaged(frames)
    assert frames[5].intact


def test_frames_from_before_the_log_was_begun_anew_do_not_count(log: Path) -> None:
    """They have another salt, and were brought into the database long ago."""
    with log.open("r+b") as file:
        for frame in range(len(read_frames(log, 4096)) // 2, len(read_frames(log, 4096))):
            file.seek(HEADER + frame * FRAME + 8)
            file.write(b"\xa5" * 8)
    frames = read_frames(log, 4096)
    assert {frame.current for frame in frames} == {True, False}
    assert not is_damaged(frames)
    assert not any(frame.commit for frame in frames if not frame.current)


@pytest.mark.parametrize("content", [b"", b"short", b"\x00" * HEADER])
def test_what_is_no_log_has_no_frames(content: bytes, tmp_path: Path) -> None:
    """An empty or a cut one included."""
    file = tmp_path / "a-wal"
    assert read_frames(file, 4096) == []
    file.write_bytes(content)
    assert read_frames(file, 4096) == []
