"""An empty audit of either store, with a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.audit import Audit
from holdfast.testing import FixedClock
from tests.contract.audit_cases import STORES, Place, a_place


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
