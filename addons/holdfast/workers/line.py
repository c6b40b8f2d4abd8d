"""The parent's end of the line to one worker. It never waits: one that does not read must not hold up the others."""

from __future__ import annotations

import contextlib
import socket

from holdfast.workers.wire import Frames, Message, framed

_PIECE = 1 << 16


class Line:
    """One end of a pair of sockets, non-blocking."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._frames = Frames()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """To wait for it."""
        return self._end.fileno()

    @property
    def has_more(self) -> bool:
        """Whether something is still to be sent, by `flush`."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Now, or once there is room. To one that has ended nothing is sent: its end is noticed by `receive`."""
        self._unsent += framed(message)
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._unsent:
                del self._unsent[: self._end.send(self._unsent)]

    def receive(self) -> list[Message]:
        """What has come. EOFError once the worker has gone."""
        try:
            data = self._end.recv(_PIECE)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        return self._frames.feed(data)

    def close(self) -> None:
        """More than once does no harm."""
        self._end.close()
