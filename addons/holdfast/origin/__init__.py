"""The sample backend behind `holdfast origin`: something to put a gateway in front of, that breaks when it is told to.

It answers `GET /api/health`, `GET` and `POST /api/users`, `GET`, `PUT` and `DELETE /api/users/{id}` and `GET /api/data`
(`?size=10MiB` streams that many bytes) in JSON. Users may be cached for ten seconds, longer while they are fetched anew
or the origin fails; they have an ETag and the surrogate keys `users` and `user-{id}`. And it misbehaves on demand:

- one request: `X-Origin-Fail: 503`, `X-Origin-Delay: 2s`, `X-Origin-Hang: 1`, or `?fail=503`, `?delay=2s`, `?hang=1`;
- every request: `POST /_control {"fail": 503, "delay": "2s", "hang": true, "reset": true, "times": 2}`, where `times`
  ends it after that many requests, `{"refuse": "5s"}` closes the listening socket for that long, and `{}` is peace
  again. `GET /_control` shows what is in force.

What arrived is on `GET /_log` (the newest last; `?last=N`), `DELETE /_log` forgets it, and every request is one line
on standard output. Nothing here needs mitmproxy.
"""

from __future__ import annotations

import asyncio
import logging
import signal

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from holdfast.errors import HoldfastError
from holdfast.origin.handlers import ROUTES, say
from holdfast.origin.state import PEACE, OriginState

LARGEST_BODY = 4 * 2**30


class Origin:
    """The running backend: `await start()`, then `port` says where it listens; `stop()` ends it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.state = OriginState()
        self._server: HTTPServer | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        """Listen; with port 0 the system chooses, and `port` is the choice. Raises OSError if the port is taken."""
        logging.getLogger("tornado.access").setLevel(logging.ERROR)  # our own line says more
        self._listen()

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._reopening is not None:
            self._reopening.cancel()
        self.state.tell(PEACE)
        self._close()
        await asyncio.gather(*self._closing)

    def refuse(self, seconds: float) -> None:
        """Close the listening socket for that long, and every connection with it."""
        self._close()
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = asyncio.get_running_loop().call_later(seconds, self._listen)

    def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            closing = asyncio.ensure_future(server.close_all_connections())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _listen(self) -> None:
        sockets = bind_sockets(self.port, self.host)
        self.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(self._application(), max_body_size=LARGEST_BODY)
        self._server.add_sockets(sockets)

    def _application(self) -> Application:
        shared = {"state": self.state, "refuse": self.refuse}
        return Application([(path, handler, shared) for path, handler in ROUTES.items()])


async def serve(host: str = "127.0.0.1", port: int = 3000) -> None:
    """Serve until SIGINT or SIGTERM."""
    origin = Origin(host, port)
    await origin.start()
    say(f"origin listening on http://{host}:{origin.port}")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await origin.stop()


def main_origin(host: str, port: int) -> None:
    """What the command line calls; returns when the origin was told to stop. HoldfastError if it cannot listen."""
    try:
        asyncio.run(serve(host, port))
    except OSError as error:
        why = error.strerror or error
        raise HoldfastError(f"the origin cannot listen on {host}:{port}: {why}; choose another with --port") from error
