"""An outbox in a folder of its own, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.outbox import Outbox, OutboxLimits
from tests.unit.outbox.records import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holdfast.db"


@pytest.fixture
def open_outbox(path: Path, clock: Clock) -> Iterator[Callable[..., Outbox]]:
    """Opens outboxes at `path`, with limits by keyword, and closes them at the end."""
    opened: list[Outbox] = []

    def open_one(**limits: float) -> Outbox:
        opened.append(Outbox.open(path, OutboxLimits(**limits), clock))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.close()


@pytest.fixture
def outbox(open_outbox: Callable[..., Outbox]) -> Outbox:
    return open_outbox()
