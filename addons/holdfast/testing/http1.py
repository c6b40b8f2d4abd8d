"""HTTP/1.1 for a `MisbehavingOrigin`: reads a request, does what the step says, ends as it was told."""

from __future__ import annotations

import asyncio
import time

from holdfast.testing.received import Received
from holdfast.testing.steps import Answer, Break, Garbage, How, Stall, Step, begun, is_early
from holdfast.testing.wire import MOMENT, PIECE, Desk, Wire


class Http1:
    """One connection, request after request."""

    def __init__(self, wire: Wire, desk: Desk) -> None:
        self._wire = wire
        self._desk = desk
        self._reader = wire.reader

    async def serve(self) -> None:
        """Until a step ends the connection, or the client does: that is an OSError, EOFError or ValueError."""
        while await self._exchange():
            pass

    async def _exchange(self) -> bool:
        """One request and what the plan has for it; true if the connection is good for another."""
        try:
            received = await self._read_head()
        except asyncio.IncompleteReadError as cut:
            if cut.partial:
                await self._desk.note(Received(self._wire.number, body=cut.partial, at=time.time()))
            raise
        await self._desk.note(received)
        step = self._desk.step_for(received)
        if not is_early(step):
            await self._read_body(received)
        kept = await self._act(step, received)
        if kept and not received.complete:
            await self._read_body(received)
        return kept

    async def _read_head(self) -> Received:
        """The next request's first part; raises EOFError when the client has left."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, target, version = first.split(" ", 2)
        return Received(self._wire.number, method, target, _fields(lines), at=time.time(), protocol=version)

    async def _read_body(self, received: Received) -> None:
        """Read on into `received`, which holds what has arrived also when the rest never comes."""
        if received.header("expect").lower() == "100-continue":
            await self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in received.header("transfer-encoding").lower():
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                await self._read_exactly(received, size)
                await self._reader.readexactly(2)
            await self._read_trailers(received)
        else:
            await self._read_exactly(received, int(received.header("content-length", "0")))
        received.complete = True

    async def _read_trailers(self, received: Received) -> None:
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            lines.append(line.decode("latin-1"))
        received.trailers = _fields(lines)

    async def _read_exactly(self, received: Received, size: int) -> None:
        pieces = [received.body]
        try:
            while size:
                piece = await self._reader.read(min(size, PIECE))
                if not piece:
                    raise EOFError("the client left in the middle of its request")
                size -= len(piece)
                pieces.append(piece)
        finally:
            received.body = b"".join(pieces)

    async def _act(self, step: Step, received: Received) -> bool:
        """Do what the step says; true if the connection is kept."""
        match step:
            case Answer():
                await self._answer(step, bodiless=received.method == "HEAD")
                return not (step.hang_up or step.announce)
            case Break():
                await self._wire.send(step.sent())
                await self._break(step.how)
            case Garbage():
                await self._wire.send(step.data)
            case Stall():
                await self._wire.send(begun(step.answer, step.when))
                self._wire.freeze()
                await asyncio.Event().wait()
            case _:
                raise AssertionError(f"{step!r} should have been refused")
        return False

    async def _answer(self, step: Answer, *, bodiless: bool) -> None:
        await asyncio.sleep(step.delay)
        await self._wire.send(step.interim)
        await self._wire.send(step.head())
        if bodiless:
            return
        for piece in step.body_pieces():
            await asyncio.sleep(step.pace)
            await self._wire.send(piece)

    async def _break(self, how: How) -> None:
        if how == "hang":
            await self._wire.hang()
        elif how == "reset":
            await asyncio.sleep(MOMENT)
        self._wire.end(how)


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
