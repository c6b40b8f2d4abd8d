"""Which captures a command is about, and where they are."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast.captures import Capture, Choice, State, parse_states
from holdfast.captures.opening import Places, places_of
from holdfast.captures.view import Captures, Message
from holdfast.errors import HoldfastError
from holdfast.policy.since import parse_since
from holdfast.profile.load import load_profile
from holdfast.profile.settings import Profile

AT_ONCE = 200


def profile_of(args: argparse.Namespace) -> Profile:
    """The one that is named. ProfileError."""
    return load_profile(args.profile)


def places(args: argparse.Namespace) -> Places:
    """The profile's, or those that are named. HoldfastError where nothing is captured."""
    found = places_of(profile_of(args))
    if args.outbox:
        # Another outbox has another history: what this profile's audit store says is not about it.
        found = replace(found, outbox=Path(args.outbox), audit=None)
    if args.audit:
        found = replace(found, audit=args.audit)
    if found.outbox is None and found.audit is None:
        raise HoldfastError(f"the profile {args.profile} has no failure_sink: name the file by --outbox")
    return found


def choice(args: argparse.Namespace, states: tuple[State, ...] = ()) -> Choice:
    """The filters; `states` where none is given. ValueError."""
    now = time.time()
    if args.limit is not None and args.limit < 0:
        raise ValueError("--limit is a number from 0 on")
    return Choice(
        route=args.route,
        error=args.error,
        status=args.status,
        states=parse_states(args.state) or (frozenset(states) or None),
        since=parse_since(args.since, now) if args.since else None,
        until=parse_since(args.until, now) if args.until else None,
        key=args.key,
    )


async def named(view: Captures, capture_id: str) -> Capture:
    """HoldfastError where there is none."""
    found = await view.get(capture_id)
    if found is None:
        where = [str(view.outbox.path)] if view.outbox else []
        where += ["the audit store"] if view.audit else []
        raise HoldfastError(f"no capture {capture_id!r} in {' or '.join(where) or 'any store'}")
    return found


async def message_of(view: Captures, capture: Capture) -> Message:
    """HoldfastError where it is not kept any more."""
    message = await view.message(capture.id)
    if message is None:
        raise HoldfastError(f"the request of {capture.id} is not kept here any more: only what became of it is")
    return message


def say(document: Any, *, indent: int | None = 2) -> None:
    """JSON on standard output, in ASCII: whatever is in it, a terminal takes it as text."""
    print(json.dumps(document, indent=indent))


def remark(text: str) -> None:
    """For people, beside the output."""
    print(text, file=sys.stderr)
