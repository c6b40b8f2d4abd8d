"""What the tests of replays share: an origin that remembers every request, and `holdfast consume` as a process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.e2e.harness import Gateway, GatewayError
from tests.services.process import free_port


@dataclass(frozen=True)
class Seen:
    """A request as the origin got it. Names of fields in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def capture_id(self) -> str:
        """Empty for a request that is no replay."""
        return self.headers.get("holdfast-capture-id", "")


Answer = Callable[[str, str, dict[str, str], bytes], int]


@dataclass
class Origin:
    """An HTTP/1.1 server of this process, on a port that it keeps while it is `stop`ped and `start`ed again.

    `answer` decides on the status; below 0 there is no answer at all.
    """

    answer: Answer = lambda method, target, headers, body: 200
    port: int = field(default_factory=free_port)
    log: list[Seen] = field(default_factory=list)
    asked: int = 0  # requests, answered or not
    extra: dict[str, str] = field(default_factory=dict)  # header fields of every answer
    frozen: asyncio.Event | None = None  # while it is not set, requests are read and not answered
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """For a profile."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Self:
        """Accept connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        return self

    async def stop(self) -> None:
        """Refuse connections, and break off those that are open."""
        if self._server:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._server = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def replays(self) -> list[Seen]:
        """Those that were answered well, in their order."""
        return [seen for seen in self.log if seen.capture_id and 200 <= seen.status < 300]

    def by_key(self) -> dict[str, list[str]]:
        """Path -> the ids of the captures that were answered well, in their order."""
        found: dict[str, list[str]] = defaultdict(list)
        for seen in self.replays():
            found[seen.target.partition("?")[0]].append(seen.capture_id)
        return dict(found)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked += 1
        if self.frozen:
            await self.frozen.wait()
        status = self.answer(method, target, headers, body)
        self.log.append(Seen(method, target, headers, body, status))
        if status < 0:
            return False
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.extra.items())
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{extra}\r\nok".encode("latin-1"))
        await writer.drain()
        return True


class Consumer(Gateway):
    """`holdfast consume` with the profile of a gateway; its admin surface on a port of its own."""

    def __init__(self, gateway: Gateway, folder: Path, **more: Any) -> None:
        super().__init__(folder, gateway.upstream, made=gateway.profile, **{"ready_within": 60.0, **more})
        self.token = gateway.token

    def command(self) -> list[str]:
        """The command line."""
        admin = ["--admin", f"127.0.0.1:{self.admin_port}"]
        return [sys.executable, "-m", "holdfast", "consume", "--profile", self.profile, *admin, *self.args]

    async def is_ready(self) -> bool:
        """Whether /readyz says so."""
        if self.exit_code is not None:
            raise GatewayError(f"exit code {self.exit_code}\n{self.log()}")
        with contextlib.suppress(httpx.TransportError):
            return (await self.admin("/readyz")).status_code == 200
        return False

    async def replayed(self, outcome: str = "delivered") -> float:
        """How many captures this process has settled so; 0 while it does not answer."""
        with contextlib.suppress(httpx.TransportError):
            return (await self.metrics()).get(("holdfast_replay_total", f"outcome={outcome}"), 0.0)
        return 0.0
