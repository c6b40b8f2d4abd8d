"""Pictures of what was measured, as SVG without anything else, readable on light and on dark pages.

Drawn from the entries of bench.json (see `report.entry`): rates side by side, every target and what it came to, and
the curves of a soak.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

type Entry = Mapping[str, Any]
WIDTH, ROW, LABEL, RIGHT = 840, 22, 330, 130
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a }
.title { font-weight: 600 } .ours { fill: #1a7f64 } .other { fill: #8c959f } .missed { fill: #cf5b36 }
line, .axis { stroke: #8c959f; stroke-width: 1 } .curve { fill: none; stroke: #1a7f64; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9da7b3 } .ours { fill: #3fb994 } .other { fill: #6e7681 }
  .missed { fill: #e5855f } .curve { stroke: #3fb994 }
}
"""


def number(value: float) -> str:
    """As many digits as it is good for."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title><style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{ROW - 8}" rx="2" class="{kind}"/>'


def rates(entries: Sequence[Entry]) -> str:
    """Requests a second of everyone, a group for each case; the line on a bar goes from the worst to the best round."""
    parts, y = [], 4.0
    for entry in entries:
        rows = {who: figures["rate"] for who, figures in entry["figures"].items() if "rate" in figures}
        if len(rows) < 2:
            continue
        most = max(max(values) for values in rows.values())
        y += ROW
        parts.append(_text(8, y, f"{entry['name']}: {entry['about']}", "title"))
        for place, (who, values) in enumerate(rows.items()):
            y += ROW
            scale = (WIDTH - LABEL - RIGHT) / most
            middle = statistics.median(values)
            parts.append(_text(LABEL - 8, y, who, anchor="end"))
            parts.append(_bar(LABEL, y - 11, middle * scale, "other" if place else "ours"))
            ends = LABEL + min(values) * scale, LABEL + max(values) * scale
            parts.append(f'<line x1="{ends[0]:.1f}" y1="{y - 4:.1f}" x2="{ends[1]:.1f}" y2="{y - 4:.1f}"/>')
            parts.append(_text(LABEL + max(values) * scale + 8, y, f"{number(middle)}/s", "small"))
        y += 8
    return _svg("Requests a second", y + 10, parts)


def targets(entries: Sequence[Entry]) -> str:
    """Every target: how many times better, or worse, than it asks for; to the right of the line it is met."""
    parts, y, middle = [], 20.0, LABEL + (WIDTH - LABEL - RIGHT) / 2
    half = (WIDTH - LABEL - RIGHT) / 2
    parts.append(_text(middle, y - 4, "target", "small", "middle"))
    top = y
    for entry in entries:
        for verdict in entry["verdicts"]:
            y += ROW
            target = verdict["target"]
            other = f" / {target['against']}" if target["against"] else ""
            parts.append(_text(LABEL - 8, y, f"{entry['name']}: {target['figure']}{other}", anchor="end"))
            if verdict["value"] is None:
                parts.append(_text(middle + 8, y, "not measured", "small"))
                continue
            better = math.log10(_times_better(verdict))
            length = half * min(1.0, abs(better))
            start = middle if better >= 0 else middle - length
            parts.append(_bar(start, y - 11, length, "ours" if verdict["met"] else "missed"))
            word = "≤" if target["most"] else "≥"
            told = f"{number(verdict['value'])} ({word} {target['bound']:g} {target['unit']})"
            parts.append(_text(WIDTH - RIGHT + 4, y, told, "small"))
    parts.append(f'<line x1="{middle}" y1="{top}" x2="{middle}" y2="{y + 6:.1f}"/>')
    parts.append(_text(LABEL, y + 22, "ten times worse", "small"))
    parts.append(_text(WIDTH - RIGHT, y + 22, "ten times better", "small", "end"))
    return _svg("Targets and what they came to", y + 30, parts)


def _times_better(verdict: Mapping[str, Any]) -> float:
    """Above 1: met. Differences and growth can be nothing, or less."""
    bound, value = verdict["target"]["bound"], verdict["value"]
    if verdict["target"]["most"]:
        bound, value = value, bound
    low = 1e-3
    return min(1000.0, max(low, value) / max(low, bound)) if bound > 0 else 10.0


def soak(entry: Entry) -> str:
    """Memory and open files over the time."""
    parts, y = [], 10.0
    for name, points in entry["series"].items():
        most = max(value for _, value in points) * 1.1
        last = points[-1][0] or 1
        across, down = WIDTH - 120, 110
        line = " ".join(
            f"{60 + when / last * across:.1f},{y + 20 + down * (1 - value / most):.1f}" for when, value in points
        )
        parts.append(
            _text(8, y + 12, f"{name}: {number(points[0][1])} at first, {number(points[-1][1])} at the end", "title")
        )
        parts.append(f'<polyline points="{line}" class="curve"/>')
        parts.append(f'<line x1="60" y1="{y + 20 + down}" x2="{60 + across}" y2="{y + 20 + down}"/>')
        parts.append(_text(60 + across, y + 36 + down, f"{last:.0f} s", "small", "end"))
        y += down + 50
    return _svg("Memory and open files during the soak", y, parts)


def drawn(entries: Sequence[Entry]) -> dict[str, str]:
    """All pictures by their file names."""
    made = {"bench-rates.svg": rates(entries), "bench-targets.svg": targets(entries)}
    for entry in entries:
        if entry["series"]:
            made["bench-soak.svg"] = soak(entry)
    return made
