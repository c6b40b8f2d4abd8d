"""The addresses of a gateway of several workers, taken before a worker is started.

Sockets with SO_REUSEPORT would share a port with another gateway of the same user without a word. So the parent asks
for the address first as if it were to have it alone, and then keeps a socket bound to it, which never listens: the
number is ours for as long as the parent lives, also where any free one was asked for.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable

from holdfast.errors import HoldfastError
from holdfast.policy.endpoint import parse_listen

PATIENCE = 2.0  # seconds for the workers of a parent that was killed to let go of it
_AGAIN = 0.1


def take_port(listen: str) -> tuple[list[socket.socket], str]:
    """Sockets that keep the address, and the address with its number. HoldfastError if it cannot be had."""
    host, port = parse_listen(listen)
    try:
        _patiently(lambda: _closed(_bound(host, port, shared=False)))
        kept = _bound(host, port, shared=True)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise HoldfastError(f"cannot listen on {host or '*'}:{port}: {why}; choose another with --listen") from error
    number = kept[0].getsockname()[1]
    return kept, f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _bound(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """As asyncio binds them: for every address of a name, and for IPv4 and IPv6 where none is given."""
    found: list[socket.socket] = []
    try:
        for kind, _, _, _, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            each = socket.socket(kind, socket.SOCK_STREAM)
            found.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if kind == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            number = port or (found[0].getsockname()[1] if len(found) > 1 else 0)
            try:
                each.bind((address[0], number, *address[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or len(found) == 1:
                    raise
                found.pop().close()  # a name that has an address of a kind which this machine has not
    except BaseException:
        _closed(found)
        raise
    return found


def _closed(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _patiently(attempt: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN)
