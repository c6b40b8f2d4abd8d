"""A real Redis that keeps nothing on disk: a restart is an empty Redis, which is what a cache must cope with.

And a cluster of three of them, to be broken one by one:

    with RedisCluster(tmp_path) as cluster:
        cluster.owner("some key").pause()
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from redis import Redis
from redis.crc import key_slot

from tests.services.process import LOOPBACK, Service, ServiceError, free_port


class RedisServer(Service):
    """One Redis. `options` are further command-line options, e.g. ["--maxmemory", "2mb"]."""

    name = "Redis"
    ready_within = 20.0

    def __init__(self, data: Path, port: int, options: Sequence[str] = ()) -> None:
        super().__init__(data, port)
        self.options = tuple(options)
        self.bus = port + 10000  # where the nodes of a cluster talk to each other

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
        """Whether PING is answered, if only with the wish for a password."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def client(self) -> Redis:
        """For tests that look behind the curtain, or break something."""
        return Redis(host=LOOPBACK, port=self.port, socket_timeout=5)

    def restart(self) -> None:
        """Start it again, empty, and wait until it answers."""
        self.start().wait_ready()

    def demote(self) -> None:
        """Make it a read-only replica of nobody."""
        with self.client() as client:
            client.replicaof(LOOPBACK, "1")

    def promote(self) -> None:
        """Undo `demote`."""
        with self.client() as client:
            client.replicaof("NO", "ONE")


class RedisSentinel(RedisServer):
    """A Sentinel that watches a master under the name `mymaster`, alone responsible for a failover."""

    name = "Redis Sentinel"

    def __init__(self, data: Path, port: int, master: RedisServer) -> None:
        super().__init__(data, port)
        self.master = master

    @property
    def url(self) -> str:
        """redis+sentinel://host:port/mymaster."""
        return f"redis+sentinel://{self.address}/mymaster"

    @property
    def config(self) -> Path:
        """Sentinel writes its state into it."""
        return self.data / "sentinel.conf"

    def prepare(self) -> None:
        if not self.config.exists():
            lines = [
                f"port {self.port}",
                f"bind {LOOPBACK}",
                f"dir {self.data}",
                f"sentinel monitor mymaster {LOOPBACK} {self.master.port} 1",
                "sentinel down-after-milliseconds mymaster 500",
                "sentinel failover-timeout mymaster 2000",
            ]
            self.config.write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [*super().command()[:1], str(self.config), "--sentinel"]


class RedisCluster:
    """Three nodes without replicas, each with a third of the slots."""

    SLOTS = 16384

    def __init__(self, data: Path, options: Sequence[str] = ()) -> None:
        self.data = data
        self.options = tuple(options)
        self.nodes: list[RedisServer] = []

    @property
    def url(self) -> str:
        """redis+cluster://host:port,host:port,host:port."""
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def owner(self, key: str) -> RedisServer:
        """The node that has a key."""
        return self.nodes[key_slot(key.encode()) * len(self.nodes) // self.SLOTS]

    def start(self) -> Self:
        """All nodes, made a cluster; ready when this returns."""
        for attempt in range(3):
            self.nodes = [self._node(self.data / f"{attempt}-{number}", self.options) for number in range(3)]
            try:
                for node in self.nodes:
                    node.start()
                for node in self.nodes:
                    node.wait_ready()
                break
            except ServiceError:  # six ports at once: now and then another process is quicker
                self.stop()
                if attempt == 2:
                    raise
        self._join()
        return self.wait_ready()

    def _join(self) -> None:
        count = len(self.nodes)
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                first, last = (-(-self.SLOTS * edge // count) for edge in (number, number + 1))
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER", "MEET", LOOPBACK, other.port, other.bus)

    def wait_ready(self, within: float = 20.0) -> Self:
        """Until every node calls the cluster whole."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if all(self._is_whole(node) for node in self.nodes):
                return self
            time.sleep(0.05)
        raise ServiceError(f"the Redis cluster did not come together:\n{self.nodes[0].log_tail()}")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop(within=5)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_whole(self, node: RedisServer) -> bool:
        if not node.answers():
            return False
        with node.client() as client:
            told = client.execute_command("CLUSTER", "INFO")  # text or bytes, by the client's version
        facts = told.decode() if isinstance(told, bytes) else str(told)
        return "cluster_state:ok" in facts and f"cluster_known_nodes:{len(self.nodes)}" in facts

    @staticmethod
    def _node(data: Path, options: Sequence[str]) -> RedisServer:
        # The bus would be at the port plus 10000, which a free port may be too high for.
        port, bus = free_port(), free_port()
        cluster = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"]
        server = RedisServer(data, port, [*cluster, *options])
        server.bus = bus
        return server
