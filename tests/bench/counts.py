"""Python calls per request, of C functions too: a hit, a pass-through and a captured request of a real gateway.

    scripts/bench --counts            # what they are, beside what they were
    scripts/bench --counts --write    # that is as it is meant to be: note it in counts.json

Seconds differ from machine to machine and from run to run; these do not, for one minor version of Python and one
version of mitmproxy. Only calls on the event loop's thread count, up to the moment when it has nothing more to do.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from tests.bench.driver import Driver, DriverError, Series, by_function, in_all
from tests.services.process import free_port

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("counts.json")
ENGINES = ("default", "plain")
PROFILES = ("minimal", "gateway")
BARE = "bare"  # mitmdump by itself, to compare with: not on record
ALLOWED = 0.03  # share by which a count may grow, or shrink, before it has to be looked at
MOST = 40  # functions that are told of
ELSEWHERE = 0.30  # the same where nothing was recorded for this Python or this mitmproxy

GET = b"GET /api/users/1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: count/1\r\nAccept: */*\r\n\r\n"
POST = (
    b"POST /api/users HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: count/1\r\nContent-Type: application/json\r\n"
    b'Content-Length: 15\r\n\r\n{"name": "Ann"}'
)


def answer(status: str, cache: str) -> bytes:
    """Of the origin."""
    body = b'{"id": 1, "name": "Grace Hopper", "email": "grace@shop.example"}'
    head = f"HTTP/1.1 {status}\r\nServer: count\r\nContent-Type: application/json\r\nCache-Control: {cache}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


def series(profile: str) -> list[Series]:
    """What a gateway of this profile is sent."""
    miss = Series(f"{profile} pass-through", GET, answer("200 OK", "no-store"), 200)
    if profile in ("minimal", BARE):
        return [miss]
    miss.having = b"fwd=miss"
    hit = Series(f"{profile} hit", GET, answer("200 OK", "max-age=3600"), 200, b"cache-status: holdfast;hit")
    failing = answer("503 Service Unavailable", "no-store")
    capture = Series(f"{profile} capture", POST, failing, 503, b"holdfast-capture-id: ", rest=0.005)
    return [miss, hit, capture]


# --- in a process of its own ---


def count(profile: str, folder: Path, *, where: bool = False) -> dict[str, int]:
    """Runs the gateway in this process, to its end. The lower quartile leaves out what comes in between.

    `where`: tells on standard error which functions are called most."""
    origin = socket.create_server(("127.0.0.1", 0))
    port, sent = free_port(), series(profile)

    class Policy(asyncio.DefaultEventLoopPolicy):
        """Every loop of the main thread is driven; there is one."""

        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            trace = by_function if where else in_all
            over = partial(os.kill, os.getpid(), signal.SIGTERM)
            return asyncio.SelectorEventLoop(Driver(port, origin, sent, over, trace))

    asyncio.set_event_loop_policy(Policy())
    code = serve(profile, folder, port, f"http://127.0.0.1:{origin.getsockname()[1]}")
    if code or not all(one.calls for one in sent):
        raise SystemExit(f"the gateway ended with {code} before it was asked everything")
    for one in sent if where else ():
        median = statistics.median(one.calls)
        print(f"\n{one.name}: {median:,.0f} calls per request, by function", file=sys.stderr)
        for name, calls in one.callers.most_common(MOST):
            print(f"{calls / one.times:8,.1f}  {name}", file=sys.stderr)
    return {one.name: int(statistics.quantiles(one.calls, n=4)[0]) for one in sent}


def serve(profile: str, folder: Path, port: int, upstream: str) -> int:
    """The gateway, or mitmdump without one, until a signal ends it; the exit code."""
    if profile == BARE:
        from mitmproxy.tools.main import mitmdump

        options = ["--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", "flow_detail=0"]
        return mitmdump(["--mode", f"reverse:{upstream}", *options]) or 0
    from holdfast.cli import main

    file = folder / f"{profile}.yaml"
    made: dict[str, Any] = {"version": 1, "extends": profile, "listen": f"127.0.0.1:{port}", "admin": {"listen": None}}
    if profile == "gateway":
        made["addons"] = [{"replayer": False}]  # works now and then, and not for the request that is counted
    file.write_text(yaml.safe_dump({**made, "upstream": {"servers": [upstream], "breaker": {"max_fails": 0}}}))
    return main(["run", "--profile", str(file)])


def measure(engine: str) -> dict[str, int]:
    """Calls by the name of the series, each profile in a process of its own. DriverError if one did not end well."""
    with tempfile.TemporaryDirectory(prefix="holdfast-counts-") as folder:
        running = [_start(profile, folder, engine) for profile in PROFILES]
        counted: dict[str, int] = {}
        for process in running:
            out, said = process.communicate()
            if process.returncode:
                raise DriverError(f"a gateway did not end well:\n{out[-1000:]}{said[-3000:]}")
            counted |= json.loads(out.splitlines()[-1])
    return counted


def tell_where(profile: str, engine: str) -> int:
    """Runs one of those processes for its table of functions; the exit code."""
    with tempfile.TemporaryDirectory(prefix="holdfast-counts-") as folder:
        command = [sys.executable, "-m", "tests.bench.counts", profile, folder, "where"]
        quiet = subprocess.DEVNULL
        return subprocess.run(
            command, cwd=folder, env=environment(engine), check=False, stdin=quiet, stdout=quiet
        ).returncode


def _start(profile: str, folder: str, engine: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.counts", profile, folder]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment(engine), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )


def environment(engine: str) -> dict[str, str]:
    """Nothing of the caller's that could change what the gateway does."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("HOLDFAST_", "REDIS_", "KAFKA_"))
    }
    ours = {"PYTHONPATH": f"{ROOT / 'addons'}{os.pathsep}{ROOT}", "PYTHONHASHSEED": "0"}
    return {**inherited, **ours, **({} if engine == "default" else {"HOLDFAST_ENGINE": engine})}


