"""A layer's events with less ado between its commands.

Every event goes through some seventy steps of `Layer.handle_event` a request. This one takes each with a third of the
work: it looks for `debug` once and not for each command, and has one loop for what mitmproxy has three functions for.
(mitmproxy 12.2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.master import Master
from mitmproxy.proxy import events
from mitmproxy.proxy.layer import Layer, Paused

from holdfast.engine.speedups.replacing import Replacement

if TYPE_CHECKING:
    from mitmproxy.proxy.layer import CommandGenerator

_stock = Layer.handle_event


def _handle_event(self: Layer, event: events.Event) -> CommandGenerator[None]:
    if self.debug is not None:
        yield from _stock(self, event)
        return
    reply, paused = None, self._paused
    if paused is None:
        generator = self._handle_event(event)
    elif isinstance(event, events.CommandCompleted) and event.command is paused.command:
        self._paused, generator, reply = None, paused.generator, event.reply
    else:
        self._paused_event_queue.append(event)
        return
    while True:
        try:
            command = generator.send(reply)
        except StopIteration:
            command = None
        while command is not None:
            if command.blocking is True:
                command.blocking = self  # the layers around this one go on
                self._paused = Paused(command, generator)
                yield command
                return
            yield command
            command = next(generator, None)
        if not self._paused_event_queue:
            return
        reply, generator = None, self._handle_event(self._paused_event_queue.popleft())


REPLACEMENTS = (Replacement(Layer, "handle_event", _handle_event),)
EXPECTED = ((Layer.handle_event, "self event"), (Paused, "command generator"))


def hurry_layers(_: Master) -> None:
    """All layers of this process that have no `handle_event` of their own."""
    for each in REPLACEMENTS:
        each.put()
