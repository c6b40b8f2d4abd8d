"""Real Redis servers as a cluster, shared by the tests that do not break it; an empty audit of either store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.audit_cases import audit, clock, place
from tests.services.redis import RedisCluster

__all__ = ["audit", "clock", "place", "redis_cluster"]


@pytest.fixture(scope="session")
def redis_cluster(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three nodes. Where there is a Redis to test with there is a redis-server to start."""
    assert redis_url
    with RedisCluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster
