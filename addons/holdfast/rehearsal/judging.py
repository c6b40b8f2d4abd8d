"""What was to come of a step against what came of it: every difference, not only the first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.profile.cases import CapturedSettings, ExpectSettings, Fields, MatchSettings, ReceivedSettings
from holdfast.rehearsal.client import Answered, joined

LONGEST = 200
"""Characters of a text that are shown."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`path` is that of the expectation within its step; both sides in words."""

    path: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A request as a server got it, or a replay."""

    server: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A record as it is stored. `document` is the JSON that a broker gets."""

    key: str
    document: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a step. None: nobody has said."""

    answered: Answered
    fate: str | None = None
    route: str | None = None
    cache: str | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    capture_id: str | None = None
    capture: Capture | None = None


type Found = Iterator[Difference]
type Numbering = Callable[[str], int]


def judged(expect: ExpectSettings, outcome: Outcome, named: Numbering) -> Found:
    """Every difference but those of `delivered`. `named` gives the number of a server that a test names."""
    answered = outcome.answered
    if answered.status is None:
        yield Difference("status", _shown(expect.status or "an answer"), f"none: {answered.trouble}")
    else:
        yield from _same("status", expect.status, answered.status)
        yield from _fields("headers", expect.headers, answered.headers)
        yield from _text("body", expect.body, answered.body)
        yield from _json_body("json", expect.json, answered.body)
        if expect.complete and not answered.complete:
            yield Difference("complete", "the whole answer", f"it broke off: {answered.trouble}")
        elif not expect.complete and answered.complete:
            yield Difference("complete", "an answer that breaks off", "the whole answer")
    for key in ("fate", "route", "cache"):
        yield from _same(key, getattr(expect, key), getattr(outcome, key))
    yield from _same("attempts", expect.attempts, len(outcome.attempts))
    yield from _upstream(expect, outcome, named)
    yield from _captured(expect.captured, outcome)


def received(path: str, expect: ReceivedSettings, got: Got, named: Numbering) -> Found:
    """What is different about one request."""
    if expect.server is not None and named(expect.server) != got.server:
        yield Difference(f"{path}.server", f"server {expect.server}", f"server {got.server}")
    yield from _same(f"{path}.method", expect.method, got.method)
    yield from _same(f"{path}.path", expect.path, got.path)
    yield from _fields(f"{path}.headers", expect.headers, got.headers)
    yield from _text(f"{path}.body", expect.body, got.body)
    yield from _json_body(f"{path}.json", expect.json, got.body)


def _upstream(expect: ExpectSettings, outcome: Outcome, named: Numbering) -> Found:
    wanted = expect.upstream
    if wanted is None:
        return
    number = wanted if isinstance(wanted, int) else len(wanted)
    if number != len(outcome.got):
        listed = ", ".join(f"{each.method} {each.path} at server {each.server}" for each in outcome.got)
        yield Difference("upstream", _requests(number), _requests(len(outcome.got)) + (f": {listed}" if listed else ""))
    elif not isinstance(wanted, int):
        for index, (each, got) in enumerate(zip(wanted, outcome.got, strict=True)):
            yield from received(f"upstream[{index}]", each, got, named)


def _captured(wanted: bool | CapturedSettings | None, outcome: Outcome) -> Found:
    if wanted is None:
        return
    if wanted is False:
        if outcome.capture_id:
            yield Difference("captured", "no capture", f"the capture {outcome.capture_id}")
    elif outcome.capture_id is None:
        yield Difference("captured", "a capture", "none")
    elif isinstance(wanted, CapturedSettings):
        if outcome.capture is None:
            yield Difference("captured", "a record in the outbox", "none that can be read there")
        else:
            yield from _record(wanted, outcome.capture)


def _record(wanted: CapturedSettings, capture: Capture) -> Found:
    document = capture.document
    for key in ("error", "route"):
        yield from _same(f"captured.{key}", getattr(wanted, key), document.get(key))
    yield from _same("captured.key", wanted.key, capture.key)
    yield from _same("captured.attempts", wanted.attempts, len(document.get("attempts", ())))
    if wanted.redacted is not None and sorted(wanted.redacted) != sorted(document.get("redacted", ())):
        yield Difference("captured.redacted", _listed(wanted.redacted), _listed(document.get("redacted", ())))
    headers = [(name, str(value)) for name, value in document.get("headers", {}).items()]
    yield from _fields("captured.headers", wanted.headers, headers)
    yield from _text("captured.body", wanted.body, str(document.get("body", "")).encode())


def _same(path: str, wanted: object, got: object) -> Found:
    if wanted is not None and wanted != got:
        yield Difference(path, _shown(wanted), "nothing" if got is None else _shown(got))


def _fields(path: str, wanted: Fields, got: list[tuple[str, str]]) -> Found:
    for name, match in wanted.items():
        value = joined(got, name)
        yield from _matched(f"{path}.{name}", match, value)


def _text(path: str, wanted: str | MatchSettings | None, got: bytes) -> Found:
    if wanted is not None:
        text = got.decode("utf-8", "replace")
        yield from _matched(path, wanted, text if text or isinstance(wanted, str) or wanted.present else None)


def _matched(path: str, wanted: str | MatchSettings, got: str | None) -> Found:
    match = MatchSettings(equals=wanted) if isinstance(wanted, str) else wanted
    shown = "nothing" if got is None else _shown(got)
    if not match.present:
        if got is not None:
            yield Difference(path, "nothing", shown)
    elif got is None or not _fits(match, got):
        yield Difference(path, _like(match), shown)


def _fits(match: MatchSettings, got: str) -> bool:
    return (
        (match.equals is None or match.equals == got)
        and (match.contains is None or match.contains in got)
        and (match.matches is None or re.search(match.matches, got) is not None)
    )


def _like(match: MatchSettings) -> str:
    parts = [_shown(match.equals)] if match.equals is not None else []
    parts += [f"something with {_shown(match.contains)} in it"] if match.contains is not None else []
    parts += [f"something that matches {match.matches}"] if match.matches is not None else []
    return " and ".join(parts) or "something"


def _json_body(path: str, wanted: Any, got: bytes) -> Found:
    if wanted is None:
        return
    try:
        value = json.loads(got)
    except ValueError:
        yield Difference(path, "a body in JSON", _shown(got.decode("utf-8", "replace")))
        return
    yield from _json(path, wanted, value)


def _json(path: str, wanted: Any, got: Any) -> Found:
    """Mappings may have more keys than are wanted; all else is compared as a whole, element by element."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in wanted.items():
            if key in got:
                yield from _json(f"{path}.{key}", value, got[key])
            else:
                yield Difference(f"{path}.{key}", json.dumps(value), "nothing")
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _json(f"{path}[{index}]", one, other)
    elif wanted != got or isinstance(wanted, bool) != isinstance(got, bool):
        yield Difference(path, _shown(json.dumps(wanted)), _shown(json.dumps(got)))


def _shown(value: object) -> str:
    text = str(value)
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return text if text and text.isprintable() and text == text.strip() else repr(text)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number} requests"
