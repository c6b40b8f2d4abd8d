"""What is examined: one profile as this environment makes it, or the faults that keep it from being one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import Fault, ProfileError
from holdfast.profile.load import read_profile
from holdfast.profile.reading import Reading
from holdfast.profile.settings import Profile


@dataclass(frozen=True, slots=True)
class OtherClock:
    """How far another clock is ahead of this machine's, in seconds, and how far that may be wrong."""

    source: str
    ahead: float
    unsure: float


@dataclass(slots=True, eq=False)
class Case:
    """`profile` is None where there are `faults`. Examinations put into `clocks` what they happen to hear."""

    name: str
    reading: Reading
    env: Mapping[str, str]
    profile: Profile | None = None
    faults: tuple[Fault, ...] = ()
    clocks: list[OtherClock] = field(default_factory=list)

    def settings(self, target: str) -> list[Any]:
        """Those of every entry of this built-in addon."""
        entries = self.profile.addons if self.profile else ()
        return [entry.settings for entry in entries if entry.target == target]


def case_of(name: str, env: Mapping[str, str]) -> Case:
    """Raises nothing: what is wrong with the profile is part of the case."""
    case = Case(name, Reading(env), env)
    try:
        case.profile = read_profile(name, case.reading, {})
    except ProfileError as error:
        case.faults = error.faults
    return case
