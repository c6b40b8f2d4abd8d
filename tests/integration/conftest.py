"""A Kafka of one's own, for tests that break it; the shared one is `kafka_url` in `tests/conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.kafka import KafkaServer


@pytest.fixture(scope="module")
def own_kafka(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """Running, to be frozen, killed and started again. A test leaves it as it found it."""
    server = KafkaServer(kafka_libs, tmp_path_factory.mktemp("kafka"), KafkaServer.free_port())
    with server:
        yield server
