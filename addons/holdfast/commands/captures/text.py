"""What people are shown of captures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

from holdfast.audit import AttemptLog
from holdfast.captures import Capture
from holdfast.commands.control import printable
from holdfast.policy.envelope import AttemptRecord, CapturedRequest
from holdfast.policy.wire import HeaderMap, header_fields, wire_text

_COLUMNS = ("id", "captured", "state", "route", "method", "path", "error", "status", "attempts")
_LONGEST_PATH = 40
_SHOWN_BODY = 2000
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


def table(rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they have to be; the first row is their names."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def list_table(captures: Sequence[Capture], now: float) -> str:
    """One line for each."""
    return table([_COLUMNS, *(_row(each, now) for each in captures)])


def _row(capture: Capture, now: float) -> Sequence[object]:
    path = capture.path if len(capture.path) <= _LONGEST_PATH else capture.path[: _LONGEST_PATH - 1] + "…"
    status = "" if capture.status is None else capture.status
    when = f"{moment(capture.captured)} ({age(capture.captured, now)})"
    return (
        *(capture.id, when, capture.state, capture.route, capture.method, path, capture.error, status),
        capture.attempts,
    )


def moment(at: float) -> str:
    """Local time; a number that no calendar has is shown as it is."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return f"{at:g}"


def age(at: float, now: float) -> str:
    """How long ago, in one unit."""
    seconds = max(0.0, now - at)
    return next((f"{seconds / size:.0f}{unit}" for size, unit in _UNITS if seconds >= size), f"{seconds:.0f}s")


def about(capture: Capture, record: CapturedRequest | None, now: float) -> str:
    """The first part of `show`: what is known of it, a line each."""
    lines = [
        ("id", capture.id),
        ("state", _state(capture, now)),
        ("captured", f"{moment(capture.captured)} ({age(capture.captured, now)} ago)"),
        ("because", capture.error + (f": {record.error_reason}" if record else "")),
        ("request", f"{capture.method} {record.uri if record else capture.path}, route {capture.route}"),
    ]
    if capture.key:
        lines.append(("key", capture.key))
    if record:
        lines.append(("from", record.remote_addr))
    if capture.settled is not None:
        lines.append(("settled", moment(capture.settled)))
    if capture.redrive:
        lines.append(("redriven", f"{capture.redrive} times" if capture.redrive > 1 else "once"))
    if record and record.redacted:
        lines.append(("redacted", ", ".join(record.redacted) + (" (sealed)" if record.sealed else "")))
    width = max(len(name) for name, _ in lines)
    return "\n".join(printable(f"{name:<{width}}  {value}") for name, value in lines)


def _state(capture: Capture, now: float) -> str:
    reason = f" ({capture.reason})" if capture.reason else ""
    waits = capture.due is not None and capture.due > now
    return f"{capture.state}{reason}" + (f", sent again at {moment(capture.due)}" if waits and capture.due else "")


def attempts(record: CapturedRequest | None, replays: Sequence[AttemptLog]) -> str:
    """Those of the first request, then the replays; empty where there are none."""
    rows: list[Sequence[object]] = [("", "at", "server", "status", "error", "ms")]
    rows += [("request", "", *_tried(each)) for each in record.attempts] if record else []
    rows += [("replay", moment(each.at), *_tried(each)) for each in replays]
    return table(rows) if len(rows) > 1 else ""


def _tried(each: AttemptRecord | AttemptLog) -> Sequence[object]:
    return each.server, "" if each.status is None else each.status, each.error or "", f"{each.duration_ms:.0f}"


def answer(status: int, headers: HeaderMap, body: bytes, *, truncated: bool) -> str:
    """An answer as it came: status, header, and the beginning of the body."""
    fields = [printable(f"{wire_text(name)}: {wire_text(value)}") for name, value in header_fields(headers)]
    return "\n".join([f"HTTP {status}", *fields, "", body_text(body, truncated=truncated)]).rstrip()


def body_text(body: bytes, *, truncated: bool = False) -> str:
    """The beginning, line by line; of what is no text only how much it is."""
    try:
        text = body[:_SHOWN_BODY].decode("utf-8", "strict" if len(body) <= _SHOWN_BODY else "ignore")
    except UnicodeDecodeError:
        return f"({len(body)} bytes that are no text)"
    more = " (cut short)" if truncated else ""
    rest = f"\n({len(body)} bytes in all{more})" if len(body) > _SHOWN_BODY or truncated else ""
    return "\n".join(map(printable, text.split("\n"))) + rest


def counted(groups: Iterable[tuple[Sequence[object], int]], names: Sequence[str]) -> str:
    """How many of each kind, most first."""
    rows = sorted(groups, key=lambda group: (-group[1], [str(part) for part in group[0]]))
    return table([("captures", *names), *((count, *parts) for parts, count in rows)])


def line(document: object) -> str:
    """One JSON document in one line of ASCII."""
    return json.dumps(document)
