"""Who has which connection to a server: the pool of all of them, and the part of it that each client has.

A connection stays with its client when it is idle: on a client that goes on asking, sharing costs next to nothing. It
is on the pool's list then, and another client that needs one takes it away. When a client leaves, its idle connections
stay, and are nobody's.

Not shared are connections of HTTP/2, on which a client may have several requests; those that an addon has opened for
this client in particular; and those whose user has been authenticated on the connection itself (NTLM, Negotiate).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from mitmproxy.connection import Client, Server
from mitmproxy.proxy import commands
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.utils import asyncio_utils

from holdfast.engine.commands import GetUpstream, TurnCame
from holdfast.engine.connections import UpstreamConnection
from holdfast.engine.keepalive.line import Line, open_line
from holdfast.engine.keepalive.turns import Place, Slot
from holdfast.engine.upstream_http2 import UpstreamHttp2
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.idle import IdleRules

if TYPE_CHECKING:
    from holdfast.engine.http_layer import ResilientLayer

_END_WITHIN = 1.0  # seconds


@dataclass(slots=True)
class Figures:
    """Of one server. `opened` and `reused` only grow: connections, and requests on one that had served another."""

    open: int = 0
    opened: int = 0
    reused: int = 0


class SharedConnections:
    """All connections to servers of one process. `clock` is monotonic seconds, `label` names a server for metrics."""

    def __init__(self, rules: IdleRules, clock: Callable[[], float], label: Callable[[Endpoint], str]) -> None:
        self.direct = False  # bytes are dealt with where they arrive
        self.generation = 0  # connections of an earlier one serve no further request
        self.figures: dict[str, Figures] = {}  # by label
        self._label = label
        self._clock = clock
        self._rules = rules
        self._places: WeakValueDictionary[Endpoint, Place] = WeakValueDictionary()  # while there is something at it
        self._shares: dict[str, Share] = {}  # by the client's id
        # The event loop refers to tasks and readers weakly: an idle connection that nobody holds is garbage.
        self._open: set[Line] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._stopping = False

    def follow(self, rules: IdleRules) -> None:
        """These hold from now on; whether connections are shared, for clients that come from now on.

        How many are kept counts when the next one becomes idle.
        """
        self._rules.shared = rules.shared
        self._rules.connections, self._rules.timeout, self._rules.active = (
            rules.connections,
            rules.timeout,
            rules.active,
        )
        if self._sweep:
            self._sweep.cancel()
            self._await_expiry()

    def renew(self) -> None:
        """What is said to servers has changed, such as a certificate: connections of before serve nobody else."""
        self.generation += 1
        for line in self._cleared():
            line.close("what holds for connections has changed")

    async def stop(self) -> None:
        """Close what is idle, and wait for it; the others as soon as they are idle."""
        self._stopping = True
        if self._sweep:
            self._sweep.cancel()
        idle = self._cleared()
        for line in idle:
            line.close("the gateway ends")
        tasks = [line.io.handler for line in idle if line.io.handler]
        if tasks:
            await asyncio.wait(tasks, timeout=_END_WITHIN)

    def serve(self, handler: ConnectionHandler, layer: ResilientLayer) -> None:
        """From now on this client's connections to servers are of the pool, unless the profile wants none."""
        if not self._rules.shared:
            return
        share = self._shares[handler.client.id] = Share(self, handler, layer)
        handler.open_connection = share.open_connection  # type: ignore[method-assign]
        layer.share = share

    def left(self, client: Client) -> None:
        """This client has gone, and mitmproxy is about to close what it had."""
        share = self._shares.pop(client.id, None)
        if share:
            share.end()

    def idle(self) -> Counter[str]:
        """How many connections are idle, by label."""
        counted: Counter[str] = Counter()
        for endpoint, place in self._places.items():
            counted[self._label(endpoint)] += len(place.idle)
        return counted

    def place(self, endpoint: Endpoint) -> Place:
        """What there is at this server."""
        return self._places.setdefault(endpoint, Place(self._rules))

    @property
    def bounded(self) -> bool:
        """Whether there is a bound of connections that are in use."""
        return self._rules.active is not None

    def figures_of(self, endpoint: Endpoint) -> Figures:
        """What is counted for this server."""
        return self.figures.setdefault(self._label(endpoint), Figures())

    # -- of one connection ------------------------------------------------------------------------------------------

    def began(self, line: Line) -> None:
        """It is open."""
        self._open.add(line)
        line.figures.opened += 1
        line.figures.open += 1

    def ended(self, line: Line) -> None:
        """It is closed."""
        self._open.discard(line)
        line.figures.open -= 1
        line.place.idle.take(line)

    def put(self, line: Line) -> None:
        """It has become idle."""
        if self._stopping or line.generation != self.generation:
            line.close("it is wanted no more")
            return
        for old in line.place.idle.put(line, self._clock()):
            old.close("more idle connections than are kept")
        line.place.wake()
        if self._sweep is None:
            self._await_expiry()

    def use(self, line: Line, *, careful: bool) -> bool:
        """Whether a request may go on it at once; then it is idle no more. `careful`: it cannot be sent again."""
        if line.generation != self.generation or not line.quiet:
            return False
        if careful and not line.place.idle.is_fresh(line, self._clock()):
            return False
        line.place.idle.take(line)
        line.figures.reused += 1
        return True

    def find(self, wanted: GetUpstream, http2_asked: bool) -> Line | None:
        """An idle connection, which is idle no more."""
        place = self._places.get(wanted.endpoint)
        for line in place.idle.newest() if place else ():
            # Where HTTP/2 was not asked for, the server may speak it, and the client is to have that.
            asked = line.upstream.http2_asked or not http2_asked
            if asked and line.movable and self.use(line, careful=wanted.careful):
                return line
        # One is opened for a careful request; it takes the place of another, or they would pile up.
        spare = place.idle.oldest() if place and wanted.careful else None
        if spare:
            spare.close("a new one takes its place")
        return None

    def _cleared(self) -> list[Line]:
        return [line for place in self._places.values() for line in place.idle.clear()]

    def _await_expiry(self) -> None:
        dues = [due for place in self._places.values() if (due := place.idle.next_expiry()) is not None]
        wait = max(0.0, min(dues) - self._clock()) if dues else None
        self._sweep = None if wait is None else asyncio.get_running_loop().call_later(wait, self._expire)

    def _expire(self) -> None:
        for place in list(self._places.values()):
            for line in place.idle.expired(self._clock()):
                line.close("idle for too long")
        self._await_expiry()


