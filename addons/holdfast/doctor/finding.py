"""What an examination gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

PATIENCE = 3.0  # seconds for one question to somebody else

Status = Literal["ok", "warning", "failing", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `found` and `advice` are sentences for people, and hold no secrets."""

    name: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One examination; it may block, and is given up after a while. What it raises is a finding too."""

    name: str
    examine: Callable[[], Sequence[Finding]]


def worst(findings: Sequence[Finding]) -> Status:
    """`skipped` counts as nothing."""
    statuses = {each.status for each in findings}
    return next((each for each in ("failing", "warning") if each in statuses), "ok")
