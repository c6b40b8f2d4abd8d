"""The end of a client's connection whose last answer has been given.

Closing while the client still sends would be a reset, which can take the answer away before it has been read (RFC 9112,
section 9.6). So the gateway says that it is done, and reads on for a moment.
"""

from __future__ import annotations

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator

from holdfast.engine.timers import Alarm, TimerFired

SECONDS = 1.0
BYTES = 1024 * 1024


class Lingering:
    """Gets every event of the connection from `begin` on; what comes is dropped."""

    def __init__(self, connection: Connection, alarm: Alarm) -> None:
        self._connection = connection
        self._alarm = alarm
        self._left = BYTES

    def begin(self) -> CommandGenerator[None]:
        """The last byte has been handed over."""
        if self._connection.state is ConnectionState.OPEN:
            self._alarm.arm(SECONDS)
            yield commands.CloseTcpConnection(self._connection, half_close=True)
        else:
            yield from self._end()

    def handle(self, event: events.Event) -> CommandGenerator[None]:
        """Until the client ends too, or has sent or taken too much."""
        if isinstance(event, events.DataReceived):
            self._left -= len(event.data)
        late = isinstance(event, TimerFired) and self._alarm.rang(event)
        if late or self._left < 0 or isinstance(event, events.ConnectionClosed):
            yield from self._end()

    def _end(self) -> CommandGenerator[None]:
        self._alarm.disarm()
        yield commands.CloseConnection(self._connection)


def peer_of(connection: Connection) -> str:
    """The address at the other end, for the log."""
    return str(connection.peername[0]) if connection.peername else ""
