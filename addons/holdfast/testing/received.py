"""What arrived at a `MisbehavingOrigin`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Received:
    """One request as far as it arrived; `complete` says whether its last byte did.

    Of an HTTP/1.1 request that broke off in its header only `body` is set, to the bytes there were. Over HTTP/2 the
    names in `headers` are in lower case, and `:authority` is the first of them, as `host`.
    """

    connection: int
    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    """What has arrived of it by the time that the step is taken, or that the request ended in another way."""
    complete: bool = False
    at: float = 0.0
    """Epoch seconds."""
    protocol: str = "HTTP/1.1"
    """`HTTP/1.1` or `HTTP/1.0`, as the request line says; or `HTTP/2`."""
    stream: int = 0
    """The HTTP/2 stream it came on; 0 over HTTP/1.1."""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    """The fields after the body."""
    reset: int | None = None
    """The error code with which the client ended the stream before its answer was whole (RFC 9113 section 7)."""
    refused: bool = False
    """It was a stream too many for `max_streams`, or came after a GOAWAY: no step was taken for it."""

    def header(self, name: str, default: str = "") -> str:
        """The first value of a header, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), default)