# --- what they were ---


def here() -> dict[str, str]:
    """What the numbers depend on."""
    return {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "mitmproxy": version("mitmproxy")}


def recorded() -> tuple[dict[str, dict[str, int]], bool]:
    """Counts by engine and series; whether they were taken with this Python and this mitmproxy."""
    entries: list[dict[str, Any]] = json.loads(RECORD.read_text())
    ours = [entry for entry in entries if all(entry[key] == value for key, value in here().items())]
    return (ours or entries)[-1]["counts"], bool(ours)


def record(counts: Mapping[str, Mapping[str, int]]) -> None:
    """In place of what stands there for this Python and this mitmproxy."""
    entries = json.loads(RECORD.read_text()) if RECORD.exists() else []
    kept = [entry for entry in entries if any(entry[key] != value for key, value in here().items())]
    RECORD.write_text(json.dumps([*kept, {**here(), "counts": counts}], indent=2) + "\n")


def changes(now: Mapping[str, int], then: Mapping[str, int], allowed: float) -> list[str]:
    """A sentence for each count that is no longer what it was, and for each that only one side has."""
    told = []
    for name in sorted(now.keys() | then.keys()):
        if name not in now or name not in then:
            told.append(f"{name}: {'no longer' if name in then else 'newly'} counted")
        elif abs(now[name] - then[name]) > allowed * then[name]:
            word = "more" if now[name] > then[name] else "fewer"
            share = abs(now[name] / then[name] - 1)
            told.append(f"{name}: {now[name]:,} calls per request, {share:.1%} {word} than {then[name]:,}")
    return told


def table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """For people: now, and what was recorded."""
    then, exact = recorded() if RECORD.exists() else ({}, True)
    lines = [f"{'calls per request':<24}{'engine':<10}{'now':>8}{'recorded':>10}"]
    for engine, counted in counts.items():
        for name, calls in counted.items():
            was = then.get(engine, {}).get(name)
            lines.append(f"{name:<24}{engine:<10}{calls:>8,}{was if was is None else format(was, ','):>10}")
    if not exact:
        lines.append("recorded with another Python or mitmproxy than {python} and {mitmproxy}".format(**here()))
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(count(sys.argv[1], Path(sys.argv[2]), where="where" in sys.argv)))
