"""The parts of the view: each has a title, a summary for the same line, and rows as far as there is room.

Nothing that came from a client, an origin or a profile gets to the terminal but through `plain`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from holdfast.commands.control import printable
from holdfast.top.frame import CacheRow, CaptureRow, Figure, OutboxRow, ReplayRow, Requests, ServerRow
from holdfast.top.wording import UNKNOWN, age, count, duration, per_second, share, size, sparkline

_NAMES = {
    "green": ("ok", "delivered"),
    "cyan": ("hit",),
    "blue": ("stale",),
    "magenta": ("captured",),
    "yellow": ("retried", "rejected", "half open", "pending"),
    "bold yellow": ("degraded",),
    "red": ("failing",),
    "bold red": ("failed", "open", "unhealthy", "away", "dead", "parked", "poison"),
    "dim": ("unknown",),
}
STYLES = {name: style for style, names in _NAMES.items() for name in names}
LABEL = "bold cyan"
QUIET = "dim"
ALARM = "bold red"
FULL = 0.8  # of a bound, from where on it is told


@dataclass(frozen=True, slots=True)
class Section:
    """`rows(n)` are drawn in exactly `n` lines, from `least` to `most`; `whole`: in either of these only."""

    title: str
    summary: Text
    rows: Callable[[int], Table | Text] = lambda _: Text()
    least: int = 0
    most: int = 0
    whole: bool = False


def plain(text: object, style: str = "") -> Text:
    """Text as it is: no control characters, and no markup."""
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def joined(parts: Iterable[Text | str], gap: str = "  ") -> Text:
    """On one line."""
    line = Text(gap, no_wrap=True, overflow="ellipsis")
    return line.join(plain(part) if isinstance(part, str) else part for part in parts if part)


def named(name: str, value: str, style: str = "") -> Text:
    """`name value`, the name quiet."""
    return Text.assemble((f"{name} ", QUIET), (value, style))


def grid(*columns: str, ratio: Sequence[int] = ()) -> Table:
    """Columns by their alignment, `<` or `>`; those whose numbers are in `ratio` share what is left of the width."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=bool(ratio))
    for number, align in enumerate(columns):
        table.add_column(
            justify="right" if align == ">" else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if number in ratio else None,
        )
    return table


# -- requests ---------------------------------------------------------------------------------------------------------


def requests(found: Requests, width: int) -> Section:
    """How many, how fast, and what became of them."""
    latency = found.latency
    quantiles = [named(name, duration(getattr(latency, name))) for name in ("p50", "p95", "p99")]
    line = Text(sparkline(found.line, 20 if width < 90 else 30).lstrip(), style="green")
    summary = joined([Text(f"{per_second(found.rate)}/s", style="bold"), *quantiles, line])
    fates = tuple(fate for fate in found.fates if fate.total or fate.minute)
    if not fates:
        return Section("requests", joined([summary, Text("none yet", style=QUIET)]))
    return Section("requests", summary, lambda lines: _fates(fates, lines, width), 1, len(fates) + 1, whole=True)


def _fates(fates: Sequence[Figure], lines: int, width: int) -> Table | Text:
    if lines == 1:
        return inline(fates)
    columns = max(10, min(60, width - 42))
    table = grid("<", ">", ">", ">", "<")
    table.add_row(*(Text(name, style=QUIET) for name in ("fate", "per s", "minute", "total", "the last minute")))
    for fate in fates:
        style = STYLES.get(fate.name, "")
        table.add_row(
            plain(fate.name, style),
            per_second(fate.rate),
            count(fate.minute),
            count(fate.total),
            Text(sparkline(fate.line, columns), style=style),
        )
    return table


def inline(figures: Iterable[Figure]) -> Text:
    """The rates of some counters on one line, those that count now first: the line may be cut."""
    return joined(
        named(printable(figure.name), per_second(figure.rate), STYLES.get(figure.name, "") if figure.rate else QUIET)
        for figure in sorted(figures, key=lambda figure: not figure.rate)
    )


def routes(found: Requests) -> Section:
    """Where it goes wrong."""
    lost = sum(1 for route in found.routes if route.failed)
    summary = Text(f"{lost} of {len(found.routes)} failing", style=ALARM) if lost else Text(str(len(found.routes)))

    def rows(lines: int) -> Table:
        table = grid("<", ">", ">", ">", ">")
        if lines > 1:
            table.add_row(*(Text(name, style=QUIET) for name in ("route", "per s", "minute", "lost", "p95")))
        for route in found.routes[: lines - (lines > 1)]:
            lost_share = Text(share(route.failed), style=ALARM if route.failed else "")
            name = plain(route.route or "(none)")
            table.add_row(name, per_second(route.rate), count(route.minute), lost_share, duration(route.p95))
        return table

    return Section("routes", summary, rows, 0, len(found.routes) + 1)


# -- servers ----------------------------------------------------------------------------------------------------------


def servers(found: Sequence[ServerRow]) -> Section:
    """Every upstream server, the worst first."""
    held = [server for server in found if server.state in ("open", "unhealthy")]
    bad = [server for server in found if server.state in ("failing", "half open")]
    parts = [Text(f"{len(held)} of {len(found)} open", style=ALARM)] if held else []
    parts += [Text(f"{len(bad)} of {len(found)} failing", style="yellow")] if bad else []
    parts = parts or [Text(f"{sum(server.state == 'ok' for server in found)} of {len(found)} ok")]
    return Section("upstream", joined(parts), lambda lines: _servers(found[:lines]), 1, len(found))


