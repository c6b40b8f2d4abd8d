"""The profile itself: its faults, what it can hardly mean, and who can read the secrets in its files."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.doctor.case import Case
from holdfast.doctor.finding import Finding, Job
from holdfast.errors import Fault, ProfileError
from holdfast.profile.doubts import doubts_about
from holdfast.profile.hints import is_secret, without_credentials
from holdfast.profile.nodes import Node, Scalar, Table
from holdfast.profile.nodes import Sequence as List

_CHECK = "mend that, and see whether `holdfast check` finds more"
_ORDERING = ("key", "idempotency_key")  # named like secrets, and none
_USER = re.compile(r"://[^/?#\s:@]*@")  # alone, without a password
_SECRET = ("attach", "webhook")  # the other way round


def jobs(case: Case) -> list[Job]:
    return [
        Job("profile", lambda: _profile(case)),
        Job("addon order", lambda: _doubts(case, "addon order", "each stands where it belongs")),
        Job("settings", lambda: _doubts(case, "settings", "they make sense together")),
        Job("secrets", lambda: _secrets(case)),
    ]


def _profile(case: Case) -> list[Finding]:
    """Every fault is a finding; addons are made, which has no side effects."""
    faults: Sequence[Fault] = case.faults
    if case.profile is not None:
        from holdfast.chain import build_chain  # with all of mitmproxy, which may not be the right one

        try:
            build_chain(case.profile)
        except ProfileError as error:
            faults = error.faults
    if case.profile is None or faults:
        return [Finding("profile", "failing", str(fault), _CHECK) for fault in faults]
    addons = ", ".join(entry.name for entry in case.profile.addons)
    return [Finding("profile", "ok", f"no faults; addons: {addons or 'none'}")]


def _doubts(case: Case, name: str, fine: str) -> list[Finding]:
    if case.profile is None:
        return [Finding(name, "skipped", "the profile cannot be loaded", "mend the profile first")]
    doubts = doubts_about(case.profile, case.reading)
    found = doubts.order if name == "addon order" else doubts.values
    return [Finding(name, "warning", str(each), each.advice) for each in found] or [Finding(name, "ok", fine)]


def _secrets(case: Case) -> list[Finding]:
    """Files that hold one in the clear, and that others than their owner and group may read."""
    if case.reading.document is None:
        return [Finding("secrets", "skipped", "the profile cannot be read", "mend the profile first")]
    holding = {node.where.file for node, key in _scalars(case) if _is_written_out(node, key)}
    open_to_all = [file for file in case.reading.files if file in holding and _is_open(Path(file))]
    if open_to_all:
        told = f"{', '.join(open_to_all)} holds a secret in the clear, and everybody on this machine can read it"
        advice = f"`chmod 640 {' '.join(open_to_all)}`, or take it from the environment: ${{NAME}}"
        return [Finding("secrets", "warning", told, advice)]
    held = "are in files that not everybody can read" if holding else "none are written out in the profile's files"
    return [Finding("secrets", "ok", held)]


def _scalars(case: Case) -> Iterator[tuple[Scalar, str]]:
    """Every value with the key that it stands under."""
    document = case.reading.document
    if document is None:
        return
    for node in (document.table, *(entry.settings for entry in document.entries)):
        if node is not None:
            yield from _below(node, "")


def _below(node: Node, key: str) -> Iterator[tuple[Scalar, str]]:
    if isinstance(node, Scalar):
        yield node, key
    elif isinstance(node, Table):
        for name, child in node.entries.items():
            # Of a mapping of secrets, such as header fields to attach, each value is one.
            yield from _below(child, key if _names_secret(key) else name)
    elif isinstance(node, List):
        for child in node.items:
            yield from _below(child, key)


def _is_written_out(node: Scalar, key: str) -> bool:
    if node.source or not node.text or node.is_null():
        return False  # a reference to the environment, or nothing
    text = _USER.sub("://", node.text)
    return _names_secret(key) or without_credentials(text) != text


def _names_secret(key: str) -> bool:
    return key in _SECRET or (is_secret(key) and key not in _ORDERING)


def _is_open(file: Path) -> bool:
    try:
        return bool(os.stat(file).st_mode & stat.S_IROTH)
    except OSError:
        return False
