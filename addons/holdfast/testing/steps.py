"""What a `MisbehavingOrigin` does next: the steps, and the plans that steps are put together into.

A plan is one step (repeated for ever), a list of steps (taken in order; the last one then repeats), a mapping from a
path to either of these (`"*"` for the rest), or a function of the request that returns a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

type When = Literal["accept", "request", "half-header", "header", "body"]
type How = Literal["reset", "fin", "hang"]


@dataclass
class Received:
    """One request as far as it arrived; `complete` says whether its last byte did.

    Of a request that broke off in its header only `body` is set, to the bytes there were.
    """

    connection: int
    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    at: float = 0.0
    """Epoch seconds."""

    def header(self, name: str, default: str = "") -> str:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), default)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    `pace` seconds pass between `pieces` of the body, `delay` before the first byte. `early` answers as soon as the
    request's header is there, and reads the body afterwards. `interim` goes out before the answer, 1xx for example.
    `hang_up` closes the connection after the answer without having announced it, so that the client is left with a
    stale idle connection; `announce` adds `Connection: close` and then closes it.
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

    def head(self) -> bytes:
        """The status line and the header fields, the empty line included."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in self.headers)]
        bodiless = self.status in {204, 304}
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif not bodiless:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.announce:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def body_pieces(self) -> Iterator[bytes]:
        """The body as it goes out, in `pieces` parts, framed if `chunked`."""
        size = max(1, -(-len(self.body) // self.pieces))
        for start in range(0, len(self.body), size):
            piece = self.body[start : start + size]
            yield b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece
        if self.chunked:
            yield b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Break:
    """Stops at one point of the exchange, for good: by a reset, by an orderly FIN, or by silence.

    `when` is `accept` (before anything is read; with TLS before the handshake), `request` (read in full, nothing
    answered), `half-header`, `header` (all of it, no byte of the body) or `body` (half of it). `answer` is what had
    begun to go out. On a connection that is kept alive `accept` means the moment the next request has arrived.
    """

    when: When = "request"
    how: How = "reset"
    answer: Answer = Answer(body=b"x" * 1000)

    def sent(self) -> bytes:
        """The bytes that still go out before the break."""
        head, body = self.answer.head(), b"".join(self.answer.body_pieces())
        until = {"half-header": head[: len(head) // 2], "header": head, "body": head + body[: len(body) // 2]}
        return until.get(self.when, b"")


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answers with bytes that are no HTTP, then closes."""

    data: bytes = b"\x00\xff\x13garbage, not HTTP\r\n\r\n"


type Step = Answer | Break | Garbage
type Steps = Step | Sequence[Step]
type Plan = Steps | Mapping[str, Steps] | Callable[[Received], Step]


def oversized(size: int = 1024 * 1024) -> Answer:
    """An answer with one header field of that many bytes."""
    return Answer(headers=[("X-Oversized", "x" * size)])


class Script:
    """Takes a plan step by step."""

    def __init__(self, plan: Plan) -> None:
        self._choose = plan if callable(plan) else None
        by_path = plan if isinstance(plan, Mapping) else {"*": plan}
        self._queues = {path: _steps(steps) for path, steps in by_path.items()} if self._choose is None else {}

    def on_accept(self) -> Break | None:
        """The step for a connection that has just come in, if the plan breaks it before any byte is read."""
        queue = self._queues.get("*", [])
        step = queue[0] if queue else None
        if isinstance(step, Break) and step.when == "accept":
            _take(queue)
            return step
        return None

    def next(self, received: Received) -> Step:
        """The step for this request; a path that no plan knows is answered with 200."""
        if self._choose is not None:
            return self._choose(received)
        path = received.target.split("?")[0]
        queue = self._queues.get(path) or self._queues.get("*")
        return _take(queue) if queue else Answer()


def _steps(steps: object) -> list[Step]:
    if isinstance(steps, Answer | Break | Garbage):
        return [steps]
    if isinstance(steps, Sequence) and steps and all(isinstance(step, Answer | Break | Garbage) for step in steps):
        return list(steps)
    raise ValueError(f"a plan is made of Answer, Break and Garbage, not {steps!r}")


def _take(queue: list[Step]) -> Step:
    return queue.pop(0) if len(queue) > 1 else queue[0]
