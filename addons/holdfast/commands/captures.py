"""`holdfast captures list|show|export|discard`: the outbox of a profile, whether or not its gateway is running."""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TextIO

from holdfast.admin.pages import summary
from holdfast.errors import HoldfastError
from holdfast.failure_sink import FailureSinkSettings
from holdfast.outbox import OutboxReader, OutboxRecord
from holdfast.outbox.record import Where
from holdfast.outbox.store import DISCARDABLE
from holdfast.policy.since import parse_since
from holdfast.profile.load import load_profile

COLUMNS = ("id", "when", "state", "route", "method", "path", "error", "status")


def captures(args: argparse.Namespace) -> int:
    """Dispatch to the action. ValueError for a filter that cannot be read."""
    with OutboxReader(outbox_path(args)) as reader:
        return int(_ACTIONS[args.action](args, reader))


def outbox_path(args: argparse.Namespace) -> Path:
    """`--outbox`, or where the profile's failure_sink keeps its records."""
    if args.outbox:
        return Path(args.outbox)
    for entry in load_profile(args.profile).addons:
        if isinstance(entry.settings, FailureSinkSettings):
            return Path(entry.settings.outbox)
    raise HoldfastError(f"the profile {args.profile} has no failure_sink: name the file by --outbox")


def _list(args: argparse.Namespace, reader: OutboxReader) -> int:
    records = reader.list(limit=args.limit, **_where(args))
    if args.json:
        print(json.dumps([summary(record) for record in records], indent=2))
    else:
        _print_table(records)
    return 0


def _show(args: argparse.Namespace, reader: OutboxReader) -> int:
    record = reader.get(args.id)
    if record is None:
        print(f"holdfast: no capture {args.id!r} in {outbox_path(args)}", file=sys.stderr)
        return 1
    print(json.dumps(summary(record) | {"request": json.loads(record.value)}, indent=2, ensure_ascii=False))
    return 0


def _export(args: argparse.Namespace, reader: OutboxReader) -> int:
    """The envelopes as they are published, one JSON object a line, oldest first."""
    if args.output:
        with Path(args.output).open("w", encoding="utf-8") as file:
            count = _write_lines(args, reader, file)
        print(f"{count} captures written to {args.output}", file=sys.stderr)
    else:
        _write_lines(args, reader, sys.stdout)
    return 0


def _discard(args: argparse.Namespace, reader: OutboxReader) -> int:
    """Ids are discarded at once; a filter, or everything, only with --yes."""
    if not args.ids and not args.yes:
        count = sum(1 for record in reader.export(**_where(args)) if record.state in DISCARDABLE)
        print(f"{count} captures would be discarded; add --yes to do it", file=sys.stderr)
        return 1
    count = reader.discard(args.ids) if args.ids else reader.discard(**_where(args))
    print(json.dumps({"discarded": count}) if args.json else f"{count} captures discarded")
    return 0 if not args.ids or count == len(set(args.ids)) else 1


_ACTIONS = {"list": _list, "show": _show, "export": _export, "discard": _discard}


def _where(args: argparse.Namespace) -> Where:
    since = parse_since(args.since, time.time()) if args.since else None
    return Where(route=args.route, status=args.status, error=args.error, state=args.state, since=since)


def _write_lines(args: argparse.Namespace, reader: OutboxReader, file: TextIO) -> int:
    count = 0
    for record in islice(reader.export(**_where(args)), args.limit):
        file.write(record.value.decode() + "\n")
        count += 1
    return count


def _print_table(records: list[OutboxRecord]) -> None:
    rows = [COLUMNS, *(_row(record) for record in records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not records:
        print("no captures", file=sys.stderr)


def _row(record: OutboxRecord) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
    path = record.path if len(record.path) <= 40 else record.path[:39] + "…"
    # Nothing that came from a client may reach the terminal as a control sequence.
    path = "".join(c if c.isprintable() else "?" for c in path)
    status = "" if record.status is None else str(record.status)
    return record.id, when, record.state, record.route, record.method, path, record.error, status
