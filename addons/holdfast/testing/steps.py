"""What a `MisbehavingOrigin` does next: the steps. What they are put together into is in `holdfast.testing.plans`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.testing.grpc_steps import GrpcAnswer

type When = Literal["accept", "request", "half-header", "header", "body"]
type How = Literal["reset", "fin", "hang"]
type Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    `pace` seconds pass between `pieces` of the body, `delay` before the first byte. `early` answers as soon as the
    request's header is there, and reads the body afterwards. `interim` goes out before the answer: any number of 1xx
    responses as HTTP/1.1 writes them, and over HTTP/1.1 any other bytes. `trailers` follow the body (RFC 9110 section
    6.5); over HTTP/1.1 they need chunks, so it is then `chunked`. Over HTTP/2 `chunked` leaves out Content-Length.
    `hang_up` closes the connection after the answer without having announced it, so that the client is left with a
    stale idle connection; `announce` adds `Connection: close`, or over HTTP/2 sends a GOAWAY (NO_ERROR) ahead of the
    answer, and closes after it and what else is under way.
    """

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b"ok"
    chunked: bool = False
    pieces: int = 1
    pace: float = 0.0
    delay: float = 0.0
    early: bool = False
    interim: bytes = b""
    hang_up: bool = False
    announce: bool = False
    reason: str = "Told"
    trailers: Sequence[tuple[str, str]] = ()

    def head(self) -> bytes:
        """The status line and the header fields of HTTP/1.1, the empty line included."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in self.headers)]
        if self._in_chunks:
            lines.append("Transfer-Encoding: chunked")
        elif not self._bodiless:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.announce:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def body_pieces(self) -> list[bytes]:
        """The body as HTTP/1.1 sends it, in `pieces` parts, in chunks if so wanted."""
        if not self._in_chunks:
            return self.parts()
        trailers = "".join(f"{name}: {value}\r\n" for name, value in self.trailers).encode("latin-1")
        return [b"%x\r\n%b\r\n" % (len(part), part) for part in self.parts()] + [b"0\r\n%b\r\n" % trailers]

    def opening(self) -> Fields:
        """The first block of fields of HTTP/2, `:status` at its head."""
        length = [] if self._in_chunks or self._bodiless else [("content-length", str(len(self.body)))]
        return [(":status", str(self.status)), *self.headers, *length]

    def parts(self) -> list[bytes]:
        """The body in `pieces` parts."""
        if self._bodiless:
            return []
        size = max(1, -(-len(self.body) // self.pieces))
        return [self.body[start : start + size] for start in range(0, len(self.body), size)]

    def closing(self) -> Fields:
        """The trailers."""
        return list(self.trailers)

    def informational(self) -> list[Fields]:
        """The responses in `interim` as blocks of fields of HTTP/2; raises ValueError where they are none."""
        blocks = []
        for block in self.interim.decode("latin-1").split("\r\n\r\n")[:-1]:
            first, *lines = block.split("\r\n")
            version, _, rest = first.partition(" ")
            if not version.startswith("HTTP/") or not rest[:3].isdigit() or rest[0] != "1":
                raise ValueError(f"over HTTP/2 `interim` has to be 1xx responses, not {first!r}")
            fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            blocks.append([(":status", rest[:3]), *fields])
        if self.interim and not self.interim.endswith(b"\r\n\r\n"):
            raise ValueError("over HTTP/2 `interim` has to be whole 1xx responses, an empty line after each")
        return blocks

    @property
    def _in_chunks(self) -> bool:
        return self.chunked or bool(self.trailers)

    @property
    def _bodiless(self) -> bool:
        return self.status in {204, 304}


type Whole = Answer | GrpcAnswer

_LONG = Answer(body=b"x" * 1000)


@dataclass(frozen=True, slots=True)
class Break:
    """Stops at one point of the exchange, for good: by a reset, by an orderly FIN, or by silence.

    `when` is `accept` (before anything is read; with TLS before the handshake), `request` (read in full, nothing
    answered), `half-header`, `header` (all of it, no byte of the body) or `body` (half of it). `answer` is what had
    begun to go out. On a connection that is kept alive `accept` means the moment the next request has arrived.

    Over HTTP/2 `reset` and `fin` end the whole connection, without a GOAWAY. `hang` is silence on this stream: other
    streams are served, pings answered; after half a header nothing more can be said to anybody. (`StreamReset` ends
    only the stream, `Stall` freezes the connection.)
    """

    when: When = "request"
    how: How = "reset"
    answer: Whole = _LONG

    def sent(self) -> bytes:
        """The bytes of HTTP/1.1 that still go out before the break."""
        return begun(self.answer, self.when)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answers with bytes that are no HTTP, of either version, then closes the connection."""

    data: bytes = b"\x00\xff\x13garbage, not HTTP\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Stall:
    """Freezes the connection for good: nothing more is read from it, nothing sent, not even the answer to a ping.

    `when` is how far `answer` has got. `early` does not wait for the request's body, so that a client with a large
    one runs into a window or a socket buffer that stays full.
    """

    when: Literal["request", "header", "body"] = "request"
    answer: Whole = _LONG
    early: bool = False


@dataclass(frozen=True, slots=True)
class StreamReset:
    """Ends the stream and nothing else, by RST_STREAM (RFC 9113 section 6.4); only over HTTP/2.

    `code` is an error code of RFC 9113 section 7, see `ErrorCodes`. `when` is how far `answer` has got, `end` being
    all of it: with `early`, which does not wait for the request's body, and NO_ERROR this asks the client to spare
    itself the rest (section 8.1). REFUSED_STREAM promises that nothing was done.
    """

    code: int
    when: Literal["request", "header", "body", "end"] = "request"
    answer: Whole = _LONG
    early: bool = False


@dataclass(frozen=True, slots=True)
class GoAway:
    """Ends the connection by a GOAWAY (RFC 9113 section 6.8); only over HTTP/2.

    `last_stream` is the last one that the origin admits to: `this` one, the one `before` it (this one was not
    processed, nor is it answered), or `max` (2**31-1, the first of the two GOAWAYs of a graceful shutdown; the second
    comes with the end). What is above it is not served. `then` closes the connection at once, answering nobody, or
    `finish`es what is under way, `answer` to this stream included, and closes after that.
    """

    code: int = 0
    last_stream: Literal["this", "before", "max"] = "this"
    then: Literal["close", "finish"] = "close"
    answer: Whole = Answer()
    early: bool = False
    data: bytes = b""
    """Debug data, `too_many_pings` for example."""


type Step = Answer | Break | Garbage | GoAway | GrpcAnswer | Stall | StreamReset


def oversized(size: int = 1024 * 1024) -> Answer:
    """An answer with one header field of that many bytes."""
    return Answer(headers=[("X-Oversized", "x" * size)])


def is_early(step: Step) -> bool:
    """Whether the step is taken as soon as the request's header is there."""
    return not isinstance(step, Break | Garbage) and step.early


def begun(answer: Whole, when: str) -> bytes:
    """The bytes of HTTP/1.1 of an answer that gets no further than this; raises ValueError for gRPC."""
    if isinstance(answer, GrpcAnswer):
        raise ValueError("GrpcAnswer exists only over HTTP/2")
    head, body = answer.head(), b"".join(answer.body_pieces())
    until = {"half-header": head[: len(head) // 2], "header": head, "body": head + body[: len(body) // 2]}
    return until.get(when, b"")
