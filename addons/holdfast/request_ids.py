"""Names for requests that bring none, random UUIDs (RFC 9562, section 5.4) and traces, and what others are made of.

Drawn many at a time: the operating system is asked for each draw, and while it answers another thread may take the
interpreter. What a process has drawn is not used by those that it forks.
"""

from __future__ import annotations

import os

_AT_ONCE = 256
_drawn: list[str] = []
_traces: list[str] = []
_bytes = bytearray()


def new_request_id() -> str:
    """`xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`."""
    if not _drawn:
        digits = os.urandom(16 * _AT_ONCE).hex()
        _drawn.extend(_written(digits[at : at + 32]) for at in range(0, len(digits), 32))
    return _drawn.pop()


def new_traceparent() -> str:
    """The header field of a trace that begins here (W3C Trace Context): version, trace, span, sampled."""
    if not _traces:
        digits = os.urandom(24 * _AT_ONCE).hex()
        _traces.extend(f"00-{digits[at : at + 32]}-{digits[at + 32 : at + 48]}-01" for at in range(0, len(digits), 48))
    return _traces.pop()


def random_bytes(count: int) -> bytes:
    """A few; as `os.urandom`."""
    if len(_bytes) < count:
        _bytes[:] = os.urandom(max(16 * _AT_ONCE, count))
    taken = bytes(_bytes[-count:])
    del _bytes[-count:]
    return taken


def _forget() -> None:
    _drawn.clear()
    _traces.clear()
    _bytes.clear()


os.register_at_fork(after_in_child=_forget)


def _written(digits: str) -> str:
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
