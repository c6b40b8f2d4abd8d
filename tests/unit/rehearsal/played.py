"""Plays tests in this process, as `holdfast check --test` does."""

from __future__ import annotations

from pathlib import Path

from holdfast.profile.load import load_profile
from holdfast.rehearsal.playing import Result, play

ENVIRONMENT = {"KAFKA_URL": "kafka://127.0.0.1:9"}  # nobody is there, and nobody is asked


def played(folder: Path, text: str, *names: str, inherited: bool = False) -> dict[str, Result]:
    """The tests of a profile with this text, or those of these names, by their names."""
    file = folder / "p.yaml"
    file.write_text(text, encoding="utf-8")
    profile = load_profile(str(file), env=ENVIRONMENT, tests="inherited" if inherited else "own")
    cases = [case for case in profile.tests if not names or case.name in names]
    results = play(profile, cases, lambda _: None)
    return {result.case.name: result for result in results}


def misses(result: Result) -> list[str]:
    """What did not come as it was to, with its line."""
    return [f"{miss.line} {miss.path}: expected {miss.expected}, got {miss.got}" for miss in result.misses]
