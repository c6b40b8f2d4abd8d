"""What bench.json has, put into docs/performance.md and docs/images/."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.picture import drawn, number

BEGIN, END = "<!-- bench: written by scripts/bench --publish -->", "<!-- /bench -->"
ABOUT = {
    "bench-rates.svg": "Requests a second of the gateway and of its peers, case by case",
    "bench-targets.svg": "Every target, and how far it is met or missed",
    "bench-soak.svg": "Memory and open files during the soak",
}


def publish(results: Path, docs: Path) -> list[Path]:
    """The page and the pictures, written; ValueError where there is nothing to publish, or no place for it."""
    if not results.exists():
        raise ValueError(f"{results} does not exist: measure first, without --short")
    told = json.loads(results.read_text())
    page = docs / "performance.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for it: {BEGIN} ... {END}")
    whole = [entry for entry in told["cases"] if not entry["broken"]]
    pictures = drawn(whole)
    for name, text in pictures.items():
        (docs / "images" / name).write_text(text)
    shown = [f"![{ABOUT[name]}](images/{name})" for name in pictures]
    text = "\n\n".join([section(told["machine"], whole), *shown])
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    return [page, *(docs / "images" / name for name in pictures)]


def section(machine: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """A sentence about the machine and two tables: targets, and figures of everyone."""
    days = sorted({entry["when"][:10] for entry in entries})
    told = (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; Python {machine['python']}, mitmproxy "
        f"{machine['mitmproxy']}, nginx {machine.get('nginx', '-')}, Varnish {machine.get('varnish', '-')}, Redis "
        f"{machine.get('redis-server', '-')}; {' to '.join(dict.fromkeys((days[0], days[-1])))}."
    )
    lines = ["| case | target | came to | rounds | |", "|---|---|---|---|---|"]
    for entry in entries:
        lines += [_target(entry["name"], verdict) for verdict in entry["verdicts"]]
    disturbed = [entry["name"] for entry in entries if any("disturbed" in note for note in entry["notes"])]
    if disturbed:
        told += f" Other processes were busy beside: {', '.join(disturbed)}."
    return "\n".join([told, "", *lines, "", *figures(entries)])


def _target(case: str, verdict: Mapping[str, Any]) -> str:
    target = verdict["target"]
    bound = f"{target['figure']} {'≤' if target['most'] else '≥'} {target['bound']:g} {target['unit']}"
    if target["against"]:
        bound += f" {'above ' if target['by'] == 'difference' else ''}{target['against']}"
    if verdict["value"] is None:
        return f"| `{case}` | {bound} | | | not measured |"
    spread = f"{number(verdict['low'])} to {number(verdict['high'])}"
    return f"| `{case}` | {bound} | {number(verdict['value'])} | {spread} | {'met' if verdict['met'] else 'missed'} |"


def figures(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Medians of everyone who was under load."""
    lines = ["| case | | requests/s | p50, ms | p99, ms | CPU, us | memory, MiB |", "|---|---|---|---|---|---|---|"]
    for entry in entries:
        for who, values in entry["figures"].items():
            if "cpu" in values:
                cells = [number(statistics.median(values[name])) for name in ("rate", "p50", "p99", "cpu", "rss")]
                lines.append(f"| `{entry['name']}` | {re.sub('[|]', '/', who)} | {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []
