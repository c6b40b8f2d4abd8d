"""The header of a request as what its answer is remembered by. Pure."""

from __future__ import annotations

import re

LONGEST = 8 * 1024  # bytes; the cache's own bound on a header counts what the gateway adds as well

WITHOUT_MEANING = (
    *("accept", "accept-language", "cookie", "priority", "referer", "traceparent", "tracestate", "user-agent"),
    *("x-forwarded-for", "x-real-ip", "x-request-id"),
)
"""Fields that select no response unless its Vary names them, and that no rule of the cache looks at."""

_WITHOUT_MEANING = re.compile(rf"\r\n(?:{'|'.join(WITHOUT_MEANING)}):[\x20-\x7e]*(?=\r\n)".encode(), re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ ]?([^\r]*)", re.IGNORECASE)
_GOOD_ID = re.compile(rb"[0-9A-Za-z._~-]{1,128}")  # of those that the gateway takes over: what needs no quotes in a log
_ONLY_HERE = re.compile(
    rb"\r\n(?:(?:content-length|transfer-encoding|expect|upgrade|cache-control|pragma):"
    rb"|connection:(?![ \t]*keep-alive[ \t]*\r\n))",
    re.IGNORECASE,
)


def essence(head: bytes) -> tuple[bytes, bytes] | None:
    """The header without what says nothing about the answer, and the request id that was in it (or nothing).

    None: what it has for an id is none, or needs a closer look.
    """
    ids = _REQUEST_ID.findall(head)
    if len(ids) > 1 or (ids and not _GOOD_ID.fullmatch(ids[0])):
        return None
    return _WITHOUT_MEANING.sub(b"", head), ids[0] if ids else b""


def is_repeatable(head: bytes) -> bool:
    """Whether a later request with this header asks the same.

    It has no body, no wishes that are measured against the time, and its connection stays. That is told by the header
    as it came: by the time of its answer the request has lost what is only for the gateway.
    """
    return not _ONLY_HERE.search(head)
