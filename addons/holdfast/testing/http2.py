"""HTTP/2 for a `MisbehavingOrigin`: reads requests, and serves them side by side as the steps say (RFC 9113)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from holdfast.testing.grpc_steps import GrpcAnswer
from holdfast.testing.received import Received
from holdfast.testing.speaker import Speaker
from holdfast.testing.steps import Answer, Break, Garbage, GoAway, How, Stall, Step, StreamReset, Whole, is_early
from holdfast.testing.wire import MOMENT, PIECE, Desk, Wire

HIGHEST = 2**31 - 1
"""The highest number a stream can have."""


@dataclass(eq=False, slots=True)
class Stream:
    """One request and its answer."""

    number: int
    received: Received
    pieces: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answered: bool = False
    task: asyncio.Task[None] | None = None

    def store(self) -> None:
        """Put what has arrived of the body where the test finds it."""
        self.received.body = b"".join(self.pieces)

    def drop(self) -> None:
        """It was ended from outside."""
        self.store()
        if self.task is not None:
            self.task.cancel()


class Http2:
    """One connection with all its streams."""

    def __init__(self, wire: Wire, desk: Desk, max_streams: int | None) -> None:
        self._wire = wire
        self._desk = desk
        self._speaker = Speaker(wire, max_streams)
        self._max_streams = HIGHEST if max_streams is None else max_streams
        self._streams: dict[int, Stream] = {}
        self._seen = 0  # the highest stream that came
        self._last = HIGHEST  # the highest that is served, after a GOAWAY
        self._finishing = False  # close when nothing is under way
        self._deaf = False  # what still comes is read and forgotten

    async def serve(self) -> None:
        """Until a step ends the connection, or the client does."""
        self._speaker.greet()
        async with asyncio.TaskGroup() as group:
            try:
                await self._read(group)
            finally:
                for stream in self._streams.values():
                    stream.drop()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        with contextlib.suppress(OSError):
            while data := await self._wire.reader.read(PIECE):
                if self._deaf:
                    continue
                try:
                    heard = self._speaker.hear(data)
                except ProtocolError as violation:
                    self._desk.complain(f"connection {self._wire.number}: {violation}")
                    await self._leave()
                    continue
                for event in heard:
                    self._on(event, group)
                self._speaker.push()

    # --- what the client says ---

    def _on(self, event: events.Event, group: asyncio.TaskGroup) -> None:
        if isinstance(event, events.RequestReceived):
            self._on_request(event, group)
            return
        if isinstance(event, events.DataReceived):
            self._speaker.consume(event.stream_id, event.flow_controlled_length)
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        match event:
            case events.DataReceived():
                stream.pieces.append(event.data)
            case events.TrailersReceived():
                stream.received.trailers = _decoded(event.headers)
            case events.StreamEnded():
                stream.store()
                stream.received.complete = True
                stream.ended.set()
                self._tidy(stream)
            case events.StreamReset():
                stream.received.reset = int(event.error_code)
                stream.drop()
                self._streams.pop(stream.number)
                group.create_task(self._leave_if_finished())

    def _on_request(self, event: events.RequestReceived, group: asyncio.TaskGroup) -> None:
        number = event.stream_id
        received = _request(self._wire.number, number, event.headers)
        received.refused = number > self._last or len(self._streams) >= self._max_streams
        self._seen = max(self._seen, number)
        if received.refused:
            group.create_task(self._refuse(number, received))
            return
        stream = self._streams[number] = Stream(number, received)
        stream.task = group.create_task(self._exchange(stream))

    async def _refuse(self, number: int, received: Received) -> None:
        """One stream too many is refused (section 5.1.2), one after a GOAWAY ignored (section 6.8)."""
        await self._desk.note(received)
        if number <= self._last:
            with contextlib.suppress(OSError, ProtocolError):
                await self._speaker.reset(number, ErrorCodes.REFUSED_STREAM)

    # --- what the plan says ---

    async def _exchange(self, stream: Stream) -> None:
        with contextlib.suppress(OSError, ProtocolError):  # the client has left, or taken its request back
            received = stream.received
            await self._desk.note(received)
            step = self._desk.step_for(received)
            if not is_early(step):
                if received.header("expect").lower() == "100-continue":
                    await self._speaker.fields(stream.number, [(":status", "100")])
                await stream.ended.wait()
            await self._act(step, stream)
            await self._leave_if_finished()

    async def _act(self, step: Step, stream: Stream) -> None:
        match step:
            case Answer() | GrpcAnswer():
                await self._answer(stream, step)
            case Break():
                await self._speaker.begin(stream.number, step.answer, step.when)
                await self._break(step.how)
            case StreamReset():
                await self._reset(stream, step)
            case GoAway():
                await self._go_away(stream, step)
            case Garbage():
                self._speaker.push()
                await self._wire.send(step.data)
                await self._leave()
            case Stall():
                await self._speaker.begin(stream.number, step.answer, step.when)
                self._deaf = True
                self._wire.freeze()

    async def _answer(self, stream: Stream, answer: Whole) -> None:
        if answer.announce:
            await self._announce(stream, stream.number, ErrorCodes.NO_ERROR)
        await self._speaker.answer(stream.number, answer, bodiless=stream.received.method == "HEAD")
        self._settle(stream)
        if answer.hang_up:
            await self._leave()

    async def _break(self, how: How) -> None:
        if how == "reset":
            await asyncio.sleep(MOMENT)
            self._wire.end("reset")
        elif how == "fin":
            await self._leave()

    async def _reset(self, stream: Stream, step: StreamReset) -> None:
        if step.when == "end":
            bodiless = stream.received.method == "HEAD"
            await self._speaker.answer(stream.number, step.answer, bodiless=bodiless)
        else:
            await self._speaker.begin(stream.number, step.answer, step.when)
        stream.store()
        self._streams.pop(stream.number, None)
        await self._speaker.reset(stream.number, step.code)

    async def _go_away(self, stream: Stream, step: GoAway) -> None:
        last = {"this": stream.number, "before": max(0, stream.number - 2), "max": HIGHEST}[step.last_stream]
        await self._announce(stream, last, step.code, step.data, finish=step.then == "finish")
        if step.then == "close":
            await self._leave()
        elif step.last_stream != "before":
            await self._answer(stream, step.answer)

    async def _announce(self, asking: Stream, last: int, code: int, data: bytes = b"", *, finish: bool = True) -> None:
        """Send a GOAWAY, and forget the streams above `last`."""
        self._last = min(self._last, last)
        await self._speaker.goaway(last, code, data)
        for stream in [stream for number, stream in self._streams.items() if number > self._last]:
            self._streams.pop(stream.number)
            if stream is not asking:
                stream.drop()
        self._finishing = self._finishing or finish

    # --- ends ---

    def _settle(self, stream: Stream) -> None:
        stream.answered = True
        self._tidy(stream)

    def _tidy(self, stream: Stream) -> None:
        if stream.answered and stream.received.complete:
            self._streams.pop(stream.number, None)

    async def _leave_if_finished(self) -> None:
        if not self._finishing or any(not stream.answered for stream in self._streams.values()):
            return
        self._finishing = False
        with contextlib.suppress(OSError):
            if self._last == HIGHEST:
                await self._speaker.goaway(self._seen)
            await self._leave()

    async def _leave(self) -> None:
        """Close without another word."""
        self._speaker.push()
        with contextlib.suppress(OSError):
            await self._wire.send(b"")
        self._deaf = True
        self._wire.bow_out()


def _request(connection: int, stream: int, block: list[tuple[bytes, bytes]]) -> Received:
    fields = _decoded(block)
    pseudo = {name: value for name, value in fields if name.startswith(":")}
    headers = [(name, value) for name, value in fields if not name.startswith(":")]
    authority = pseudo.get(":authority")
    if authority is not None and not any(name == "host" for name, _ in headers):
        headers.insert(0, ("host", authority))
    target = pseudo.get(":path") or authority or ""
    return Received(connection, pseudo[":method"], target, headers, at=time.time(), protocol="HTTP/2", stream=stream)


def _decoded(block: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in block]
