"""What became of the tests: for people, as JSON, and as the XML that CI systems read (JUnit's)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from holdfast.rehearsal.playing import Miss, Result

LOG_LINES = 10
"""How many of a failed test's last log lines are shown."""
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def result_text(result: Result) -> str:
    """A line; with what helps to understand it where it failed."""
    lines = [f"{'ok    ' if result.ok else 'FAILED'}  {result.case.name} ({result.seconds:.2f} s)"]
    if not result.ok:
        lines += [f"        {line}" for line in _about(result)]
    return "\n".join(lines)


def summary_text(results: Sequence[Result]) -> str:
    """The last line."""
    failed = sum(not result.ok for result in results)
    tests = "1 test" if len(results) == 1 else f"{len(results)} tests"
    seconds = sum(result.seconds for result in results)
    return f"{tests}: {len(results) - failed} ok, {failed} failed, in {seconds:.1f} s"


def as_json(source: str, results: Sequence[Result]) -> dict[str, Any]:
    """For programs."""
    return {
        "profile": source,
        "ok": sum(result.ok for result in results),
        "failed": sum(not result.ok for result in results),
        "tests": [
            {
                "name": result.case.name,
                "ok": result.ok,
                "file": result.case.file,
                "line": result.case.lines.get("", 0),
                "seconds": round(result.seconds, 3),
                "misses": [
                    {
                        "file": m.file,
                        "line": m.line,
                        "step": m.step,
                        "path": m.path,
                        "expected": m.expected,
                        "got": m.got,
                    }
                    for m in result.misses
                ],
                "told": result.told,
                "log": [] if result.ok else result.log,
            }
            for result in results
        ],
    }


def as_junit(source: str, results: Sequence[Result]) -> bytes:
    """One suite, named after the profile."""
    seconds = f"{sum(result.seconds for result in results):.3f}"
    failed = str(sum(not result.ok for result in results))
    numbers = {"tests": str(len(results)), "failures": failed, "errors": "0", "skipped": "0", "time": seconds}
    root = ET.Element("testsuites", {"name": "holdfast", **numbers})
    suite = ET.SubElement(root, "testsuite", {"name": _clean(source), **numbers})
    for result in results:
        where = {"file": result.case.file, "line": str(result.case.lines.get("", 0))}
        about = {"classname": source, "name": result.case.name, "time": f"{result.seconds:.3f}", **where}
        case = ET.SubElement(suite, "testcase", {key: _clean(value) for key, value in about.items()})
        if not result.ok:
            told = ET.SubElement(case, "failure", {"message": _clean(miss_text(result.misses[0]))})
            told.text = _clean("\n".join(_about(result)))
    ET.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n%b\n' % ET.tostring(root, encoding="unicode").encode()


def miss_text(miss: Miss) -> str:
    """`file:line: step 1: expect.status: expected 503, got 200`."""
    step = f"step {miss.step}: " if miss.step else ""
    path = f"{miss.path}: " if miss.path else ""
    return f"{miss.file}:{miss.line}: {step}{path}expected {miss.expected}, got {miss.got}"


def _about(result: Result) -> list[str]:
    lines = [miss_text(miss) for miss in result.misses] + result.told
    kept = result.log[-LOG_LINES:]
    return lines + [f"log: {line}" for line in "\n".join(kept).splitlines()]


def _clean(text: str) -> str:
    """XML has no way to write most control characters."""
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
