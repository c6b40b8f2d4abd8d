"""Messages that are there in one piece, which is how most of them come: one event in place of three."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mitmproxy.http import Request, Response
from mitmproxy.proxy.layers.http import (
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)


@dataclass
class WholeRequest(HttpEvent):
    """A request without trailers, and its body."""

    request: Request
    content: bytes

    def parts(self) -> Iterator[HttpEvent]:
        """What it stands for."""
        yield RequestHeaders(self.stream_id, self.request, not self.content)
        yield from self.rest()

    def rest(self) -> Iterator[HttpEvent]:
        """The same without the header."""
        if self.content:
            yield RequestData(self.stream_id, self.content)
        yield RequestEndOfMessage(self.stream_id)


@dataclass
class WholeResponse(HttpEvent):
    """A final response without trailers, and its body."""

    response: Response
    content: bytes

    def parts(self) -> Iterator[HttpEvent]:
        """What it stands for."""
        yield ResponseHeaders(self.stream_id, self.response, not self.content)
        if self.content:
            yield ResponseData(self.stream_id, self.content)
        yield ResponseEndOfMessage(self.stream_id)
