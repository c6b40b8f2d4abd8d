"""Asking the control surface: whole answers in time, or why not."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from holdfast.commands.control import Surface
from holdfast.top.reading import Away, Refused, Watch, ask
from tests.services.process import free_port
from tests.unit.top.scrapes import metrics, requests

type Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(answer: Answer) -> Iterator[Surface]:
    """A server whose GETs are answered by this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Surface(f"http://127.0.0.1:{server.server_address[1]}", {"Authorization": "Bearer x"})
    finally:
        server.shutdown()
        server.server_close()


def say(call: BaseHTTPRequestHandler, status: int, body: str) -> None:
    call.send_response(status)
    call.send_header("Content-Length", str(len(body.encode())))
    call.end_headers()
    call.wfile.write(body.encode())


def pages(**answers: tuple[int, str]) -> Answer:
    """By the path; 404 for the others."""
    return following(answers)


def following(answers: Mapping[str, tuple[int, str]]) -> Answer:
    """The same, as they are when asked for."""
    return lambda call: say(call, *answers.get(call.path[1:].partition("?")[0], (404, "{}")))


def until(question: Callable[[], object], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not question():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.005)


def test_a_page_is_asked_for_with_the_token() -> None:
    """The status comes with the body, also where it is an error's."""
    seen = []

    def answer(call: BaseHTTPRequestHandler) -> None:
        seen.append((call.path, call.headers["Authorization"]))
        say(call, 503, "lost")

    with serving(answer) as surface:
        assert ask(surface, "/health") == (503, b"lost")
    assert seen == [("/health", "Bearer x")]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_told_from_an_absence(status: int) -> None:
    """To wait does not help."""
    answer = pages(metrics=(status, '{"detail": "send the token"}'))
    with serving(answer) as surface, pytest.raises(Refused, match="send the token"):
        ask(surface, "/metrics")


def test_nobody_there_is_away() -> None:
    """In the words of the system."""
    with pytest.raises(Away, match="Connection refused"):
        ask(Surface(f"http://127.0.0.1:{free_port()}"), "/metrics")


def drip(call: BaseHTTPRequestHandler) -> None:
    """A byte now and then: every single read is in time."""
    call.send_response(200)
    call.send_header("Content-Length", "100000")
    call.end_headers()
    for _ in range(100):
        call.wfile.write(b"x")
        time.sleep(0.05)


def silence(_: BaseHTTPRequestHandler) -> None:
    time.sleep(5)


@pytest.mark.parametrize("answer", [drip, silence])
def test_patience_is_over_the_whole_answer(answer: Answer) -> None:
    """A server that is stuck, or slow without end, holds up nobody."""
    with serving(answer) as surface:
        begun = time.monotonic()
        with pytest.raises(Away, match=r"no answer within 0\.2 s"):
            ask(surface, "/metrics", 0.2)
        assert time.monotonic() - begun < 4  # the dripping takes 5


def test_what_speaks_no_http_is_away() -> None:
    """Another service on that port."""

    class Shout(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"+OK hello\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Shout) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(Away):
            ask(Surface(f"http://127.0.0.1:{server.server_address[1]}"), "/metrics")


GOOD = {
    "metrics": (200, metrics(requests(ok=5))),
    "health": (200, json.dumps({"status": "ok", "gateway": {"status": "ok"}, "upstream": {}})),
    "captures": (200, json.dumps({"captures": [{"id": "1", "path": "/a"}]})),
}


@contextmanager
def watching(answer: Answer) -> Iterator[Watch]:
    """A watch of a server that answers so."""
    with serving(answer) as surface, Watch(surface, 0.05) as watch:
        yield watch


def test_two_readings_make_a_rate() -> None:
    """All three pages are in the frame."""
    with watching(pages(**GOOD)) as watch:
        watch.wait(2)
        frame = watch.frame()
        assert frame.requests
        assert frame.captures
        assert (frame.requests.rate, frame.gateway.status, frame.captures[0].path) == (0, "ok", "/a")
        assert frame.gateway.address.startswith("127.0.0.1:")


def test_a_slow_page_does_not_hold_up_the_others() -> None:
    """/health waits for servers that are gone: the rates go on."""
    over = threading.Event()

    def answer(call: BaseHTTPRequestHandler) -> None:
        if call.path == "/health":
            over.wait(10)
        pages(**GOOD)(call)

    def rate(watch: Watch) -> float | None:
        frame = watch.frame()
        return frame.requests.rate if frame.requests else None

    with watching(answer) as watch:
        until(lambda: rate(watch) is not None)
        assert watch.frame().gateway.status == "unknown"
        over.set()
        until(lambda: watch.frame().gateway.status == "ok")


def test_an_outbox_that_is_not_there_is_no_fault() -> None:
    """404: the profile has no failure_sink."""
    with watching(pages(**{k: v for k, v in GOOD.items() if k != "captures"})) as watch:
        watch.wait(1)
        frame = watch.frame()
        assert (frame.captures, frame.gateway.troubles) == (None, ())


def test_a_page_that_fails_is_named() -> None:
    """The rest is shown."""
    with watching(pages(**GOOD | {"captures": (500, "{}"), "health": (200, "<html>")})) as watch:
        watch.wait(1)
        assert watch.frame().gateway.troubles == ("/health: answered 200", "/captures: answered 500")


@pytest.mark.parametrize(
    ("answer", "why"),
    [((404, "{}"), "/metrics was answered 404: is this a gateway?"), ((200, "<html>"), "what /metrics says")],
)
def test_somebody_else_on_the_port_is_no_gateway(answer: tuple[int, str], why: str) -> None:
    """And is said so."""
    with watching(pages(metrics=answer)) as watch:
        watch.wait(1)
        assert watch.frame().gateway.away.startswith(why)


def test_a_gateway_that_goes_and_comes_back_is_followed() -> None:
    """Away with the reason meanwhile; what failed meanwhile is no news afterwards, though nothing newer is known."""
    answers, slow, asked, over = dict(GOOD), threading.Event(), threading.Event(), threading.Event()

    def answer(call: BaseHTTPRequestHandler) -> None:
        if call.path == "/health" and slow.is_set():
            asked.set()
            over.wait(10)
        following(answers)(call)

    with watching(answer) as watch:
        until(lambda: watch.frame().gateway.status == "ok")
        answers.clear()
        until(lambda: watch.frame().gateway.away and watch.frame().gateway.status == "away" and watch._health.fault)
        slow.set()
        assert asked.wait(10)
        answers.update(GOOD)
        until(lambda: not watch.frame().gateway.away)
        until(lambda: not watch._captures.fault)
        assert (watch.frame().gateway.status, watch.frame().gateway.troubles) == ("unknown", ())
        over.set()
        until(lambda: watch.frame().gateway.status == "ok")


def test_a_gateway_that_refuses_from_the_start_is_not_asked_to_change_its_mind() -> None:
    """One that has answered before may have a new token, and is away."""
    answers: dict[str, tuple[int, str]] = {"metrics": (401, '{"detail": "send the token"}')}
    with watching(following(answers)) as watch:
        watch.wait(1)
        assert (watch.is_refused, watch.fault) == (True, "send the token")
        answers.update(GOOD)
        until(lambda: not watch.fault)
        answers["metrics"] = (401, "{}")
        until(lambda: watch.fault)
        assert not watch.is_refused
        assert watch.frame().gateway.away == "/metrics was answered 401"
