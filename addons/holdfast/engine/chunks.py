"""A chunked body, read strictly and in large pieces (RFC 9112, section 7.1).

h11's reader takes a chunk extension or a trailer of any length, sizes beyond any sense, and ends trailers at a bare LF,
where others do not; and it hands over each chunk by itself, so that a body of single bytes is as many events for every
layer above. Extensions and trailers are dropped, as they may be (RFC 9110, section 6.5.1).
"""

from __future__ import annotations

import re
from typing import NoReturn

from h11 import Data, EndOfMessage, LocalProtocolError, RemoteProtocolError
from h11._receivebuffer import ReceiveBuffer

MAX_LINE = 4096
"""Bytes of the line with a chunk's size, and of a trailer's."""
MAX_TRAILER = 64 * 1024

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*|[ \t]*)\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class Chunks:
    """Called with the buffer like h11's readers: Data with all there is, EndOfMessage, or None for "not yet"."""

    def __init__(self) -> None:
        self._left = 0  # bytes of the chunk
        self._ending = b""  # what has to follow the chunk
        self._trailer = -1  # bytes of the trailer so far, once it has begun
        self._over = False

    def __call__(self, buf: ReceiveBuffer) -> Data | EndOfMessage | None:
        pieces: list[bytes] = []
        while not self._over:
            piece = self._step(buf)
            if piece is None:
                break
            pieces.append(piece)
        data = b"".join(pieces)
        if data:
            return Data(data=data)
        return EndOfMessage() if self._over else None

    def read_eof(self) -> NoReturn:
        """The connection has ended before the body has."""
        raise RemoteProtocolError("peer closed connection without sending complete message body")

    def _step(self, buf: ReceiveBuffer) -> bytes | None:
        """One part of the buffer, with the data that was in it; None if there is no whole part."""
        if self._left:
            data = buf.maybe_extract_at_most(self._left)
            if data is None:
                return None
            self._left -= len(data)
            self._ending = b"\r\n" if not self._left else b""
            return bytes(data)
        if self._ending:
            return self._end_of_chunk(buf)
        line = buf.maybe_extract_next_line()
        if line is None:
            if len(buf) > MAX_LINE:
                raise LocalProtocolError("a line between chunks is too long")
            return None
        if self._trailer >= 0:
            self._trailer_line(bytes(line))
        else:
            self._size_line(bytes(line))
        return b""

    def _end_of_chunk(self, buf: ReceiveBuffer) -> bytes | None:
        found = buf.maybe_extract_at_most(len(self._ending))
        if found is None:
            return None
        if not self._ending.startswith(found):
            raise LocalProtocolError("a chunk is longer than its size")
        self._ending = self._ending[len(found) :]
        return b""

    def _size_line(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if not found or len(line) > MAX_LINE:
            raise LocalProtocolError("a chunk's size is none")
        self._left = int(found[1], 16)
        if not self._left:
            self._trailer = 0

    def _trailer_line(self, line: bytes) -> None:
        self._trailer += len(line)
        if line == b"\r\n":
            self._over = True
        elif self._trailer > MAX_TRAILER or not _TRAILER_LINE.fullmatch(line):
            raise LocalProtocolError("a trailer is too large or no header field")
