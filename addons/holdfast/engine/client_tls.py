"""TLS with a client: as stock, but a handshake that does not come to its end ends the connection."""

from __future__ import annotations

import logging

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.tunnel import TunnelState

from holdfast.engine.leg import Leg
from holdfast.engine.lingering import peer_of
from holdfast.engine.timers import OF_THE_CONNECTION, Alarm, TimerFired

logger = logging.getLogger(__name__)
MOST_LOGGED = 200


class ClientTls(ClientTLSLayer):
    """`limits.header_timeout` holds for the handshake too: from the first byte of the connection to its end."""

    def __init__(self, context: Context, leg: Leg) -> None:
        super().__init__(context)
        self._leg = leg
        self._alarm = Alarm(leg.timers, context.client.id, OF_THE_CONNECTION, "tls")

    def start_handshake(self) -> CommandGenerator[None]:
        """As stock, against the clock."""
        self._alarm.arm(self._leg.client.header_timeout)
        yield from super().start_handshake()

    def on_handshake_error(self, err: str) -> CommandGenerator[None]:
        """As stock, which logs all that came in place of a handshake."""
        yield from super().on_handshake_error(err[:MOST_LOGGED])

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, TimerFired) and self._alarm.rang(event):
            logger.warning("TLS handshake too slow", extra={"peer": peer_of(self.context.client)})
            self.tunnel_state = TunnelState.CLOSED
            yield commands.CloseConnection(self.context.client)
            return
        yield from super()._handle_event(event)
        if self.tunnel_state is not TunnelState.ESTABLISHING:
            self._alarm.disarm()
