"""This machine's clock: does it step, and is it where everybody else's is? Ages and signatures rest on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from holdfast.doctor.case import OtherClock
from holdfast.doctor.finding import Finding

OFF = 5.0  # seconds
_STEP = 0.5
_NAME = "clock"


class Watch:
    """Compares the wall clock with one that cannot be set, from when it is made."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._began = wall() - monotonic()

    def stepped(self) -> float:
        """By how many seconds the wall clock was set since."""
        return self._wall() - self._monotonic() - self._began


def findings(watch: Watch, others: Sequence[OtherClock]) -> list[Finding]:
    step = watch.stepped()
    if abs(step) > _STEP:
        told = f"was set by {step:+.1f} s while we looked"
        advice = "let NTP slew it, as chrony and systemd-timesyncd do once they are in step"
        return [Finding(_NAME, "warning", told, advice)]
    off = [each for each in others if abs(each.ahead) - each.unsure > OFF]
    if off:
        named = ", ".join(f"{each.source} is {_said(each.ahead)}" for each in off)
        told = f"differs from others': {named}"
        return [Finding(_NAME, "warning", told, "set whichever is wrong: `timedatectl set-ntp true`, here or there")]
    if not others:
        return [Finding(_NAME, "skipped", "nobody to compare it with", "")]
    return [Finding(_NAME, "ok", f"agrees with {', '.join(dict.fromkeys(each.source for each in others))}")]


def _said(ahead: float) -> str:
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
