"""recordings.folder: files that are whole, private and in their place, and what else may lie there."""

from __future__ import annotations

import errno
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.policy.understudy.model import Recording
from holdfast.recordings import folder as folder_module
from holdfast.recordings.folder import RecordingFolder, Room

JSON = Recording(200, (("content-type", "application/json"),), b'{\n  "id": 3\n}', "GET /a", name="get.a")
PICTURE = Recording(200, (("content-type", "image/png"),), b"\x89PNG\0", "GET /p", name="get.p")


@pytest.fixture
def folder(tmp_path: Path) -> RecordingFolder:
    return RecordingFolder(tmp_path / "understudy", 1000)


def names(folder: RecordingFolder) -> list[str]:
    return sorted(each.name for each in (folder.path / "users").iterdir())


@pytest.mark.parametrize(
    "recording",
    [
        JSON,
        PICTURE,
        replace(PICTURE, headers=(("content-type", "text/html"),), body=b"<p>\r\n"),
        replace(JSON, body=b"not json"),
        replace(JSON, body="\ufeff[]".encode()),
        replace(JSON, body="[\"\u2028\"]".encode()),
        replace(JSON, body=b'["\xe9"]'),
        replace(JSON, body=b""),
        replace(PICTURE, headers=()),
    ],
)  # fmt: skip
def test_every_body_comes_back_as_it_was(folder: RecordingFolder, recording: Recording) -> None:
    """Byte for byte, and as what the gateway wrote."""
    folder.write("users", recording)
    found = folder.read("users", recording.name)
    assert (found.recording, found.fault) == (recording, "")


def test_a_body_that_is_no_json_is_a_file_that_a_viewer_opens(folder: RecordingFolder) -> None:
    """With the ending of its type; its predecessor goes, its neighbours stay."""
    folder.write("users", replace(PICTURE, name="get.p.q"))
    folder.write("users", PICTURE)
    folder.write("users", replace(PICTURE, body=b"another"))
    pictures = [name for name in names(folder) if name.endswith(".png")]
    assert [name.partition("~~")[0] for name in pictures] == ["get.p.q", "get.p"]
    assert (folder.path / "users" / pictures[1]).read_bytes() == b"another"


def test_files_are_for_their_owner_only(folder: RecordingFolder) -> None:
    """Whatever the umask is: they hold what a backend said to somebody."""
    before = os.umask(0)
    try:
        folder.write("users", PICTURE)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(each.stat().st_mode) for each in (folder.path / "users").iterdir()} == {0o600}
    assert stat.S_IMODE((folder.path / "users").stat().st_mode) == 0o700


def test_a_disk_that_is_full_leaves_what_was_there(folder: RecordingFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half file, and none under another name."""
    folder.write("users", JSON)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.write("users", replace(JSON, status=201))
    assert names(folder) == ["get.a.yaml"]
    found = folder.read("users", "get.a").recording
    assert found
    assert found.status == 200


def test_what_is_no_file_of_ours_is_told_and_harms_nobody(folder: RecordingFolder, tmp_path: Path) -> None:
    """A link may lead anywhere, a pipe would never end, a folder is none, and a large file is not read whole."""
    place = folder.path / "users"
    place.mkdir(parents=True)
    (tmp_path / "secret").write_text("status: 200")
    (place / "get.link.yaml").symlink_to(tmp_path / "secret")
    os.mkfifo(place / "get.pipe.yaml")
    (place / "get.folder.yaml").mkdir()
    (place / "get.large.yaml").write_bytes(b"#" * 1_000_000)
    (place / "get.beside.yaml").write_text("status: 200\nbody: away.png\n")
    for name, line in (("link", 1), ("pipe", 1), ("folder", 1), ("large", 1), ("beside", 2)):
        found = folder.read("users", f"get.{name}")
        assert found.recording is None
        assert found.fault.startswith(f"{place / f'get.{name}.yaml'}:{line}: ")
    assert len(folder.others("users", "get.nothing")) == 5


def test_what_is_not_there_is_no_fault(folder: RecordingFolder) -> None:
    """Neither the file nor the folder; nor is a file where a folder should be."""
    assert folder.read("users", "get.a").fault == ""
    assert folder.others("users", "get.nothing") == []
    assert folder.rooms() == {}
    folder.path.mkdir()
    (folder.path / "users").write_text("")
    assert folder.others("users", "get.nothing") == []


def test_the_room_counts_bodies_and_not_only_heads(folder: RecordingFolder) -> None:
    """And whatever else lies in the folder takes room as well."""
    folder.write("users", JSON)
    folder.write("users", PICTURE)
    size = sum(each.stat().st_size for each in (folder.path / "users").iterdir())
    assert folder.rooms() == {"users": Room(2, size)}


def test_what_a_killed_process_left_is_removed_later(folder: RecordingFolder) -> None:
    """Not at once: another gateway may be writing it."""
    folder.write("users", JSON)
    left = folder.path / "users" / ".understudy-0011"
    left.write_text("half")
    folder.tidy()
    assert left.exists()
    os.utime(left, (1, 1))
    folder.tidy()
    assert names(folder) == ["get.a.yaml"]


def test_a_plain_name_tells_the_request(folder: RecordingFolder) -> None:
    """For a file by hand, without a request line."""
    (folder.path / "users").mkdir(parents=True)
    (folder.path / "users" / "get.api.users.9.yaml").write_text("status: 200")
    found = folder.read("users", "get.api.users.9").recording
    assert found
    assert (found.request, found.path, found.edited) == ("GET /api/users/9", "/api/users/9", True)


def test_of_very_many_recordings_those_most_alike_are_read(folder: RecordingFolder) -> None:
    """Nobody waits for the others, and the nearest one is among them."""
    route = folder.path / "shop"
    route.mkdir(parents=True)
    names = [f"get.api.items.{number}" for number in range(300)]
    for name in [*names, "get.api.users.7", "get.api.users.9~0123456789abcdef", "post.api.users.9"]:
        (route / f"{name}.yaml").write_text("status: 200\n")
    found = {each.recording.name for each in folder.others("shop", "get.api.users.9") if each.recording}
    assert len(found) == 200
    assert found >= {"get.api.users.7", "get.api.users.9~0123456789abcdef"}
    assert "post.api.users.9" not in found


def test_gateways_on_one_folder_leave_no_head_without_its_body(
    folder: RecordingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One removes all bodies but its own: not that of another one who has yet to write the head for it."""
    real = folder_module._put
    other = threading.Thread(target=folder.write, args=("users", replace(PICTURE, body=b"another")))

    def put(file: Path, data: bytes) -> None:
        real(file, data)
        if not other.ident:
            other.start()
            other.join(0.3)

    monkeypatch.setattr(folder_module, "_put", put)
    folder.write("users", PICTURE)
    other.join()
    assert folder.read("users", PICTURE.name).recording
    assert len(names(folder)) == 2


def test_a_reader_between_a_head_and_its_body_reads_both_anew(
    folder: RecordingFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway that records has replaced them meanwhile."""
    folder.write("users", PICTURE)
    latest, real = replace(PICTURE, body=b"another"), folder_module._content

    def content(file: Path, longest: int) -> bytes:
        monkeypatch.setattr(folder_module, "_content", real)
        data = real(file, longest)
        folder.write("users", latest)
        return data

    monkeypatch.setattr(folder_module, "_content", content)
    assert folder.read("users", PICTURE.name).recording == latest
