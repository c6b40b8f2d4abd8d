"""`holdfast purge`: makes stored responses unusable, or stale, in the gateway that runs, and so wherever it shares."""

from __future__ import annotations

import argparse
import json

from holdfast.commands.control import call, printable


def purge(args: argparse.Namespace) -> int:
    """Returns when the purge holds. ValueError and HoldfastError as `call` raises them."""
    if not (args.tag or args.url or args.all):
        raise ValueError("name what to purge: --tag, --url or --all")
    wanted = {"tags": args.tag, "urls": args.url, "all": args.all, "soft": args.soft}
    done = call(args, "POST", "/purge", wanted)
    if args.json:
        print(json.dumps(done))
        return 0
    named = ["everything"] if args.all else [f"tag {tag}" for tag in args.tag] + list(args.url)
    what = "stale from now on" if args.soft else "purged"
    print("\n".join(printable(f"{what}: {each}") for each in named))
    return 0
