"""What streams, connections and the HTTP layer say to each other beyond mitmproxy's own commands and events."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

from mitmproxy.connection import Connection
from mitmproxy.http import Headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpEvent

from holdfast.policy.endpoint import Endpoint


class GetUpstream(GetHttpConnection):
    """To the HTTP layer: a connection to this server, a kept one or a new one. `http2`: no other protocol will do.

    `careful`: the request cannot be sent again. `new`: no kept one will do. `kept` says then which it was.
    """

    kept = False
    turn = False  # it has waited for its turn, and that has come
    sought = False  # there is no kept one, as was found out just now

    def __init__(self, endpoint: Endpoint, *, http2: bool, careful: bool = False, new: bool = False) -> None:
        super().__init__(endpoint.address, endpoint.tls, None)
        self.endpoint = endpoint
        self.http2 = http2
        self.careful = careful
        self.new = new


class AbandonAttempt(commands.ConnectionCommand):
    """To the HTTP layer: nothing more of this stream's attempt on this connection shall come through.

    Over HTTP/1 that closes the connection, over HTTP/2 it resets the stream and leaves the others alone. `waited`: for
    so many seconds the stream has heard nothing.
    """

    def __init__(self, connection: Connection, stream_id: int, waited: float = 0.0) -> None:
        super().__init__(connection)
        self.stream_id = stream_id
        self.waited = waited


class Rest(commands.Command):
    """To the connection's handler: addons have been asked of `hook`, and `rest` is to be waited for before it is over.

    The reply is a `HookCompleted`.
    """

    blocking = True

    def __init__(self, hook: commands.StartHook, rest: Awaitable[None]) -> None:
        self.hook = hook
        self.rest = rest


class Pause(commands.Command):
    """To the HTTP layer: nothing from this stream for so many seconds. `until_gone`: or until its client stops sending.

    The reply is `over`; or, before that, `late` if the upstream's time has run out, `gone` if the client has left.
    """

    blocking = True

    def __init__(self, seconds: float, *, until_gone: bool = False) -> None:
        self.seconds = seconds
        self.until_gone = until_gone


@dataclass
class PauseEnded(events.CommandCompleted):
    """The reply to a `Pause`."""

    command: Pause
    reply: str


@dataclass
class TurnCame(events.Event):
    """To the HTTP layer: a request that waited because its server had as many as it is to have at once may go on."""

    wanted: GetUpstream


@dataclass
class AttemptAbandoned(HttpEvent):
    """To an HTTP/2 connection upstream: reset what runs for this stream of the client's."""

    waited: float


@dataclass
class InterimResponse(HttpEvent):
    """A 1xx answer other than 101, which is final for HTTP (RFC 9110, section 15.2)."""

    status: int
    headers: Headers


@dataclass
class PeerTook(HttpEvent):
    """To an HTTP/2 connection: bytes that came from it have gone out on the other side. `stream_id` means nothing."""
