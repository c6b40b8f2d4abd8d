"""A profile from its name or file to frozen settings, or to one ProfileError that names every fault.

Read, compose, follow `extends`, merge, lay the command line over it, fill in what routes leave out, check. References
to the environment are filled in while a file is read, but a missing variable is a fault only where its value is still
used at the end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from holdfast.errors import ProfileError
from holdfast.profile.addons import check_entries
from holdfast.profile.check import BAD, Check
from holdfast.profile.needs import unmet_needs
from holdfast.profile.reading import Reading
from holdfast.profile.routed import filled_in, unknown_routes, without_echoes
from holdfast.profile.settings import Profile
from holdfast.profile.shipped import shipped_profiles
from holdfast.profile.tested import check_cases, unfit_cases

__all__ = ["load_profile", "read_profile", "shipped_profiles"]

Tests = Literal["ignored", "own", "inherited"]


def load_profile(
    name_or_path: str,
    *,
    env: Mapping[str, str] = os.environ,
    overrides: Mapping[str, object] | None = None,
    tests: Tests = "ignored",
) -> Profile:
    """The profile of this shipped name or file. ProfileError with all faults, in the order of the file.

    `overrides` maps dotted paths, such as `admin.listen` or `addons.failure_sink.outbox`, to values that win over
    those of the files. `tests` says whether the profile's tests are read, and those of what it extends.
    """
    reading = Reading(env, with_tests=tests != "ignored")
    return read_profile(name_or_path, reading, overrides or {}, inherited=tests == "inherited")


def read_profile(
    name_or_path: str, reading: Reading, overrides: Mapping[str, object], *, inherited: bool = False
) -> Profile:
    """As `load_profile`; the reading knows afterwards, even if this raises, which files were opened."""
    document = reading.named(name_or_path)
    if document is None:
        raise ProfileError(reading.ordered(reading.faults))
    document = reading.overridden(document, overrides)
    check = Check()
    addons = check_entries(document.entries, check)
    tests = document.inherited if inherited else document.tests
    given = {"addons": addons, "tests": check_cases(tests, check), "source": name_or_path}
    profile = check.struct(filled_in(document.table), Profile, "", given)
    faults = reading.faults + without_echoes(check.faults)
    if isinstance(profile, Profile):
        faults += unknown_routes(profile, document.table) + unmet_needs(profile) + unfit_cases(profile, tests)
    if faults or profile is BAD:
        raise ProfileError(reading.ordered(faults))
    assert isinstance(profile, Profile)
    return profile
