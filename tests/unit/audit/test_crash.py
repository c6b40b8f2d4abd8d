"""Invariant 4: what `record` has returned survives `kill -9` of the replayer at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest

from tests.contract.audit_cases import Place

ROUNDS = 10
DOOMED = Path(__file__).with_name("doomed.py")
ONLY_ONE = """
SELECT p.event_id, b.event_id FROM processed_events p FULL JOIN callbacks b ON b.event_id = p.event_id
WHERE (p.event_id IS NULL OR b.event_id IS NULL) AND coalesce(p.event_id, b.event_id) NOT LIKE '%ballast%'
"""


def run_and_kill(url: str, seed: int, after: float) -> list[tuple[str, str]]:
    """What the process had been told when it was killed: id and outcome."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(DOOMED), url, str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        killer = threading.Timer(after, process.send_signal, (signal.SIGKILL,))
        killer.start()
        lines = process.stdout.read().splitlines(keepends=True)
        killer.join()
    assert process.returncode == -signal.SIGKILL
    # The last line may be cut short: the kill came while it was written.
    return [(line.split()[0], line.split()[1]) for line in lines if line.endswith("\n")]


@pytest.mark.timeout(240)
async def test_every_outcome_that_was_returned_survives_a_kill(place: Place, seed: int) -> None:
    """Again and again with the same audit: each has its row in `processed_events`, its attempt and its callback."""
    dice = random.Random(seed)
    told: list[tuple[str, str]] = []
    rounds = 0
    while rounds < ROUNDS or len(told) <= 100:  # on a slow machine few are told in each
        rounds += 1
        told += await asyncio.to_thread(run_and_kill, place.url, dice.getrandbits(32), dice.uniform(0.0, 0.4))
        audit = await place.open()
        # In one query: a server may still be at the last commit of the one that was killed.
        query = """
SELECT id, state, event_id, outcome FROM captures FULL JOIN processed_events ON event_id = id
WHERE id IS NULL OR state <> 'open' OR event_id IS NOT NULL
"""
        found = [tuple(row) for row in await place.rows(query)]
        assert all(row[:2] == row[2:] for row in found), "what is settled has its row, and nothing else has"
        assert len({row[0] for row in found}) == len(found)
        assert set(told) <= {row[:2] for row in found}
        logged = dict(await place.rows("SELECT event_id, count(*) FROM audit_log WHERE kind = 'attempt' GROUP BY 1"))
        assert all(logged[name] == 1 for name, _ in told)
        assert await place.rows(ONLY_ONE) == [], "an outcome and its callback are there, or neither"
        await audit.close()
    if not place.url.startswith("postgresql"):
        db = apsw.Connection(place.url)
        assert db.execute("PRAGMA integrity_check").get == "ok"
        assert db.execute("PRAGMA foreign_key_check").get is None
        db.close()
