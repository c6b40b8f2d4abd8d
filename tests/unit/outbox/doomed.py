"""Appends random records until it is killed, and says of each, after `append` has returned, that it is stored.

    python doomed.py OUTBOX SEED

A line: id, BLAKE2 of the value. Ballast of which nothing is said is discarded again, so that pruning, giving pages
back and checkpoints are among what is interrupted. Run by `test_crash.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
import time

from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord
from holdfast.policy.uuid7 import uuid7


def made(route: str, value: bytes) -> OutboxRecord:
    record_id = uuid7(int(time.time() * 1000), os.urandom(10))
    return OutboxRecord(record_id, time.time(), "k", route, "POST", "/", "e", 502, value, (("a", b"\xff"),))


async def main(path: str, seed: int) -> None:
    """Eight at a time, so that groups of several records are committed."""
    outbox = Outbox.open(path, OutboxLimits(retention=0.0))
    dice = random.Random(seed)
    print("ready", flush=True)

    async def append_on() -> None:
        while True:
            value = dice.randbytes(int(dice.paretovariate(0.9) * 50) % 70_000)
            await outbox.append(made("ballast", value))
            record = made("kept", value)
            await outbox.append(record)
            print(record.id, hashlib.blake2b(value).hexdigest(), flush=True)
            if dice.random() < 0.1:
                await asyncio.to_thread(outbox.discard, route="ballast", state="pending")
                await asyncio.to_thread(outbox.tidy)

    await asyncio.gather(*(append_on() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
