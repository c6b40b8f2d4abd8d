"""upstream_http1: an answer is handed on in one piece only to who has asked in one."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.http import Request
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpEvent, RequestData, RequestEndOfMessage, RequestHeaders

from holdfast.engine.upstream_http1 import UpstreamHttp1
from holdfast.engine.whole import WholeRequest

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
BARE = b"HTTP/1.1 204 No Content\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connection:
    """To a server that answers as it is told."""

    def __init__(self) -> None:
        context = Context(Client(peername=("a", 1), sockname=("b", 2), state=ConnectionState.OPEN), Options())
        context.server = self.server = Server(address=("x", 80))
        self.server.state = ConnectionState.OPEN
        self.http = UpstreamHttp1(context)
        list(self.http.handle_event(events.Start()))

    def send(self, *sent: HttpEvent) -> bytes:
        """What goes out."""
        out = [each for event in sent for each in self.http.handle_event(event)]
        return b"".join(each.data for each in out if isinstance(each, commands.SendData))

    def receive(self, data: bytes) -> list[str]:
        """The events that it becomes."""
        got: list[Any] = list(self.http.handle_event(events.DataReceived(self.server, data)))
        return [type(each.event).__name__ for each in got]


def request(method: str = "GET", **fields: str) -> Request:
    """Over HTTP/1.1."""
    made = Request.make(method, "http://x/", headers={name.replace("_", "-"): value for name, value in fields.items()})
    made.http_version = "HTTP/1.1"
    return made


@pytest.mark.parametrize("before", [CHUNKED, BARE, PLAIN], ids=["chunked", "bare", "plain"])
def test_what_was_asked_before_says_nothing_of_the_next(before: bytes) -> None:
    """Whoever asks in parts gets parts, whatever has gone over the connection."""
    to = Connection()
    assert to.send(WholeRequest(1, request(), b"")).startswith(b"GET / HTTP/1.1\r\n")
    to.receive(before)
    assert to.http.idle
    to.send(RequestHeaders(3, request(), True), RequestEndOfMessage(3))
    assert to.receive(PLAIN) == ["ResponseHeaders", "ResponseData", "ResponseEndOfMessage"]
    assert to.http.idle


@pytest.mark.parametrize("before", [CHUNKED, BARE, PLAIN], ids=["chunked", "bare", "plain"])
def test_a_connection_is_busy_until_the_request_has_gone_out_whole(before: bytes) -> None:
    """However early the answer: what goes on it next would be taken for the rest of the body."""
    to = Connection()
    to.send(WholeRequest(1, request(), b""))
    to.receive(before)
    to.send(RequestHeaders(3, request("POST", content_length="6"), False), RequestData(3, b"abc"))
    to.receive(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 1\r\n\r\nx")
    assert not to.http.idle
    assert to.send(RequestData(3, b"def")) == b"def"
    to.send(RequestEndOfMessage(3))
    assert to.http.idle


def test_an_answer_that_comes_in_one_piece_goes_on_in_one() -> None:
    """And the connection can take the next request before anybody has heard of it."""
    to = Connection()
    assert to.send(WholeRequest(1, request("POST", content_length="3"), b"abc")).endswith(b"\r\n\r\nabc")
    assert to.receive(PLAIN) == ["WholeResponse"] and to.http.idle
    to.send(WholeRequest(3, request(), b""))
    assert to.receive(PLAIN[:-1]) == ["ResponseHeaders", "ResponseData"] and not to.http.idle
    assert to.receive(PLAIN[-1:]) == ["ResponseData", "ResponseEndOfMessage"] and to.http.idle
