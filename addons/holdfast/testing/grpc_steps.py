"""gRPC for a `MisbehavingOrigin`: answers, and the framing of messages.

What is on the wire is described in "gRPC over HTTP2" (PROTOCOL-HTTP2.md of the gRPC project). gRPC itself is not
needed here: a message is bytes, whoever made them.

    MisbehavingOrigin({"/shop.Cart/Get": GrpcAnswer([b"..."]), "*": GrpcAnswer(status=12)}, protocol="h2")
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

PREFIX = struct.Struct(">?I")
"""Before each message: whether it is compressed, and its length in bytes."""
PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def grpc_frame(message: bytes) -> bytes:
    """The message with its five bytes of prefix, uncompressed."""
    return PREFIX.pack(False, len(message)) + message


def grpc_messages(body: bytes) -> list[bytes]:
    """The messages of a request's or an answer's body.

    Raises ValueError where the body ends within a message, and for a compressed one, which cannot be read here.
    """
    found: list[bytes] = []
    at = 0
    while at < len(body):
        if len(body) - at < PREFIX.size:
            raise ValueError(f"the body ends within the prefix of message {len(found) + 1}")
        flag, size = body[at], int.from_bytes(body[at + 1 : at + PREFIX.size])
        if flag:
            raise ValueError(f"message {len(found) + 1} is compressed (its flag is {flag})")
        at += PREFIX.size
        if len(body) - at < size:
            raise ValueError(f"message {len(found) + 1} has {len(body) - at} of its {size} bytes")
        found.append(body[at : at + size])
        at += size
    return found


@dataclass(frozen=True, slots=True)
class GrpcAnswer:
    """The answer to a gRPC call: HTTP status 200, the messages, and in the trailers how the call went.

    `status` is a gRPC status code (0 is OK, 14 UNAVAILABLE), `message` says more about it. `headers` and `trailers`
    are metadata; the value of one whose name ends in `-bin` is given as it is on the wire, in base64. `pace` seconds
    pass before each message, `delay` before the first byte. `trailers_only` sends no message and a single block of
    fields, as servers do that fail at once. `early` answers as soon as the request's header is there, as a server of
    a stream does. `hang_up` and `announce` end the connection afterwards, as they do for an `Answer`.
    """

    messages: Sequence[bytes] = (b"",)
    status: int = 0
    message: str = ""
    headers: Sequence[tuple[str, str]] = ()
    trailers: Sequence[tuple[str, str]] = ()
    pace: float = 0.0
    delay: float = 0.0
    trailers_only: bool = False
    early: bool = False
    hang_up: bool = False
    announce: bool = False

    def opening(self) -> list[tuple[str, str]]:
        """The first block of fields, `:status` at its head."""
        first = [(":status", "200"), ("content-type", "application/grpc"), *self.headers]
        return first + self._outcome() if self.trailers_only else first

    def parts(self) -> list[bytes]:
        """The body, a piece for each message."""
        return [] if self.trailers_only else [grpc_frame(message) for message in self.messages]

    def closing(self) -> list[tuple[str, str]]:
        """The trailers."""
        return [] if self.trailers_only else self._outcome()

    def informational(self) -> list[list[tuple[str, str]]]:
        """No 1xx: gRPC does not know them."""
        return []

    def _outcome(self) -> list[tuple[str, str]]:
        text = [("grpc-message", quote_from_bytes(self.message.encode(), PRINTABLE))] if self.message else []
        return [("grpc-status", str(self.status)), *text, *self.trailers]
