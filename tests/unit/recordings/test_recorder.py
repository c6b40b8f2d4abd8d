"""recordings.recorder: what becomes of a good answer on its way to the disk."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast.policy.json_paths import parse_path
from holdfast.policy.redaction import RedactionRules
from holdfast.policy.understudy.key import RecordingKey
from holdfast.policy.understudy.model import Recording
from holdfast.recordings.folder import RecordingFolder, Room
from holdfast.recordings.lookup import look_up
from holdfast.recordings.recorder import WAITING_MAX, Recorder, RecorderRules, Sighting

TWO = 800  # bytes: room for two recordings of a few characters each, and not for three
KEY = RecordingKey("GET", "/a")
type Reports = list[tuple[str, str]]


def rules(*masked: str, **more: Any) -> RecorderRules:
    redaction = RedactionRules(json_paths=masked, other_bodies="keep")
    base: dict[str, Any] = {"ignore": (), "max_body": 1000, "of_a_route": Room(9, 10**6), "of_all": Room(9, 10**6)}
    return RecorderRules(redaction=redaction, **{**base, **more})


@pytest.fixture
def folder(tmp_path: Path) -> RecordingFolder:
    return RecordingFolder(tmp_path / "understudy", 1000)


def make(folder: RecordingFolder, *masked: str, **more: Any) -> Recorder:
    return Recorder(folder, rules(*masked, **more), lambda route, result: None)


def seen(
    body: bytes | object, *, key: RecordingKey = KEY, coding: str = "", kind: str = "application/json"
) -> Sighting:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = [(b"Content-Type", kind.encode()), (b"Content-Encoding", coding.encode()), (b"Set-Cookie", b"id=1")]
    return Sighting("users", key, 200, fields, raw, coding, 1_795_289_349.9)


def on_disk(folder: RecordingFolder, name: str = "get.a") -> Recording:
    found = folder.read("users", name)
    assert found.recording, found
    return found.recording


def test_it_is_decoded_laid_out_and_without_cookies(folder: RecordingFolder) -> None:
    """So that a person can read, edit and commit it."""
    assert make(folder).take(seen(gzip.compress(b'{"id":1.10}'), coding="gzip")) == "recorded"
    assert on_disk(folder).body == b'{\n  "id": 1.10\n}'
    assert on_disk(folder).headers == (("content-type", "application/json"),)
    assert "id=1" not in folder.file("users", "get.a").read_text()


def test_the_same_answer_is_not_written_again(folder: RecordingFolder) -> None:
    """Not for the order of members, nor for a value that is to be ignored: commits stay quiet."""
    recorder = make(folder, ignore=(parse_path("$.now"),))
    assert recorder.take(seen({"a": 1, "now": 1})) == "recorded"
    before = folder.file("users", "get.a").stat().st_mtime_ns
    assert recorder.take(seen({"now": 2, "a": 1})) == "unchanged"
    assert folder.file("users", "get.a").stat().st_mtime_ns == before
    assert recorder.take(seen({"a": True, "now": 2})) == "recorded"
    assert recorder.take(seen({"a": 1.0, "now": 2})) == "recorded"


def test_what_a_person_has_edited_is_not_overwritten(folder: RecordingFolder) -> None:
    """Nor what is broken: somebody may be in the middle of it. Deleted, it is recorded anew."""
    recorder, file = make(folder), folder.file("users", "get.a")
    recorder.take(seen({"a": 1}))
    file.write_text(file.read_text().replace('"a": 1', '"a": 2'))
    assert recorder.take(seen({"a": 3})) == "edited"
    file.write_text("status: two hundred")
    assert recorder.take(seen({"a": 3})) == "broken"
    file.unlink()
    assert recorder.take(seen({"a": 3})) == "recorded"


def test_values_are_masked_and_what_cannot_be_is_not_recorded(folder: RecordingFolder) -> None:
    """`redact.json_paths`: also in what says that it is JSON and is not, which is then not written at all."""
    recorder = make(folder, "$..password")
    assert recorder.take(seen({"user": {"password": "s3cret", "n": 1}})) == "recorded"
    assert json.loads(on_disk(folder).body) == {"user": {"password": "[redacted]", "n": 1}}
    assert recorder.take(seen({"user": {"password": "0ther", "n": 1}})) == "unchanged"
    assert recorder.take(seen(b'{"password": "s3cret",')) == "unredactable"
    assert recorder.take(seen(b"s3cret", kind="text/plain")) == "recorded"


@pytest.mark.parametrize(
    ("body", "coding", "result"),
    [(b"x" * 1001, "", "too_large"), (gzip.compress(bytes(1001)), "gzip", "too_large"), (b"x", "gzip", "undecodable")],
)
def test_what_is_too_large_or_cannot_be_decoded_is_not_recorded(
    folder: RecordingFolder, body: bytes, coding: str, result: str
) -> None:
    """Bounded once it is decoded."""
    assert make(folder).take(seen(body, coding=coding)) == result
    assert folder.rooms() == {}


@pytest.mark.parametrize(
    "bound",
    [
        {"of_a_route": Room(2, 10**6)},
        {"of_all": Room(2, 10**6)},
        {"of_a_route": Room(9, TWO)},
        {"of_all": Room(9, TWO)},
    ],
)
def test_at_a_bound_nothing_more_is_recorded_and_what_is_there_stays(
    folder: RecordingFolder, bound: dict[str, Room]
) -> None:
    """People may have committed it; and it is still kept up to date."""
    recorder = make(folder, **bound)
    results = [recorder.take(seen({"n": n}, key=RecordingKey("GET", f"/{n}"))) for n in range(3)]
    assert results == ["recorded", "recorded", "full"]
    assert recorder.take(seen({"n": 9}, key=RecordingKey("GET", "/1"))) == "recorded"
    assert make(folder, **bound).take(seen({"n": 2}, key=RecordingKey("GET", "/2"))) == "full"


def test_a_disk_that_does_not_take_it_is_told_once(
    folder: RecordingFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And again once that is over."""
    recorder = make(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        for n in range(3):
            assert recorder.take(seen({"n": n})) == "write_error"
    assert [each.getMessage() for each in caplog.records] == ["answers are not recorded"]
    assert "No space" in recorder.trouble
    assert recorder.take(seen({"n": 4})) == "recorded"
    assert recorder.trouble == ""


def _no_space(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_the_thread_writes_what_waits_and_drops_what_is_too_much(
    folder: RecordingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`put` never waits for the disk; a failure of ours is one sighting's."""
    reports: Reports = []
    recorder = Recorder(folder, rules(), lambda route, result: reports.append((route, result)))
    held, take = threading.Event(), recorder.take

    def slow(sighting: Sighting) -> Any:
        held.wait(10)
        if sighting.body == b'{"n": 1}':
            raise RuntimeError("ours")
        return take(sighting)

    monkeypatch.setattr(recorder, "take", slow)
    taken = sum(recorder.put(seen({"n": n})) for n in range(WAITING_MAX + 10))
    assert WAITING_MAX <= taken <= WAITING_MAX + 1
    held.set()
    recorder.stop(10)
    assert len(reports) == taken
    assert reports.count(("users", "write_error")) == 1


# --- looking one up ---


def find(folder: RecordingFolder, path: str, match: Any = "exact", max_age: float | None = None, **more: Any) -> Any:
    key = RecordingKey("GET", path, **more)
    return look_up(folder, "users", key, match=match, now=1_795_289_409.0, max_age=max_age)


def test_a_broken_file_is_passed_over_and_told(folder: RecordingFolder) -> None:
    """The next best answers: with `match: route` another one of the route."""
    recorder = make(folder)
    for path in ("/u/1", "/u/2"):
        recorder.take(seen({"path": path}, key=RecordingKey("GET", path)))
    folder.file("users", "get.u.1").write_text("status: 200\nheaders: [\n")
    sought = find(folder, "/u/1")
    assert (sought.recording, sought.why) == (None, "broken")
    assert sought.looked_at[0].fault.startswith(f"{folder.file('users', 'get.u.1')}:3: ")
    sought = find(folder, "/u/1", "route")
    assert (sought.recording.path, sought.match) == ("/u/2", "route")


def test_another_recording_of_the_route_answers_only_where_that_is_allowed(folder: RecordingFolder) -> None:
    """Of the same method, and not too old."""
    recorder = make(folder)
    recorder.take(seen({"n": 1}, key=RecordingKey("GET", "/u/1", "full=1")))
    recorder.take(seen({"n": 1}, key=RecordingKey("POST", "/u/2")))
    assert find(folder, "/u/1").why == "missing"
    assert find(folder, "/u/1", "route").recording.request == "GET /u/1?full=1"
    assert find(folder, "/u/1", "route", max_age=59.0).recording is None
    assert find(folder, "/u/1", query="full=1", max_age=59.0).why == "expired"
    assert find(folder, "/u/1", query="full=1", max_age=61.0).match == "exact"


def test_a_file_under_the_digest_of_another_request_is_not_used(folder: RecordingFolder) -> None:
    """Copied by hand, or made to fit: it is told, and nothing of it goes out."""
    make(folder).take(seen({"n": 1}, key=RecordingKey("GET", "/u/1", "a=1")))
    (file,) = (folder.path / "users").iterdir()
    file.write_text(file.read_text().replace("a=1", "a=2"))
    sought = find(folder, "/u/1", query="a=1")
    assert (sought.recording, sought.why) == (None, "broken")
    assert "this file is for GET /u/1?a=1" in sought.looked_at[0].fault