class Share:
    """One client's part. `waiting` are the requests that wait for their turn at a server."""

    __slots__ = ("handler", "layer", "pool", "waiting")

    def __init__(self, pool: SharedConnections, handler: ConnectionHandler, layer: ResilientLayer) -> None:
        self.pool = pool
        self.handler = handler
        self.layer = layer
        self.waiting: dict[GetUpstream, Place] = {}

    def open_connection(self, command: commands.OpenConnection) -> Coroutine[Any, Any, None]:
        """In place of the handler's."""
        found = self.layer.stack_of(command.connection)
        if found is None:
            return type(self.handler).open_connection(self.handler, command)
        return open_line(self, command, *found, Slot(self.pool.place(found[1].endpoint)))

    def open(self, line: Line) -> None:
        """It has been opened for this client."""
        line.upstream.line = line
        self.handler.transports[line.server] = line.io
        self.pool.began(line)

    def must_wait(self, wanted: GetUpstream) -> bool:
        """Whether so many requests are under way that others come first; it is told when its turn has come."""
        bounded = self.pool.bounded and not (wanted.http2 or wanted.endpoint.http2_only)
        return bounded and self.pool.place(wanted.endpoint).must_wait(self, wanted)

    def wait_no_more(self, wanted: GetUpstream) -> None:
        """It has waited for too long."""
        self.waiting.pop(wanted).forget(self, wanted)

    async def go_on(self, wanted: GetUpstream, place: Place) -> None:
        """The turn of this request has come, if it still waits."""
        if wanted in self.waiting:
            await self.handler.server_event(TurnCame(wanted))
        else:
            place.wake()

    def use(self, upstream: UpstreamConnection, wanted: GetUpstream) -> bool:
        """Whether a request may go on this connection, which is ours and free."""
        line = upstream.line
        several = isinstance(upstream.http, UpstreamHttp2)
        return line is None or several or self.pool.use(line, careful=wanted.careful)

    def take(self, wanted: GetUpstream, http2_asked: bool) -> Server | None:
        """Another's idle connection to this server, or one that nobody has: it is ours now."""
        line = self.pool.find(wanted, http2_asked)
        if line is None:
            return None
        leave(line)
        context = line.upstream.context
        context.client = self.handler.client
        context.layers[:0] = self.layer.context.layers
        line.share = self
        self.handler.transports[line.server] = line.io
        self.layer.take_in(line.outermost, line.upstream)
        if line.io.handler:
            name = line.io.handler.get_name()
            asyncio_utils.set_task_debug_info(line.io.handler, name=name, client=self.handler.client.peername)
        return line.server

    def end(self) -> None:
        """What is idle stays, and is nobody's."""
        for wanted in list(self.waiting):
            self.wait_no_more(wanted)
        for line in [upstream.line for upstream in self.layer.upstreams() if upstream.line]:
            if line.movable and line.quiet:
                if line not in line.place.idle:
                    self.pool.put(line)  # its answer was there before the request was whole
                leave(line)


def leave(line: Line) -> None:
    """It is nobody's from now on, and keeps nothing of its client's alive."""
    share, context = line.share, line.upstream.context
    if share is None:
        return
    line.share = None
    share.handler.transports.pop(line.server, None)
    share.layer.give_away(line.server)
    del context.layers[: context.layers.index(line.outermost)]
