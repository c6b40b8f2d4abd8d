"""The web server of the control surface: tornado, on mitmproxy's event loop."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tornado.httpserver import HTTPServer
from tornado.web import Application

from holdfast.admin.pages import routes
from holdfast.gateway import Gateway
from holdfast.process_metrics import register_process

_LARGEST = 1 << 20  # bytes of a body: nothing here takes an upload


def serve(gateway: Gateway, sockets: Sequence[socket.socket]) -> HTTPServer:
    """Answers whoever calls these sockets, which listen already."""
    if gateway.worker is None:  # of several workers each has told already, whichever serves this
        register_process(gateway.registry)
    server = HTTPServer(Application(routes(gateway), log_function=lambda _: None), max_body_size=_LARGEST)
    server.add_sockets(sockets)
    return server
