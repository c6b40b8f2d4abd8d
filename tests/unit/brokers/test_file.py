"""JSON lines: their form, and what becomes of them when the disk or the process fails."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from holdfast.brokers import Message, open_broker
from holdfast.brokers.file import FileBroker, encode_line, read_lines
from holdfast.errors import BrokerUnavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "captures.jsonl"


def opened(path: Path) -> FileBroker:
    broker = open_broker(f"file://{path}", "t")
    assert isinstance(broker, FileBroker)
    broker.start()
    return broker


def deliver(broker: FileBroker, *values: bytes) -> list[Exception | None]:
    outcomes: list[Exception | None] = []
    for value in values:
        broker.publish(Message("k", value), outcomes.append)
    broker.poll(0)
    return outcomes


@pytest.mark.parametrize(
    ("value", "encoding", "shown"),
    [
        (b'{"path":"/a","n":1.50}', "json", {"path": "/a", "n": 1.5}),
        (b'{\n"a": 1}', "utf-8", '{\n"a": 1}'),
        (b"{cut", "utf-8", "{cut"),
        (b"\xff\x00", "base64", "/wA="),
        (b"", "utf-8", ""),
    ],
)
def test_a_line_is_for_people_and_for_jq(value: bytes, encoding: str, shown: object) -> None:
    """An envelope stands there as JSON in JSON; anything else as text that can be undone."""
    line = encode_line(Message("/a", value, (("holdfast-id", b"1"), ("odd", b"\xff"))))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "key": "/a",
        "headers": {"holdfast-id": "1", "odd": "\\xff"},
        "encoding": encoding,
        "value": shown,
    }


def test_a_value_keeps_its_bytes(path: Path) -> None:
    """Spaces and the form of numbers included."""
    value = b'{"b": 1.50,  "a":[1,2 ]}'
    broker = opened(path)
    assert deliver(broker, value) == [None]
    broker.close()
    assert [message.value for message in read_lines(path)] == [value]


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    """Requests hold secrets."""
    opened(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("torn", [b'{"key":"k","headers":{},"enc', b'{"key":"k"', b"\xc3"])
def test_a_line_that_a_crash_cut_short_spoils_nothing(torn: bytes, path: Path) -> None:
    """It is ended, and readers skip it; its record was never confirmed, so it is published again."""
    broker = opened(path)
    deliver(broker, b"1", b"2")
    broker.close()
    with path.open("ab") as file:
        file.write(torn)
    broker = opened(path)
    deliver(broker, b"3")
    broker.close()
    assert [message.value for message in read_lines(path)] == [b"1", b"2", b"3"]
    assert path.read_bytes().count(b"\n") == 4


def test_one_sync_is_for_all_that_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is done before anything is reported."""
    broker = opened(path)
    events: list[str] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (events.append("sync"), sync(handle)))
    for _ in range(3):
        broker.publish(Message("k", b"v"), lambda _: events.append("reported"))
    broker.poll(0)
    broker.poll(0)
    assert events == ["sync", "reported", "reported", "reported"]
    broker.close()


def test_after_a_failed_write_no_half_line_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full: what was written of it is taken back, and it is tried again later."""
    broker = opened(path)
    deliver(broker, b"1")
    write = os.write
    with monkeypatch.context() as patch:
        attempts: list[int] = []

        def full(handle: int, data: bytes) -> int:
            attempts.append(handle)
            if len(attempts) > 1:
                raise OSError(28, "No space left on device")
            return write(handle, bytes(data)[:10])

        patch.setattr(os, "write", full)
        outcomes = deliver(broker, b"2")
    assert isinstance(outcomes[0], BrokerUnavailable)
    assert "No space left" in str(outcomes[0])
    assert deliver(broker, b"3") == [None]
    broker.close()
    assert [message.value for message in read_lines(path)] == [b"1", b"3"]


def test_a_rotated_file_is_begun_anew(path: Path) -> None:
    """By renaming it, as logrotate does."""
    broker = opened(path)
    deliver(broker, b"1")
    path.rename(path.with_name("old.jsonl"))
    deliver(broker, b"2")
    broker.close()
    assert [message.value for message in read_lines(path)] == [b"2"]


def test_two_processes_can_write_to_one_file(path: Path) -> None:
    """Whole lines, in turns."""
    one, two = opened(path), opened(path)
    for number in range(50):
        deliver((one, two)[number % 2], b"%d" % number)
    one.close()
    two.close()
    assert [int(message.value) for message in read_lines(path)] == list(range(50))


def test_too_much_waiting_means_later(path: Path) -> None:
    """Memory is bounded."""
    broker = opened(path)
    for _ in range(2):
        broker.publish(Message("k", b"x" * 10_000_000), lambda _: None)
    with pytest.raises(BrokerUnavailable, match="too much"):
        broker.publish(Message("k", b"x"), lambda _: None)
    broker.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """By the start and by the health."""
    broker = open_broker(f"file://{tmp_path}/nowhere/a.jsonl", "t")
    with pytest.raises(BrokerUnavailable, match="nowhere"):
        broker.start()
    health = broker.health(1)
    assert not health.ok
    assert "nowhere" in health.detail
