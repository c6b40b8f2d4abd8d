"""The three value types of a profile: a duration, a size, a share. Each is a number that knows its text form.

`str()` of a value is a text that makes the same value again.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Self

_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?(?:e[+-]?[0-9]{1,3})?)\s*([a-z%]*)", re.IGNORECASE)
_SECONDS = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
    "us": Fraction(1, 1_000_000),
}
_DECIMAL = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_BINARY = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_BYTES = {name.lower(): factor for name, factor in (_DECIMAL | _BINARY).items()}
# Beyond these, arithmetic with clocks and with file sizes overflows somewhere.
_LONGEST = 100 * 365 * 86400
_LARGEST = 2**63 - 1


class Duration(float):
    """Seconds, written as `50ms`, `5s`, `2m`, `1h` or `1d`; a bare number means seconds."""

    __slots__ = ()

    def __new__(cls, value: str | float = 0.0) -> Self:
        seconds = _parse_duration(value) if isinstance(value, str) else _number(value, cls.__name__.lower())
        if not 0 <= seconds <= _LONGEST:
            raise ValueError(f"{_short(value)} is out of range: a duration is between 0s and 36500d")
        return super().__new__(cls, seconds)

    def __str__(self) -> str:
        # The largest unit that gives a whole number and loses nothing: 90s stays 90s, 120s becomes 2m.
        for unit, factor in _SECONDS.items():
            count = round(float(self) / factor)
            if count and float(count * factor) == float(self):
                return f"{count}{unit}"
        return "0s" if not self else f"{float(self)!r}s"

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


class Size(int):
    """Bytes, written as `512`, `64KiB`, `10MiB` or `1GB`."""

    __slots__ = ()

    def __new__(cls, value: str | float = 0) -> Self:
        size = _parse_size(value) if isinstance(value, str) else _whole(value)
        if not 0 <= size <= _LARGEST:
            raise ValueError(f"{_short(value)} is out of range: a size is between 0 and 8388607TiB")
        return super().__new__(cls, size)

    def __str__(self) -> str:
        for table in (_BINARY, _DECIMAL):
            for unit, factor in reversed(table.items()):
                if factor > 1 and self and int(self) % factor == 0:
                    return f"{int(self) // factor}{unit}"
        return f"{int(self)}"

    def __repr__(self) -> str:
        return f"Size({str(self)!r})"


class Share(float):
    """A part of a whole, written as `20%` or `0.2`."""

    __slots__ = ()

    def __new__(cls, value: str | float = 0.0) -> Self:
        share = _parse_share(value) if isinstance(value, str) else _number(value, "share")
        if not 0 <= share <= 1:
            raise ValueError(f"{_short(value)} is out of range: a share is between 0% and 100%, or between 0 and 1")
        return super().__new__(cls, share)

    def __str__(self) -> str:
        percent = f"{float(self) * 100:.10g}"
        return f"{percent}%" if float(Fraction(percent) / 100) == float(self) else repr(float(self))

    def __repr__(self) -> str:
        return f"Share({str(self)!r})"


def _short(value: str | float) -> str:
    # Integers of more than 4300 digits have no text in Python.
    return f"{value!r}"[:60] if isinstance(value, str) else f"{_number(value, 'number'):g}"


def _parse_duration(text: str) -> float:
    number, unit = _split(text, "a duration", "a number with a unit, such as 50ms, 5s, 2m, 1h or 1d")
    factor = _SECONDS.get(unit.lower() or "s")
    if factor is None:
        raise ValueError(f"{text!r} is not a duration: the units are ms, s, m, h and d, as in 50ms or 5s")
    return float(min(number * factor, Fraction(2 * _LONGEST)))


def _parse_size(text: str) -> int:
    number, unit = _split(text, "a size", "a number with a unit, such as 512, 64KiB, 10MiB or 1GB")
    factor = _BYTES.get(unit.lower() or "b")
    if factor is None:
        raise ValueError(f"{text!r} is not a size: the units are B, KB, MB, GB, TB and KiB, MiB, GiB, TiB, as in 10MiB")
    size = number * factor
    if size.denominator != 1:
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def _parse_share(text: str) -> float:
    number, unit = _split(text, "a share", "a percentage such as 20% or a number such as 0.2")
    if unit not in ("", "%"):
        raise ValueError(f"{text!r} is not a share: write a percentage such as 20% or a number such as 0.2")
    return float(min(number / 100 if unit else number, Fraction(2)))


def _split(text: str, kind: str, example: str) -> tuple[Fraction, str]:
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:60]!r} is not {kind}: write {example}")
    return Fraction(match[1]), match[2]


def _number(value: float, kind: str) -> float:
    # True is an int to Python, and never a duration to a person.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a {kind}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        return math.inf
    return float(value)


def _whole(value: float) -> int:
    number = _number(value, "size")
    if not math.isfinite(number):
        return _LARGEST + 1
    if number != math.floor(number):
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return int(value)
