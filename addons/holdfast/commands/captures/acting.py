"""The way from the command line to its action."""

from __future__ import annotations

import argparse
import asyncio

from holdfast.commands.captures import differing, discarding, looking, sending

_ACTIONS = {
    "list": looking.listed,
    "show": looking.shown,
    "export": looking.exported,
    "replay": sending.replayed,
    "redrive": sending.redriven,
    "discard": discarding.discarded,
    "diff": differing.compared,
}


def captures(args: argparse.Namespace) -> int:
    """Dispatch to the action. ValueError for a filter or a server that cannot be meant."""
    return asyncio.run(_ACTIONS[args.action](args))
