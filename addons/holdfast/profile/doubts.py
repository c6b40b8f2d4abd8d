"""What a profile may say and can hardly mean: no faults, but worth a word by `holdfast check` and `holdfast doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from holdfast.profile.nodes import Where
from holdfast.profile.placing import misplaced
from holdfast.profile.reading import Reading
from holdfast.profile.sense import nonsense
from holdfast.profile.settings import Profile


@dataclass(frozen=True, slots=True)
class Doubt:
    """Where it stands, its dotted path, what is wrong, and what to do."""

    where: Where
    path: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.where.file}:{self.where.line}: {self.path}: {self.what}"


@dataclass(frozen=True, slots=True)
class Doubts:
    """Those about the order of the addons, and those about values."""

    order: tuple[Doubt, ...]
    values: tuple[Doubt, ...]


def doubts_about(profile: Profile, reading: Reading) -> Doubts:
    """Of a profile that this reading has led to."""
    return Doubts(_placed(misplaced(profile.addons), reading), _placed(nonsense(profile), reading))


def _placed(found: Iterable[tuple[str, str, str]], reading: Reading) -> tuple[Doubt, ...]:
    return tuple(Doubt(reading.place(path), path, what, advice) for path, what, advice in found)
