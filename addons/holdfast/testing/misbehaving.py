"""An HTTP/1.1 server on raw sockets that does wrong exactly what a test tells it to, plaintext or TLS.

    async with MisbehavingOrigin([Break("request", "reset"), Answer(body=b"second try")]) as origin:
        ...                                       # point a gateway at origin.url
        assert len(origin.requests) == 2

What concerns the listening socket is a context manager of its own: `refusing()` and `full_backlog()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from holdfast.testing.certificate import Certificate
from holdfast.testing.connection import Connection, break_socket
from holdfast.testing.steps import Answer, Plan, Received, Script

OK = Answer()


class MisbehavingOrigin:
    """Serves a plan; `requests` holds what arrived, `connections` how many were accepted.

    `tls` is the certificate to serve with (see `self_signed`), or None for plaintext. Setting `plan` again starts it
    from its first step.
    """

    def __init__(self, plan: Plan = OK, *, tls: Certificate | None = None, port: int = 0) -> None:
        self.port = port
        self.requests: list[Received] = []
        self.connections = 0
        self._script = Script(plan)
        self._tls = tls
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Condition()

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
        self._script = Script(plan)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, backlog: int = 128) -> None:
        """Listen; with port 0 the system chooses once, and a restart keeps the choice."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=backlog)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        if backlog:
            self._accepting = asyncio.create_task(self._accept(listener))

    async def stop(self) -> None:
        """Close the listening socket and reset every connection."""
        await self._close_listener()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

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
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

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
            connection = await Connection.open(client, self._tls, number)
        except (OSError, EOFError):
            client.close()  # the client did not like our certificate, or left
            return
        with contextlib.suppress(OSError, EOFError, ValueError):
            try:
                while await self._exchange(connection):
                    pass
            finally:
                connection.end("reset" if asyncio.current_task().cancelling() else "fin")  # type: ignore[union-attr]

    async def _exchange(self, connection: Connection) -> bool:
        """One request and what the plan has for it; true if the connection is good for another."""
        try:
            received = await connection.read_head()
        except asyncio.IncompleteReadError as cut:
            if cut.partial:
                await self._note(Received(connection.number, body=cut.partial, at=time.time()))
            raise
        await self._note(received)
        step = self._script.next(received)
        if not (isinstance(step, Answer) and step.early):
            await connection.read_body(received)
        kept = await connection.act(step, received)
        if kept and not received.complete:
            await connection.read_body(received)
        return kept

    async def _note(self, received: Received) -> None:
        async with self._progress:
            self.requests.append(received)
            self._progress.notify_all()
