"""What was measured, as text, as JSON and as pictures."""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.case import Measured, Verdict
from tests.bench.cases import CASES
from tests.bench.picture import drawn, number

UNITS = {
    "rate": "/s",
    "p50": " ms",
    "p99": " ms",
    "cpu": " us CPU",
    "rss": " MiB",
    "pss": " MiB PSS",
    "start": " s",
    "start_cpu": " s CPU",
    "connections": " connections",
    "kib": " KiB each",
    "records": " records/s",
    "during": " of its rate meanwhile",
    "growth": " MiB growth",
    "files": " more files",
}


def heading(machine: Mapping[str, Any]) -> str:
    """What it is measured on."""
    place = "not pinned"
    if machine["load_cores"]:
        place = f"server on core {machine['server_core']}, load on {machine['load_cores']}"
    names = ("python", "mitmproxy", "nginx", "varnish", "redis-server", "wrk", "h2load")
    parts = [f"{name} {machine[name]}" for name in names if machine.get(name)]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}, load {machine['load']:.2f}; {place}\n"
        f"engine {machine['engine']}; {', '.join(parts)}"
    )


def told(measured: Measured) -> str:
    """One case: a line for each contender, one for each target."""
    lines = [f"\n{measured.name}: {measured.about}"]
    for contender, figures in measured.figures.items():
        lines.append(f"  {contender:<30}" + "  ".join(_figure(name, values) for name, values in figures.items()))
    ours = next(iter(measured.figures), "")
    for contender in list(measured.figures)[1:]:
        if beside := _beside(measured, ours, contender):
            lines.append(f"  {'':<30}{beside}")
    lines += [f"  {_verdict(verdict)}" for verdict in measured.verdicts]
    lines += [f"  not measured: {what}" for what in measured.missing]
    lines += [f"  note: {note}" for note in measured.notes]
    if measured.broken:
        lines.append(f"  BROKEN: {measured.broken}")
    return "\n".join(lines)


def _figure(name: str, values: Sequence[float]) -> str:
    middle, unit = statistics.median(values), UNITS.get(name, f" {name}")
    label = f"{name} " if name in ("p50", "p99") else ""
    spread = f" ({number(min(values))}-{number(max(values))})" if name == "rate" and len(values) > 1 else ""
    return f"{label}{number(middle)}{unit}{spread}"


def _beside(measured: Measured, ours: str, other: str) -> str:
    """Rates and CPU of ours beside those of another: ratios within each round."""
    told = []
    for figure, word in (("rate", "rate"), ("cpu", "CPU per request")):
        mine, its = measured.figures[ours].get(figure), measured.figures[other].get(figure)
        if mine and its and all(its):
            ratios = [a / b for a, b in zip(mine, its, strict=True)]
            told.append(f"{word} {number(statistics.median(ratios))} x")
    return f"{', '.join(told)} that of {other}" if told and measured.broken == "" else ""


def _verdict(verdict: Verdict) -> str:
    if verdict.value is None:
        return f"target {verdict.target.told()}: not measured: {verdict.why}"
    word = "met" if verdict.met else "MISSED"
    spread = f"{number(verdict.low)}-{number(verdict.high)}"
    return f"target {verdict.target.told()}: {number(verdict.value)} ({spread}): {word}"


def summary(done: Sequence[Measured]) -> str:
    """The last lines: what was missed, not measured, broken."""
    verdicts = [(measured.name, verdict) for measured in done for verdict in measured.verdicts]
    met = sum(verdict.met is True for _, verdict in verdicts)
    lines = [f"{met} of {len(verdicts)} targets met"]
    lines += [f"missed: {name}: {_verdict(verdict)}" for name, verdict in verdicts if verdict.met is False]
    lines += [f"not measured: {name}: {verdict.why}" for name, verdict in verdicts if verdict.met is None]
    lines += [f"broken: {measured.name}: {measured.broken.splitlines()[0]}" for measured in done if measured.broken]
    return "\n".join(lines)


def entry(measured: Measured, when: str) -> dict[str, Any]:
    """A case as bench.json has it."""
    made = {**asdict(measured), "when": when}
    for told_of, verdict in zip(made["verdicts"], measured.verdicts, strict=True):
        told_of["met"] = verdict.met
    return made


def write(folder: Path, machine: Mapping[str, Any], done: Sequence[Measured], *, short: bool) -> list[Path]:
    """bench.json and the pictures; the files that were written.

    Cases that were measured before on the same machine stay, so that one can be measured anew. Of a short run nothing
    stays, and nothing is drawn: `short.json`.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    file = folder / ("short.json" if short else "bench.json")
    kept: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, KeyError):
        before = json.loads(file.read_text())
        if not short and all(before["machine"][key] == machine[key] for key in ("cpu", "cores", "python")):
            kept = {made["name"]: made for made in before["cases"]}
    entries = kept | {measured.name: entry(measured, when) for measured in done}
    cases = [entries[name] for name in (*CASES, *entries.keys() - CASES.keys()) if name in entries]
    file.write_text(json.dumps({"machine": machine, "cases": cases}, indent=1) + "\n")
    if short:
        return [file]
    pictures = drawn([made for made in cases if not made["broken"]])
    for name, text in pictures.items():
        (folder / name).write_text(text)
    return [file, *(folder / name for name in pictures)]
