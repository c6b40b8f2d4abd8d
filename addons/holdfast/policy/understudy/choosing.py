"""Which recording stands in: its own if it is not too old, else the nearest of the same method and route."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.policy.understudy.model import Recording


def is_usable(recording: Recording, now: float, max_age: float | None) -> bool:
    """One that does not say when it was recorded was written by hand, and is as old as its writer likes."""
    return max_age is None or recording.recorded is None or now - recording.recorded <= max_age


def nearest(path: str, candidates: Iterable[Recording]) -> Recording | None:
    """Of the same path if there is one; then the one that shares most of its segments; of those the latest."""
    wanted = path.split("/")

    def closeness(recording: Recording) -> tuple[bool, int, float, str]:
        segments = recording.path.split("/")
        shared = sum(one == other for one, other in zip(wanted, segments, strict=False)) - abs(
            len(wanted) - len(segments)
        )
        return recording.path == path, shared, recording.recorded or 0.0, recording.name

    return max(candidates, key=closeness, default=None)
