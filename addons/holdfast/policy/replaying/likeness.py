"""Which texts count as the same, and how two that do not are shown beside each other.

A mark of redaction stands for anything, since what it hides cannot be compared. Timestamps and UUIDs may be taken out:
a timestamp is one of RFC 3339 (also with a space, without a zone, or with a comma) or an HTTP date. A number is none,
because order numbers look the same; name its JSON path.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

from holdfast.policy.redaction import MASK

SHOWN = 80
"""Characters of a text that are shown, without quotes and dots."""

_BEFORE = 20  # of them, what stands before the first difference
_PIECE = 4096  # compared at once
_TIMESTAMP = re.compile(
    r"""(?<!\d) \d{4}-\d\d-\d\d [Tt ] \d\d:\d\d:\d\d (?:[.,]\d{1,9})? (?:[Zz]|[+-]\d\d:?\d\d)? (?!\d)
      | \b (?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),[ ]\d\d[ ][A-Z][a-z]{2}[ ]\d{4}[ ]\d\d:\d\d:\d\d[ ]GMT \b""",
    re.VERBOSE | re.ASCII,
)
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Likeness:
    """`timestamps`, `uuids`: whether one counts as the same as any other."""

    timestamps: bool = False
    uuids: bool = False

    def plain(self, text: str) -> str:
        """The text with a word in the place of everything that counts as the same."""
        if self.timestamps:
            text = _TIMESTAMP.sub("<timestamp>", text)
        return _UUID.sub("<uuid>", text) if self.uuids else text

    def same(self, one: str, other: str) -> bool:
        """Whether there is no difference that counts."""
        if one == other:
            return True
        one, other = self.plain(one), self.plain(other)
        return one == other or _fits(one, other) or _fits(other, one)


def first_difference[T: (str, bytes)](one: T, other: T) -> int:
    """Where two texts part, or the shorter one ends."""
    shorter = min(len(one), len(other))
    pieces = range(0, shorter, _PIECE)
    start = next((at for at in pieces if one[at : at + _PIECE] != other[at : at + _PIECE]), shorter)
    rest = range(start, min(start + _PIECE, shorter))
    return start + bisect_left(rest, True, key=lambda at: one[start : at + 1] != other[start : at + 1])


def side_by_side(one: str, other: str) -> tuple[str, str]:
    """Both as one printable line, from shortly before they part."""
    start = max(0, first_difference(one, other) - _BEFORE)
    return _line(one, start), _line(other, start)


def printable(text: str) -> str:
    """What has no picture as an escape of it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _line(text: str, start: int) -> str:
    end = start + SHOWN
    return ("…" if start else "") + printable(text[start:end]) + ("…" if end < len(text) else "")


def _fits(masked: str, text: str) -> bool:
    """Whether the text is the masked one, with anything in the place of each mask."""
    first, *rest = masked.split(MASK)
    if not rest or not text.startswith(first):
        return False
    *between, last = rest
    at = len(first)
    for part in between:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(last) and text.endswith(last)
