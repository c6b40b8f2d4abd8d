"""Time limits: an event that reaches the stream or the client's connection it was set for, unless progress came first.

The event loop's timers, and not mitmproxy's `RequestWakeup`, which cannot be cancelled and would keep each flow alive.
The generation number makes a firing that has already been overtaken recognisable.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mitmproxy.connection import Connection
from mitmproxy.proxy.events import Event
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils

OF_THE_CONNECTION = 0
"""In place of a stream's id: the limit is one of the client's connection. No stream has this number."""


@dataclass
class TimerFired(Event):
    """A limit has run out for the stream `stream_id`, if the alarm's `generation` is still its current one."""

    stream_id: int
    alarm: str
    generation: int


class Cancellable(Protocol):
    """What `Timers.arm` returns."""

    def cancel(self) -> None: ...


_SLOT = 0.25
"""Seconds. Nearly all limits are called off long before they run out, and the event loop need not hear of those: to
tell it costs ten times as much as to put one into a slot (a hashed timing wheel; Varghese and Lauck, 1987)."""


class _Limit:
    """One that is not about to run out. `handle` once it is."""

    __slots__ = ("client_id", "due", "event", "handle", "slot")

    def __init__(self, slot: set[_Limit], due: float, client_id: str, event: Event) -> None:
        self.slot = slot
        self.due = due  # by the event loop's clock
        self.client_id = client_id
        self.event = event
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """It does not run out."""
        self.slot.discard(self)
        if self.handle:
            self.handle.cancel()


class Timers:
    """Arms limits for streams. `connection_of` finds a live client connection by its id, None once it is gone."""

    def __init__(self, connection_of: Callable[[str], ConnectionHandler | None]) -> None:
        self._connection_of = connection_of
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots: dict[int, set[_Limit]] = {}  # by when it is time to look at them

    def arm(self, client_id: str, event: Event, delay: float) -> Cancellable:
        """Have the event delivered to the client's connection after `delay` seconds."""
        loop = asyncio.get_running_loop()
        if delay < _SLOT:
            return loop.call_later(max(0.0, delay), self._fire, client_id, event)
        if loop is not self._loop:
            self._loop, self._slots = loop, {}
        due = loop.time() + delay
        number = int(due / _SLOT)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            loop.call_at(number * _SLOT, self._open, number)
        limit = _Limit(slot, due, client_id, event)
        slot.add(limit)
        return limit

    def _open(self, number: int) -> None:
        """The limits of this slot run out within the next moment, each at its own time."""
        for limit in self._slots.pop(number, ()):
            limit.handle = asyncio.get_running_loop().call_at(limit.due, self._fire, limit.client_id, limit.event)

    def was_reset(self, client: Connection) -> bool:
        """Whether the client is gone for good; mitmproxy tells layers a reset and an orderly end of sending alike."""
        connection = self._connection_of(client.id)
        io = connection.transports.get(client) if connection else None
        return io is None or not isinstance(io.reader, asyncio.StreamReader) or io.reader.exception() is not None

    def reset_at_close(self, client: Connection) -> None:
        """The end of this connection will be a reset, and not an orderly one; what is not written yet is lost."""
        connection = self._connection_of(client.id)
        io = connection.transports.get(client) if connection else None
        if io and isinstance(io.writer, asyncio.StreamWriter):
            at_once = struct.pack("ii", 1, 0)  # linger on, for no time
            io.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)

    def _fire(self, client_id: str, event: Event) -> None:
        connection = self._connection_of(client_id)
        if connection is not None:
            asyncio_utils.create_task(connection.server_event(event), name="upstream timer", keep_ref=True)


class Alarm:
    """One time limit of one stream, armed again and again. `name` tells it from the stream's others."""

    def __init__(self, timers: Timers, client_id: str, stream_id: int, name: str) -> None:
        self.name = name
        self._timers = timers
        self._client_id = client_id
        self._stream_id = stream_id
        self._generation = 0
        self._pending: Cancellable | None = None

    def arm(self, delay: float) -> None:
        """Fire after `delay` seconds, and not when it would have fired before."""
        self.disarm()
        event = TimerFired(self._stream_id, self.name, self._generation)
        self._pending = self._timers.arm(self._client_id, event, delay)

    def disarm(self) -> None:
        """A firing that is already on its way counts no more."""
        self._generation += 1
        if self._pending:
            self._pending.cancel()
            self._pending = None

    @property
    def is_armed(self) -> bool:
        """Whether it has neither fired nor been called off."""
        return self._pending is not None

    def rang(self, event: TimerFired) -> bool:
        """Whether this firing is meant."""
        return event.alarm == self.name and event.generation == self._generation and self._pending is not None
