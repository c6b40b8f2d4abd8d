"""`holdfast check PROFILE --test`: the tests that a profile carries are played against its own chain."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path

from holdfast.engine.selfcheck import check_engine
from holdfast.errors import HoldfastError
from holdfast.profile.cases import CaseSettings
from holdfast.profile.load import load_profile, shipped_profiles
from holdfast.profile.settings import Profile
from holdfast.rehearsal.playing import Result, play
from holdfast.rehearsal.report import as_json, as_junit, result_text, summary_text


def rehearse(args: argparse.Namespace) -> int:
    """0: all came as it was to, 1: some did not. ProfileError with every fault; ValueError where there is nothing."""
    check_engine()
    profile = load_profile(args.profile, tests="inherited" if args.inherited else "own")
    cases = _wanted(profile, args.test, inherited=args.inherited)

    def tell(result: Result) -> None:
        if not args.json:
            print(result_text(result), flush=True)

    try:
        results = play(profile, cases, tell, with_stores=args.with_stores)
    except SystemExit as error:  # with 0 that would look like a success
        raise HoldfastError("an addon has ended the process while the tests were played") from error
    if args.junit:
        _write(Path(args.junit), as_junit(args.profile, results))
    print(json.dumps(as_json(args.profile, results), indent=2) if args.json else summary_text(results))
    return 0 if all(result.ok for result in results) else 1


def _write(file: Path, report: bytes) -> None:
    try:
        file.write_bytes(report)
    except OSError as error:
        raise HoldfastError(f"{file} cannot be written: {error.strerror}") from error


def _wanted(profile: Profile, pattern: str, *, inherited: bool) -> list[CaseSettings]:
    """Those whose name fits. ValueError if there are none: a check that checks nothing must not look like a success."""
    name, cases = profile.source, profile.tests
    if not cases:
        base = f"; those of {profile.extends} are played with --inherited" if profile.extends and not inherited else ""
        raise ValueError(f"{name} has no tests: write them under `tests:`{base}")
    found = [case for case in cases if fnmatchcase(case.name.lower(), f"*{pattern.lower()}*")]
    if found:
        return found
    if pattern in dict(shipped_profiles()) or Path(pattern).is_file():
        raise ValueError(f"{name} has no test named {pattern!r}: did you mean `holdfast check {pattern} --test`?")
    names = "".join(f"\n  {case.name}" for case in cases)
    raise ValueError(f"{name} has no test whose name fits {pattern!r}; there are{names}")
