"""`scripts/bench`: parses, measures, tells. 0 measured, whatever it came to; 2 usage.

1: a measurement is broken, or what `--install` was to install is still not there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tests.bench import counts, report
from tests.bench.case import Measured
from tests.bench.cases import CASES
from tests.bench.machine import describe, raise_file_limit, split_cores
from tests.bench.peers import DEBIAN, World
from tests.bench.publishing import publish
from tests.services.packages import install_missing

KEPT = ("HOLDFAST_ENGINE", "HOLDFAST_CACHE", "HOLDFAST_TEST_")
PLACE = counts.ROOT / ".holdfast" / "bench"


def main() -> int:
    args = parser().parse_args()
    if args.list:
        for case in CASES.values():
            print(f"{case.name:<22}{case.about}")
        return 0
    if args.publish:
        return tell_published(args.out / "bench.json")
    if args.where:
        return counts.tell_where(args.where, os.environ.get("HOLDFAST_ENGINE") or "default")
    if args.counts:
        return tell_counts(write=args.write)
    unknown = [name for name in args.case if name not in CASES]
    if unknown:
        print(f"bench: no such case: {', '.join(unknown)}; there are {', '.join(CASES)}", file=sys.stderr)
        return 2
    return measure(args)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    top.add_argument("case", nargs="*", metavar="CASE", help="what to measure; default: everything")
    top.add_argument("--list", action="store_true", help="the cases, a line each")
    top.add_argument("--short", action="store_true", help="one round of a second each: only whether it can be measured")
    top.add_argument("--seconds", type=int, metavar="N", help="of each round; of the soak: in all (default 600)")
    top.add_argument("--out", type=Path, default=PLACE, metavar="DIR", help="where results go (default %(default)s)")
    top.add_argument("--publish", action="store_true", help="put what was measured into docs/, and measure nothing")
    top.add_argument("--install", action="store_true", help="what is missing, on Debian as root")
    top.add_argument("--counts", action="store_true", help="Python calls per request, and what they were")
    top.add_argument("--where", choices=(*counts.PROFILES, counts.BARE), help="which functions they are")
    top.add_argument("--write", action="store_true", help="with --counts: put them on record")
    return top


def tell_counts(*, write: bool) -> int:
    """A table; with `write` they are what the guard compares with from now on."""
    counted = {engine: counts.measure(engine) for engine in counts.ENGINES}
    print(counts.table(counted))
    if write:
        counts.record(counted)
        print(f"written to {counts.RECORD.relative_to(counts.ROOT)}")
    return 0


def tell_published(results: Path) -> int:
    """2 if there is nothing to publish."""
    try:
        written = publish(results, counts.ROOT / "docs")
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    for file in written:
        print(f"bench: {file}")
    return 0


def measure(args: argparse.Namespace) -> int:
    """The cases one after the other, each told as soon as it is over."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    for name in list(os.environ):  # nothing of the caller's profile
        if name.startswith(("HOLDFAST_", "KAFKA_", "REDIS_")) and not name.startswith(KEPT):
            del os.environ[name]
    missing = install_missing(DEBIAN) if args.install else []
    cores = split_cores()
    if cores.load:
        os.sched_setaffinity(0, {int(core) for core in cores.load.split(",")})
    machine = {**describe(), "server_core": cores.server, "load_cores": cores.load, "files": raise_file_limit(24_000)}
    print(report.heading(machine), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    done: list[Measured] = []
    with ExitStack() as stack:
        # Not in a folder of memory: captures are synced to a disk.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=args.out))
        world = World(Path(folder), cores, stack, short=args.short, seconds=args.seconds)
        for name in args.case or CASES:
            measured = CASES[name].measure(world)
            print(report.told(measured), flush=True)
            done.append(measured)
    for file in report.write(args.out, machine, done, short=args.short):
        print(f"bench: {file}")
    print(report.summary(done))
    return 1 if missing or any(measured.broken for measured in done) else 0


def _leave(number: int, _frame: FrameType | None) -> None:
    """So that everything that was started is ended."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
