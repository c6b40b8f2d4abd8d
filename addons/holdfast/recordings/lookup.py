"""Looks for the recording that answers a request: its own, or where that is allowed another one of its route."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from holdfast.policy.understudy.answer import Match
from holdfast.policy.understudy.choosing import is_usable, nearest
from holdfast.policy.understudy.key import RecordingKey, file_name, folder_name, is_plain
from holdfast.policy.understudy.model import Recording
from holdfast.recordings.folder import Found, RecordingFolder


@dataclass(frozen=True, slots=True)
class Sought:
    """What was found; `why` there is none: missing, broken, expired. `looked_at` is every file that was read."""

    recording: Recording | None = None
    match: Match = "exact"
    why: Literal["", "missing", "broken", "expired"] = ""
    looked_at: list[Found] = field(default_factory=list)


def look_up(
    folder: RecordingFolder, route: str, key: RecordingKey, *, match: Match, now: float, max_age: float | None
) -> Sought:
    """Reads files: call it in a thread. A broken file is passed over, and told in `looked_at`."""
    name, place = file_name(key), folder_name(route)
    own = folder.read(place, name)
    if own.recording and not is_plain(name) and not _is_for(own.recording, key):
        own = Found(own.file, None, f"{own.file}:1: by its name this file is for {key.method} {key.target[:200]}")
    if own.recording and is_usable(own.recording, now, max_age):
        return Sought(own.recording, "exact", "", [own])
    looked_at = [own] if own.recording or own.fault else []
    if match == "route":
        others = folder.others(place, name)
        looked_at += others
        usable = [each.recording for each in others if each.recording and is_usable(each.recording, now, max_age)]
        chosen = nearest(key.path, usable)
        if chosen:
            return Sought(chosen, "route", "", looked_at)
    return Sought(None, match, "broken" if own.fault else "expired" if own.recording else "missing", looked_at)


def _is_for(recording: Recording, key: RecordingKey) -> bool:
    """What a digest stands for cannot be seen from it. A file without a request line is taken for what it is named."""
    return not recording.request or (recording.request, recording.when) == (f"{key.method} {key.target}", key.when)
