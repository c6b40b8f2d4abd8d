"""`discard`: captures that a person gives up."""

from __future__ import annotations

import argparse

from holdfast.captures import Choice, State
from holdfast.captures.opening import opened
from holdfast.captures.view import Captures
from holdfast.commands.captures.asking import AT_ONCE, choice, places, remark, say

DISCARDABLE: tuple[State, ...] = ("pending", "dead", "parked")


async def discarded(args: argparse.Namespace) -> int:
    """Ids are discarded at once; a filter, or everything, only with --yes. 1 where an id could not be."""
    chosen = choice(args, DISCARDABLE)
    async with opened(places(args)) as view:
        if args.ids:
            count = await view.discard(args.ids)
        else:
            wanted = [capture.id async for capture in view.each(_only_those_that_can_be(chosen))][: args.limit]
            if not args.yes:
                remark(f"{len(wanted)} captures would be discarded; add --yes to do it")
                if args.json:
                    say({"would_discard": len(wanted)}, indent=None)
                return 0
            count = await _in_steps(view, wanted)
    if args.json:
        say({"discarded": count}, indent=None)
    else:
        print(f"{count} captures discarded")
    return 0 if not args.ids or count == len(set(args.ids)) else 1


def _only_those_that_can_be(chosen: Choice) -> Choice:
    assert chosen.states is not None
    if not chosen.states & set(DISCARDABLE):
        raise ValueError(f"--state: only {', '.join(DISCARDABLE)} captures can be discarded")
    return chosen


async def _in_steps(view: Captures, ids: list[str]) -> int:
    return sum([await view.discard(ids[start : start + AT_ONCE]) for start in range(0, len(ids), AT_ONCE)])
