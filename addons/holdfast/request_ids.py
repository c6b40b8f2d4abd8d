"""Names for requests that bring none: random UUIDs (RFC 9562, section 5.4), drawn many at a time."""

from __future__ import annotations

import os

_AT_ONCE = 256
_drawn: list[str] = []


def new_request_id() -> str:
    """`xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`."""
    if not _drawn:
        digits = os.urandom(16 * _AT_ONCE).hex()
        _drawn.extend(_written(digits[at : at + 32]) for at in range(0, len(digits), 32))
    return _drawn.pop()


def _written(digits: str) -> str:
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
