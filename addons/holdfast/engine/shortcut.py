"""Requests that are answered as they arrive, before mitmproxy's layers hear of them.

A client without TLS is answered where its bytes come in, before the task that reads them is woken; one with TLS once
they are deciphered. Only while nothing else is under way on the connection: all other bytes go on as they came.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from mitmproxy.proxy.server import ConnectionHandler

from holdfast.engine.pacing import AT_ONCE

if TYPE_CHECKING:
    from holdfast.engine.http_layer import ResilientLayer

logger = logging.getLogger(__name__)
_END = b"\r\n\r\n"


class Answering(Protocol):
    """Who knows answers by heart."""

    def answer(self, head: bytes, *, tls: bool) -> list[bytes] | None:
        """What goes out for a request with this header; None: it has to go the ordinary way."""

    def join(self, client_id: str, shortcut: Shortcut) -> None:
        """A new client's shortcut. It is kept by the connection."""


class Shortcut:
    """Of one client connection. `from_layer`: its bytes are to be offered by the layer, not by the socket."""

    __slots__ = ("__weakref__", "_feed", "_lane", "_layer", "_reader", "_transport", "_watchdog", "from_layer", "tls")

    def __init__(self, lane: Answering, handler: ConnectionHandler, layer: ResilientLayer, *, tls: bool) -> None:
        io = handler.transports[handler.client]
        reader: Any = io.reader  # whose state has no public name
        assert isinstance(io.writer, asyncio.StreamWriter)
        self.tls = tls
        self.from_layer = True  # without TLS until the first bytes, which have brought the layer about, have passed it
        self._lane, self._layer = lane, layer
        self._reader = reader
        self._transport = io.writer.transport
        self._watchdog = handler.timeout_watchdog
        self._feed = reader.feed_data
        if not tls:
            reader.feed_data = self.feed
        layer.shortcut = self
        lane.join(handler.client.id, self)

    @property
    def head(self) -> bytes:
        """Of the request that is being answered."""
        return self._layer.request_head

    def feed(self, data: bytes) -> None:
        """In place of the reader's `feed_data`."""
        # Somebody waits for data, and there is none: whatever came before has been dealt with.
        if self._reader._waiter is not None and not self._reader._buffer:
            answers, data = self.take(data)
            if answers:
                self._watchdog.register_activity()
                if len(answers) == 1:
                    self._transport.write(answers[0])
                else:
                    self._transport.writelines(answers)
        if data:
            self._feed(data)

    def take(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The answers to the requests that these bytes begin with, and the rest."""
        self.from_layer = self.tls
        answers: list[bytes] = []
        if not self._layer.is_between_requests() or self._transport.get_write_buffer_size():
            return answers, data
        size = 0
        while data and size < AT_ONCE:
            end = data.find(_END) + len(_END)
            if end < len(_END):
                break
            try:
                answer = self._lane.answer(data[:end], tls=self.tls)
            except Exception:  # whatever it is: the ordinary way is there
                logger.exception("fast lane failed")
                break
            if answer is None:
                break
            answers += answer
            size += sum(map(len, answer))
            data = data[end:]
        return answers, data


def shorten(lane: Answering | None, handler: ConnectionHandler | None, layer: ResilientLayer, *, tls: bool) -> None:
    """Give this connection a shortcut, if there is a lane for it and it is of the kind that can have one."""
    io = handler.transports.get(handler.client) if handler else None
    if lane and handler and io and type(io.reader) is asyncio.StreamReader and hasattr(io.reader, "_waiter"):
        Shortcut(lane, handler, layer, tls=tls)
