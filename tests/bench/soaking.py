"""Half of the load that it can carry, for minutes: memory and open files must end where they began."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from pathlib import Path

from tests.bench.case import Case, Measured, first_answers
from tests.bench.load import MIXED, Ask, looking, wrk
from tests.bench.peers import World, need
from tests.bench.running import Broken

CONNECTIONS = 20
ASKED = (
    "/api/data",
    *(f"/api/users/{number}" for number in range(1, 9)),
)  # one miss to eight hits


def soak(case: Case, world: World, measured: Measured) -> None:
    """Half the rate of a first short run, and what it weighs every so often."""
    contender = case.contenders[0]
    server = contender.start(world).start()
    first_answers(server, contender.ask)
    most = wrk(world, server, Ask("/api/users/1", script=MIXED), 1 if world.short else 5).rate
    seconds = world.seconds or (4 if world.short else 600)
    rps = max(1, int(most / 2 / CONNECTIONS))
    urls, log = world.folder / "urls", world.folder / "soak.log"
    urls.write_text("".join(f"{server.url}{path}\n" for path in ASKED))
    command = [need("h2load"), "--h1", "-t1", f"-c{CONNECTIONS}", f"-D{seconds}", f"--rps={rps}", f"-i{urls}"]
    samples: list[tuple[float, float, float]] = []
    with looking(server, contender.ask) as looks, log.open("wb") as out:
        load = subprocess.Popen(
            world.cores.pin(world.cores.load, command), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            began = time.monotonic()
            while load.poll() is None:
                samples.append((time.monotonic() - began, server.rss() / (1 << 20), float(server.files())))
                server.forget_log()
                threading.Event().wait(min(5.0, seconds / 20))
        finally:
            load.kill()
            load.wait()
    if looks.fault:
        raise Broken(f"{server.name}: {looks.fault}")
    requests = _answered(log)
    times = sorted(looks.times)
    memory, files = growth([m for _, m, _ in samples]), growth([f for _, _, f in samples])
    measured.add(
        contender.name,
        rate=requests / seconds,
        p50=times[len(times) // 2],
        p99=times[int(len(times) * 0.99)],
        growth=memory,
        files=files,
        rss=samples[-1][1],
    )
    measured.series["MiB"] = [[round(when, 1), round(memory, 1)] for when, memory, _ in samples]
    measured.series["files"] = [[round(when, 1), files] for when, _, files in samples]
    measured.notes.append(f"{seconds} s at {rps * CONNECTIONS:,}/s, of {most:,.0f}/s that it could")


def growth(values: list[float]) -> float:
    """From the second quarter to the last: what a start takes does not count."""
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) - statistics.median(values[quarter : 2 * quarter] or values)


def _answered(log: Path) -> int:
    """Good answers, as h2load tells them; Broken if there were others."""
    told = log.read_text()
    line = next((line for line in told.splitlines() if line.startswith("requests:")), "")
    parts = [part.split()[:2] for part in line.partition(":")[2].split(",")]
    found = {part[1]: int(part[0]) for part in parts if len(part) == 2}
    if not found.get("succeeded") or found["failed"] or found["timeout"]:
        raise Broken(f"not every request of the soak was answered well:\n{told[-2000:]}")
    return found["succeeded"]
