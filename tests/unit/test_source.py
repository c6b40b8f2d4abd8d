"""source: a profile is loaded again and again, and what its files hold decides whether it has changed."""

import os
from pathlib import Path

import pytest

from holdfast.errors import ProfileError
from holdfast.source import ProfileSource


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "profile.yaml"
    made.write_text("version: 1\nextends: ./base.yaml\n")
    (tmp_path / "base.yaml").write_text("version: 1\nshutdown_grace: 1s\n")
    return made


def test_a_change_of_any_of_its_files_shows(file: Path) -> None:
    """The file itself, what it extends, and their coming and going."""
    source = ProfileSource(str(file))
    source.load()
    assert source.look() == source.seen
    base = file.with_name("base.yaml")
    base.write_text("version: 1\nshutdown_grace: 2s\n")
    assert source.look() != source.seen
    assert str(source.load().shutdown_grace) == "2s"
    assert source.look() == source.seen
    base.unlink()
    assert source.look() != source.seen
    with pytest.raises(ProfileError, match=r"base\.yaml"):
        source.load()
    assert source.look() == source.seen, "it is told once"
    base.write_text("version: 1\n")
    assert source.look() != source.seen


def test_touch_is_no_change(file: Path) -> None:
    """Nor is a file that takes another's place and holds the same."""
    source = ProfileSource(str(file))
    source.load()
    os.utime(file)
    new = file.with_name("new")
    new.write_text(file.read_text())
    new.replace(file)
    assert source.look() == source.seen


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A profile may come out of one, once."""
    pipe = tmp_path / "profile.yaml"
    pipe.write_text("version: 1\n")
    source = ProfileSource(str(pipe))
    source.load()
    pipe.unlink()
    os.mkfifo(pipe)
    assert source.look() != source.seen


def test_the_command_line_wins_each_time(file: Path) -> None:
    """Also after what it overrides has changed."""
    source = ProfileSource(str(file), {"admin.listen": "127.0.0.1:1"})
    assert source.load().admin.listen == "127.0.0.1:1"
    file.write_text("version: 1\nadmin: {listen: 127.0.0.1:2}\n")
    assert source.load().admin.listen == "127.0.0.1:1"


def test_a_key_has_its_place_and_one_that_is_left_out_that_of_what_it_belongs_to(file: Path) -> None:
    """For the faults that only a running gateway finds."""
    file.write_text("version: 1\nadmin:\n  token: x\naddons:\n  - failure_sink:\n      outbox: x\n  - metrics\n")
    source = ProfileSource(str(file))
    source.load()
    lines = {
        path: source.place(path).line
        for path in ("admin.token", "admin.listen", "listen", "addons.failure_sink.outbox", "addons.metrics.buckets")
    }
    assert lines == {
        "admin.token": 3,
        "admin.listen": 2,
        "listen": 1,
        "addons.failure_sink.outbox": 6,
        "addons.metrics.buckets": 7,
    }
