"""Settles and reopens captures as a person does by the command line, while a replayer has the same audit open.

    python person.py URL SEED ROUNDS ID...

Says at the end how many it has settled, and how many it has reopened. Run by `test_owners.py`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from holdfast.audit.opening import open_audit


async def main(url: str, seed: int, rounds: int, names: list[str]) -> None:
    """A few ids each time."""
    dice = random.Random(seed)
    audit = open_audit(url, time.time)
    await audit.open()
    closed = opened = 0
    for _ in range(rounds):
        closed += await audit.settle(dice.sample(names, 4), dice.choice(("delivered", "discarded")), "by hand")
        opened += len(await audit.reopen(dice.sample(names, 8)))
    await audit.close()
    print("done", closed, opened)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
