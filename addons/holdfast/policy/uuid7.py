"""Ids of captures: UUID version 7 (RFC 9562, section 5.7), which sort by the time they were made.

Clock and randomness are passed in. Within one `Uuid7Source` ids only ever grow, whatever the clock does, because the
outbox and the listing of captures use them as their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_COUNTER_MAX = 0xFFF
_COUNTER_SEED = 0x7FF  # the top bit starts at 0, which leaves room to count (RFC 9562, section 6.2)
_MS_MAX = (1 << 48) - 1
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def uuid7(now_ms: int, random80: bytes, counter: int | None = None) -> str:
    """The id for a moment (milliseconds since the epoch) and ten random bytes, in lower case.

    The low 12 bits of the first two bytes become `rand_a`, unless a `counter` of 12 bits takes their place, and the low
    62 bits of the other eight become `rand_b`. ValueError for anything out of range.
    """
    if not 0 <= now_ms <= _MS_MAX:
        raise ValueError(f"a UUIDv7 holds 0 to {_MS_MAX} milliseconds, not {now_ms}")
    if len(random80) != 10:
        raise ValueError(f"a UUIDv7 is made from 10 random bytes, not {len(random80)}")
    rand_a = _seed(random80) & _COUNTER_MAX if counter is None else counter
    if not 0 <= rand_a <= _COUNTER_MAX:
        raise ValueError(f"the counter of a UUIDv7 has 12 bits, {counter} has more")
    rand_b = int.from_bytes(random80[2:]) & ((1 << 62) - 1)
    text = f"{now_ms << 80 | 7 << 76 | rand_a << 64 | 2 << 62 | rand_b:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid(text: str) -> bool:
    """Whether this is a UUID of versions 1 to 8 in the one form that Holdfast writes: lower case, with hyphens.

    Strict on purpose: what passes may be put into a path, a header or a file name as it is.
    """
    return _UUID.fullmatch(text) is not None


class Uuid7Source:
    """Makes ids that strictly grow. For one thread, as it is not locked.

    `clock` returns seconds since the epoch (`time.time`), `randbytes` so many random bytes (`os.urandom`).
    Within a millisecond, and while the clock stands before the last id, a counter goes up; when that is used up, the
    time runs ahead of the clock by a millisecond (RFC 9562, section 6.2).
    """

    def __init__(self, clock: Callable[[], float], randbytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._randbytes = randbytes
        self._last_ms = -1
        self._counter = 0

    def next(self) -> str:
        """The next id."""
        random80 = self._randbytes(10)
        now_ms = int(self._clock() * 1000)
        if now_ms > self._last_ms:
            self._start(now_ms, random80)
        elif self._counter == _COUNTER_MAX:
            self._start(self._last_ms + 1, random80)
        else:
            self._counter += 1
        return uuid7(self._last_ms, random80, self._counter)

    def _start(self, ms: int, random80: bytes) -> None:
        self._last_ms = ms
        self._counter = _seed(random80) & _COUNTER_SEED


def _seed(random80: bytes) -> int:
    return int.from_bytes(random80[:2])
