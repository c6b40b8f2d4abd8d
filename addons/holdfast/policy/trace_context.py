"""W3C Trace Context: what a `traceparent` field says, and whether a trace that begins here is sampled."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 0x01
_KNOWN = 0x03  # sampled, and of level 2: the trace id is random. Others are not passed on (section 3.2.2.5).
_RANGE = 1 << 64  # of the part of a trace id that decides


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Trace id and span id in hexadecimal, and the flags. `str()` is the field's value, in version 00."""

    trace_id: str
    span_id: str
    flags: int = _SAMPLED

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & _KNOWN:02x}"

    def with_sampled(self, sampled: bool) -> TraceParent:
        """The same, sampled or not."""
        return TraceParent(self.trace_id, self.span_id, (self.flags & ~_SAMPLED) | sampled)


def parse_traceparent(text: str) -> TraceParent | None:
    """What the field says; None for one that has to be ignored (section 3.2.2)."""
    found = _FIELD.fullmatch(text)
    if not found:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, int(flags, 16))


def is_sampled(trace_id: str, share: float) -> bool:
    """The decision by the trace id that the OpenTelemetry SDKs make (TraceIdRatioBased), so that services agree."""
    return int(trace_id, 16) % _RANGE < round(share * _RANGE)
