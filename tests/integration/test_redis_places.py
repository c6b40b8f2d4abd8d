"""Every kind of Redis that a URL can name: with a password, with TLS, behind Sentinels, in a cluster that breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from holdfast.errors import StoreUnavailable
from holdfast.stores.tiered import Mode, TieredStore
from holdfast.testing import self_signed
from tests.contract.responses import PLAIN, body_of, fill
from tests.integration.redis_load import BOUND, Load, bare, gateway, until, until_mode
from tests.services.redis import RedisCluster, RedisSentinel, RedisServer


@pytest.fixture
def cluster(redis_url: str, tmp_path: Path) -> Iterator[RedisCluster]:
    """One of one's own, that goes on serving what is left of it."""
    assert redis_url
    with RedisCluster(tmp_path / "cluster", ["--cluster-require-full-coverage", "no"]) as running:
        yield running


async def works(store: TieredStore, key: str = "k") -> None:
    """Filled, found, purged."""
    assert store.mode() is Mode.FULL, store.health().detail
    await fill(store, key, tags=("t",))
    assert await body_of(store, key) == b"hello"
    await store.purge(["t"], soft=False)
    assert await body_of(store, key) is None


# --- one server ---


async def test_a_password_and_a_database(redis_url: str, tmp_path: Path) -> None:
    """As the URL has them, percent-encoding undone; a wrong one is an outage that says so."""
    assert redis_url
    with RedisServer(tmp_path / "redis", RedisServer.free_port(), ["--requirepass", "p@ss/word"]) as server:
        async with gateway(f"redis://:p%40ss%2Fword@{server.address}/3") as store:
            await works(store)
        async with gateway(f"redis://:guessed@{server.address}/3") as store:
            assert store.mode() is Mode.ALONE
            assert "guessed" not in store.health().detail
            assert "password" in store.health().detail
            await fill(store, "k")


async def test_tls(redis_url: str, tmp_path: Path) -> None:
    """The server is verified, unless one says not to."""
    assert redis_url
    certificate = self_signed("localhost")
    trusted, key = certificate.write(tmp_path), tmp_path / "key.pem"
    key.write_bytes(certificate.key)
    port = RedisServer.free_port()
    files = ["--tls-cert-file", str(trusted), "--tls-key-file", str(key), "--tls-ca-cert-file", str(trusted)]
    options = ["--tls-port", str(port), *files, "--tls-auth-clients", "no"]
    with RedisServer(tmp_path / "redis", RedisServer.free_port(), options):
        async with gateway(f"rediss://localhost:{port}?ca={trusted}") as store:
            await works(store)
        async with gateway(f"rediss://127.0.0.1:{port}?verify=none") as store:
            await works(store)
        async with gateway(f"rediss://localhost:{port}") as store:
            assert store.mode() is Mode.ALONE
            assert "certificate" in store.health().detail.lower()


async def test_a_failover_behind_sentinels_is_followed(redis_url: str, tmp_path: Path) -> None:
    """Within seconds; what was stored before it is not used, since the replica may lack the last purges."""
    assert redis_url
    master = RedisServer(tmp_path / "master", RedisServer.free_port())
    replica = RedisServer(tmp_path / "replica", RedisServer.free_port(), ["--replicaof", "127.0.0.1", str(master.port)])
    with master, replica, RedisSentinel(tmp_path / "sentinel", RedisServer.free_port(), master) as sentinel:
        with sentinel.client() as client:
            known = ("SENTINEL", "REPLICAS", "mymaster")
            await until(lambda: str(replica.port) in str(client.execute_command(*known)), 20)
        async with gateway(sentinel.url) as store, Load(store) as load:
            await works(store)
            await fill(store, "before")
            await asyncio.to_thread(master.kill)
            await until_mode(store, Mode.ALONE)
            await until_mode(store, Mode.FULL, within=20)
            assert await body_of(store, "before") is None
            await works(store)
        assert load.slowest < BOUND


# --- a cluster ---


def key_of(cluster: RedisCluster, store: TieredStore, node: RedisServer, *, other: bool = False) -> str:
    """One whose entry lies on this node, or does not."""
    keys = (f"key-{number}" for number in range(10_000))
    return next(key for key in keys if (cluster.owner(store.redis.keys.entry(key)) is node) is not other)


