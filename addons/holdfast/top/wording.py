"""Figures as people read them, in as few characters as will do."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

UNKNOWN = "–"
BLOCKS = "▁▂▃▄▅▆▇█"  # the lowest is nothing at all


def per_second(value: float | None) -> str:
    """A rate: 0, 0.04, 3.1, 41, 1.2k."""
    if value is None:
        return UNKNOWN
    if value < 0.005:
        return "0"
    if value < 0.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else count(value)


def count(value: float | None) -> str:
    """A number of things: 12, 9999, 12.3k, 4.5M."""
    if value is None:
        return UNKNOWN
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= factor:
            scaled = value / (1e3 if unit == "k" else factor)
            return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def size(value: float | None) -> str:
    """Bytes: 512 B, 3.4 KiB, 1 GiB."""
    if value is None:
        return UNKNOWN
    for factor, unit in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= factor:
            return f"{value / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{value:.0f} B"


def age(seconds: float | None) -> str:
    """How long: 0.4s, 14s, 2m14s, 3h12m, 2d4h."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1:
        return f"{seconds:.1f}s" if seconds >= 0.05 else "0s"
    whole = int(seconds)
    for factor, unit, rest, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= factor:
            left = whole % factor // rest
            return f"{whole // factor}{unit}" + (f"{left}{small}" if left else "")
    return f"{whole}s"


def duration(seconds: float | None) -> str:
    """How long a request took: 0.4ms, 12ms, 1.3s."""
    if seconds is None:
        return UNKNOWN
    if seconds >= 1:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    return f"{seconds * 1000:.1f}ms" if seconds < 0.00995 else f"{seconds * 1000:.0f}ms"


def share(value: float | None) -> str:
    """A part of a whole: 0%, 0.3%, 92%; all of it is the only 100%, and nothing the only 0%."""
    if value is None:
        return UNKNOWN
    percent = value * 100
    if 0 < percent < 9.95:
        return f"{max(percent, 0.1):.1f}%"
    return f"{min(percent, 99.0) if percent < 100 else percent:.0f}%"


def sparkline(line: Sequence[float | None], columns: int) -> str:
    """A line of blocks, oldest at the left, the highest of them full; blank where nothing was read."""
    columns = min(columns, len(line))
    if columns <= 0:
        return ""
    parts = [line[len(line) * n // columns : len(line) * (n + 1) // columns] for n in range(columns)]
    means = [_mean(part) for part in parts]
    top = max((mean for mean in means if mean is not None), default=0.0)
    return "".join(" " if mean is None else _block(mean, top) for mean in means)


def _mean(part: Sequence[float | None]) -> float | None:
    known = [value for value in part if value is not None]
    return sum(known) / len(known) if known else None


def _block(value: float, top: float) -> str:
    if value <= 0 or top <= 0:
        return BLOCKS[0]
    return BLOCKS[max(1, ceil(value / top * (len(BLOCKS) - 1)))]
