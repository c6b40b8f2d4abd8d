"""An HTTP/2 client that sends any frames whatever, and writes down what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder

from tests.e2e import raw

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
Fields = list[tuple[str, str]]
REQUEST: Fields = [(":method", "GET"), (":scheme", "http"), (":authority", "h.test"), (":path", "/")]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(fields: Fields) -> bytes:
    """Header fields as HPACK writes them without a memory, whatever is in them."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode([(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields], huffman=False)


def headers(fields: Fields, stream: int = 1, *, end: bool = True) -> bytes:
    """A request's header, and with `end` the whole request."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


def request(stream: int = 1, **changes: str) -> bytes:
    """A whole request that is in order but for `changes` of its pseudo fields."""
    named = dict(REQUEST) | {f":{name}": value for name, value in changes.items()}
    return headers(list(named.items()), stream)


def data(payload: bytes, stream: int = 1, *, end: bool = True) -> bytes:
    """A piece of a body."""
    return frame(DATA, END_STREAM if end else 0, stream, payload)


@dataclass
class Heard:
    """What came back: statuses and resets by stream, the fields of answers, the code of the first GOAWAY."""

    statuses: dict[int, int] = field(default_factory=dict)
    fields: dict[int, dict[str, str]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    resets: dict[int, str] = field(default_factory=dict)
    goaway: str = ""
    over: bool = False
    pings: int = 0


class FrameClient(raw.RawClient):
    """One connection with prior knowledge, the preface and an empty SETTINGS sent."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.heard = Heard()
        self._decoder = Decoder()

    async def begin(self, settings: bytes = b"") -> None:
        """Say what a client says first."""
        await self.send(PREFACE + frame(SETTINGS, payload=settings))

    async def until(self, stream: int, within: float = 5.0) -> Heard:
        """Read until this stream has its answer or a reset, or the connection is over; TimeoutError."""
        async with asyncio.timeout(within):
            while not self.heard.over and stream not in self.heard.resets and not self._ended.get(stream):
                await self._read()
        return self.heard

    async def end(self, within: float = 5.0) -> Heard:
        """Read to the end of the connection; TimeoutError."""
        async with asyncio.timeout(within):
            while not self.heard.over:
                await self._read()
        return self.heard

    async def is_served(self, stream: int = 99) -> bool:
        """Whether another request on this connection is answered with 200."""
        await self.send(request(stream, path="/next"))
        with contextlib.suppress(TimeoutError):
            await self.until(stream)
        return self.heard.statuses.get(stream) == 200

    _ended: dict[int, bool]

    async def __aenter__(self) -> FrameClient:
        self._ended = {}
        await super().__aenter__()
        return self

    async def _read(self) -> None:
        try:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.heard.over = True
            return
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
        if kind == HEADERS:
            fields = {str(n): str(v) for n, v in self._decoder.decode(payload)}
            self.heard.fields.setdefault(stream, fields)
            self.heard.statuses.setdefault(stream, int(fields.get(":status", "0")))
        elif kind == DATA:
            self.heard.bodies[stream] = self.heard.bodies.get(stream, b"") + payload
        elif kind == RST_STREAM:
            self.heard.resets[stream] = ErrorCodes(int.from_bytes(payload)).name
        elif kind == GOAWAY:
            self.heard.goaway = self.heard.goaway or ErrorCodes(int.from_bytes(payload[4:8])).name
        elif kind == PING and flags & ACK:
            self.heard.pings += 1
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self._ended[stream] = True
