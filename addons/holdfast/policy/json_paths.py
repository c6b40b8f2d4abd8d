"""Values inside a JSON text: a small path syntax, and a walk that masks what it hits and edits nothing else.

    $.user.password          a member of an object
    $['user']['pass.word']   the same, for names with other characters in them
    $.items[*].token         of every element or member; `.*` says the same
    $.items[0].token         of one element
    $..password              at any depth
    $                        the whole text

Names match without regard to case, because many an origin's parser takes `Password` for `password`. A name that occurs
twice in one object is masked twice: which of the two counts is the origin's business. Numbers, spaces and the order of
members stay as they were, character for character, so that what is replayed is what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from json import JSONDecoder

MASKED_VALUE = '"[redacted]"'
_STEP = re.compile(
    r"""(?: (?P<deep>\.\.) | \.(?!\[) | (?=\[) )
        (?: (?P<name>[^\W\d][\w-]*) | \*
          | \[ (?: \* | (?P<index>[0-9]{1,9}) | '(?P<one>[^']+)' | "(?P<two>[^"]+)" ) \] )
    """,
    re.VERBOSE,
)
_SPACES = frozenset(" \t\n\r")
_SPACE = re.compile(r"[ \t\n\r]*")
_TEXT = JSONDecoder(strict=False, parse_int=str, parse_float=str)  # numbers need no value, and a long one would raise


@dataclass(frozen=True, slots=True)
class Step:
    """One step down: a member's name (folded), an element's index, or None for any; `deep`: or anywhere below."""

    key: str | int | None
    deep: bool = False

    def matches(self, key: str | int) -> bool:
        return self.key is None or self.key == key


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed path; `text` is how it was written and how it is reported."""

    text: str
    steps: tuple[Step, ...]


def parse_path(text: str) -> JsonPath:
    """ValueError, saying what can be written, for anything but the syntax above."""
    at = 1
    steps: list[Step] = []
    while text.startswith("$") and at < len(text) and (found := _STEP.match(text, at)):
        steps.append(_step(found))
        at = found.end()
    if not text.startswith("$") or at < len(text):
        raise ValueError(f"{text!r} is no JSON path: write it like $.user.password, $.items[*].token or $..password")
    return JsonPath(text, tuple(steps))


def _step(found: re.Match[str]) -> Step:
    name = found["name"] or found["one"] or found["two"]
    index = found["index"]
    key = name.casefold() if name is not None else None if index is None else int(index)
    return Step(key, deep=found["deep"] is not None)


def mask_json(text: str, paths: Sequence[JsonPath]) -> tuple[str, tuple[str, ...]]:
    """(masked text, the paths that hit something, as written). ValueError where the text is not JSON."""
    walk = _Walk(text, paths)
    try:
        walk.document()
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deeply") from exc
    return walk.masked(), tuple(walk.hits)


def is_definite(path: JsonPath) -> bool:
    """Whether it names one place: members and elements, no `*`, nothing at any depth, not the whole text."""
    return bool(path.steps) and all(step.key is not None and not step.deep for step in path.steps)


def covers(pattern: JsonPath, place: JsonPath) -> bool:
    """Whether masking by the pattern takes away what is at this definite place: the place itself or what it is in."""
    behind = {0}  # how many steps of the pattern may be behind us
    for step in place.steps:
        if len(pattern.steps) in behind:
            break
        assert step.key is not None
        onward = {done for done in behind if pattern.steps[done].deep}
        behind = onward | {done + 1 for done in behind if pattern.steps[done].matches(step.key)}
    return len(pattern.steps) in behind


def scalar_at(text: str, place: JsonPath) -> str | None:
    """The one text, number, true or false at a place, as text; None for anything else. ValueError if it is not JSON."""
    walk = _Walk(text, (place,))
    try:
        walk.document()
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deeply") from exc
    found = walk.found()
    if len(found) != 1 or found[0] == "null" or found[0][0] in "{[":
        return None
    return str(_TEXT.decode(found[0])) if found[0][0] == '"' else found[0]


type _Active = frozenset[tuple[int, int]]  # (which path, how many of its steps are behind us)


class _Walk:
    """One pass over the text. Only what a path may still lead into is walked; the rest is skipped by the C scanner."""

    def __init__(self, text: str, paths: Sequence[JsonPath]) -> None:
        self._text = text
        self._paths = paths
        # Elements behind the last one that a path names are all alike.
        named = [step.key for path in paths for step in path.steps if isinstance(step.key, int)]
        self._last_index = max(named, default=-1) + 1
        self._cuts: list[tuple[int, int]] = []
        self._onward: dict[tuple[str | int, _Active], tuple[_Active, tuple[str, ...]]] = {}  # the same names recur
        self.hits: dict[str, None] = {}

    def document(self) -> None:
        start = self._space(1 if self._text.startswith("\ufeff") else 0)
        whole = [path.text for path in self._paths if not path.steps]
        active = frozenset((index, 0) for index in range(len(self._paths)))
        end = self._cut(start, whole) if whole else self._value(start, active)
        if self._space(end) != len(self._text):
            raise ValueError("there is more after the JSON value")

    def masked(self) -> str:
        parts = []
        last = 0
        for start, end in self._cuts:
            parts += [self._text[last:start], MASKED_VALUE]
            last = end
        return "".join(parts) + self._text[last:]

    def found(self) -> list[str]:
        """The values that were hit, as they stand in the text."""
        return [self._text[start:end] for start, end in self._cuts]

    def _value(self, at: int, active: _Active) -> int:
        first = self._text[at : at + 1]
        if active and first == "{":
            return self._object(at + 1, active)
        if active and first == "[":
            return self._array(at + 1, active)
        return self._skip(at)

    def _object(self, at: int, active: _Active) -> int:
        at = self._space(at)
        if self._text[at : at + 1] == "}":
            return at + 1
        while True:
            name, at = self._name(at)
            at = self._space(self._expect(":", self._space(at)))
            at = self._space(self._child(name, at, active))
            if self._text[at : at + 1] == "}":
                return at + 1
            at = self._space(self._expect(",", at))

    def _array(self, at: int, active: _Active) -> int:
        at = self._space(at)
        if self._text[at : at + 1] == "]":
            return at + 1
        index = 0
        while True:
            at = self._space(self._child(min(index, self._last_index), at, active))
            if self._text[at : at + 1] == "]":
                return at + 1
            at = self._space(self._expect(",", at))
            index += 1

    def _child(self, key: str | int, at: int, active: _Active) -> int:
        known = self._onward.get((key, active))
        if known is None:
            known = self._onward[(key, active)] = self._advance(key, active)
        onward, hits = known
        return self._cut(at, hits) if hits else self._value(at, onward)

    def _advance(self, key: str | int, active: _Active) -> tuple[_Active, tuple[str, ...]]:
        """(what is active below this key, the paths that end at it)."""
        folded = key.casefold() if isinstance(key, str) else key
        hits: list[str] = []
        onward: set[tuple[int, int]] = set()
        for which, done in active:
            path = self._paths[which]
            step = path.steps[done]
            if step.deep:
                onward.add((which, done))
            if step.matches(folded):
                if done + 1 == len(path.steps):
                    hits.append(path.text)
                else:
                    onward.add((which, done + 1))
        return frozenset(onward), tuple(sorted(hits))

    def _cut(self, at: int, hits: Sequence[str]) -> int:
        end = self._skip(at)
        self._cuts.append((at, end))
        self.hits.update(dict.fromkeys(hits))
        return end

    def _skip(self, at: int) -> int:
        return _TEXT.raw_decode(self._text, at)[1]

    def _name(self, at: int) -> tuple[str, int]:
        self._expect('"', at)
        name, end = _TEXT.raw_decode(self._text, at)
        return str(name), end

    def _expect(self, char: str, at: int) -> int:
        if self._text[at : at + 1] != char:
            raise ValueError(f"expected {char} at character {at}")
        return at + 1

    def _space(self, at: int) -> int:
        if self._text[at : at + 1] not in _SPACES:
            return at
        found = _SPACE.match(self._text, at)
        return found.end() if found else at
