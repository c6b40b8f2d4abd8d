"""Load from wrk and h2load, and what each of them has seen; answers are looked at here as well, one by one.

wrk counts answers by status and bytes, but reads no header. While it runs, a connection of our own asks for the same a
few times a second and reads everything: the status, the length, and what must stand in the header.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.machine import Watch
from tests.bench.peers import World, need, origin
from tests.bench.running import Broken, Running, cpu_of, family
from tests.services.process import LOOPBACK

EVERY = 0.1  # seconds between two looks

# At the end: exact figures, where wrk's own text is rounded.
DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "us": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, '
    .. '"status": %d, "p50": %d, "p90": %d, "p99": %d}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.timeout, e.status,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
"""
# Nine of ten ask for what is there, the tenth for what nobody has asked for before.
MIXED = """
local number, first = 0, os.time() * 1000000 % 1000000000000
local known
request = function()
  number = number + 1
  if number % 10 == 0 then return wrk.format(nil, "/api/users/new-" .. string.format("%.0f", first + number)) end
  known = known or wrk.format(nil, "<path>")
  return known
end
"""
POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '<body>'
"""


@dataclass(frozen=True)
class Ask:
    """What is sent, and what the answer must be."""

    path: str
    status: int = 200
    having: bytes = b""  # in the header of the answer, lower case
    method: str = "GET"
    body: bytes = b""
    script: str = ""  # of wrk, beside the usual
    connections: int = 32

    def raw(self, port: int) -> bytes:
        """As HTTP/1.1, with the generators' `Host`: it is a part of a cache's key."""
        kind = f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n" if self.body else ""
        return f"{self.method} {self.path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n{kind}\r\n".encode() + self.body


@dataclass
class Sample:
    """What one run of load has come to; times in milliseconds, CPU in microseconds per request, sizes in bytes."""

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: float
    rss: int
    pss: int
    origin: int = 0  # requests that the origin got meanwhile
    others: float = 0.0  # cores that other processes used meanwhile
    stolen: float = 0.0  # share of the CPU that the host took away

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


class Connection:
    """One connection of HTTP/1.1, that reads an answer whole."""

    def __init__(self, server: Running, *, source: str = "") -> None:
        self._port = server.port
        plain = socket.create_connection((LOOPBACK, server.port), 10, (source, 0) if source else None)
        self._socket = _trusting().wrap_socket(plain) if server.scheme == "https" else plain
        self._socket.settimeout(10)

    def ask(self, ask: Ask) -> bytes:
        """The answer, once it is what it should be; Broken if not."""
        try:
            self._socket.sendall(ask.raw(self._port))
            answer = self._read()
        except OSError as error:
            raise Broken(f"no answer to {ask.method} {ask.path}: {error!r}") from error
        head = answer.partition(b"\r\n\r\n")[0].lower()
        if int(head.split(b" ", 2)[1]) != ask.status or ask.having not in head:
            raise Broken(f"{ask.method} {ask.path}: wanted {ask.status} {ask.having.decode()}, got:\n{head.decode()}")
        return answer

    def _read(self) -> bytes:
        got = b""
        while True:
            more = self._socket.recv(1 << 16)
            if not more:
                raise OSError("closed")
            got += more
            head, gap, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            if gap and length and len(body) >= int(length[1]):
                return got

    def close(self) -> None:
        self._socket.close()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@dataclass
class Looks:
    """The answers that were read whole while a load ran."""

    sizes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)  # milliseconds
    fault: str = ""


@contextlib.contextmanager
def looking(server: Running, ask: Ask) -> Iterator[Looks]:
    """Ask now and then, from the first moment on."""
    looks, over = Looks(), threading.Event()

    def look() -> None:
        try:
            connection = Connection(server)
            while True:
                began = time.perf_counter()
                looks.sizes.append(len(connection.ask(ask)))
                looks.times.append((time.perf_counter() - began) * 1000)
                if over.wait(EVERY):
                    return
        except (Broken, OSError) as error:
            looks.fault = str(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join(15)


def wrk(world: World, server: Running, ask: Ask, seconds: int) -> Sample:
    """One run; Broken if an answer was not what it should be."""
    script = world.folder / "wrk.lua"
    script.write_text(ask.script.replace("<path>", ask.path).replace("<body>", ask.body.decode()) + DONE)
    command = [need("wrk"), "-t1", f"-c{ask.connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(script)]
    with looking(server, ask) as looks, _meter(world, server) as meter:
        out = run_load(world, [*command, server.url + ask.path], seconds)
    found = re.search(r"^RESULT (.*)$", out, re.MULTILINE)
    if not found:
        raise Broken(f"wrk told no result:\n{out}")
    told = json.loads(found[1])
    check(server, ask, told, looks)
    return meter.sample(told["requests"], told["us"] / 1e6, told["p50"] / 1000, told["p99"] / 1000)


def check(server: Running, ask: Ask, told: dict[str, int], looks: Looks) -> None:
    """Every answer had the right status, about the right size, and none was missing."""
    where = f"{server.name}, {ask.method} {ask.path}"
    if looks.fault:
        raise Broken(f"{where}: {looks.fault}")
    failed = {name: told[name] for name in ("connect", "read", "write", "timeout") if told[name]}
    if failed or not told["requests"]:
        raise Broken(f"{where}: {told['requests']} answers, errors {failed}\n{server.tail()}")
    wrong = told["status"] if ask.status < 400 else told["requests"] - told["status"]
    if wrong:
        raise Broken(f"{where}: {wrong} of {told['requests']} answers had another status than {ask.status}")
    mean, size = told["bytes"] / told["requests"], max(looks.sizes)
    if not min(looks.sizes) * 0.95 - 64 <= mean <= size * 1.05 + 64:
        raise Broken(f"{where}: answers of {mean:.0f} bytes on average, but {size} when read one by one")


def h2load(world: World, server: Running, ask: Ask, seconds: int, streams: int) -> Sample:
    """HTTP/2 over TLS, `streams` at once on each connection."""
    log = world.folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = [need("h2load"), "-D", f"{seconds:g}", "-c", str(ask.connections), "-m", str(streams), "-t1"]
    with looking(server, ask) as looks, _meter(world, server) as meter:
        out = run_load(world, [*command, f"--log-file={log}", server.url + ask.path], seconds)
    if looks.fault:
        raise Broken(f"{server.name}: {looks.fault}")
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    good = sorted(int(took) / 1000 for _, status, took in lines if status == str(ask.status))
    if not good or len(good) != len(lines):
        wrong = len(lines) - len(good)
        raise Broken(f"{server.name}: {wrong} of {len(lines)} answers were wrong\n{out}\n{server.tail()}")
    return meter.sample(len(good), seconds, good[len(good) // 2], good[int(len(good) * 0.99)])


def run_load(world: World, command: list[str], seconds: int) -> str:
    """Run a generator on its cores; its output."""
    pinned = world.cores.pin(world.cores.load, command)
    done = subprocess.run(
        pinned, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 60
    )
    if done.returncode:
        raise Broken(f"{Path(command[0]).name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Meter:
    """What a server used while it was under load."""

    def __init__(self, world: World, server: Running) -> None:
        self._world = world
        self._server = server
        self._watch = Watch()
        self._began = time.monotonic()
        self._cpu = server.cpu()
        self._children = _children()
        self._asked = origin_asked(world)
        self._cpu_used, self._asked_for = 0.0, 0
        self._others = self._stolen = 0.0

    def stop(self) -> None:
        """The load is over."""
        seconds = time.monotonic() - self._began
        self._cpu_used = self._server.cpu() - self._cpu
        self._asked_for = origin_asked(self._world) - self._asked
        self._others, self._stolen = self._watch.disturbance(_children() - self._children, seconds)

    def sample(self, requests: int, seconds: float, p50: float, p99: float) -> Sample:
        """With what the generator has told."""
        rss, pss = self._server.rss(), self._server.pss()
        self._server.forget_log()
        cpu = self._cpu_used / requests * 1e6
        return Sample(requests, seconds, p50, p99, cpu, rss, pss, self._asked_for, self._others, self._stolen)


@contextlib.contextmanager
def _meter(world: World, server: Running) -> Iterator[Meter]:
    meter = Meter(world, server)
    yield meter
    meter.stop()


def _children() -> float:
    """CPU seconds of this process and of everything that it has started."""
    ended = os.times()
    return sum(cpu_of(pid) for pid in family(os.getpid())) + ended.children_user + ended.children_system


def origin_asked(world: World) -> int:
    """Requests that the origin has had, this one not included."""
    connection = Connection(origin(world))
    try:
        answer = connection.ask(Ask("/status"))
    finally:
        connection.close()
    figures = answer.partition(b"requests")[2].split()
    return int(figures[2]) - 1
