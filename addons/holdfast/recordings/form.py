"""A recording as text: a head in YAML, a line `---`, and the body where that is JSON, laid out for people.

    # What GET /api/users/3 was answered. ...
    request: GET /api/users/3
    recorded: 2026-11-21T19:30:00Z
    status: 200
    headers:
      content-type: application/json
    written: 5f0c...
    ---
    {
      "id": 3
    }

Any other body is a file beside it, which the head names (`body: NAME`), with the ending of its kind. `written` is how
an edit is known: a file whose content it does not fit, or that has none, belongs to a person and is not overwritten.
The line break before the end of the file is not part of the body. Only `status` must be there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import yaml

from holdfast.policy.understudy.model import Recording, fingerprint, is_json

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_BAD_VALUE = re.compile(r"[\r\n\0]")
_BODY_FILE = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,150}")
_KEYS = ("request", "when", "recorded", "status", "headers", "body", "written")
_LINE = "---"
_NOTE = "Edit this file as you like: it is used as it stands, and then not overwritten. Delete it to record anew."
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_HEAD_MAX = 256 * 1024  # characters
_DEEPEST = 20  # levels; the C loader composes by recursion, and takes the process with it when that goes too deep


class BrokenRecording(ValueError):
    """A file that cannot be used: `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file as it was read. `body_file` names the file that the body is still to be read from, if there is one.

    `body_line` is where the body begins, or is named.
    """

    recording: Recording
    written: str
    body_file: str
    body_line: int


def write_form(recording: Recording, body_file: str = "") -> str:
    """The text of the file; the body is in it unless it is in a file of its own."""
    head: dict[str, object] = {"request": recording.request}
    if recording.when:
        head["when"] = dict(recording.when)
    if recording.recorded is not None:
        head["recorded"] = datetime.fromtimestamp(int(recording.recorded), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    head["status"] = recording.status
    head["headers"] = _several(recording)
    if body_file:
        head["body"] = body_file
    head["written"] = fingerprint(recording)
    text = yaml.safe_dump(head, sort_keys=False, width=1_000_000)
    request = recording.request if len(recording.request) <= 100 and recording.request.isprintable() else "a request"
    whole = f"# What {request} was answered. {_NOTE}\n{text}"
    if body_file or not recording.body:
        return whole
    return f"{whole}{_LINE}\n{recording.body.decode()}\n"


def read_form(data: bytes) -> Parsed:
    """The way back. BrokenRecording where a person has to look at it."""
    text = _decoded(data).replace("\r\n", "\n")
    lines = text.split("\n")
    start = next((n for n, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    if lines[start].rstrip() == _LINE:  # where YAML documents may begin
        lines[start] = ""
    end = next((n for n, line in enumerate(lines) if line.rstrip() == _LINE), len(lines))
    head = _head("\n".join(lines[:end]))
    body = "\n".join(lines[end + 1 :]).removesuffix("\n").encode()
    return _parsed(head, body, end + 2)


def with_body(parsed: Parsed, body: bytes) -> Recording:
    """The recording, once its body is there; checked as far as its content type says what it is to be."""
    recording = replace(parsed.recording, body=body)
    if not parsed.body_file and body and is_json(recording.content_type):
        try:
            json.loads(body)
        except json.JSONDecodeError as error:
            raise BrokenRecording(parsed.body_line + error.lineno - 1, f"the body is no JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise BrokenRecording(parsed.body_line, f"the body is no JSON: {error}") from error
    return replace(recording, edited=parsed.written != fingerprint(recording))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenRecording(data.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from error


def _several(recording: Recording) -> dict[str, str | list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in recording.headers:
        found.setdefault(name.lower(), []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in sorted(found.items())}


type _Marked = Mapping[str, tuple[yaml.Node, int]]


def _head(text: str) -> _Marked:
    """The keys of the head with their nodes and lines."""
    if len(text) > _HEAD_MAX:
        raise BrokenRecording(1, f"the head is longer than {_HEAD_MAX} characters: end it with a line {_LINE}")
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BrokenRecording(mark.line + 1 if mark else 1, f"no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise BrokenRecording(1, f"no YAML: {error}") from error
    if node is None:
        raise BrokenRecording(1, "the file is empty: at least `status` must be there")
    found = _mapping(node, "the head")
    for name, (_, line) in found.items():
        if name not in _KEYS:
            raise BrokenRecording(line, f"there is no key {name[:50]!r}: there are {', '.join(_KEYS)}")
    return found


def _check_depth(text: str) -> None:
    """BrokenRecording for what is nested deeper than anything that a head can mean."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            mark = event.start_mark
            raise BrokenRecording(mark.line + 1 if mark else 1, f"nested more than {_DEEPEST} levels deep")


def _parsed(head: _Marked, body: bytes, body_line: int) -> Parsed:
    if "status" not in head:
        raise BrokenRecording(1, "there is no `status`")
    status, line = _text(head, "status"), head["status"][1]
    if not (status.isascii() and status.isdigit() and 200 <= int(status[:9]) <= 599):
        raise BrokenRecording(line, f"status: {status[:50]!r} is none: write a number from 200 to 599")
    body_file = _text(head, "body")
    if body_file and not _BODY_FILE.fullmatch(body_file):
        raise BrokenRecording(head["body"][1], f"body: {body_file[:50]!r} is no name of a file in this folder")
    if body_file and body:
        raise BrokenRecording(body_line, "there is a body below, and `body` names a file with another")
    recording = Recording(
        status=int(status),
        headers=_pairs(head, "headers"),
        body=b"",
        request=_text(head, "request"),
        when=_pairs(head, "when"),
        recorded=_moment(head),
    )
    parsed = Parsed(recording, _text(head, "written"), body_file, head["body"][1] if body_file else body_line)
    return parsed if body_file else replace(parsed, recording=with_body(parsed, body))


def _mapping(node: yaml.Node, what: str) -> _Marked:
    if not isinstance(node, yaml.MappingNode):
        raise BrokenRecording(node.start_mark.line + 1, f"{what} must be names with values, `name: value`")
    found: dict[str, tuple[yaml.Node, int]] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise BrokenRecording(line, "a list or a mapping cannot be a name")
        if key.value in found:
            raise BrokenRecording(line, f"{key.value[:50]!r} is there twice: write several values as a list")
        found[key.value] = (value, line)
    return found


def _text(head: _Marked, name: str) -> str:
    if name not in head:
        return ""
    node, line = head[name]
    if not isinstance(node, yaml.ScalarNode):
        raise BrokenRecording(line, f"{name} must be a text")
    return str(node.value)


def _pairs(head: _Marked, section: str) -> tuple[tuple[str, str], ...]:
    if section not in head or (isinstance(head[section][0], yaml.ScalarNode) and not head[section][0].value):
        return ()
    pairs: list[tuple[str, str]] = []
    for name, (node, line) in _mapping(head[section][0], section).items():
        if not _NAME.fullmatch(name):
            raise BrokenRecording(line, f"{section}: {name[:50]!r} is no name of a header field")
        for value in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(value, yaml.ScalarNode) or _BAD_VALUE.search(value.value):
                raise BrokenRecording(line, f"{section}: {name} must be a text of one line, or a list of such")
            pairs.append((name, value.value))
    return tuple(pairs)


def _moment(head: _Marked) -> float | None:
    text = _text(head, "recorded")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        message = f"recorded: {text[:50]!r} is no moment: write it like 2026-11-21T19:30:00Z, or leave it out"
        raise BrokenRecording(head["recorded"][1], message) from error
