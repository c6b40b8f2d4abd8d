"""The listening socket: opened when the whole chain runs, closed when it is to end.

mitmproxy binds before scripts are loaded. `holdfast run` therefore starts with `server=false` and has `Gate` open it;
elsewhere, and until mitmproxy's own addons behind the gate have started too, a client that comes early waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Client
from mitmproxy.proxy.mode_servers import AsyncioServerInstance
from mitmproxy.utils import asyncio_utils

from holdfast.ending import end_process
from holdfast.garbage import resume
from holdfast.gateway import Gateway

logger = logging.getLogger(__name__)
BACKLOG = 4096


class Gate:
    """The very last addon of the chain: when it runs, everything before it does."""

    name = "holdfast-gate"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def client_connected(self, client: Client) -> Awaitable[object] | None:
        """Nothing is read from a client before everything runs; awaited by mitmproxy if it is something to wait for."""
        serving = self._gateway.serving
        return None if serving.is_set() else serving.wait()

    async def running(self) -> None:
        if self._gateway.role == "gateway":
            await self._open()
        self._gateway.phase = "serving"
        # Those behind this one have their turn first: requests need what they set up.
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._gateway.serving.set()
        resume()

    async def _open(self) -> None:
        if not ctx.options.server:
            ctx.options.update(server=True)
            await _bound()
        _widen_backlogs()
        addresses = [f"{host}:{port}" for host, port, *_ in _proxyserver().listen_addrs()]
        servers = [str(endpoint) for endpoint in self._gateway.leg.endpoints]
        logger.info("serving", extra={"listen": ",".join(addresses), "upstream": ",".join(servers)})


async def _bound() -> None:
    """Wait until the sockets listen; a socket that cannot be bound ends the process, like any other failed start."""
    proxyserver = _proxyserver()
    await proxyserver.setup_servers()
    for server in proxyserver.servers:
        fault = server.last_exception
        if fault:
            why = os.strerror(fault.errno) if isinstance(fault, OSError) and fault.errno else str(fault)
            address = f"{ctx.options.listen_host or '*'}:{ctx.options.listen_port}"
            end_process(f"holdfast: cannot listen on {address}: {why}; choose another with --listen", 1)


def _widen_backlogs() -> None:
    """asyncio's backlog of 100 makes a burst of clients wait for second-long repeats of their SYN."""
    instances = [server for server in _proxyserver().servers if isinstance(server, AsyncioServerInstance)]
    for listener in (each for instance in instances for each in instance._servers):
        for bound in getattr(listener, "sockets", ()):  # UDP listeners have none
            with socket.socket(fileno=os.dup(bound.fileno())) as same:
                same.listen(BACKLOG)


def close_listener() -> None:
    """Accept no further connection; those that exist go on."""
    asyncio_utils.create_task(_proxyserver().servers.update([]), name="close listener", keep_ref=True)


def _proxyserver() -> Proxyserver:
    proxyserver = ctx.master.addons.get("proxyserver")
    assert isinstance(proxyserver, Proxyserver)
    return proxyserver
