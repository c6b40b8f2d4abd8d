"""What a `MisbehavingOrigin` says over HTTP/2: frames, within the windows of its client (RFC 9113).

hyper-h2 keeps the state of the protocol, with two exceptions, since it takes the first GOAWAY for the end: ours go out
behind its back, and a client's is forgotten, so that what was under way can be finished (section 6.8).
"""

from __future__ import annotations

import asyncio

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, RemoteSettingsChanged, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from holdfast.testing.steps import Fields, Whole
from holdfast.testing.wire import LONGEST_LINE, Wire

NEVER_REACHED = 2**31 - 1


class Speaker:
    """One connection's side of the talk; what concerns a stream raises ProtocolError once that is closed."""

    def __init__(self, wire: Wire, max_streams: int | None) -> None:
        self._wire = wire
        self._core = H2Connection(H2Configuration(client_side=False, validate_outbound_headers=False))
        self._core.local_settings = _settings(max_streams)
        self._core.decoder.max_header_list_size = LONGEST_LINE
        self._moved = asyncio.Event()

    def greet(self) -> None:
        """Send our SETTINGS. That streams are not too many is for the caller to see to: hyper-h2 would hang up."""
        self._core.initiate_connection()
        self._core.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = NEVER_REACHED
        self._core.local_settings.acknowledge()
        self.push()

    def hear(self, data: bytes) -> list[Event]:
        """What the client's bytes mean; raises ProtocolError when it broke the rules, and answers by a GOAWAY."""
        try:
            events = self._core.receive_data(data)
        except ProtocolError as violation:
            said = self._core.data_to_send()  # nothing, where it was no HTTP/2 at all
            self._wire.push(said or GoAwayFrame(0, 0, violation.error_code).serialize())
            raise
        for event in events:
            if isinstance(event, WindowUpdated | RemoteSettingsChanged):
                self._moved.set()
            elif isinstance(event, ConnectionTerminated):
                self._core.state_machine.state = ConnectionState.SERVER_OPEN
        return events

    def consume(self, stream: int, size: int) -> None:
        """Open the windows again by as much as has been read."""
        self._core.acknowledge_received_data(size, stream)

    def push(self) -> None:
        """Send what there is to send, without waiting for the client to read."""
        self._wire.push(self._core.data_to_send())

    async def fields(self, stream: int, fields: Fields, *, last: bool = False) -> None:
        """A block of fields."""
        self._core.send_headers(stream, _encoded(fields), end_stream=last)
        await self._flush()

    async def half_header(self, stream: int, fields: Fields) -> None:
        """Half the bytes of such a block; after that nothing can be said any more."""
        await self._flush()
        self._core.send_headers(stream, _encoded(fields))
        data = self._core.data_to_send()
        await self._wire.send(data[: len(data) // 2])
        self._wire.muted = True

    async def data(self, stream: int, data: bytes, *, last: bool = False) -> None:
        """A piece of the body, as fast as the windows of the stream and the connection allow."""
        rest = memoryview(data)
        while rest:
            room = min(self._core.local_flow_control_window(stream), self._core.max_outbound_frame_size)
            if room <= 0:
                self._moved.clear()
                await self._moved.wait()
                continue
            self._core.send_data(stream, bytes(rest[:room]), end_stream=last and len(rest) <= room)
            rest = rest[room:]
            await self._flush()

    async def answer(self, stream: int, answer: Whole, *, bodiless: bool) -> None:
        """The whole of it, at its pace."""
        await asyncio.sleep(answer.delay)
        for fields in answer.informational():
            await self.fields(stream, fields)
        parts = [] if bodiless else answer.parts()
        trailers = [] if bodiless else answer.closing()
        await self.fields(stream, answer.opening(), last=not parts and not trailers)
        for number, part in enumerate(parts, start=1):
            await asyncio.sleep(answer.pace)
            await self.data(stream, part, last=number == len(parts) and not trailers)
        if trailers:
            await self.fields(stream, trailers, last=True)

    async def begin(self, stream: int, answer: Whole, when: str) -> None:
        """As much of it as is there by then."""
        if when == "half-header":
            await self.half_header(stream, answer.opening())
        if when in {"header", "body"}:
            await self.fields(stream, answer.opening())
        if when == "body":
            body = b"".join(answer.parts())
            await self.data(stream, body[: len(body) // 2])

    async def reset(self, stream: int, code: int) -> None:
        """RST_STREAM."""
        self._core.reset_stream(stream, code)
        await self._flush()

    async def goaway(self, last: int, code: int = ErrorCodes.NO_ERROR, data: bytes = b"") -> None:
        """GOAWAY, after which the streams up to `last` can still be answered."""
        self.push()
        await self._wire.send(GoAwayFrame(0, last, code, data).serialize())

    async def _flush(self) -> None:
        await self._wire.send(self._core.data_to_send())


def _settings(max_streams: int | None) -> Settings:
    settings = {SettingCodes.MAX_HEADER_LIST_SIZE: LONGEST_LINE}
    if max_streams is not None:
        settings[SettingCodes.MAX_CONCURRENT_STREAMS] = max_streams
    return Settings(client=False, initial_values=settings)


def _encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
