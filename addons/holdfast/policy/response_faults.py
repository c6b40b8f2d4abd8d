"""What is wrong with the header of an upstream's response, and what is mended in it before anything reads it.

Pure. More is borne with than in requests: servers that have always sent such things are to work behind a gateway. What
would let one response pass for two (RFC 9110, section 5.5), or for another, is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from holdfast.policy.request_faults import MAX_FIELDS

MAX_INTERIM = 100
"""1xx answers to one request."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")  # RFC 9112, section 4
_NOT_IN_A_VALUE = re.compile(rb"[\x00\x0a-\x0d]")


def response_fault(lines: Sequence[bytes]) -> str | None:
    """What is wrong with the status line and the field lines, as a few words; None if nothing is."""
    if not lines or not _STATUS_LINE.fullmatch(lines[0]):
        return "a status line that is none"
    if len(lines) > MAX_FIELDS + 1:
        return f"more than {MAX_FIELDS} header fields"
    if _NOT_IN_A_VALUE.search(b"".join(lines)):
        return "a header field with a control character"
    for place, line in enumerate(lines[1:]):
        if b":" not in line and not (place and line.startswith((b" ", b"\t"))):  # that goes on with the one before
            return "a header line without a colon"
    return None


def mended(lines: Sequence[bytes]) -> list[bytes]:
    """The lines with folded ones joined by a space and no space before a colon (RFC 9112, sections 5.2 and 5.1)."""
    made = list(lines[:1])
    for line in lines[1:]:
        if line.startswith((b" ", b"\t")) and len(made) > 1:
            made[-1] = made[-1].rstrip(b" \t") + b" " + line.strip(b" \t")
            continue
        name, colon, value = line.partition(b":")
        made.append(name.rstrip(b" \t") + colon + value)
    return made


def grants_what_was_asked(asked: str, granted: str) -> bool:
    """Whether `Upgrade` of a 101 names only protocols that the request's did (RFC 9110, sections 7.8 and 15.2.2)."""
    offered = {protocol.strip().lower() for protocol in asked.split(",")} - {""}
    chosen = {protocol.strip().lower() for protocol in granted.split(",")} - {""}
    return bool(chosen) and chosen <= offered
