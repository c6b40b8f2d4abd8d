"""Parts of a complete stored response (RFC 9110, section 14).

One range is answered with a 206. So are several that overlap or touch, since together they are one. For any other set
the whole is sent, which a server may always do (section 14.2): a multipart/byteranges answer can be made many times
larger than what is stored, and its boundary would have to be a secret. What cannot be read is ignored as well.

A Range counts only after the conditions (section 13.2.2): `validation.not_modified` is asked first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.validation import strongly_modified

RANGES_MAX = 16
"""A request for more is answered with the whole."""

_SET = re.compile(rb"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(rb"([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19})")
_REPLACED = frozenset({b"content-length", b"content-range", b"transfer-encoding"})
_OF_THE_WHOLE = frozenset({b"content-md5", b"content-digest"})  # of the content sent: wrong for a part of it
_STRONG_TAG = re.compile(rb'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to a Range: 206 with a part of the body, or 416 without one."""

    status: int
    headers: Fields
    body: bytes = field(repr=False)


def part_of(method: str, request: Fields, stored: StoredResponse) -> Part | None:
    """None: the request is answered with the whole."""
    lines = [value.strip(b" \t") for name, value in request if name.lower() == b"range"]
    usable = method == "GET" and stored.status == 200 and stored.method == "GET" and stored.body
    if len(lines) != 1 or not usable or not _still_same(request, stored):
        return None
    wanted = parse_ranges(lines[0], len(stored.body))
    if wanted is None:
        return None
    if not wanted:
        return _unsatisfiable(len(stored.body))
    joined = _joined(wanted)
    return _part(stored, *joined[0]) if len(joined) == 1 else None


def parse_ranges(value: bytes, length: int) -> list[tuple[int, int]] | None:
    """First and last positions, within a body of `length`, in the order asked for; None for what is to be ignored.

    Those beyond the end are left out (RFC 9110, section 14.1.2), so that an empty list is unsatisfiable.
    """
    found = _SET.fullmatch(value)
    specs = [spec.strip(b" \t") for spec in found[1].split(b",")] if found else []
    specs = [spec for spec in specs if spec]
    if not 0 < len(specs) <= RANGES_MAX:
        return None
    ranges = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            return None
        first = int(match[1]) if match[1] else max(0, length - int(match[3]))
        last = min(int(match[2]) if match[2] else length, length - 1)
        if first <= last:
            ranges.append((first, last))
    return ranges


def _still_same(request: Fields, stored: StoredResponse) -> bool:
    """RFC 9110, section 13.1.5: If-Range holds by strong comparison, or by exactly the same strong date."""
    lines = [value.strip(b" \t") for name, value in request if name.lower() == b"if-range"]
    if not lines:
        return True
    if len(lines) > 1:
        return False
    if b'"' in lines[0]:
        tags = [value.strip(b" \t") for name, value in stored.headers if name.lower() == b"etag"]
        return tags == lines and _STRONG_TAG.fullmatch(lines[0]) is not None
    return strongly_modified(stored) == lines[0]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, those that overlap or touch made one (RFC 9110, section 15.3.7.2)."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _part(stored: StoredResponse, first: int, last: int) -> Part:
    """RFC 9110, section 15.3.7: with all that the 200 would have said of the representation."""
    body = stored.body[first : last + 1]
    kept = [(n, v) for n, v in stored.headers if n.lower() not in _REPLACED | _OF_THE_WHOLE]
    where = b"bytes %d-%d/%d" % (first, last, len(stored.body))
    return Part(206, [*kept, (b"Content-Range", where), (b"Content-Length", b"%d" % len(body))], body)


def _unsatisfiable(length: int) -> Part:
    """RFC 9110, section 15.5.17; of the stored header nothing, or the error would be cached as long as the body."""
    return Part(416, [(b"Content-Range", b"bytes */%d" % length), (b"Content-Length", b"0")], b"")
