"""Cases about a gateway that does nothing: how soon it is there, and what it and its clients' connections weigh."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.bench.case import Case, Contender, Measured, first_answers
from tests.bench.load import Ask, Connection, wrk
from tests.bench.machine import raise_file_limit
from tests.bench.peers import World
from tests.bench.running import READY_WITHIN, Broken, Running, accepts

MIB = 1 << 20
SPARE_FILES = 1000  # beside two for each connection: what a server has open anyway


def starts(case: Case, world: World, measured: Measured) -> None:
    """Seconds from the start of the process to its first answer, and the CPU time until then."""
    rounds = 2 if world.short else 8
    for number in range(rounds):
        for contender in case.contenders:
            server = contender.start(world)
            began = time.monotonic()
            server.launch()
            _first_answer(server, contender.ask)
            seconds, cpu = time.monotonic() - began, server.cpu()
            server.stop()
            if number:  # the first one has read everything from the disk
                measured.add(contender.name, start=seconds, start_cpu=cpu)


def _first_answer(server: Running, ask: Ask) -> None:
    until = time.monotonic() + READY_WITHIN
    while not accepts(server.port):
        if server.is_down() or time.monotonic() > until:
            raise Broken(f"{server.name} did not start:\n{server.tail()}")
        time.sleep(0.002)
    first_answers(server, ask)


def weighs(case: Case, world: World, measured: Measured) -> None:
    """Memory a second after the first answer."""
    for _ in range(1 if world.short else 3):
        for contender in case.contenders:
            server = contender.start(world).start()
            first_answers(server, contender.ask)
            time.sleep(1)
            measured.add(contender.name, rss=server.rss() / MIB, pss=server.pss() / MIB)
            server.stop()


def holds(case: Case, world: World, measured: Measured) -> None:
    """Thousands of connections that have asked once and are silent; hits meanwhile."""
    wanted = 300 if world.short else 10_000
    files = raise_file_limit(2 * wanted + SPARE_FILES)
    for contender in case.contenders:
        each = 1 if contender.hits else 2  # a hit needs no connection to the origin
        count = min(wanted, (files - SPARE_FILES) // each)
        if count < wanted:
            told = f"only {count:,} connections to {contender.name}: the limit is {files:,} open files (ulimit -n)"
            measured.notes.append(told)
        _hold(world, measured, contender, count)


def _hold(world: World, measured: Measured, contender: Contender, count: int) -> None:
    server = contender.start(world).start()
    first_answers(server, contender.ask)
    wrk(world, server, contender.ask, 1 if world.short else 2)
    time.sleep(0.5)
    before, held = server.rss(), list[Connection]()
    try:
        for number in range(count):
            # Of several addresses, or the ports of one run out.
            held.append(Connection(server, source=f"127.0.0.{number % 4 + 1}"))
            held[-1].ask(contender.ask)
        time.sleep(1)
        weight = (server.rss() - before) / count / 1024
        sample = wrk(world, server, replace(contender.ask, connections=8), 1 if world.short else 5)
        for connection in held[:: max(1, count // 500)]:
            connection.ask(contender.ask)
    finally:
        for connection in held:
            connection.close()
    measured.add(contender.name, connections=count, kib=weight, rate=sample.rate, p50=sample.p50, p99=sample.p99)
    server.stop()
