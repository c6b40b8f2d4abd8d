"""What the cache says about its part in an answer: Cache-Status (RFC 9211)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from holdfast.policy.caching.model import Fields

NAME = "holdfast"
FORWARDED_BECAUSE = frozenset({"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"})
"""RFC 9211, section 2.2."""

TEXT_MAX = 1024
_INTEGER_MAX = 999_999_999_999_999  # RFC 9651, section 3.3.1
_VISIBLE = re.compile(r"[ !#-\[\]-~]*")  # without the quotation mark and the backslash
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Either a hit, or forwarded for the reason `fwd`. None: not said. The rest as in RFC 9211, section 2."""

    fwd: str | None = None  # None: a hit
    fwd_status: int | None = None  # what the upstream answered, if it is not what the client gets
    ttl: float | None = None  # remaining seconds of freshness; negative: stale
    stored: bool | None = None
    collapsed: bool | None = None  # shared the request of another; False: that was tried in vain
    key: str | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.fwd is not None and self.fwd not in FORWARDED_BECAUSE:
            raise ValueError(f"{self.fwd!r} is no reason of RFC 9211, section 2.2")


def member(status: CacheStatus) -> str:
    """As a member of the structured list: `holdfast;fwd=stale;fwd-status=304;ttl=60`."""
    return _remembered(status) if status.ttl is None else _member(status)


def _member(status: CacheStatus) -> str:
    forwarded = status.fwd is not None
    parts = [NAME, f"fwd={status.fwd}" if forwarded else "hit"]
    if forwarded and status.fwd_status is not None:
        parts.append(f"fwd-status={status.fwd_status}")
    if status.ttl is not None and not math.isnan(status.ttl):
        parts.append(f"ttl={_integer(status.ttl)}")
    if forwarded:  # section 2.5 and 2.6: without meaning for a hit
        parts += _boolean("stored", status.stored) + _boolean("collapsed", status.collapsed)
    if status.key is not None and len(status.key) <= TEXT_MAX:  # a part of a key would be another key
        parts.append(f"key={_string(status.key)}")
    if status.detail is not None:
        detail = status.detail[:TEXT_MAX]
        parts.append(f"detail={detail if _TOKEN.fullmatch(detail) else _string(detail)}")
    return ";".join(parts)


_remembered = lru_cache(maxsize=256)(_member)
"""Where there is no time in it: the same is said of every request for what is not stored."""


def with_cache_status(response: Fields, status: CacheStatus) -> Fields:
    """The fields with ours behind what caches nearer to the origin have said (RFC 9211, section 2)."""
    return [*response, (b"Cache-Status", member(status).encode("ascii"))]


def _integer(seconds: float) -> int:
    return math.floor(max(-_INTEGER_MAX, min(_INTEGER_MAX, seconds)))


def _boolean(name: str, value: bool | None) -> list[str]:
    return [] if value is None else [name if value else f"{name}=?0"]


def _string(text: str) -> str:
    """RFC 9651, section 4.1.6. A String has no place for what is not visible ASCII: it is shown percent-encoded."""
    if _VISIBLE.fullmatch(text):
        return f'"{text}"'
    shown = "".join(
        each if " " <= each <= "~" else "".join(f"%{octet:02X}" for octet in each.encode("utf-8", "surrogatepass"))
        for each in text
    )
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