def _servers(found: Sequence[ServerRow]) -> Table:
    table = grid("<", "<", ">", "<", ratio=(3,))
    for server in found:
        figures = [f"{per_second(server.rate)}/s"] if server.rate is not None else []
        failed = Text(f"{per_second(server.failed)} failed", style="red") if server.failed else None
        why = server.last_error if server.failures else ""
        told = joined([*([failed] if failed else []), plain(why, "red" if why else ""), *_doubt(server)])
        table.add_row(plain(server.server), plain(server.state, STYLES.get(server.state, "")), *(figures or [""]), told)
    return table


def _doubt(server: ServerRow) -> list[Text]:
    since = server.since_seconds
    word = "down" if server.failures else "up"
    told = [plain("opened by a person")] if server.by_hand else []
    told += [named(word, age(since))] if since is not None else []
    return [*told, plain(server.detail, QUIET)] if server.detail and not server.failures else told


# -- stores -----------------------------------------------------------------------------------------------------------


def outbox(found: OutboxRow) -> Section:
    """What is kept, and what is on its way to the broker."""
    fill = max(
        found.bytes / found.max_bytes if found.max_bytes else 0.0,
        found.records / found.max_records if found.max_records else 0.0,
    )
    parts = [Text(f"{count(found.waiting)} waiting", style="bold yellow" if found.waiting else "")]
    parts += [named("oldest", age(found.oldest_seconds))] if found.waiting else []
    parts.append(Text(size(found.bytes)))
    parts += [Text(f"{share(fill)} full", style=ALARM if fill >= FULL else QUIET)] if fill else []
    parts += [Text(f"{count(found.quarantined)} quarantined", style=ALARM)] if found.quarantined else []
    return Section("outbox", joined(parts), lambda _: _outbox(found), 1, 1)


def _outbox(found: OutboxRow) -> Text:
    refused = sum(each.total for each in found.refused)
    reasons = ", ".join(f"{each.name} {count(each.total)}" for each in found.refused if each.total)
    parts = [named("captured", f"{per_second(found.captured.rate)}/s")]
    parts += [plain(f"{count(refused)} not kept ({reasons})", ALARM)] if refused else []
    if found.published and found.errors:
        parts.append(named("published", f"{per_second(found.published.rate)}/s"))
        failing = found.errors.rate or found.broker == "failing"
        parts.append(named("errors", f"{per_second(found.errors.rate)}/s", ALARM if found.errors.rate else ""))
        parts.append(named("broker", printable(found.broker or UNKNOWN), ALARM if failing else "green"))
    else:
        parts.append(Text("embedded: no broker", style=QUIET))
    return joined(parts)


def replay(found: ReplayRow) -> Section:
    """The captures that are to be replayed, and what became of those that were."""
    gauges = (("now", found.now), ("later", found.later))
    parts = [named(name, count(value), "bold") for name, value in gauges if value is not None]
    parts += [named("lag", count(found.lag), "bold yellow" if found.lag else "")] if found.lag is not None else []
    parts += [named("oldest", age(found.oldest_seconds))] if found.oldest_seconds is not None else []
    parts += [Text("waits for the upstream", style="bold yellow")] if found.paused else []
    outcomes = joined(_outcome(figure) for figure in found.outcomes if figure.total)
    lines = [outcomes or Text("nothing replayed yet", style=QUIET)]
    held = joined(named(printable(name), count(value)) for name, value in found.states.items())
    lines += [Text.assemble(("attempts  ", QUIET), inline(found.attempts))] if found.attempts else []
    lines += [Text.assemble(("in all  ", QUIET), held)] if held else []
    return Section("replay", joined(parts), lambda n: joined(lines[:n], "\n"), 1, len(lines))


def _outcome(figure: Figure) -> Text:
    name = plain(figure.name, STYLES.get(figure.name, ""))
    return Text.assemble(name, f" {count(figure.total)}", (f" {per_second(figure.rate)}/s" if figure.rate else ""))


def cache(found: CacheRow) -> Section:
    """How much the cache saves."""
    rate = Text.assemble((share(found.hit_rate), "bold"), (" hits in the last minute", QUIET))
    parts = [rate if found.hit_rate is not None else Text("not asked in the last minute", style=QUIET)]
    if found.store_up is False:
        parts = [Text("store down", style=ALARM), *parts]
    held = [named("entries", count(found.entries))] if found.entries is not None else []
    held += [Text(size(found.bytes))] if found.bytes is not None else []
    return Section("cache", joined([*parts, *held]), lambda _: inline(found.results), 0, 1 if found.results else 0)


# -- captures ---------------------------------------------------------------------------------------------------------


def captures(found: Sequence[CaptureRow], width: int) -> Section:
    """The newest of the failed requests."""
    wide = width >= 76

    def rows(lines: int) -> Table:
        table = grid("<", *("<" if wide else ""), "<", "<", "<", "<", ratio=(3,) if wide else (2, 3))
        for row in found[:lines]:
            cells = [
                plain(_clock(row.captured), QUIET),
                plain(row.method, "bold"),
                plain(row.path),
                plain(row.error, "red"),
                plain(_stands(row), STYLES.get(row.state, QUIET)),
            ]
            table.add_row(*cells[:1], *([plain(row.route)] if wide else []), *cells[1:])
        return table

    newest = "newest first" if found else "none"
    return Section("captures", Text(newest, style=QUIET), rows, min(2, len(found)), len(found))


def _stands(row: CaptureRow) -> str:
    """Where it stands, and after how many replays where that was not the first."""
    return f"{row.state} ×{row.attempts}" if row.attempts > 1 else row.state


def _clock(epoch: float) -> str:
    """The time of day, with the day where it was another."""
    then = time.localtime(epoch)
    return time.strftime("%H:%M:%S" if time.localtime()[:3] == then[:3] else "%m-%d %H:%M", then)
