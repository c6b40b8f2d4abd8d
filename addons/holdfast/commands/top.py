"""`holdfast top`: a live view of a running gateway; JSON documents off a terminal, or with --json."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec
from rich.console import Console

from holdfast.commands.control import surface
from holdfast.errors import HoldfastError
from holdfast.profile.values import Duration
from holdfast.top.frame import Frame
from holdfast.top.reading import Watch
from holdfast.top.screen import Screen
from holdfast.top.view import view

SHORTEST, LONGEST = 0.1, 3600.0  # seconds between two readings
LOOK_EVERY = 0.1  # seconds until news and a new size of the terminal are noticed


def top(args: argparse.Namespace) -> int:
    """0 when it is left. ValueError for what has to be said otherwise; HoldfastError where --once gets no answer."""
    interval = float(Duration(args.interval))
    if not SHORTEST <= interval <= LONGEST:
        raise ValueError(f"--interval is from {SHORTEST:g}s to {LONGEST / 3600:g}h, not {args.interval}")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may not have our characters
    console = Console(highlight=False, markup=False, emoji=False)
    try:
        with Watch(surface(args), interval) as watch:
            if args.once:
                return _once(console, watch, as_json=args.json or not console.is_terminal)
            if args.json or not console.is_terminal or console.is_dumb_terminal:
                return _documents(watch, interval)
            return _live(console, watch)
    except KeyboardInterrupt:
        return 0


def _once(console: Console, watch: Watch, *, as_json: bool) -> int:
    frame = _first(watch)
    if frame.gateway.away:
        raise HoldfastError(f"no gateway answers at {watch.address} ({frame.gateway.away})")
    if as_json:
        _print_document(frame)
    else:
        console.print(view(frame, console.size.width, console.size.height - 1))
    return 0


def _documents(watch: Watch, interval: float) -> int:
    """One a line, until somebody ends it."""
    _print_document(_first(watch))
    due = time.monotonic()
    while True:
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        _print_document(watch.frame())


def _first(watch: Watch) -> Frame:
    """One with the rates of one interval, unless the gateway is away."""
    watch.wait(1)
    frame = _asked(watch)
    if not frame.gateway.away:
        watch.wait(2)
        frame = _asked(watch)
    return frame


def _print_document(frame: Frame) -> None:
    print(msgspec.json.encode(frame).decode(), flush=True)


def _live(console: Console, watch: Watch) -> int:
    """Until q or Ctrl-C."""
    with Screen(console) as screen:
        shown: tuple[object, ...] = ()
        while "q" not in screen.key(LOOK_EVERY if shown else 0.0).lower():
            now = watch.news, screen.size, int(time.time())
            if now == shown:
                continue
            frame = _asked(watch)
            screen.show(view(frame, *screen.size, keys=screen.takes_keys))
            shown = now
    return 0


def _asked(watch: Watch) -> Frame:
    """The frame of now. ValueError if the gateway does not want to be asked."""
    if watch.is_refused:
        raise ValueError(f"the gateway at {watch.address} refuses: {watch.fault}")
    return watch.frame()
