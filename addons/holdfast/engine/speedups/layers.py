"""A layer's events with less ado between its commands.

Every event goes through some seventy steps of `Layer.handle_event` a request. This one takes each with a third of the
work: it looks for `debug` once and not for each command, and has one loop for what mitmproxy has three functions for.
(mitmproxy 12.2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from mitmproxy.master import Master
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import Layer, Paused

from holdfast.engine.speedups.replacing import Replacement

if TYPE_CHECKING:
    from mitmproxy.proxy.layer import CommandGenerator

_stock = Layer.handle_event


def step_through(
    self: Layer, event: events.Event, at_once: Callable[[commands.Command], object] | None = None
) -> CommandGenerator[None]:
    """`Layer.handle_event`. `at_once` carries out what it can of what the layer would wait for.

    It returns a tuple with the reply then, else the command that is to be waited for.
    """
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
        command = _go_on(generator, reply)
        while command is not None:
            if command.blocking is True:
                had = command if at_once is None else at_once(command)
                if type(had) is tuple:
                    command = _go_on(generator, had[0])
                    continue
                command = cast("commands.Command", had)
                command.blocking = self  # the layers around this one go on
                self._paused = Paused(command, generator)
                yield command
                return
            yield command
            command = next(generator, None)
        if not self._paused_event_queue:
            return
        reply, generator = None, self._handle_event(self._paused_event_queue.popleft())


def _go_on(generator: CommandGenerator[None], reply: object) -> commands.Command | None:
    try:
        return generator.send(reply)
    except StopIteration:
        return None


REPLACEMENTS = (Replacement(Layer, "handle_event", step_through),)
EXPECTED = ((Layer.handle_event, "self event"), (Paused, "command generator"))


def hurry_layers(_: Master) -> None:
    """All layers of this process that have no `handle_event` of their own."""
    for each in REPLACEMENTS:
        each.put()
