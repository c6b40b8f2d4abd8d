"""An HTTP/1.1 client on one raw connection: it hides nothing, repairs nothing and never reconnects by itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.e2e.harness import PROBLEM

LONGEST_LINE = 8 * 1024 * 1024
PATIENCE = 15.0
"""Seconds after which an answer that does not come fails the test."""


@dataclass
class Answer:
    """What came back, header fields in their order."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """Every value of a header field."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The only value of a header field, or None; more than one is a fault."""
        values = self.all(name)
        assert len(values) < 2, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def capture_id(self) -> str | None:
        """The id in the header, which the problem document must repeat."""
        identifier = self.header("holdfast-capture-id")
        if identifier is not None:
            assert self.header("content-type") == PROBLEM
            assert self.json()["capture_id"] == identifier
        return identifier


class RawClient:
    """One connection. Leaving the block closes it with a reset, whatever is under way."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.port = port
        self._receive_buffer = receive_buffer
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        connection = socket.socket()
        connection.setblocking(False)
        if self._receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        limit = 4096 if self._receive_buffer is not None else LONGEST_LINE
        self.reader, self.writer = await asyncio.open_connection(sock=connection, limit=limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Be gone at once, with a reset."""
        if not self.writer.is_closing():
            connection = self.writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()

    def finish(self) -> None:
        """Say that nothing more will be sent, if the connection is still there to say it on."""
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.writer.write(data)
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()

    async def request(
        self, method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Answer:
        """One exchange on this connection."""
        await self.send(head(method, target, headers, len(body) if body or method in ("POST", "PUT") else None) + body)
        return await self.answer(bodiless=method == "HEAD")

    async def answer(self, *, bodiless: bool = False, within: float = PATIENCE) -> Answer:
        """The next final answer; EOFError if the connection ends instead, TimeoutError if nothing comes."""
        async with asyncio.timeout(within):
            answer = await self.answer_head()
            while 100 <= answer.status < 200 and answer.status != 101:
                answer = await self.answer_head()
            if not bodiless and answer.status not in (204, 304):
                answer.body = await self._body(answer)
        return answer

    async def answer_head(self) -> Answer:
        """The next status line and header fields."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        version, status, *_ = first.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), first
        return Answer(int(status), [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)])

    async def _body(self, answer: Answer) -> bytes:
        if (answer.header("transfer-encoding") or "").lower() == "chunked":
            body = b""
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readuntil(b"\r\n")
            return body
        length = answer.header("content-length")
        return await (self.reader.read(-1) if length is None else self.reader.readexactly(int(length)))

    async def is_kept(self) -> bool:
        """Whether the connection is still open, as far as one can see within a moment; bytes nobody asked for fail."""
        try:
            async with asyncio.timeout(0.05):
                unasked = await self.reader.read(1000)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        assert not unasked, f"bytes after the answer: {unasked!r}"
        return False

    async def ends(self, within: float = PATIENCE) -> bytes:
        """All that still comes until the gateway closes; TimeoutError if it does not."""
        pieces = []
        async with asyncio.timeout(within):
            try:
                while piece := await self.reader.read(65536):
                    pieces.append(piece)
            except ConnectionError:
                pass  # a reset is an end as well
        return b"".join(pieces)


def head(method: str, target: str, headers: Sequence[tuple[str, str]] = (), length: int | None = None) -> bytes:
    """A request's first part, with a Host unless there is one, and a Content-Length if `length` is given."""
    host = [] if any(name.lower() == "host" for name, _ in headers) else ["Host: gateway.test"]
    lines = [f"{method} {target} HTTP/1.1", *host, *(f"{name}: {value}" for name, value in headers)]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def body_of(envelope: dict[str, Any]) -> bytes:
    """The body of a captured request as bytes."""
    if envelope["body_encoding"] == "base64":
        return base64.b64decode(envelope["body"], validate=True)
    assert envelope["body_encoding"] == "utf-8"
    return str(envelope["body"]).encode()
