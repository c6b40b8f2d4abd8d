"""A chain on mitmproxy, from its start to its end, and what it tells of the requests that went through it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy.addons import default_addons
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.options import Options

from holdfast.chain import Chain, Clocks, build_chain
from holdfast.engine.placement import place
from holdfast.exchange import Exchange, is_own
from holdfast.gateway import Gateway, Settled
from holdfast.logs import HumanLines
from holdfast.policy.endpoint import parse_endpoint
from holdfast.profile.settings import Profile
from holdfast.rehearsal.clock import Clock, in_real_time

STARTS_WITHIN = 10.0
"""Real seconds that a chain may need to start, and again to stop."""


class StageFailure(Exception):
    """The chain did not start; the message says why."""


class Witness:
    """An addon before all others: what became of each request and of each capture."""

    name = "holdfast-witness"

    def __init__(self, clock: Clock, refused: Callable[[int], Awaitable[None]]) -> None:
        self.ended: list[Exchange] = []
        self.settled: list[Settled] = []
        self._clock = clock
        self._refused = refused

    def observe(self, flow: HTTPFlow, exchange: Exchange, seconds: float) -> None:
        """A request has ended."""
        if not is_own(flow):
            self.ended.append(exchange)

    def capture_settled(self, settled: Settled) -> None:
        """A capture has been delivered, or given up."""
        self.settled.append(settled)

    def upstream_retry(self, flow: HTTPFlow) -> None:
        """Whoever let the gateway wait has lost its patience."""
        self._clock.relax()

    def upstream_failed(self, flow: HTTPFlow) -> None:
        """Before anybody acts on it: what is stored on a disk must have the time that it takes."""
        self._clock.relax()

    async def server_connect_error(self, data: Any) -> None:
        """A server could not be reached. Awaited before anything else is tried."""
        await self._refused(data.server.address[1])


class LogLines(logging.Handler):
    """What is logged meanwhile, as people read it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(HumanLines())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it. What mitmproxy says of single connections is left out."""
        if record.name.startswith("holdfast") or record.levelno >= logging.WARNING:
            self.lines.append(self.format(record))


@dataclass(slots=True)
class Stage:
    """A chain that serves. `port` is where, on this machine."""

    gateway: Gateway
    port: int
    witness: Witness
    log: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def staged(
    profile: Profile, clock: Clock, confdir: Path, refused: Callable[[int], Awaitable[None]]
) -> AsyncIterator[Stage]:
    """The chain of this profile, served from the beginning to the end of the block. StageFailure, ProfileError."""
    witness = Witness(clock, refused)
    with logged() as log:
        chain = build_chain(profile, clocks=Clocks(clock.monotonic, clock.wall, lambda: 0.0))
        chain.observers.append(witness.observe)
        chain.gateway.listeners.append(witness)
        master = _master(chain, profile, confdir, witness)
        running = asyncio.create_task(master.run())
        try:
            port = await in_real_time(_serving(chain.gateway, master, running), STARTS_WITHIN)
            yield Stage(chain.gateway, port, witness, log.lines)
        except TimeoutError:
            raise StageFailure(f"the gateway did not start within {STARTS_WITHIN:g} s") from None
        finally:
            master.shutdown()
            with contextlib.suppress(TimeoutError):
                await in_real_time(running, STARTS_WITHIN)


@contextlib.contextmanager
def logged() -> Iterator[LogLines]:
    """Everything that is logged within the block goes into a list and nowhere else."""
    handler, root, ours = LogLines(), logging.getLogger(), logging.getLogger("holdfast")
    before = root.handlers, root.level, ours.handlers, ours.propagate, ours.level
    root.handlers, ours.handlers, ours.propagate = [handler], [], True
    root.setLevel(logging.INFO)
    ours.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        root.handlers, ours.handlers, ours.propagate = before[0], before[2], before[3]
        root.setLevel(before[1])
        ours.setLevel(before[4])


def _master(chain: Chain, profile: Profile, confdir: Path, witness: Witness) -> Master:
    options = Options()
    master = Master(options)
    master.addons.add(*default_addons())
    first = parse_endpoint(profile.upstream.each_server()[0].url)
    options.update(
        confdir=str(confdir),
        key_size=1024,  # of an authority that nobody will ask for anything
        mode=[f"reverse:http://{first.host}:{first.port}"],
        listen_host="127.0.0.1",
        listen_port=0,
        server=False,  # the gate opens it
    )
    options.update(**chain.options(options, profile))
    place(master, [witness, *chain.addons])
    return master


async def _serving(gateway: Gateway, master: Master, running: asyncio.Task[None]) -> int:
    """The port, once the chain serves."""
    while gateway.phase != "serving":
        if running.done():
            raise StageFailure("the gateway ended while it started")
        await asyncio.sleep(0.001)
    proxyserver = master.addons.get("proxyserver")
    assert isinstance(proxyserver, Proxyserver)
    return int(proxyserver.listen_addrs()[0][1])
