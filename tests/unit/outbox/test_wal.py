"""The write-ahead log read by itself, checked against one that SQLite wrote."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from holdfast.outbox.wal import FRAME_HEADER, HEADER, is_damaged, read_log

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


def overwrite(log: Path, offset: int, content: bytes) -> None:
    with log.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def damage(log: Path, frame: int, length: int = 100) -> None:
    """Overwrite the beginning of a frame, its header included."""
    overwrite(log, HEADER + frame * FRAME, b"\xa5" * length)


def test_every_frame_of_a_sound_log_is_intact(log: Path) -> None:
    """The checksums are SQLite's, so its own log passes, with the end of each transaction marked."""
    found = read_log(log, 4096)
    frames = found.frames
    assert len(frames) == (log.stat().st_size - HEADER) // FRAME
    assert all(frame.intact and frame.current for frame in frames)
    assert sum(frame.commit for frame in frames) == 5
    assert not is_damaged(found)


def test_a_page_is_found_at_its_offset(log: Path) -> None:
    """The first frame of a new database is its first page."""
    frame = read_log(log, 4096).frames[0]
    assert log.read_bytes()[frame.offset :].startswith(b"SQLite format 3\x00")


def test_a_torn_last_transaction_is_no_damage(log: Path) -> None:
    """That is what a crash leaves: it was never confirmed to anybody."""
    count = len(read_log(log, 4096).frames)
    for frame in range(count - 6, count):
        torn = log.with_name(f"torn-{frame}")
        torn.write_bytes(log.read_bytes())
        damage(torn, frame)
        assert not is_damaged(read_log(torn, 4096))
    log.write_bytes(log.read_bytes()[:-1000])
    assert not is_damaged(read_log(log, 4096))


def test_damage_before_a_later_commit_is_noticed(log: Path) -> None:
    """SQLite would take it for the end of the log and drop what was committed behind it."""
    damage(log, 1)
    assert is_damaged(read_log(log, 4096))


def test_a_damaged_header_is_noticed(log: Path) -> None:
    """SQLite would ignore the whole log."""
    overwrite(log, 0, b"\xa5" * HEADER)
    found = read_log(log, 4096)
    assert is_damaged(found)
    assert found.frames[5].intact


@pytest.mark.parametrize("place", range(HEADER))
def test_one_wrong_byte_of_the_header_is_noticed(place: int, log: Path) -> None:
    """It is enough for SQLite to ignore the log, and all frames behind it are whole."""
    overwrite(log, place, bytes([log.read_bytes()[place] ^ 1]))
    found = read_log(log, 4096)
    assert is_damaged(found)
    assert all(frame.current for frame in found.frames)


@pytest.mark.parametrize("content", [b"\x00", b"\xa5"])
def test_a_damaged_header_does_not_hide_the_frames_behind_a_damaged_first_one(content: bytes, log: Path) -> None:
    """Zeros have the sum of zeros, and are no header all the same."""
    overwrite(log, 0, content * (HEADER + FRAME))
    found = read_log(log, 4096)
    assert is_damaged(found)
    # The second frame stands on the sum of the first, so it cannot be checked; the third can.
    assert all(frame.current and frame.intact for frame in found.frames[2:])


def test_a_damaged_header_before_a_single_transaction_is_noticed(log: Path) -> None:
    """The header is on the disk before a transaction is written: no crash leaves a wrong one before a whole one."""
    first = next(index for index, frame in enumerate(read_log(log, 4096).frames) if frame.commit) + 1
    log.write_bytes(log.read_bytes()[: HEADER + first * FRAME])
    assert not is_damaged(read_log(log, 4096))
    overwrite(log, 20, b"\xa5")
    assert is_damaged(read_log(log, 4096))


def test_a_wrong_salt_does_not_hide_the_end_of_a_transaction(log: Path) -> None:
    """Of the last but one: the end of the last would be taken for its own, and both dropped as if after a crash."""
    ends = [index for index, frame in enumerate(read_log(log, 4096).frames) if frame.commit]
    overwrite(log, HEADER + ends[-2] * FRAME + 8, b"\xa5")
    found = read_log(log, 4096)
    assert is_damaged(found)
    assert found.frames[ends[-2]].current
    assert not found.frames[ends[-2]].intact


def test_frames_from_before_the_log_was_begun_anew_do_not_count(tmp_path: Path) -> None:
    """They have another salt, and were brought into the database long ago; with a damaged header as well."""
    db = apsw.Connection(str(tmp_path / "a.db"))
    db.execute("PRAGMA journal_mode=wal; CREATE TABLE t (a)").fetchall()
    for _ in range(4):
        db.execute("INSERT INTO t VALUES (zeroblob(20000))")
    old = len(read_log(tmp_path / "a.db-wal", 4096).frames)
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    db.execute("INSERT INTO t VALUES (2)")
    copy = tmp_path / "copy-wal"
    copy.write_bytes((tmp_path / "a.db-wal").read_bytes())
    db.close()
    found = read_log(copy, 4096)
    assert len(found.frames) == old
    current = [frame.current for frame in found.frames]
    assert current == sorted(current, reverse=True)
    assert 1 <= sum(current) < old
    assert not is_damaged(found)
    assert not any(frame.commit for frame in found.frames if not frame.current)
    overwrite(copy, 16, b"\xa5" * 8)
    assert [frame.current for frame in read_log(copy, 4096).frames] == current


@pytest.mark.parametrize("content", [b"", b"short", b"\x00" * HEADER])
def test_what_is_no_log_has_no_frames(content: bytes, tmp_path: Path) -> None:
    """An empty or a cut one included."""
    file = tmp_path / "a-wal"
    assert read_log(file, 4096).frames == []
    file.write_bytes(content)
    assert read_log(file, 4096).frames == []
