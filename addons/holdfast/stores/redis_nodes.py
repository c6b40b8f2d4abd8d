"""The servers behind a URL: one, the master that Sentinels name, or the nodes of a cluster.

The cluster's map of slots is kept here rather than by redis-py's cluster client, which tries again, sleeps and
discovers the cluster anew within the caller's time. Here a caller is told at once, and the map is renewed behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis, Sentinel, SSLConnection
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from holdfast.stores.circuit import Circuit
from holdfast.stores.redis_url import RedisPlace

type Address = tuple[str, int]
type Client = Any  # redis-py's, which is annotated in part only


class Node:
    """One server: its client, its circuit, and the number of calls that may be under way."""

    def __init__(self, name: str, client: Client, calls: int, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.client = client
        self.circuit = Circuit(monotonic)
        self.gate = asyncio.Semaphore(calls)
        self.doubts = 0  # calls that may have failed for another reason

    def connection(self) -> Connection:
        """One of one's own, outside the pool; not connected yet."""
        return cast(Connection, self.client.connection_pool.make_connection())

    async def drop_idle(self) -> None:
        """Connections that nobody uses now: the next ones go where the name, or the Sentinels, then point."""
        await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        await self.client.aclose()
        await self.client.connection_pool.disconnect()


class Nodes:
    """Which node has a key. `connections` bounds the calls under way to each node."""

    def __init__(
        self, place: RedisPlace, connections: int, timeout: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._place = place
        self._connections = connections
        self._timeout = timeout
        self._monotonic = monotonic
        self._by_address: dict[Address, Node] = {}
        self._slots: list[tuple[int, int, Node]] = []  # (first, last, who has them)
        self._one: Node | None = None
        self._sentinel: Any = None
        self.is_cluster = place.kind == "cluster"

    def all(self) -> Iterable[Node]:
        return list(self._by_address.values())

    def of(self, key: str) -> Node:
        """The node to ask for this key; any that is known while the map is not."""
        if not self.is_cluster:
            if self._one is None:
                self._one = self._node(self._place.servers[0])
            return self._one
        slot = key_slot(key.encode())
        for first, last, node in self._slots:
            if first <= slot <= last:
                return node
        return self._node(self._place.servers[0])

    def moved(self, key: str, address: Address) -> Node:
        """The cluster says that another node has the key's slot now."""
        slot = key_slot(key.encode())
        node = self._node(address)
        self._slots.insert(0, (slot, slot, node))
        return node

    def at(self, address: Address) -> Node:
        return self._node(address)

    async def refresh(self) -> None:
        """Ask the cluster's nodes, one after the other, who has which slots; nothing changes if none answers."""
        if not self.is_cluster:
            return
        known = sorted(self._by_address.values(), key=lambda node: node.circuit.is_open)
        for node in [*known, *(self._node(seed) for seed in self._place.servers)]:
            try:
                async with asyncio.timeout(self._timeout * 2):
                    rows = await _slots_of(node.client)
            except (OSError, TimeoutError, ValueError, RedisError):
                continue
            self._learn(rows, node)
            return

    async def close(self) -> None:
        for node in self.all():
            await node.close()
        for client in self._sentinel.sentinels if self._sentinel else ():
            await client.aclose()
        self._by_address.clear()
        self._slots, self._one = [], None

    def _learn(self, rows: list[list[Any]], asked: Node) -> None:
        found = []
        for first, last, master, *_ in rows:
            host = (master[0] or b"").decode() or asked.name.rpartition(":")[0]
            found.append((int(first), int(last), self._node((host, int(master[1])))))
        if found:
            self._slots = found

    def _node(self, address: Address) -> Node:
        node = self._by_address.get(address)
        if node is None:
            node = Node(f"{address[0]}:{address[1]}", self._client(address), self._connections, self._monotonic)
            self._by_address[address] = node
        return node

    def _client(self, address: Address) -> Client:
        place = self._place
        options: dict[str, Any] = {
            **place.credentials(),
            **place.tls_options(),
            "db": place.database,
            "protocol": 2,
            "socket_timeout": None,  # each call as a whole is bounded by its caller
            "socket_connect_timeout": None,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),  # what may have been done is not done twice behind our back
        }
        if place.kind == "sentinel":
            limits = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
            login = {name: place.extra.get(f"sentinel_{name}") for name in ("username", "password")}
            self._sentinel = cast(Any, Sentinel)(
                place.servers, sentinel_kwargs={**limits, **login, **place.tls_options(), "ssl": place.tls}
            )
            return self._sentinel.master_for(place.service, redis_class=Redis, **options, ssl=place.tls)
        options |= {"connection_class": SSLConnection} if place.tls else {}
        return Redis(connection_pool=ConnectionPool(host=address[0], port=address[1], **options))


async def _slots_of(client: Client) -> list[list[Any]]:
    # Sent as two words, since redis-py turns the answer of the command that it knows into something else.
    rows = await client.execute_command("CLUSTER", "SLOTS")
    if not isinstance(rows, list):
        raise ValueError("CLUSTER SLOTS was not answered with a list")
    return rows
