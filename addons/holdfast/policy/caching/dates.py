"""HTTP dates (RFC 9110, section 5.6.7), as epoch seconds.

All three formats are read. Letters may be of either case, and the day of the week is not compared with the date, since
senders get both wrong without harm. All else must be exact, above all the zone: another one would be hours off.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_CLOCK = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_SHORT = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG = rb"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_FORMATS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        _SHORT + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _CLOCK + rb" GMT",  # IMF-fixdate
        _LONG + rb", (?P<day>\d\d)-" + _MONTH + rb"-(?P<year>\d\d) " + _CLOCK + rb" GMT",  # RFC 850
        _SHORT + rb" " + _MONTH + rb" (?P<day>[ \d]\d) " + _CLOCK + rb" (?P<year>\d{4})",  # asctime()
    )
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP_SECOND = 60
_FIXED = len(b"Sun, 06 Nov 1994 08:49:37 GMT")


def parse(value: bytes, now: float) -> int | None:
    """None if it is not an HTTP date. `now` tells the century of a year of two digits."""
    if len(value) == _FIXED:
        return _fixed(value)
    return _parsed(value, now)


@lru_cache(maxsize=256)
def _fixed(value: bytes) -> int | None:
    """A date of the usual length, in which every year has four digits: most are asked for several times."""
    return _parsed(value, 0.0)


def _parsed(value: bytes, now: float) -> int | None:
    for form in _FORMATS:
        match = form.fullmatch(value.strip(b" \t"))
        if match:
            return _seconds(match, now)
    return None


def written(seconds: float) -> bytes:
    """As IMF-fixdate, the form that is sent."""
    return formatdate(int(seconds), usegmt=True).encode()


def _seconds(match: re.Match[bytes], now: float) -> int | None:
    year, second = int(match["year"]), int(match["second"])
    month = _MONTHS.index(match["month"].lower()) + 1
    leap = second == _LEAP_SECOND
    try:
        if len(match["year"]) == 2:
            year = _in_full(year, datetime.fromtimestamp(now, UTC).year)
        moment = datetime(
            year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), second - leap, tzinfo=UTC
        )
    except (ValueError, OverflowError, OSError):
        return None
    return int((moment - _EPOCH).total_seconds()) + leap


def _in_full(year: int, this_year: int) -> int:
    """RFC 9110, section 5.6.7: the latest such year that is not more than 50 years ahead."""
    latest = this_year + 50
    return latest - (latest - year) % 100
