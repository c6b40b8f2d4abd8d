"""The real servers, as addresses: a test that asks for one is skipped where there is none, and fails in CI.

And the seed of random tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def from_environment(name: str) -> str:
    """The variable's value; without one the test is skipped, or fails where CI=true."""
    if value := os.environ.get(name):
        return value
    reason = f"{name} is not set: `scripts/test` starts the real server"
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka_url() -> str:
    """host:port of a real Kafka broker, shared: use a topic of your own."""
    return from_environment("HOLDFAST_TEST_KAFKA")


@pytest.fixture(scope="session")
def kafka_libs() -> Path:
    """The folder of Kafka's jars, for a private `KafkaServer` that a test may break."""
    return Path(from_environment("HOLDFAST_TEST_KAFKA_LIBS"))


@pytest.fixture(scope="session")
def redis_url() -> str:
    """redis://... of a real Redis, shared: use keys of your own."""
    return from_environment("HOLDFAST_TEST_REDIS")


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """postgresql://... of a real PostgreSQL, shared: use tables of your own."""
    return from_environment("HOLDFAST_TEST_POSTGRES")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A new one each time, shown when the test fails; HOLDFAST_TEST_SEED repeats one."""
    chosen = int(os.environ.get("HOLDFAST_TEST_SEED") or int.from_bytes(os.urandom(4)))
    request.node.add_report_section("setup", "seed", f"HOLDFAST_TEST_SEED={chosen}")
    return chosen
