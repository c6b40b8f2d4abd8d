"""Promise 1 at the level of the store: what was confirmed survives `kill -9` at any moment, intact."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import apsw

from holdfast.outbox import Outbox, OutboxLimits

ROUNDS = 25
DOOMED = Path(__file__).with_name("doomed.py")


def run_and_kill(path: Path, seed: int, after: float) -> dict[str, str]:
    """What the process had confirmed when it was killed: id -> digest."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(DOOMED), str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        killer = threading.Timer(after, process.send_signal, (signal.SIGKILL,))
        killer.start()
        lines = process.stdout.read().splitlines(keepends=True)
        killer.join()
    # The last line may be cut short: the kill came while it was written.
    return dict(line.split() for line in lines if line.endswith("\n"))  # type: ignore[misc]


def test_every_confirmed_record_survives_a_kill(tmp_path: Path, seed: int) -> None:
    """Again and again with the same outbox: each id is there with its value, and SQLite finds nothing wrong."""
    path = tmp_path / "holdfast.db"
    dice = random.Random(seed)
    confirmed: dict[str, str] = {}
    for _ in range(ROUNDS):
        confirmed |= run_and_kill(path, dice.getrandbits(32), dice.uniform(0.0, 0.25))
        outbox = Outbox.open(path, OutboxLimits())
        try:
            assert outbox.path == path
            assert outbox.stats().rescues == 0, "a kill is no damage"
            found = {record.id: hashlib.blake2b(record.value).hexdigest() for record in outbox.export(route="kept")}
            assert confirmed.items() <= found.items()
            assert len(found) - len(confirmed) <= 8 * ROUNDS, "only what was being stored may be there unconfirmed"
        finally:
            outbox.close()
    assert len(confirmed) > 100
    db = apsw.Connection(str(path))
    assert db.execute("PRAGMA integrity_check").get == "ok"
    db.close()
