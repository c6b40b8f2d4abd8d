"""The web server of the control surface: tornado, on mitmproxy's event loop."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from importlib.metadata import version

from mitmproxy.version import VERSION
from prometheus_client import Gauge, ProcessCollector
from tornado.httpserver import HTTPServer
from tornado.web import Application

from holdfast.admin.pages import routes
from holdfast.gateway import Gateway

_LARGEST = 1 << 20  # bytes of a body: nothing here takes an upload


def serve(gateway: Gateway, sockets: Sequence[socket.socket]) -> HTTPServer:
    """Answers whoever calls these sockets, which listen already."""
    info = Gauge("holdfast_build_info", "Always 1.", ["version", "mitmproxy"], registry=gateway.registry)
    info.labels(version("holdfast"), VERSION).set(1)
    ProcessCollector(registry=gateway.registry)  # process_start_time_seconds, memory, CPU time, open files
    server = HTTPServer(Application(routes(gateway), log_function=lambda _: None), max_body_size=_LARGEST)
    server.add_sockets(sockets)
    return server
