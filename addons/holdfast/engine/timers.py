"""Time limits: an event that reaches the stream it was set for, unless progress came first.

`loop.call_later` rather than mitmproxy's `RequestWakeup`, which cannot be cancelled and would keep each flow alive.
The generation number makes a firing that has already been overtaken recognisable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mitmproxy.proxy.events import Event
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils


@dataclass
class TimerFired(Event):
    """A limit has run out for the stream `stream_id`, if `generation` is still its current one."""

    stream_id: int
    generation: int


class Cancellable(Protocol):
    """What `Timers.arm` returns."""

    def cancel(self) -> None: ...


class Timers:
    """Arms limits for streams. `connection_of` finds a live client connection by its id, None once it is gone."""

    def __init__(self, connection_of: Callable[[str], ConnectionHandler | None]) -> None:
        self._connection_of = connection_of

    def arm(self, client_id: str, stream_id: int, generation: int, delay: float) -> Cancellable:
        """Have `TimerFired` delivered after `delay` seconds."""
        event = TimerFired(stream_id, generation)
        return asyncio.get_running_loop().call_later(max(0.0, delay), self._fire, client_id, event)

    def _fire(self, client_id: str, event: TimerFired) -> None:
        connection = self._connection_of(client_id)
        if connection is not None:
            asyncio_utils.create_task(connection.server_event(event), name="upstream timer", keep_ref=True)
