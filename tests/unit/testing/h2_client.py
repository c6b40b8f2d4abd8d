"""A client of raw HTTP/2: what each stream got, what the connection got, and how it ended.

async with h2_client(origin) as client:
    stream = await client.ask("/a", body=b"x")
    assert (await client.answer(stream)).status == 200
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection

from holdfast.testing import MisbehavingOrigin

SOON = 0.3
"""How long silence has to last to be taken for a hang."""


@dataclass
class Seen:
    """What came on one stream."""

    interim: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", 0))


class H2Client:
    """One connection; whoever waits reads for all streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.core = H2Connection(H2Configuration(header_encoding="latin-1"))
        self.reader, self.writer = reader, writer
        self.streams: defaultdict[int, Seen] = defaultdict(Seen)
        self.events: list[events.Event] = []
        self.opens_windows = True
        self.ended = ""
        """`fin` or `reset`, once it is over."""
        self.tail = b""
        """What came last, whether it was HTTP/2 or not."""
        self.core.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.core.data_to_send())

    async def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: list[tuple[str, str]] | None = None,
        body: bytes | None = None,
        trailers: list[tuple[str, str]] | None = None,
        end: bool = True,
    ) -> int:
        """Begin a request, and end it unless told otherwise."""
        stream = self.core.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "h.test"), (":path", path), *(headers or [])]
        self.core.send_headers(stream, head, end_stream=end and body is None and trailers is None)
        if body is not None:
            await self.upload(stream, body, end=end and trailers is None)
        if trailers is not None:
            self.core.send_headers(stream, trailers, end_stream=True)
        self.flush()
        return stream

    async def upload(self, stream: int, body: bytes, *, end: bool = True) -> None:
        """Send a body within the windows there are."""
        rest = memoryview(body)
        while rest:
            room = min(self.core.local_flow_control_window(stream), self.core.max_outbound_frame_size, len(rest))
            if not room:
                self.flush()
                assert await self.read(), "the connection ended in the middle of the body"
                continue
            self.core.send_data(stream, bytes(rest[:room]))
            rest = rest[room:]
        if end:
            self.core.end_stream(stream)
        self.flush()

    async def answer(self, stream: int, within: float = 5.0) -> Seen:
        """What the stream got by its end, which may be that of the connection."""
        seen = self.streams[stream]
        await self.until(lambda: seen.ended or seen.reset is not None, within)
        return seen

    async def until(self, condition: Callable[[], bool], within: float = 5.0) -> None:
        """Read until then, or to the end of the connection; raises TimeoutError."""
        async with asyncio.timeout(within):
            while not condition() and await self.read():
                pass

    async def outcome(self, within: float = SOON) -> str:
        """How the connection ends: fin, reset or hang."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: False, within)
        return self.ended or "hang"

    async def answers_pings(self) -> bool:
        """Whether it does within a moment; what was sent before has then arrived."""
        answered = sum(isinstance(event, events.PingAckReceived) for event in self.events)
        self.core.ping(b"are you?")
        self.flush()

        def again() -> bool:
            return sum(isinstance(event, events.PingAckReceived) for event in self.events) > answered

        with contextlib.suppress(TimeoutError):
            await self.until(again, SOON)
        return again()

    def goaways(self) -> list[tuple[int, int, bytes]]:
        """(last stream, code, debug data) of each that came."""
        found = [e for e in self.events if isinstance(e, events.ConnectionTerminated)]
        return [(e.last_stream_id or 0, int(e.error_code or 0), e.additional_data or b"") for e in found]

    async def read(self) -> bool:
        """Take one piece off the wire; false at the end."""
        try:
            self.tail = await self.reader.read(65536)
        except ConnectionError:
            self.ended = "reset"
            return False
        if not self.tail:
            self.ended = "fin"
            return False
        for event in self.core.receive_data(self.tail):
            self._on(event)
        self.flush()
        return True

    def _on(self, event: events.Event) -> None:
        self.events.append(event)
        seen = self.streams[getattr(event, "stream_id", None) or 0]
        match event:
            case events.InformationalResponseReceived():
                seen.interim.append(dict(event.headers))
            case events.ResponseReceived():
                seen.headers = dict(event.headers)
            case events.DataReceived():
                seen.body += event.data
                if self.opens_windows:
                    self.core.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.TrailersReceived():
                seen.trailers = list(event.headers)
            case events.StreamReset():
                seen.reset = int(event.error_code)
            case events.StreamEnded():
                seen.ended = True
            case events.ConnectionTerminated():
                self.core.state_machine.state = ConnectionState.CLIENT_OPEN  # what is under way may be finished


@contextlib.asynccontextmanager
async def h2_client(origin: MisbehavingOrigin, tls: ssl.SSLContext | None = None) -> AsyncIterator[H2Client]:
    """A connection to the origin."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port, ssl=tls)
    try:
        yield H2Client(reader, writer)
    finally:
        writer.transport.abort()


def trusting_anybody(*alpn: str) -> ssl.SSLContext:
    """A client context that looks at no certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
