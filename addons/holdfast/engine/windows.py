"""Receive windows of an HTTP/2 connection (RFC 9113, section 5.2): opened again only as fast as the other side takes.

Stock grants two gigabytes a stream and acknowledges at once, and keeps in memory what a slow reader on the other side
has not taken. Here a stream may be ahead by a window; what comes through the gateway waits with its sender.
"""

from __future__ import annotations

from collections.abc import Callable

from h2.exceptions import ProtocolError
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

STREAM_WINDOW = 1024 * 1024
"""Bytes that a stream may be ahead."""
LOW = STREAM_WINDOW // 2
"""Below so many bytes on their way out a window is opened again."""
_OF_THE_CONNECTION = 1024 * 1024
"""The connection's window is not what bounds a stream: it is topped up after so many bytes."""


class Windows:
    """Put onto a connection before it is used. `backlog` tells how many bytes of a stream wait to go out."""

    def __init__(self, h2_conn: BufferedH2Connection, backlog: Callable[[int], int]) -> None:
        self._h2 = h2_conn
        self._backlog = backlog
        self._owed: dict[int, int] = {}  # stream -> bytes that have come and were not acknowledged
        self._held: set[int] = set()  # streams whose senders are kept waiting
        self._total = 0
        h2_conn.local_settings.initial_window_size = STREAM_WINDOW
        h2_conn.local_settings.acknowledge()
        h2_conn.acknowledge_received_data = self._received  # type: ignore[method-assign]

    def _received(self, acknowledged_size: int, stream_id: int) -> None:
        self._total += acknowledged_size
        if self._total >= _OF_THE_CONNECTION:
            self._grant(self._total, None)
            self._total = 0
        self._owed[stream_id] = self._owed.get(stream_id, 0) + acknowledged_size
        # Small bodies need no window update at all.
        if self._owed[stream_id] >= LOW:
            self._held.add(stream_id)
            self.open()
        if len(self._owed) > 2 * len(self._h2.streams) + 16:
            self._owed = {known: owed for known, owed in self._owed.items() if known in self._h2.streams}

    def open(self) -> bool:
        """Open the windows of streams whose bytes have been taken meanwhile; whether there is something to send."""
        taken = [stream_id for stream_id in self._held if self._backlog(stream_id) < LOW]
        for stream_id in taken:
            self._held.discard(stream_id)
            self._grant(self._owed.pop(stream_id, 0), stream_id)
        return bool(taken)

    @property
    def held(self) -> bool:
        """Whether a sender is being kept waiting."""
        return bool(self._held)

    def _grant(self, size: int, stream_id: int | None) -> None:
        if size and (stream_id is None or stream_id in self._h2.streams):
            try:
                self._h2.increment_flow_control_window(size, stream_id)
            except (ProtocolError, KeyError):
                return  # it is closed for what comes


def buffered(h2_conn: BufferedH2Connection, stream_id: int) -> int:
    """Bytes of this stream that wait for the peer's window."""
    return sum(len(piece.data) for piece in h2_conn.stream_buffers.get(stream_id, ()))
