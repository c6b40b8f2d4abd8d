"""A worker's end of its line: asks the other workers, answers them, and learns whether it leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count

import msgspec
from mitmproxy.utils import asyncio_utils
from msgspec import Raw

from holdfast.errors import StoreUnavailable
from holdfast.workers.crew import Place
from holdfast.workers.wire import NIL, Answers, Ask, Frames, Hello, Lead, Message, Reply, Said, framed, raw

logger = logging.getLogger(__name__)
_PIECE = 1 << 16

Answering = Callable[[Raw], Awaitable[object]]


class Worker:
    """`count` workers there are, and this is `number`, from 1 on. `leading` is set once it leads, for good.

    All of it belongs to the event loop.
    """

    def __init__(self, place: Place) -> None:
        self.number = place.number
        self.count = place.count
        self.admin = place.admin
        self.leading = asyncio.Event()
        self.orphaned = asyncio.Event()  # the parent has gone
        self._place = place
        self._writer: asyncio.StreamWriter | None = None
        self._answering: dict[str, Answering] = {}
        self._open: dict[int, asyncio.Future[list[Said]]] = {}
        self._ids = count(1)

    # -- for whoever has siblings -----------------------------------------------------------------------------------

    def answer(self, kind: str, function: Answering) -> None:
        """From now on this is what answers questions of the kind; what it raises is told as a text."""
        self._answering[kind] = function

    async def ask(self, kind: str, payload: object = None) -> list[Said]:
        """What all others say, in no order; those that do not answer say so within a few seconds."""
        if self._writer is None or self.orphaned.is_set():
            return []  # it has just begun, and has nothing that they would not have; or it ends
        number = next(self._ids)
        answered: asyncio.Future[list[Said]] = asyncio.get_running_loop().create_future()
        self._open[number] = answered
        self.say(Ask(number, kind, raw(payload)))
        try:
            return await answered
        finally:
            del self._open[number]

    async def tell(self, kind: str, payload: object) -> None:
        """Have all others do it. StoreUnavailable, naming them, if some did not say that they have."""
        said = await self.ask(kind, payload)
        if failed := [f"worker {each.worker}: {each.error}" for each in said if each.error]:
            raise StoreUnavailable("; ".join(failed))

    def say(self, message: Message) -> None:
        """To the parent."""
        if self._writer:
            self._writer.write(framed(message))

    # -- the line ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the parent has gone."""
        reader, self._writer = await asyncio.open_connection(sock=self._place.line)
        self.say(Hello())
        frames = Frames()
        try:
            while data := await reader.read(_PIECE):
                for message in frames.feed(data):
                    self._heard(message)
        except ConnectionError:
            pass
        self.orphaned.set()
        for each in self._open.values():
            if not each.done():
                each.set_result([])

    def _heard(self, message: Message) -> None:
        match message:
            case Lead():
                self.leading.set()
            case Answers() if message.id in self._open:
                if not self._open[message.id].done():
                    self._open[message.id].set_result(message.said)
            case Ask():
                asyncio_utils.create_task(self._reply(message), name=f"answer {message.kind}", keep_ref=True)

    async def _reply(self, ask: Ask) -> None:
        function = self._answering.get(ask.kind)
        try:
            found = NIL if function is None else raw(await function(ask.payload))
        except Exception as error:  # whoever asks is told, and the line must live
            if not isinstance(error, ValueError | StoreUnavailable):
                logger.exception("a question of another worker failed")
            self.say(Reply(ask.id, NIL, str(error) or type(error).__name__))
        else:
            self.say(Reply(ask.id, found))


def understood[T](said: Said, kind: type[T]) -> T | None:
    """What it has answered; None where it has not."""
    return None if said.error or said.payload == NIL else msgspec.msgpack.decode(said.payload, type=kind)
