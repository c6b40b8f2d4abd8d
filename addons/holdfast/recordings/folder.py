"""The folder of recordings: `<folder>/<route>/<name>.yaml`, and beside it the bodies that are no JSON.

A file is written under another name and then put in its place, so that no reader and no crash ever meets half of one. A
body of its own has a digest in its name: it is there before the head that names it, and its predecessor goes after.
What is read is looked at as if a stranger had put it there: regular files only, no links, of bounded size.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import heapq
import json
import mimetypes
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.policy.understudy.key import is_plain, likeness, named_method, plain_path
from holdfast.policy.understudy.model import Recording, is_json
from holdfast.recordings.form import BrokenRecording, read_form, with_body, write_form

ENDING = ".yaml"
HEAD_MAX = 256 * 1024
_READ_MAX = 200  # files that are read for one answer
_UNFINISHED = ".understudy-"
_LEFT_BEHIND = 60.0  # seconds after which an unfinished file is nobody's any more
_ONE_LINE = frozenset("\r\0\x85\u2028\u2029")
_COMMON = {"text/html": ".html", "text/plain": ".txt", "text/xml": ".xml", "application/xml": ".xml",
           "image/jpeg": ".jpg", "text/javascript": ".js"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Room:
    """How many recordings there are and how many bytes they take, bodies included."""

    recordings: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a file holds, None if there is none; and what is wrong with it (`file:line: what`), if anything is."""

    file: Path
    recording: Recording | None = None
    fault: str = ""
    bodiless: bool = False  # the fault is that the body's file is not there


class RecordingFolder:
    """Reads and writes; OSError where the disk fails. `max_body` bytes is the largest body that is read."""

    def __init__(self, path: Path, max_body: int) -> None:
        self.path = path
        self.max_body = max_body

    def file(self, route: str, name: str) -> Path:
        """`route` and `name` as `policy.understudy.key` makes them."""
        return self.path / route / f"{name}{ENDING}"

    def read(self, route: str, name: str) -> Found:
        """What this file says now. A body that is gone may have had a successor since its head was read."""
        found = self._read(route, name)
        return self._read(route, name) if found.bodiless else found

    def _read(self, route: str, name: str) -> Found:
        file = self.file(route, name)
        try:
            # A laid out body takes more room than it did on the wire.
            parsed = read_form(_content(file, 4 * self.max_body + HEAD_MAX))
            recording = parsed.recording
            if parsed.body_file:
                recording = with_body(parsed, self._body(file.parent / parsed.body_file, parsed.body_line))
        except (FileNotFoundError, NotADirectoryError):
            return Found(file)
        except BrokenRecording as broken:
            bodiless = isinstance(broken.__cause__, FileNotFoundError)
            return Found(file, None, f"{file}:{broken.line}: {broken}", bodiless)
        except OSError as error:
            return Found(file, None, f"{file}:1: {error.strerror or error}")
        if is_plain(name) and not recording.request:
            recording = replace(recording, request=f"{named_method(name).upper()} {plain_path(name)}")
        return Found(file, replace(recording, name=name))

    def _body(self, file: Path, line: int) -> bytes:
        try:
            return _content(file, self.max_body)
        except OSError as error:
            raise BrokenRecording(line, f"body: {file.name}: {error.strerror or error}") from error

    def others(self, route: str, name: str) -> list[Found]:
        """The recordings of a route that have this one's method. Of very many those whose names are most like its."""
        method, entries = named_method(name), _listed(self.path / route)
        found = [(each.name.removesuffix(ENDING), each) for each in entries if each.name.endswith(ENDING)]
        found = [(other, entry) for other, entry in found if other != name and named_method(other) == method]
        if len(found) > _READ_MAX:
            found = heapq.nlargest(_READ_MAX, found, key=lambda each: (likeness(name, each[0]), _changed(each[1])))
        return [self.read(route, other) for other in sorted(other for other, _ in found)]

    def write(self, route: str, recording: Recording) -> None:
        """Put it in its place, on the disk before this returns."""
        folder = self.path / route
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        body_file = _body_file(recording)
        with _alone_in(folder):  # another gateway's body must not go between it and the head that names it
            if body_file and not (folder / body_file).exists():
                _put(folder / body_file, recording.body)
            _put(self.file(route, recording.name), write_form(recording, body_file).encode())
            for other in _listed(folder):
                if other.name.startswith(f"{recording.name}~~") and other.name != body_file:
                    with contextlib.suppress(OSError):
                        os.unlink(other.path)

    def size_of(self, recording: Recording) -> int:
        """The bytes that it takes."""
        body_file = _body_file(recording)
        return len(write_form(recording, body_file).encode()) + (len(recording.body) if body_file else 0)

    def rooms(self) -> dict[str, Room]:
        """By route folder."""
        return {each.name: self._room(each) for each in _listed(self.path) if each.is_dir(follow_symlinks=False)}

    def _room(self, folder: os.DirEntry[str]) -> Room:
        count = size = 0
        for each in _listed(Path(folder.path)):
            with contextlib.suppress(OSError):  # gone meanwhile
                size += each.stat(follow_symlinks=False).st_size
                count += each.name.endswith(ENDING)
        return Room(count, size)

    def tidy(self) -> None:
        """Remove what a process that was killed has left half written."""
        for folder in _listed(self.path):
            for each in _listed(Path(folder.path)) if folder.is_dir(follow_symlinks=False) else ():
                with contextlib.suppress(OSError):
                    unfinished = each.name.startswith(_UNFINISHED)
                    if unfinished and time.time() - each.stat(follow_symlinks=False).st_mtime > _LEFT_BEHIND:
                        os.unlink(each.path)


def fits_inline(recording: Recording) -> bool:
    """Whether the body can stand in the YAML file: JSON in UTF-8 that no reader of lines would change."""
    if not (recording.body and is_json(recording.content_type)):
        return not recording.body
    try:
        text = recording.body.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return not (_ONE_LINE & set(text) or text.startswith("\ufeff"))


def _body_file(recording: Recording) -> str:
    """The name of the file for the body; empty where it needs none."""
    if fits_inline(recording):
        return ""
    media = recording.content_type.partition(";")[0].strip().lower()
    ending = _COMMON.get(media) or mimetypes.guess_extension(media) or ".bin"
    if is_json(recording.content_type):
        ending = ".json"
    return f"{recording.name}~~{hashlib.sha256(recording.body).hexdigest()[:12]}{ending}"


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # not there, or not to be read: then it cannot be written either, which is told
        return []


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other gateway writes there meanwhile, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _changed(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return 0.0


def _content(file: Path, longest: int) -> bytes:
    """Of a regular file: a pipe would never end, and a link may lead anywhere."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(file, flags)
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("this is no regular file")
        data = opened.read(longest + 1)
    if len(data) > longest:
        raise OSError(f"larger than {longest} bytes (see understudy.max_body)")
    return data


def _put(file: Path, data: bytes) -> None:
    """All of it or nothing, readable by its owner only."""
    unfinished = file.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(descriptor)
        os.replace(unfinished, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
