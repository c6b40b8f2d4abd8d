"""Starts the control surface with the chain and stops it with it.

Its address is taken before the gateway serves, so that one that cannot be had is told at start. Who calls is answered
once the gateway serves: the web server, and all it shows, take as long to load as the rest of the chain, and no client
should wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

from mitmproxy.utils import asyncio_utils

from holdfast.ending import end_process
from holdfast.gateway import Gateway
from holdfast.policy.endpoint import base_url, parse_listen

if TYPE_CHECKING:
    from tornado.httpserver import HTTPServer

    from holdfast.workers.worker import Worker

logger = logging.getLogger(__name__)
_BACKLOG = 128


class AdminListener:
    """Part of every chain; does nothing where `admin.listen` is null."""

    name = "holdfast-admin"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sockets: list[socket.socket] = []
        self._server: HTTPServer | None = None
        self._task: asyncio.Task[None] | asyncio.Task[HTTPServer] | None = None

    def running(self) -> None:
        listen, worker = self._gateway.profile.admin.listen, self._gateway.worker
        if not listen:
            return
        if worker:
            self._task = asyncio_utils.create_task(self._serve_once_it_leads(worker), name="admin", keep_ref=True)
            return
        self._sockets = admin_sockets(listen)
        logger.info("admin listens", extra={"address": listen, "page": f"{base_url(listen)}/"})
        self._task = asyncio_utils.create_task(self._serve(self._sockets), name="admin", keep_ref=True)

    async def done(self) -> None:
        if self._task:
            self._task.cancel()
        if self._server:
            self._server.stop()
            await self._server.close_all_connections()
        for each in self._sockets:
            each.close()

    async def _serve(self, sockets: Sequence[socket.socket]) -> HTTPServer:
        """Those who have called meanwhile are answered first."""
        await self._gateway.serving.wait()
        try:
            # In a thread: clients are being served.
            server = await asyncio.to_thread(import_module, "holdfast.admin.server")
            self._server = made = cast("HTTPServer", server.serve(self._gateway, sockets))
        except ImportError as e:
            end_process(f"holdfast: the control surface cannot be loaded: {e}", 1)
        return made

    async def _serve_once_it_leads(self, worker: Worker) -> None:
        """The parent has the sockets: calls wait there while nobody leads."""
        await worker.leading.wait()
        server = await self._serve(worker.admin)
        logger.info("admin listens", extra={"address": self._gateway.profile.admin.listen})
        await worker.orphaned.wait()
        server.stop()  # at once: the next start wants the address


def admin_sockets(listen: str) -> list[socket.socket]:
    """That listen there; an address that cannot be had ends the process, like any other failed start."""
    try:
        return _bound(*parse_listen(listen))
    except OSError as e:
        end_process(f"holdfast: admin.listen {listen}: {e.strerror or e}; choose another with --admin", 1)


def _bound(host: str, port: int) -> list[socket.socket]:
    """One socket that listens for each address of this host. OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as undo:
        made = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            each = undo.enter_context(socket.socket(family, kind, protocol))
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.setblocking(False)
            try:
                each.bind(address)
            except OSError as e:
                if e.errno != errno.EADDRNOTAVAIL or len(found) == 1:
                    raise
                each.close()  # in containers `localhost` often has an IPv6 address that the machine has not
                continue
            each.listen(_BACKLOG)
            made.append(each)
        if not made:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        undo.pop_all()
    return made
