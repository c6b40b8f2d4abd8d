"""The findings for people, in 80 columns, and for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from holdfast.commands.control import printable
from holdfast.doctor.finding import Finding, Status
from holdfast.profile.hints import without_credentials

WIDTH = 80
_COLOURS: dict[Status, str] = {"ok": "32", "warning": "33", "failing": "31", "skipped": "2"}
_INDENT = " " * 10
_PLURALS = {"warning": "warnings"}


def document(profile: str, findings: Sequence[Finding]) -> dict[str, object]:
    """As JSON."""
    counts = Counter(each.status for each in findings)
    return {
        "profile": profile,
        "ok": not counts["failing"],
        "counts": {status: counts[status] for status in _COLOURS},
        "findings": [{name: without_credentials(text) for name, text in asdict(each).items()} for each in findings],
    }


def text(profile: str, findings: Sequence[Finding], *, colours: bool) -> str:
    """A paragraph for each finding, the advice on lines of its own."""
    head = f"Profile {printable(profile)}. Only asks and reads: nothing is changed anywhere."
    lines = [head, ""]
    for each in findings:
        lines += _paragraph(each, colours)
    return "\n".join([*lines, "", _summary(findings)])


def _paragraph(finding: Finding, colours: bool) -> list[str]:
    said = printable(without_credentials(f"{finding.name}: {finding.found}"))
    first, *rest = _wrapped(said)
    status = f"{finding.status:<8}"
    if colours:
        status = f"\x1b[{_COLOURS[finding.status]}m{status}\x1b[0m"
    lines = [f"{status}  {first}", *(f"{_INDENT}{each}" for each in rest)]
    if finding.advice and finding.status in ("warning", "failing"):
        advice = _wrapped("-> " + printable(without_credentials(finding.advice)))
        lines += [f"{_INDENT}{'   ' if number else ''}{each}" for number, each in enumerate(advice)]
    return lines


def _wrapped(said: str) -> list[str]:
    # What is longer than a line is a path or a command, to be copied whole.
    width = WIDTH - len(_INDENT) - 3
    return textwrap.wrap(said, width, break_long_words=False, break_on_hyphens=False) or [""]


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(each.status for each in findings)
    parts = [
        f"{counts[status]} {_PLURALS.get(status, status) if counts[status] != 1 else status}"
        for status in _COLOURS
        if counts[status]
    ]
    return ", ".join(parts)
