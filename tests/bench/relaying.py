"""A backlog of captured requests to a real Kafka: how fast it goes, and what the proxy loses meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from holdfast.outbox import Outbox, OutboxLimits, OutboxRecord
from tests.bench.case import Case, Measured, first_answers
from tests.bench.load import Ask, Connection, wrk
from tests.bench.peers import World, holdfast
from tests.bench.running import Broken, Missing, Running
from tests.services import jars
from tests.services.kafka import KafkaServer
from tests.services.process import ServiceError, free_port

VALUE = b'{"body": "' + b"r" * 1012 + b'"}'  # 1 KiB
AT_ONCE = 2000
PATIENCE = 120.0


def relays(case: Case, world: World, measured: Measured) -> None:
    """Alone, for its speed; then under load, beside the same load when there is nothing more to relay."""
    broker = kafka(world)
    records, seconds = (8000, 2) if world.short else (100_000, 8)
    name, ask = case.contenders[0].name, case.contenders[0].ask
    for _ in range(1 if world.short else 3):
        server = _with_backlog(world, broker, records)
        rate = _speed(server, records)
        server.stop()
        server = _with_backlog(world, broker, records)
        first_answers(server, ask)
        during, left = wrk(world, server, ask, seconds), records - _published(server)
        _wait_for(server, records)
        after = wrk(world, server, ask, seconds)
        measured.add(name, records=rate, during=during.rate / after.rate, rate=during.rate, p99=during.p99)
        if left <= 0:
            measured.notes.append("the backlog was relayed before the load was over: it slowed only a part of it")
        server.stop()


def kafka(world: World) -> str:
    """host:port of a broker: that of HOLDFAST_TEST_KAFKA, or one that is started here."""
    if named := os.environ.get("HOLDFAST_TEST_KAFKA"):
        return named

    def make() -> KafkaServer:
        try:
            libs = Path(os.environ.get("HOLDFAST_TEST_KAFKA_LIBS") or jars.kafka_libs())
            server = KafkaServer(libs, world.place("kafka"), free_port()).start()
        except ServiceError as error:
            raise Missing(str(error)) from error
        world.stack.callback(server.kill)
        if server.pid:
            os.sched_setaffinity(server.pid, range(os.cpu_count() or 1))
        try:
            return server.wait_ready()
        except ServiceError as error:
            raise Broken(str(error)) from error

    return world.once("kafka", make).address


def _with_backlog(world: World, broker: str, records: int) -> Running:
    """A gateway that has these records to relay, started."""
    file = world.place("outbox") / "outbox.db"
    asyncio.run(_fill(file, records))
    server = holdfast(world, "gateway", KAFKA_URL=f"kafka://{broker}", HOLDFAST_OUTBOX=str(file))
    return server.start()


async def _fill(file: Path, records: int) -> None:
    outbox = Outbox.open(file, OutboxLimits())
    try:
        for first in range(0, records, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, records))
            await asyncio.gather(*(outbox.append(_record(number)) for number in numbers))
    finally:
        outbox.close()


def _record(number: int) -> OutboxRecord:
    return OutboxRecord(
        id=str(uuid.uuid4()),
        created=time.time(),
        key=f"/api/users/{number % 100}",
        route="user",
        method="POST",
        path=f"/api/users/{number % 100}",
        error="connection_refused",
        status=None,
        value=VALUE,
        headers=(("content-type", b"application/json"),),
    )


def _speed(server: Running, records: int) -> float:
    """Records a second, from the first that were seen to be relayed to the last."""
    began = first = 0.0
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        now, published = time.monotonic(), _published(server)
        if published and not began:
            began, first = now, published
        if published >= records:
            if now == began or published == first:
                return published / 0.05  # all of it between two looks
            return (published - first) / (now - began)
        time.sleep(0.05)
    raise Broken(f"only {_published(server):,.0f} of {records:,} records were relayed:\n{server.tail()}")


def _wait_for(server: Running, records: int) -> None:
    until = time.monotonic() + PATIENCE
    while _published(server) < records:
        if time.monotonic() > until:
            raise Broken(f"only {_published(server):,.0f} of {records:,} records were relayed:\n{server.tail()}")
        time.sleep(0.1)


def _published(server: Running) -> float:
    """What the gateway's metrics say."""
    admin = Running(server.name, server.command, server.admin, server.folder)
    connection = Connection(admin)
    try:
        text = connection.ask(Ask("/metrics")).partition(b"\r\n\r\n")[2].decode()
    finally:
        connection.close()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "holdfast_relay_published_total":
                return float(sample.value)
    return 0.0
