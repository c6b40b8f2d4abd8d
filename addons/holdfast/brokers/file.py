"""`file:///folder/` or `file:///folder/name.jsonl`: appends each capture as a line of JSON.

A line is `{"key", "headers", "encoding", "value"}`. `encoding` says how `value` stands there: `json` as it is, `utf-8`
as text, `base64` as text. A line that a crash cut short is ended by the next start, and is not JSON: readers skip it.
Several processes may write to the same file, and it may be rotated by renaming.
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import msgspec

from holdfast.brokers.base import BrokerHealth, Delivery, Message
from holdfast.errors import BrokerUnavailable

_WAITING_BYTES = 16 << 20


class FileBroker:
    """A file of JSON lines. What waits is written by `poll` or `flush`, with one sync for all of it."""

    name = "file"
    durable = True
    publishes = True
    trouble = ""  # every failure is reported with the message it is of

    def __init__(self, place: str, topic: str) -> None:
        if not place.startswith("/"):
            raise ValueError(f"write file:///folder/name.jsonl with an absolute path, not file://{place}")
        path = Path(unquote(place))
        is_folder = place.endswith("/") or path.is_dir() or not path.suffix
        self.path = path / f"{Path(topic).name}.jsonl" if is_folder else path
        self._waiting: list[tuple[bytes, Delivery]] = []
        self._waiting_bytes = 0
        self._file = -1

    def start(self) -> None:
        self._open()

    def publish(self, message: Message, on_delivery: Delivery) -> None:
        if self._waiting_bytes > _WAITING_BYTES:
            raise BrokerUnavailable("too much is waiting to be written")
        line = encode_line(message)
        self._waiting.append((line, on_delivery))
        self._waiting_bytes += len(line)

    def poll(self, timeout: float) -> None:
        self.flush(timeout)

    def flush(self, timeout: float) -> int:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return 0
        failure = None
        try:
            self._write(b"".join(line for line, _ in waiting))
        except OSError as error:
            failure = BrokerUnavailable(f"{self.path} cannot be written: {error.strerror}")
            failure.__cause__ = error
        for _, on_delivery in waiting:
            on_delivery(failure)
        return 0

    def health(self, timeout: float) -> BrokerHealth:
        place = self.path if self.path.exists() else self.path.parent
        if not os.access(place, os.W_OK):
            return BrokerHealth(ok=False, detail=f"{place} is not there or not writable: create it, or let us write")
        return BrokerHealth(ok=True, detail=f"appends to {self.path}")

    def close(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for _, on_delivery in waiting:
            on_delivery(BrokerUnavailable("closed before it was written"))
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        is_new = not self.path.exists()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if is_new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise BrokerUnavailable(f"{self.path} cannot be opened: {error.strerror}") from error

    def _write(self, lines: bytes) -> None:
        if self._file < 0 or not _is_same(self._file, self.path):
            self._open()
        fcntl.flock(self._file, fcntl.LOCK_EX)  # against the other processes that append here
        try:
            end = os.fstat(self._file).st_size
            if end and os.pread(self._file, 1, end - 1) != b"\n":
                lines = b"\n" + lines  # ends the line that a crash has cut short
            try:
                _write_all(self._file, lines)
                os.fdatasync(self._file)
            except OSError:
                os.ftruncate(self._file, end)  # no half of it
                raise
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def encode_line(message: Message) -> bytes:
    """The line of a message, its end included."""
    encoding, value = _encoded(message.value)
    headers = {name: each.decode("utf-8", "backslashreplace") for name, each in message.headers}
    line = {"key": message.key, "headers": headers, "encoding": encoding, "value": value}
    return msgspec.json.encode(line) + b"\n"


def _encoded(value: bytes) -> tuple[str, object]:
    try:
        if b"\n" not in value and b"\r" not in value:
            msgspec.json.decode(value)
            return "json", msgspec.Raw(value)
        return "utf-8", value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return "utf-8", value.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(value).decode()


class _Line(msgspec.Struct):
    key: str
    headers: dict[str, str]
    encoding: str
    value: msgspec.Raw


def read_lines(path: Path) -> Iterator[Message]:
    """The messages in a file, oldest first; lines that were cut short are skipped."""
    with path.open("rb") as file:
        for line in file:
            try:
                found = msgspec.json.decode(line, type=_Line)
                yield Message(found.key, _decoded(found), tuple((n, v.encode()) for n, v in found.headers.items()))
            except (msgspec.DecodeError, ValueError):
                continue


def _decoded(line: _Line) -> bytes:
    if line.encoding == "json":
        return bytes(line.value)
    text = msgspec.json.decode(line.value, type=str)
    return text.encode() if line.encoding == "utf-8" else base64.b64decode(text, validate=True)


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
