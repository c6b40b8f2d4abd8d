"""Starts the control surface with the chain and stops it with it: a tornado server on mitmproxy's event loop."""

from __future__ import annotations

import logging
import socket
from importlib.metadata import version

from mitmproxy.utils import asyncio_utils
from prometheus_client import Gauge, ProcessCollector
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from holdfast.admin.pages import routes
from holdfast.ending import end_process
from holdfast.gateway import Gateway
from holdfast.policy.endpoint import base_url, parse_listen
from holdfast.workers.worker import Worker

logger = logging.getLogger(__name__)


class AdminListener:
    """Part of every chain; does nothing where `admin.listen` is null."""

    name = "holdfast-admin"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._server: HTTPServer | None = None
        info = Gauge("holdfast_build_info", "Always 1.", ["version", "mitmproxy"], registry=gateway.registry)
        info.labels(version("holdfast"), version("mitmproxy")).set(1)
        ProcessCollector(registry=gateway.registry)  # process_start_time_seconds, memory, CPU time, open files

    def running(self) -> None:
        listen, worker = self._gateway.profile.admin.listen, self._gateway.worker
        if not listen:
            return
        # Small bodies only: nothing here takes an upload.
        server = HTTPServer(Application(routes(self._gateway), log_function=lambda _: None), max_body_size=1 << 20)
        self._server = server
        if worker:
            asyncio_utils.create_task(self._listen_once_it_leads(server, worker), name="admin", keep_ref=True)
            return
        server.add_sockets(admin_sockets(listen))
        logger.info("admin listens", extra={"address": listen, "page": f"{base_url(listen)}/"})

    async def done(self) -> None:
        if self._server:
            self._server.stop()
            await self._server.close_all_connections()

    async def _listen_once_it_leads(self, server: HTTPServer, worker: Worker) -> None:
        """The parent has the sockets: calls wait there while nobody leads."""
        await worker.leading.wait()
        server.add_sockets(worker.admin)
        logger.info("admin listens", extra={"address": self._gateway.profile.admin.listen})
        await worker.orphaned.wait()
        server.stop()  # at once: the next start wants the address


def admin_sockets(listen: str) -> list[socket.socket]:
    """That listen there; an address that cannot be had ends the process, like any other failed start."""
    host, port = parse_listen(listen)
    try:
        return bind_sockets(port, address=host)
    except OSError as e:
        end_process(f"holdfast: admin.listen {listen}: {e.strerror or e}; choose another with --admin", 1)
