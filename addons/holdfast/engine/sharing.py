"""Several processes on one port: mitmproxy's listening sockets, opened with SO_REUSEPORT.

The kernel gives each connection to one of them, by its addresses and ports. A socket that is handed down and shared
would do worse: whoever is quickest takes most of what comes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mitmproxy.proxy import mode_servers

from holdfast.engine.selfcheck import Expected, differences
from holdfast.errors import EngineMismatch

_SERVER = mode_servers.AsyncioServerInstance
_EXPECTED: Expected = (
    (_SERVER.listen, "self host port"),
    (_SERVER.handle_stream, "self reader writer"),
)


def share_ports() -> None:
    """From now on, in this process. EngineMismatch where that cannot be done."""
    if faults := differences(_EXPECTED):
        raise EngineMismatch(f"this mitmproxy does not fit --workers: {'; '.join(faults)}")
    stock = _SERVER.listen

    async def listen(self: mode_servers.AsyncioServerInstance[Any], host: str, port: int) -> list[asyncio.Server]:
        if self.mode.transport_protocol != "tcp":
            return await stock(self, host, port)  # type: ignore[return-value]  # somebody's own --mode
        return [await asyncio.start_server(self.handle_stream, host, port, reuse_port=True)]

    _SERVER.listen = listen  # type: ignore[method-assign, assignment]
