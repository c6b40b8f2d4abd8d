"""Real Redis servers as a cluster, shared by the tests that do not break it; an empty audit of either store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from holdfast.audit import Audit
from holdfast.testing import FixedClock
from tests.contract.audit_cases import STORES, Place, a_place
from tests.services.redis import RedisCluster


@pytest.fixture(scope="session")
def redis_cluster(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three nodes. Where there is a Redis to test with there is a redis-server to start."""
    assert redis_url
    with RedisCluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster


@pytest.fixture(params=STORES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(request, tmp_path) as one:
        yield one


@pytest.fixture
async def audit(place: Place) -> Audit:
    return await place.open()


@pytest.fixture
def clock(place: Place) -> FixedClock:
    return place.clock
