"""shortcut: bytes of a client are answered as they come in, only while nothing else is under way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.engine.pacing import AT_ONCE
from holdfast.engine.shortcut import Shortcut, shorten

KNOWN = b"GET /a HTTP/1.1\r\n\r\n"
OTHER = b"GET /b HTTP/1.1\r\n\r\n"


class Lane:
    """Knows one header by heart."""

    def __init__(self, answer: bytes = b"A") -> None:
        self.answers = answer
        self.asked: list[tuple[bytes, bool]] = []

    def answer(self, head: bytes, *, tls: bool) -> list[bytes] | None:
        """For the one."""
        self.asked.append((head, tls))
        return [self.answers, b"!"] if head == KNOWN else None

    def join(self, client_id: str, shortcut: Shortcut) -> None:
        """Nothing."""


class Peer:
    """A client."""

    id = "c"


class Rig:
    """A connection whose bytes come by `feed`; `out` is what went to the client, `read()` what mitmproxy gets."""

    def __init__(self, *, tls: bool = False, answer: bytes = b"A") -> None:
        self.lane = Lane(answer)
        self.out: list[bytes] = []
        self.unsent = 0
        self.idle = True
        self.activity = 0
        self.reader = asyncio.StreamReader()
        transport = SimpleNamespace(
            writelines=self.out.extend, get_write_buffer_size=lambda: self.unsent, is_closing=lambda: True
        )
        writer = asyncio.StreamWriter.__new__(asyncio.StreamWriter)
        writer._transport = transport  # type: ignore[attr-defined]
        client = Peer()
        io = SimpleNamespace(reader=self.reader, writer=writer)
        watchdog = SimpleNamespace(register_activity=self._active)
        self.handler: Any = SimpleNamespace(transports={client: io}, client=client, timeout_watchdog=watchdog)
        self.layer: Any = SimpleNamespace(is_between_requests=lambda: self.idle, request_head=b"", shortcut=None)
        shorten(self.lane, self.handler, self.layer, tls=tls)
        self.read: asyncio.Task[bytes]

    async def waiting(self) -> None:
        """mitmproxy waits for bytes."""
        self.read = asyncio.create_task(self.reader.read(1 << 20))
        await asyncio.sleep(0)

    async def got(self) -> bytes:
        """What mitmproxy has been given; nothing if it still waits."""
        await asyncio.sleep(0)
        return self.read.result() if self.read.done() else b""

    def _active(self) -> None:
        self.activity += 1


@pytest.fixture
async def rig() -> Rig:
    """Without TLS, between requests, mitmproxy waiting."""
    made = Rig()
    await made.waiting()
    return made


@pytest.mark.parametrize(
    ("data", "out", "rest"),
    [
        (KNOWN, b"A!", b""),
        (KNOWN * 3, b"A!A!A!", b""),
        (OTHER, b"", OTHER),
        (KNOWN + OTHER, b"A!", OTHER),
        (KNOWN + OTHER + KNOWN, b"A!", OTHER + KNOWN),
        (KNOWN + KNOWN[:-1], b"A!", KNOWN[:-1]),
        (KNOWN[:5], b"", KNOWN[:5]),
        (b"\r\n" + KNOWN, b"", b"\r\n" + KNOWN),
        (b"\r\n\r\n" + KNOWN, b"", b"\r\n\r\n" + KNOWN),
        (b"\r\n\r\n", b"", b"\r\n\r\n"),
        (KNOWN.replace(b"\r", b""), b"", KNOWN.replace(b"\r", b"")),
    ],
)
async def test_what_bytes_begin_with_is_answered_and_the_rest_goes_on(
    rig: Rig, data: bytes, out: bytes, rest: bytes
) -> None:
    """In order: nothing behind a request that goes the ordinary way is answered before it."""
    rig.reader.feed_data(data)
    assert b"".join(rig.out) == out and await rig.got() == rest
    assert rig.activity == bool(out)


async def test_nothing_is_answered_while_something_is_under_way(rig: Rig) -> None:
    """A request, an answer that has not been sent, bytes that have not been read, a reader that is busy."""
    rig.idle = False
    rig.reader.feed_data(KNOWN)
    assert await rig.got() == KNOWN and rig.out == []
    rig.idle = True
    rig.reader.feed_data(KNOWN)  # nobody waits
    assert rig.out == []
    await rig.waiting()
    assert await rig.got() == KNOWN
    await rig.waiting()
    rig.unsent = 1
    rig.reader.feed_data(KNOWN)
    assert await rig.got() == KNOWN and rig.out == []
    rig.unsent = 0
    await rig.waiting()
    rig.reader.feed_data(KNOWN)
    assert await rig.got() == b"" and b"".join(rig.out) == b"A!"
    rig.read.cancel()


async def test_answers_to_one_piece_are_bounded() -> None:
    """The rest is answered as fast as it is taken."""
    rig = Rig(answer=bytes(AT_ONCE // 2))
    await rig.waiting()
    rig.reader.feed_data(KNOWN * 5)
    assert sum(map(len, rig.out)) < 2 * AT_ONCE and await rig.got() == KNOWN * 3


async def test_with_tls_bytes_are_offered_once_they_are_deciphered() -> None:
    """What comes from the socket is no request."""
    rig = Rig(tls=True)
    await rig.waiting()
    rig.reader.feed_data(KNOWN)
    assert await rig.got() == KNOWN and rig.lane.asked == []
    shortcut = rig.layer.shortcut
    assert shortcut.from_layer and shortcut.take(KNOWN + OTHER) == ([b"A", b"!"], OTHER)
    assert rig.lane.asked == [(KNOWN, True), (OTHER, True)] and shortcut.from_layer


async def test_without_a_lane_or_with_another_kind_of_reader_there_is_none() -> None:
    """QUIC, for example."""
    rig = Rig()
    for lane, handler in ((None, rig.handler), (rig.lane, None)):
        layer: Any = SimpleNamespace(shortcut=None)
        shorten(lane, handler, layer, tls=False)
        assert layer.shortcut is None
    rig.handler.transports[rig.handler.client].reader = object()
    layer = SimpleNamespace(shortcut=None)
    shorten(rig.lane, rig.handler, layer, tls=False)
    assert layer.shortcut is None


async def test_the_end_of_a_client_comes_behind_its_answer(rig: Rig) -> None:
    """It may finish in one piece with its last request."""
    rig.reader.feed_data(KNOWN)
    rig.reader.feed_eof()
    assert b"".join(rig.out) == b"A!" and await rig.got() == b"" and rig.read.done()
