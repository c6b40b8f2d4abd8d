"""A client and an origin that run inside a gateway's own event loop, whenever that would otherwise wait.

So that what the gateway does for one request can be counted exactly: it gets the next request when it has finished
with the one before, the same bytes each time, and nothing of this file is counted.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

SHORT = 0.001  # seconds, to wait for threads that the gateway has given work
PATIENCE = 20.0  # seconds for one answer
WARM_UP = 20
type Tracer = Callable[[FrameType, str, object], None]
type Callers = Counter[str]


class DriverError(Exception):
    """The gateway did not answer, or not as it should have."""


@dataclass
class Series:
    """The same request again and again, and the calls that each of them took. `request` and `answer` are raw HTTP/1.1.

    The first of them warm up, and are not noted."""

    name: str
    request: bytes
    answer: bytes  # of the origin
    status: int
    having: bytes = b""  # what stands in every answer of the gateway, lower case
    times: int = 40
    rest: float = 0.0  # seconds between two, for what goes on after an answer
    calls: list[int] = field(default_factory=list)
    callers: Callers = field(default_factory=Counter)  # of all of them together


class Driver(selectors.DefaultSelector):
    """The selector of the gateway's loop. `done` is called once all series have been sent."""

    def __init__(
        self,
        port: int,
        origin: socket.socket,
        series: list[Series],
        done: Callable[[], None],
        count: Callable[[Callers], Tracer],
    ) -> None:
        super().__init__()
        self._callers: Callers = Counter()
        self._trace = count(self._callers)
        origin.setblocking(False)
        self._port = port
        self._origin = origin
        self._upstream: list[socket.socket] = []
        self._client: socket.socket | None = None
        self._steps = self._play(series, done)
        self._answer = b""
        self._received = b""
        self._counting = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; where there is nothing, the client and the origin go on first."""
        sys.setprofile(None)
        try:
            ready = super().select(0)
            if ready or (timeout is not None and timeout <= 0):
                return ready
            until = time.monotonic() + (PATIENCE if timeout is None else timeout)
            while not ready and time.monotonic() < until:
                next(self._steps, None)
                self._serve()
                ready = super().select(SHORT)
            return ready
        finally:
            if self._counting:
                sys.setprofile(self._trace)

    # -- the client -------------------------------------------------------------------------------------------------

    def _play(self, series: list[Series], done: Callable[[], None]) -> Iterator[None]:
        while not self._connect():
            yield
        for one in series:
            self._answer = one.answer
            for number in range(WARM_UP + one.times):
                self._callers.clear()
                self._counting = True
                yield from self._ask(one, one.having if number >= WARM_UP else b"")
                self._counting = False
                if number >= WARM_UP:
                    one.calls.append(self._callers.total())
                    one.callers.update(self._callers)
                rested = time.monotonic() + one.rest
                while time.monotonic() < rested:
                    yield
        done()

    def _connect(self) -> bool:
        with contextlib.suppress(OSError):
            self._client = socket.create_connection(("127.0.0.1", self._port), 1)
            self._client.setblocking(False)
        return self._client is not None

    def _ask(self, one: Series, having: bytes) -> Iterator[None]:
        assert self._client
        self._client.sendall(one.request)
        self._received = b""
        late = time.monotonic() + PATIENCE
        while not self._is_whole():
            yield
            with contextlib.suppress(BlockingIOError):
                got = self._client.recv(1 << 16)
                if not got:
                    raise DriverError(f"{one.name}: the gateway closed the connection")
                self._received += got
            if time.monotonic() > late:
                raise DriverError(f"{one.name}: no answer within {PATIENCE:g} s")
        head = self._received.partition(b"\r\n\r\n")[0].lower()
        if not head.startswith(b"http/1.1 %d " % one.status) or having not in head:
            raise DriverError(f"{one.name}: not the answer that was expected: {self._received!r}")

    def _is_whole(self) -> bool:
        head, gap, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return bool(gap) and len(body) >= int(length or 0)

    # -- the origin -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        with contextlib.suppress(BlockingIOError):
            fresh, _ = self._origin.accept()
            fresh.setblocking(False)
            self._upstream.append(fresh)
        for connection in list(self._upstream):
            with contextlib.suppress(BlockingIOError):
                if connection.recv(1 << 16):  # a request is small, and there is never more than one
                    connection.sendall(self._answer)
                else:
                    connection.close()
                    self._upstream.remove(connection)


def in_all(callers: Callers) -> Tracer:
    """Counts calls, of Python and of C."""

    def call(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            callers[""] += 1

    return call


def by_function(callers: Callers) -> Tracer:
    """The same by the Python function that was called, or that has called C: slower, and for people."""

    def call(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            place = frame.f_code.co_filename.rpartition("site-packages/")[2].rpartition("/addons/")[2]
            callers[f"{place}:{frame.f_code.co_qualname}"] += 1

    return call
