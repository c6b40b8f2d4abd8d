"""`scripts/bench`: parses, measures, tells. 0 measured, whatever it came to; 1 a measurement is broken; 2 usage."""

from __future__ import annotations

import argparse
import sys

from tests.bench import counts


def main() -> int:
    args = parser().parse_args()
    if args.counts:
        return tell_counts(write=args.write)
    return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    top.add_argument("case", nargs="*", metavar="CASE", help="what to measure; default: everything")
    top.add_argument("--counts", action="store_true", help="Python calls per request, and what they were")
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


if __name__ == "__main__":
    sys.exit(main())
