"""Records outcomes until it is killed, and says of each, after `record` has returned, that it is on the disk.

    python doomed.py URL SEED

A line: id, what was said of it, and the number of its attempts. Reopening and pruning are among what is interrupted.
Run by `test_crash.py`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

from holdfast.audit import OUTCOMES, Arrival, AttemptLog, Audit, Record
from holdfast.audit.opening import open_audit


async def record_on(audit: Audit, dice: random.Random, name: str) -> None:
    """Batches of one owner, each of captures of its own."""
    for number in range(1_000_000):
        ids = [f"{name}-{number}-{each}" for each in range(dice.choice((1, 3, 40)))]
        made = [Arrival(each, each, "user", "PUT", "/", "http_503", time.time()) for each in ids]
        await audit.arrive(made, name, 3600)
        records = []
        for each in ids:
            attempt = AttemptLog(at=time.time(), server="s", status=200, body=dice.randbytes(dice.randint(0, 3000)))
            records.append(
                Record(id=each, attempt=attempt, outcome=dice.choice(OUTCOMES), value=b"v", callback=("u", b"d"))
            )
        assert all(await audit.record(records, name))
        for record in records:
            print(record.id, record.outcome, 1, flush=True)
        if dice.random() < 0.2:  # of these nothing is said
            ballast = f"{name}-ballast-{number}"
            await audit.arrive([Arrival(ballast, ballast, "ballast", "PUT", "/", "e", 1.0)], name, 3600)
            await audit.record([Record(id=ballast, outcome="dead")], name)
            await audit.reopen([ballast])
            await audit.settle([ballast], "discarded", "")


async def main(url: str, seed: int) -> None:
    """Four owners, so that several calls share a commit."""
    audit = open_audit(url, time.time)
    await audit.open()
    print("ready", flush=True)
    await asyncio.gather(*(record_on(audit, random.Random(seed + each), f"{seed}-{each}") for each in range(4)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
