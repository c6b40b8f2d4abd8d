"""A real Redis that keeps nothing on disk: a restart is an empty Redis, which is what a cache must cope with."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.services.process import LOOPBACK, Service, ServiceError


class RedisServer(Service):
    """One Redis. `options` are further command-line options, e.g. ["--maxmemory", "2mb"]."""

    name = "Redis"
    ready_within = 20.0

    def __init__(self, data: Path, port: int, options: Sequence[str] = ()) -> None:
        super().__init__(data, port)
        self.options = tuple(options)

    @property
    def url(self) -> str:
        """redis://host:port/0."""
        return f"redis://{self.address}/0"

    def prepare(self) -> None:
        """Nothing to prepare."""

    def command(self) -> list[str]:
        """The server in the foreground, without persistence."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise ServiceError("no redis-server found: install Debian's redis-server")
        place = ["--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.data)]
        return [binary, *place, "--save", "", "--appendonly", "no", "--daemonize", "no", *self.options]

    def answers(self) -> bool:
        """Whether PING is answered."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
