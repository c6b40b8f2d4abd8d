"""`holdfast faults set|list|clear`: what fails on purpose in the gateway that runs."""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.parse import urlencode

from holdfast.commands.control import call, printable

_PLAIN = (
    *("at", "route", "path", "server", "delay", "jitter", "status", "body", "after", "rate"),
    *("share", "times", "lasts"),
)
_TOLD = frozenset({"name", "fault", "at", "asked", "fired", "over"})


def faults(args: argparse.Namespace) -> int:
    """ValueError and HoldfastError as `call` raises them."""
    if args.action == "set":
        found = call(args, "POST", "/faults", rule_of(args))
    elif args.action == "clear":
        names = urlencode([("name", name) for name in args.names])
        found = call(args, "DELETE", f"/faults?{names}" if names else "/faults")
    else:
        found = call(args, "GET", "/faults")
    print(json.dumps(found) if args.json else told_to_people(found))
    return 0


def rule_of(args: argparse.Namespace) -> dict[str, Any]:
    """The rule as the profile would have it. ValueError for a header field that is none."""
    rule: dict[str, Any] = {"name": args.name, "fault": args.fault or args.name}
    for key in (
        "at",
        "route",
        "path",
        "server",
        "delay",
        "jitter",
        "status",
        "body",
        "after",
        "rate",
        "share",
        "times",
        "lasts",
    ):
        if getattr(args, key) is not None:
            rule[key] = getattr(args, key)
    for field in args.header:
        name, colon, value = field.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"{field!r} is no header field: write it like 'Retry-After: 5'")
        rule.setdefault("headers", {})[name.strip()] = value.strip()
    if args.method:
        rule["methods"] = args.method
    if args.script:
        rule["script"] = args.script.split(",")
    if args.repeat:
        rule["repeat"] = True
    return rule


def told_to_people(found: dict[str, Any]) -> str:
    """A line for each rule, in the order in which they are asked."""
    if not found["rules"]:
        return "no faults: requests go their usual way"
    rows = [("NAME", "FAULT", "AT", "FIRED", "ASKED", "STATE", "RULE"), *(_row(rule) for rule in found["rules"])]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join([*(f"{row[n]:<{width}}" for n, width in enumerate(widths)), row[6]]).rstrip() for row in rows]
    where = "set by hand: a restart ends them" if found["set"] == "live" else "of the profile"
    return "\n".join(printable(line) for line in [*lines, f"seed {found['seed']}; {where}"])


def _row(rule: dict[str, Any]) -> tuple[str, ...]:
    state = f"over ({rule['over']})" if rule["over"] else "active"
    rest = " ".join(f"{key}={_short(value)}" for key, value in rule.items() if key not in _TOLD)
    return rule["name"], rule["fault"], rule["at"], str(rule["fired"]), str(rule["asked"]), state, rest


def _short(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}:{each}" for name, each in value.items())
    return str(value)
