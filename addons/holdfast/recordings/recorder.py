"""The one thread that writes recordings: decodes, redacts, lays out, compares, and writes only what has changed.

`put` never waits: what comes faster than the disk takes it is dropped and counted. A disk that is full is told once,
and again when it is over. At a bound nothing more is recorded; what is there stays, since people may have committed it.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from holdfast.policy.json_layout import indented
from holdfast.policy.json_paths import JsonPath, mask_json
from holdfast.policy.redaction import WHOLE_BODY, RedactionRules, mask_body
from holdfast.policy.understudy.key import RecordingKey, file_name, folder_name
from holdfast.policy.understudy.model import Recording, is_json, recorded_fields, same_but_for
from holdfast.policy.wire import declared_charset, header_map
from holdfast.recordings.coding import TooLarge, decoded
from holdfast.recordings.folder import RecordingFolder, Room

logger = logging.getLogger(__name__)
WAITING_MAX = 32
LOOK_EVERY = 1.0  # seconds for which the figures of the folder are taken to hold
_LAID_OUT = 3  # times the bound of a body, that it may grow by being laid out

type Result = Literal[
    "recorded", "unchanged", "edited", "broken", "full", "too_large", "undecodable", "unredactable", "write_error"
]


@dataclass(frozen=True, slots=True)
class Sighting:
    """A good answer as it came off the wire. `seen` in epoch seconds, `coding` as in Content-Encoding."""

    route: str
    key: RecordingKey
    status: int
    fields: Sequence[tuple[bytes, bytes]]
    body: bytes = field(repr=False)
    coding: str
    seen: float


@dataclass(frozen=True, slots=True)
class RecorderRules:
    """The operator's part; bytes, and places in JSON bodies whose change alone is not worth writing."""

    redaction: RedactionRules
    ignore: tuple[JsonPath, ...]
    max_body: int
    of_a_route: Room
    of_all: Room


class Recorder:
    """`report(route, result)` is called for each sighting, from its thread."""

    def __init__(self, folder: RecordingFolder, rules: RecorderRules, report: Callable[[str, str], None]) -> None:
        self.rules = rules
        self.trouble = ""  # why the last one could not be written
        self._folder = folder
        self._report = report
        self._rooms: dict[str, Room] = {}
        self._looked = float("-inf")
        self._waiting: queue.Queue[Sighting | None] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None

    def put(self, sighting: Sighting) -> bool:
        """Have it recorded; False if too many wait already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="understudy", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(sighting)
        except queue.Full:
            return False
        return True

    def stop(self, within: float) -> None:
        """Write what waits, for at most so many seconds."""
        if self._thread:
            try:
                self._waiting.put(None, timeout=within)
            except queue.Full:
                return
            self._thread.join(within)

    @property
    def room(self) -> Room:
        """Of all recordings, as far as is known."""
        return _total(self._rooms)

    def look(self) -> Room:
        """The same, as it is on the disk now."""
        self._rooms, self._looked = self._folder.rooms(), time.monotonic()
        return self.room

    def _work(self) -> None:
        while (sighting := self._waiting.get()) is not None:
            try:
                self._report(sighting.route, self.take(sighting))
            except Exception:
                logger.exception("recording failed", extra={"route": sighting.route})
                self._report(sighting.route, "write_error")

    def take(self, sighting: Sighting) -> Result:
        """One of them, from beginning to end."""
        try:
            new = self._made(sighting)
        except TooLarge:
            return "too_large"
        except ValueError:
            return "undecodable"
        if new is None:
            return "unredactable"
        place = folder_name(sighting.route)
        found = self._folder.read(place, new.name)
        if found.fault:
            return "broken"  # somebody may be in the middle of editing it
        old = found.recording
        if old and old.edited:
            return "edited"
        if old and same_but_for(old, new, (self._compared(old), self._compared(new))):
            return "unchanged"
        return self._written(place, new, old)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _made(self, sighting: Sighting) -> Recording | None:
        """The recording without its secrets; None where they could not be looked for."""
        rules, key = self.rules, sighting.key
        body = decoded(sighting.body, sighting.coding, rules.max_body)
        plain = [(name, value) for name, value in sighting.fields if name.lower() != b"content-encoding"]
        body, names = mask_body(body, header_map(plain), rules.redaction)
        if WHOLE_BODY in names:
            return None
        recording = Recording(
            status=sighting.status,
            headers=recorded_fields(sighting.fields, rules.redaction),
            body=body,
            request=f"{key.method} {key.target}",
            when=key.when,
            recorded=float(int(sighting.seen)),
            name=file_name(key),
        )
        return replace(recording, body=self._laid_out(recording))

    def _laid_out(self, recording: Recording) -> bytes:
        text = _json_text(recording)
        laid_out = indented(text, _LAID_OUT * self.rules.max_body) if text else None
        return recording.body if laid_out is None else laid_out.encode()

    def _compared(self, recording: Recording) -> object:
        """What of a body counts: of JSON the values, but for those that change all the time."""
        text = _json_text(recording)
        if not text:
            return recording.body
        try:
            masked = mask_json(text, self.rules.ignore)[0] if self.rules.ignore else text
            return json.loads(masked, parse_int=_number, parse_float=_number, parse_constant=_number)
        except (ValueError, RecursionError):
            return recording.body

    def _written(self, place: str, new: Recording, old: Recording | None) -> Result:
        added = self._folder.size_of(new) - (self._folder.size_of(old) if old else 0)
        if time.monotonic() - self._looked > LOOK_EVERY:
            self.look()
        here, rules = self._rooms.get(place, Room()), self.rules
        for room, bound in ((here, rules.of_a_route), (self.room, rules.of_all)):
            if (not old and room.recordings >= bound.recordings) or room.bytes + added > bound.bytes:
                return "full"
        try:
            self._folder.write(place, new)
        except OSError as error:
            if not self.trouble:
                logger.warning("answers are not recorded", extra={"error": str(error)})
            self.trouble = str(error)
            return "write_error"
        if self.trouble:
            logger.info("answers are recorded again")
        self.trouble = ""
        self._rooms[place] = Room(here.recordings + (not old), here.bytes + added)
        return "recorded"


def _json_text(recording: Recording) -> str:
    """The body as text if its type says that it is JSON; empty otherwise."""
    if not is_json(recording.content_type) or declared_charset(recording.content_type) != "utf-8":
        return ""
    try:
        return recording.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""


def _total(rooms: dict[str, Room]) -> Room:
    each = list(rooms.values())
    return Room(sum(room.recordings for room in each), sum(room.bytes for room in each))


def _number(text: str) -> tuple[str]:
    """A number by its text: for Python 1, 1.0 and true are the same."""
    return (text,)