@pytest.mark.parametrize("way", ["kill", "pause"])
async def test_a_node_of_a_cluster_that_fails_takes_only_its_own_entries(cluster: RedisCluster, way: str) -> None:
    """The others are served from Redis as before; those that it had are kept in memory meanwhile."""
    async with bare(cluster.url) as plain, gateway(cluster.url) as store, Load(store) as load:
        home = cluster.owner(store.redis.keys.purges)
        broken = next(node for node in cluster.nodes if node is not home)
        theirs, ours = key_of(cluster, store, broken), key_of(cluster, store, broken, other=True)
        await fill(plain, ours)
        await fill(plain, theirs)
        await asyncio.to_thread(getattr(broken, way))
        for _ in range(20):
            assert await body_of(plain, ours) == b"hello"
            found = await plain.get(theirs, PLAIN)
            assert found.response is None
            assert found.degraded
            await asyncio.sleep(0.05)
        assert not plain.health().ok
        assert store.mode() is Mode.FULL
        await fill(store, theirs, tags=("t",))
        found = await store.get(theirs, PLAIN)
        assert (found.level, found.response and found.response.body) == ("memory", b"hello")
        await store.purge(["t"], soft=False)
        assert await body_of(store, theirs) is None
        await asyncio.to_thread(broken.resume if way == "pause" else broken.start)
        await asyncio.to_thread(cluster.wait_ready)

        async def is_back() -> bool:
            return not (await plain.get(theirs, PLAIN)).degraded

        await until(is_back)
        await fill(plain, theirs)
        assert await body_of(plain, theirs) == b"hello"
    assert load.slowest < BOUND


async def test_without_the_node_of_the_purge_clock_the_memory_is_alone(cluster: RedisCluster) -> None:
    """What was purged cannot be known then."""
    async with gateway(cluster.url) as store, Load(store) as load:
        await works(store)
        home = cluster.owner(store.redis.keys.purges)
        home.pause()
        await until_mode(store, Mode.ALONE)
        with pytest.raises(StoreUnavailable):
            await store.purge(["t"], soft=False)
        await fill(store, "k")
        assert (await store.get("k", PLAIN)).level == "memory"
        home.resume()
        await until_mode(store, Mode.FULL)
        await works(store)
    assert load.slowest < BOUND


def move_slot(cluster: RedisCluster, key: str, to: RedisServer) -> None:
    """With the key in it, as resharding does."""
    slot, home = key_slot(key.encode()), cluster.owner(key)
    with home.client() as source, to.client() as target:
        ids = {home: source.cluster("myid").decode(), to: target.cluster("myid").decode()}
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[home])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
        time.sleep(0.3)  # some calls are redirected for the time being
        source.execute_command("MIGRATE", "127.0.0.1", to.port, key, 0, 2000)
        for node in (to, home, *cluster.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[to])


async def test_an_entry_that_moves_to_another_node_is_found_there(cluster: RedisCluster) -> None:
    """The cluster says where."""
    async with bare(cluster.url) as store:
        await fill(store, "k")
        entry = store.keys.entry("k")
        elsewhere = next(node for node in cluster.nodes if node is not cluster.owner(entry))
        await asyncio.to_thread(move_slot, cluster, entry, elsewhere)
        assert await body_of(store, "k") == b"hello"
        await fill(store, "k", b"new")
        assert await body_of(store, "k") == b"new"


async def test_when_the_purge_clock_moves_to_another_node_nothing_purged_comes_back(cluster: RedisCluster) -> None:
    """It begins anew there, and the channel is listened to there."""
    async with gateway(cluster.url) as one, gateway(cluster.url) as other:
        await fill(one, "before", tags=("t",))
        assert await body_of(other, "before") == b"hello"
        purges = one.redis.keys.purges
        elsewhere = next(node for node in cluster.nodes if node is not cluster.owner(purges))
        await asyncio.to_thread(move_slot, cluster, purges, elsewhere)
        await until_mode(one, Mode.FULL)
        await until_mode(other, Mode.FULL)
        await one.purge(["t"], soft=False)
        await until(lambda: other.lookup("before", PLAIN) is None)
        assert await body_of(other, "before") is None
        await works(one)
        await fill(one, "k", tags=("t",))
        assert await body_of(other, "k") == b"hello"
        await one.purge(["t"], soft=False)
        assert await until(lambda: other.lookup("k", PLAIN) is None) < 2
