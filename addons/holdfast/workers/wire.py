"""What the parent and its workers say to each other: MessagePack with four bytes of length before it.

Both ends are one program, forked: there are no versions, and nobody else can write to the line.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

NIL = Raw(msgspec.msgpack.encode(None))
_LENGTH = 4


class Hello(Struct, frozen=True, tag="hello", array_like=True):
    """From a worker: it listens to this line from now on."""


class Serving(Struct, frozen=True, tag="serving", array_like=True):
    """From a worker: clients can reach it."""


class TookOver(Struct, frozen=True, tag="took_over", array_like=True):
    """From a worker: another profile holds."""


class Lead(Struct, frozen=True, tag="lead", array_like=True):
    """To a worker: from now on it does what only one may do."""


class Ask(Struct, frozen=True, tag="ask", array_like=True):
    """A question: from a worker to all others, and from the parent to a worker."""

    id: int
    kind: str
    payload: Raw


class Reply(Struct, frozen=True, tag="reply", array_like=True):
    """A worker's answer to the parent; `error` says why there is none."""

    id: int
    payload: Raw
    error: str = ""


class Said(Struct, frozen=True, array_like=True):
    """What one worker has answered."""

    worker: int
    payload: Raw
    error: str = ""


class Answers(Struct, frozen=True, tag="answers", array_like=True):
    """To the worker that has asked: what the others say."""

    id: int
    said: list[Said]


type Message = Hello | Serving | TookOver | Lead | Ask | Reply | Answers
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
    Hello | Serving | TookOver | Lead | Ask | Reply | Answers
)


def framed(message: Message) -> bytes:
    """As it goes over the line."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH) + body


def raw(payload: object) -> Raw:
    """A payload, which the parent passes on unread."""
    return Raw(msgspec.msgpack.encode(payload))


class Frames:
    """Messages out of bytes that come in pieces."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Those that are whole now."""
        held, found = self._held, []
        held += data
        while len(held) >= _LENGTH and len(held) >= (end := _LENGTH + int.from_bytes(held[:_LENGTH])):
            found.append(_DECODER.decode(bytes(held[_LENGTH:end])))  # of its own: a Raw points into it
            del held[:end]
        return found
