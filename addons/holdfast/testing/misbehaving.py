"""A server on raw sockets that does wrong exactly what a test tells it to: HTTP/1.1 or HTTP/2, plaintext or TLS.

    async with MisbehavingOrigin([Break("request", "reset"), Answer(body=b"second try")]) as origin:
        ...                                       # point a gateway at origin.url
        assert len(origin.requests) == 2

    async with MisbehavingOrigin(StreamReset(ErrorCodes.REFUSED_STREAM), protocol="h2") as origin: ...

What concerns the listening socket is a context manager of its own: `refusing()` and `full_backlog()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Literal, Self

from holdfast.testing.certificate import Certificate
from holdfast.testing.http1 import Http1
from holdfast.testing.http2 import Http2
from holdfast.testing.plans import Plan, Script
from holdfast.testing.received import Received
from holdfast.testing.steps import Answer, Break, Step
from holdfast.testing.wire import Desk, Wire, begins_http2, break_socket

type Protocol = Literal["http/1.1", "h2", "any"]

OK = Answer()
ALPN: dict[Protocol, tuple[str, ...]] = {"http/1.1": ("http/1.1",), "h2": ("h2",), "any": ("h2", "http/1.1")}


class MisbehavingOrigin:
    """Serves a plan; `requests` holds what arrived, `connections` how many were accepted.

    `tls` is the certificate to serve with (see `self_signed`), or None for plaintext. `protocol` is `http/1.1`; or
    `h2`, which over TLS is all that ALPN offers, and in plaintext what the client has to know (RFC 9113 section 3.3);
    or `any`, which serves what ALPN agreed on, and in plaintext what the client begins with. `max_streams` is announced
    as SETTINGS_MAX_CONCURRENT_STREAMS, and streams beyond it are refused. Setting `plan` again starts it from its
    first step.

    What cannot be done is raised: for a plan that is wrong a ValueError at once; a step that a function returns or
    that HTTP/1.1 does not know, and what a function raises, when the origin stops (the connection has been reset).
    """

    def __init__(
        self,
        plan: Plan = OK,
        *,
        tls: Certificate | None = None,
        port: int = 0,
        protocol: Protocol = "http/1.1",
        max_streams: int | None = None,
    ) -> None:
        if protocol not in ALPN:
            raise ValueError(f"protocol is one of {', '.join(ALPN)}, not {protocol!r}")
        if max_streams is not None and (protocol == "http/1.1" or max_streams < 0):
            raise ValueError("max_streams is for HTTP/2, and 0 or more")
        self.port = port
        self.requests: list[Received] = []
        self.connections = 0
        self.protocols: dict[int, str] = {}
        """What each connection spoke, `HTTP/1.1` or `HTTP/2`; those that ended before that was clear are not in it."""
        self.violations: list[str] = []
        """What clients did against the rules of HTTP/2."""
        self._protocol: Protocol = protocol
        self._max_streams = max_streams
        self._script = self._read_plan(plan)
        self._tls = tls
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Condition()
        self._desk = Desk(self._note, self._step_for, self.violations.append)
        self._fault: Exception | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def plan(self) -> Script:
        """The plan as far as it has been taken; assign a plan to begin another."""
        return self._script

    @plan.setter
    def plan(self, plan: Plan) -> None:
        self._script = self._read_plan(plan)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        except Exception as fault:
            if error is None:
                raise
            error.add_note(f"and before that the origin's plan failed: {fault!r}")  # most likely that is why

    async def start(self, backlog: int = 128) -> None:
        """Listen; with port 0 the system chooses once, and a restart keeps the choice."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=backlog)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        if backlog:
            self._accepting = asyncio.create_task(self._accept(listener))

    async def stop(self) -> None:
        """Close the listening socket and reset every connection; raises what was wrong with the plan."""
        await self._close_listener()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def refuse(self) -> None:
        """Accept no further connection; those that are open go on. `start` listens again."""
        if self._accepting is not None and self._listener is not None:
            self._accepting.cancel()
            asyncio.get_running_loop().remove_reader(self._listener)  # before its number is another socket's
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @contextlib.asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """For as long as the block runs nobody listens: connecting is refused, open connections are reset."""
        await self.stop()
        try:
            yield
        finally:
            await self.start()

    @contextlib.asynccontextmanager
    async def full_backlog(self) -> AsyncIterator[None]:
        """For as long as the block runs connecting neither succeeds nor fails: the accept queue is full."""
        await self.stop()
        await self.start(backlog=0)
        try:
            async with contextlib.AsyncExitStack() as fillers:
                for _ in range(3):
                    fillers.enter_context(filler := socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(("127.0.0.1", self.port))
                await asyncio.sleep(0.05)  # the handshakes of loopback are done by the kernel within this
                yield
        finally:
            await self._close_listener()
            await self.start()

    async def wait_for(self, number: int, *, within: float = 5.0) -> list[Received]:
        """Wait until that many requests have arrived at least in part; raises TimeoutError."""
        async with asyncio.timeout(within), self._progress:
            await self._progress.wait_for(lambda: len(self.requests) >= number)
        return self.requests

    def forget(self) -> None:
        """Empty `requests`."""
        self.requests.clear()

    async def _close_listener(self) -> None:
        accepting = self._accepting
        self.refuse()
        if accepting is not None:
            await asyncio.gather(accepting, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.connections += 1
            task = asyncio.create_task(self._serve(client, self.connections))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _serve(self, client: socket.socket, number: int) -> None:
        broken = self._script.on_accept()
        if broken is not None:
            await break_socket(client, broken.how)
            return
        try:
            wire, http2 = await self._open_wire(client, number)
        except (OSError, EOFError):
            client.close()  # the client did not like our certificate, or left
            return
        except asyncio.CancelledError:
            client.close()
            raise
        self.protocols[number] = "HTTP/2" if http2 else "HTTP/1.1"
        talk = Http2(wire, self._desk, self._max_streams) if http2 else Http1(wire, self._desk)
        with contextlib.suppress(OSError, EOFError, ValueError):
            try:
                await talk.serve()
            finally:
                wire.end("reset" if asyncio.current_task().cancelling() else "fin")  # type: ignore[union-attr]

    async def _open_wire(self, client: socket.socket, number: int) -> tuple[Wire, bool]:
        """The connection, and whether it speaks HTTP/2."""
        looks = self._protocol == "any" and self._tls is None
        http2 = self._protocol == "h2" or (looks and await begins_http2(client))
        wire = await Wire.open(client, self._tls, ALPN[self._protocol], number)
        return wire, http2 or (self._protocol == "any" and wire.negotiated == "h2")

    def _read_plan(self, plan: Plan) -> Script:
        return Script(plan, http2=self._protocol != "http/1.1")

    def _step_for(self, received: Received) -> Step:
        try:
            return self._script.next(received)
        except Exception as fault:  # noqa: BLE001 - the plan is the test's own: raised where the test sees it
            self._fault = self._fault or fault
            return Break("request", "reset")

    async def _note(self, received: Received) -> None:
        async with self._progress:
            self.requests.append(received)
            self._progress.notify_all()
