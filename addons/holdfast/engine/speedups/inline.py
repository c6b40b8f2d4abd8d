"""A connection's events without a task for each hook, and with one write for what goes out at once.

For each hook mitmproxy makes a task, which asks the addons and then waits in the event loop for its turn to go on. Here
the addons are asked on the spot: where none of them has anything to wait for, and nobody has intercepted the flow, the
layers go on at once. Otherwise a task sees to the rest, as in mitmproxy. The order of events is mitmproxy's: one at a
time, the next one when the commands of the one before have been carried out. (mitmproxy 12.2)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from mitmproxy import flow
from mitmproxy.connection import Connection
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events, mode_servers, server
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers import modes
from mitmproxy.utils import asyncio_utils

from holdfast.engine.commands import Rest
from holdfast.engine.dispatch import table_of

JOINED = 64 * 1024
"""Bytes up to which pieces are put together for one write; to copy more costs more than it saves."""

_under_way: set[asyncio.Task[None]] = set()
"""The loop itself keeps no task alive."""


class InlineConnection(mode_servers.ProxyConnectionHandler):
    """`ProxyConnectionHandler` that does the same with fewer tasks."""

    def __init__(self, master: Master, *rest: Any) -> None:
        super().__init__(master, *rest)  # type: ignore[no-untyped-call]
        self._table = table_of(master)
        self._inside = False
        self._settled = False
        self._waiting: deque[tuple[events.Event, asyncio.Future[None] | None]] = deque()
        self._unsent: dict[Connection, list[bytes]] = {}
        self.ask_at_once = self._ask if self._table else None
        self.is_congested: Callable[[], bool] = lambda: False  # whether more has come than has gone out

    # -- events -----------------------------------------------------------------------------------------------------

    async def server_event(self, event: events.Event) -> None:
        """As stock: one at a time."""
        if self._table is None:
            await super().server_event(event)
            return
        if self._inside:  # a task that the layers have begun just now is that quick
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((event, turn))
            await turn
            return
        self._run(event)

    def take(self, connection: Connection, data: bytes) -> bool:
        """What has come on this connection, at once. False: its task has to see to it, and to wait afterwards."""
        if self._inside or self.is_congested():
            return False
        for io in self.transports.values():
            if io.writer is not None and not _takes_more(io.writer):
                return False
        self._run(events.DataReceived(connection, data))
        return True

    def _run(self, event: events.Event) -> None:
        self._inside = True
        try:
            self._take(event)
            while self._waiting:
                event, waiter = self._waiting.popleft()
                if waiter is None:
                    self._take(event)
                elif not waiter.done():
                    self._take(event)
                    waiter.set_result(None)
        finally:
            self._inside = False

    def _take(self, event: events.Event) -> None:
        self.timeout_watchdog.last_activity = time.time()
        try:
            for command in self.layer.handle_event(event):
                if type(command) is commands.SendData:
                    self._unsent.setdefault(command.connection, []).append(command.data)
                    continue
                if self._unsent:
                    self._send()
                if isinstance(command, commands.StartHook):
                    self._hook(command)
                elif type(command) is Rest:
                    self._later(command.hook, command.rest, command)
                else:
                    self._carry_out(command)
        except Exception:  # noqa: BLE001
            self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)  # its own words
        if self._unsent:
            self._send()
        if not self._settled:
            self._settle()

    def _settle(self) -> None:
        """Once it is known what the client speaks, the layers around the one for that only hand on what they get."""
        outer = self.layer
        if type(outer) is not modes.ReverseProxy or not isinstance(outer.child_layer, NextLayer):
            self._settled = True
            return
        between = outer.child_layer
        begun = getattr(outer._handle_event, "__self__", None) is between and between._handle is not None
        if begun and between.layer and not any(each._paused or each.debug is not None for each in (outer, between)):
            self.layer, self._settled = between.layer, True

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, {}
        for connection, pieces in unsent.items():
            io = self.transports.get(connection)
            if io is None:
                continue  # it has been closed
            assert io.writer
            if io.writer.is_closing():
                continue
            if len(pieces) > 1 and sum(map(len, pieces)) <= JOINED:
                io.writer.write(b"".join(pieces))
                continue
            for piece in pieces:
                io.writer.write(piece)

    def _carry_out(self, command: commands.Command) -> None:
        if isinstance(command, commands.OpenConnection):
            assert command.connection not in self.transports
            opening = asyncio_utils.create_task(
                self.open_connection(command),
                name=f"server connection handler {command.connection.address}",
                keep_ref=False,
                client=self.client.peername,
            )
            self.transports[command.connection] = mode_servers.server.ConnectionIO(handler=opening)
        elif isinstance(command, commands.RequestWakeup):
            wakeup = asyncio_utils.create_task(
                self.wakeup(command),
                name=f"wakeup timer ({command.delay:.1f}s)",
                keep_ref=False,
                client=self.client.peername,
            )
            self.wakeup_timer.add(wakeup)
        elif isinstance(command, commands.ConnectionCommand) and command.connection not in self.transports:
            pass  # it has been closed already
        elif isinstance(command, commands.CloseTcpConnection):
            self.close_connection(command.connection, command.half_close)
        elif isinstance(command, commands.CloseConnection):
            self.close_connection(command.connection, False)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise RuntimeError(f"Unexpected command: {command}")

    # -- hooks ------------------------------------------------------------------------------------------------------

    def _ask(self, hook: commands.StartHook) -> Rest | None:
        """Ask the addons. None: that was all, and whoever has the hook may go on."""
        assert self._table
        (subject,) = hook.args()
        try:
            rest = self._table.at_once(type(hook), subject)
        except Exception as error:  # noqa: BLE001
            rest = _raised(error)
        if rest is None and getattr(subject, "intercepted", False):
            rest = _nothing()
        return None if rest is None else Rest(hook, rest)

    def _hook(self, hook: commands.StartHook) -> None:
        left = self._ask(hook)
        if left:
            self._later(hook, left.rest, hook)
        elif hook.blocking:
            self._waiting.append((events.HookCompleted(hook), None))

    def _later(self, hook: commands.StartHook, rest: Awaitable[None], command: commands.Command) -> None:
        # Begun at once, as tasks are under mitmproxy; most of those that are async wait for nothing, and are done then.
        ending = self._end_hook(hook, rest, command)
        task = asyncio.Task(ending, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            # As `set_task_debug_info` does, without a look into the environment.
            task.set_name(f"handle_hook({hook.name})")
            task.created, task.client = time.time(), self.client.peername  # type: ignore[attr-defined]
            _under_way.add(task)
            task.add_done_callback(_under_way.discard)

    async def _end_hook(self, hook: commands.StartHook, rest: Awaitable[None], command: commands.Command) -> None:
        watchdog = self.timeout_watchdog
        watchdog.can_timeout.clear()  # as `disarm` does
        watchdog.blocker += 1
        try:
            await rest
            (data,) = hook.args()
            if isinstance(data, flow.Flow):
                await data.wait_for_resume()
        finally:
            watchdog.blocker -= 1
            if watchdog.blocker == 0:
                watchdog.register_activity()
                watchdog.can_timeout.set()
        if not hook.blocking:
            return
        completed = events.HookCompleted(command)  # type: ignore[arg-type]  # that of a `Rest` as well
        if self._inside:  # nothing had to be waited for
            self._waiting.append((completed, None))
        else:
            await self.server_event(completed)

    # -- sockets ----------------------------------------------------------------------------------------------------

    async def handle_connection(self, connection: Connection) -> None:
        """As stock. A client that has said all and gone before it is first read must not be through with at once.

        mitmproxy notes the task of a connection when that first waits, and finds no connection then. Stock is saved
        by its hooks, which wait.
        """
        if connection is self.client:
            await asyncio.sleep(0)
        await super().handle_connection(connection)

    async def drain_writers(self) -> None:
        """As stock, but nothing is waited for where nothing is held up."""
        for io in self.transports.values():
            writer = io.writer
            if writer is not None and not _takes_more(writer):
                await super().drain_writers()  # type: ignore[no-untyped-call]
                return


async def _raised(error: Exception) -> None:
    raise error


async def _nothing() -> None:
    pass


def _takes_more(writer: Any) -> bool:
    """Whether `drain` would come back at once, and with nothing."""
    if not isinstance(writer, asyncio.StreamWriter):
        return False
    inner: Any = writer
    failed = inner._reader is not None and inner._reader.exception()
    return not (failed or inner._protocol._paused or inner._transport.is_closing())


def may_take(handler: server.ConnectionHandler) -> InlineConnection | None:
    """The handler, if it is of the quick kind."""
    return handler if isinstance(handler, InlineConnection) and handler.ask_at_once else None


def take_inline(_: Master) -> None:
    """Connections from now on are of the quick kind; it falls back by itself where a mitmproxy has no table."""
    mode_servers.ProxyConnectionHandler = InlineConnection  # type: ignore[misc]
