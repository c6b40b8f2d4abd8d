"""The view: sections below each other, in two columns where the terminal is wide, for any size of it.

Every section gets its title line, then as many rows as are of use, until the lines are used up: what tells most about
trouble grows first, and the captures get what is left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from holdfast.top import sections
from holdfast.top.frame import Frame
from holdfast.top.sections import ALARM, LABEL, QUIET, STYLES, Section, joined, named, plain
from holdfast.top.wording import age, share, size

TWO_COLUMNS = 120  # from this width on
GAP = 3  # between them
BUSY = 0.85  # of the one core
TROUBLES = 3  # lines
INDENT = 2
ENOUGH = 2  # rows that a section must be able to get before another is shown whole


def view(frame: Frame, width: int, height: int, *, keys: bool = False) -> RenderableType:
    """All of it within the size given, in characters. `keys`: it fills the height, and says how it is left."""
    head = _head(frame, width)[: height - keys]
    room = height - len(head) - keys
    body, used = _body(frame, width, room)
    if not keys:
        return Group(*head, *body)
    foot = joined([Text("q quits", style=QUIET), Text(f"every {age(frame.interval)}", style=QUIET)])
    return Group(*head, *body, *[Text()] * (room - used), foot)


def _head(frame: Frame, width: int) -> list[RenderableType]:
    """Which gateway, how it is, and what is wrong with it."""
    row = frame.gateway
    left = [
        Text("holdfast", style="bold"),
        plain(row.address, "bold"),
        plain(row.status, STYLES.get(row.status, QUIET)),
    ]
    left += [named("up", age(row.uptime_seconds))] if row.uptime_seconds is not None else []
    left += [Text("restarted", style="yellow")] if row.restarts and (row.uptime_seconds or 0) < 60 else []
    left += (
        [named("cpu", share(row.cpu), ALARM if row.cpu > BUSY else "")] if row.cpu is not None and width >= 70 else []
    )
    left += [named("memory", size(row.memory_bytes))] if row.memory_bytes is not None and width >= 90 else []
    left += [named("profile", "") + plain(row.profile)] if row.profile and width >= 100 else []
    left += [plain(row.version, QUIET)] if row.version and width >= 110 else []
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right")
    table.add_row(joined(left), Text(time.strftime(" %H:%M:%S", time.localtime(frame.at)), style=QUIET))
    lines: list[RenderableType] = [table]
    if row.away:
        below = "; below is what was last read" if frame.requests or frame.outbox else ""
        lines.append(plain(f"! {row.away}, for {age(row.away_seconds)} now: trying again{below}", ALARM))
    return lines + [plain(f"! {trouble}", "yellow") for trouble in row.troubles[:TROUBLES]]


def _body(frame: Frame, width: int, lines: int) -> tuple[list[RenderableType], int]:
    """(what is drawn, in how many lines)."""
    captures = [] if frame.captures is None else [sections.captures(frame.captures, width)]
    if width < TWO_COLUMNS:
        return stacked([*_traffic(frame, width), *_upstream(frame), *_stores(frame), *captures], width, lines)
    half = (width - GAP) // 2
    routes = [sections.routes(frame.requests)] if frame.requests and frame.requests.routes else []
    left, right = [*_traffic(frame, half), *routes], [*_upstream(frame), *_stores(frame)]
    wanted = max(sum(1 + part.most for part in side) for side in (left, right))
    upper = min(wanted, lines - min(lines // 3, sum(1 + part.most for part in captures)))
    drawn = [stacked(side, half, upper) for side in (left, right)]
    table = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for _ in drawn:
        table.add_column(width=half, no_wrap=True)
    table.add_row(*(Group(*parts) for parts, _ in drawn))
    used = max(count for _, count in drawn)
    below, more = stacked(captures, width, lines - used)
    return ([table] if used else []) + below, used + more


def _traffic(frame: Frame, width: int) -> list[Section]:
    if frame.requests:
        return [sections.requests(frame.requests, width)]
    unknown = Text("not counted: the profile has no `metrics` addon", style=QUIET)
    return [Section("requests", unknown)] if frame.servers else []


def _upstream(frame: Frame) -> list[Section]:
    return [sections.servers(frame.servers)] if frame.servers else []


def _stores(frame: Frame) -> list[Section]:
    found = (
        sections.outbox(frame.outbox) if frame.outbox else None,
        sections.replay(frame.replay) if frame.replay else None,
        sections.cache(frame.cache) if frame.cache else None,
    )
    return [section for section in found if section]


def stacked(parts: Sequence[Section], width: int, lines: int) -> tuple[list[RenderableType], int]:
    """Below each other, and how many lines that takes."""
    drawn: list[RenderableType] = []
    allotted = allot(parts, lines)
    for part, rows in zip(parts, allotted, strict=False):
        drawn.append(_title(part, width))
        if rows:
            drawn.append(Padding(part.rows(rows), (0, 0, 0, INDENT)))
    return drawn, len(allotted) + sum(allotted)


def allot(parts: Sequence[Section], lines: int) -> list[int]:
    """How many rows each section gets; those at the end that have no entry get not even a title."""
    shown = parts[: max(0, lines)]
    left = max(0, lines) - len(shown)
    rows = []
    for part in shown:
        rows.append(min(part.least, left))
        left -= rows[-1]
    for number, part in enumerate(shown):
        more = part.most - rows[number]
        others = sum(min(ENOUGH, other.most - rows[n]) for n, other in enumerate(shown) if n != number)
        if part.whole and more <= left - others:
            rows[number], left = part.most, left - more
    growing = [number for number, part in enumerate(shown) if not part.whole]
    while left and (growing := [number for number in growing if rows[number] < shown[number].most]):
        for number in growing[:left]:
            rows[number] += 1
        left -= len(growing[:left])
    return rows


def _title(part: Section, width: int) -> Text:
    line = joined([Text(part.title, style=LABEL), part.summary])
    left = width - line.cell_len - 1
    return line.append(f" {'─' * left}", style=QUIET) if left > 1 else line
