"""The command line of `holdfast captures`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

_ACTIONS = (
    ("list", "newest first"),
    ("show", "one of them, whole, and as a curl command"),
    ("export", "those of this machine's outbox as JSON lines, oldest first"),
    ("replay", "have them sent again, or send them by hand to a server of your choice"),
    ("redrive", "have what was given up sent again; what fails again is parked"),
    ("discard", "give them up: they are neither sent nor replayed"),
    ("diff", "how the answer of a replay differs from the recorded one"),
)
PACE = 100.0  # captures a second


def add_captures(captures: argparse.ArgumentParser, profile: Callable[[argparse.ArgumentParser], None]) -> None:
    """All of its actions; `profile` adds the options that say which profile is meant."""
    actions = captures.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in _ACTIONS:
        action = actions.add_parser(name, help=text)
        profile(action)
        action.add_argument("--outbox", metavar="FILE", help="in place of the profile's")
        action.add_argument("--audit", metavar="URL", help="in place of the profile's; with --outbox none unless named")
        action.add_argument("--json", action="store_true", help="for programs")
        _OPTIONS[name](action)


def _list(action: argparse.ArgumentParser) -> None:
    _filters(action, limit=100)


def _show(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", metavar="ID")
    action.add_argument("--curl", action="store_true", help="only the curl command")
    action.add_argument("--url", metavar="URL", help="where the curl command sends it; default: the profile's listen")


def _export(action: argparse.ArgumentParser) -> None:
    _filters(action)
    action.add_argument("--output", metavar="FILE", help="instead of standard output")


def _replay(action: argparse.ArgumentParser) -> None:
    action.add_argument("ids", nargs="+", metavar="ID")
    action.add_argument("--to", metavar="URL", help="send it there now; what comes of it is shown and not recorded")
    action.add_argument("--dry-run", action="store_true", help="show what would be sent")


def _redrive(action: argparse.ArgumentParser) -> None:
    action.add_argument("ids", nargs="*", metavar="ID")
    _filters(action, states="dead and parked")
    action.add_argument("--rate", type=float, default=PACE, metavar="N", help=f"a second; default: {PACE:g}")
    action.add_argument("--yes", action="store_true", help="do it; without, it is only shown")


def _discard(action: argparse.ArgumentParser) -> None:
    action.add_argument("ids", nargs="*", metavar="ID")
    _filters(action, states="pending, dead and parked")
    action.add_argument("--yes", action="store_true", help="needed where no ids are given")


def _diff(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", metavar="ID")
    action.add_argument("--ignore", action="append", default=[], metavar="PATH", help="like $.updated_at; repeatable")
    action.add_argument("--ignore-header", action="append", default=[], metavar="NAME", help="repeatable")
    action.add_argument("--ignore-times", action="store_true", help="any two timestamps are the same")
    action.add_argument("--ignore-uuids", action="store_true", help="any two UUIDs are the same")
    action.add_argument("--to", metavar="URL", help="send it there now, and compare that answer")
    action.add_argument(
        "--against", choices=("recorded", "replay"), help="with --to; default: what is recorded, or else the replay's"
    )


_OPTIONS = {
    "list": _list,
    "show": _show,
    "export": _export,
    "replay": _replay,
    "redrive": _redrive,
    "discard": _discard,
    "diff": _diff,
}


def _filters(action: argparse.ArgumentParser, limit: int | None = None, states: str = "all") -> None:
    action.add_argument("--route", help="the router's label")
    action.add_argument("--status", type=int, help="of the last answer")
    action.add_argument("--error", help="why it was captured: an RFC 9209 token, or http_502 and the like")
    action.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="STATE",
        help=f"pending, published, delivered, dead, parked or discarded; repeatable; default: {states}",
    )
    action.add_argument("--since", metavar="TIME", help="captured since then: 15m, 2h, 2026-01-31T12:00:00Z")
    action.add_argument("--until", metavar="TIME", help="captured before")
    action.add_argument("--key", help="the message key: the path, unless failure_sink.key says otherwise")
    action.add_argument("--limit", type=int, default=limit, metavar="N", help=f"default: {limit or 'all'}")
