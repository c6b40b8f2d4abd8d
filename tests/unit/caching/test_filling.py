"""filling: when it is known that nobody need wait for anybody."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from holdfast.caching.filling import Fill, Filling
from holdfast.caching.flow import Asked
from holdfast.gateway import Gateway
from holdfast.policy.caching.reuse import Miss
from holdfast.stores import Lookup
from holdfast.stores.memory import MemoryStore


@dataclass
class Leg:
    """What is used of the real one."""

    now: float = 0.0

    def clock(self) -> float:
        return self.now


@dataclass
class OnlyALeg:
    """A gateway without the rest."""

    leg: Leg = field(default_factory=Leg)


def filling() -> Filling:
    return Filling(MemoryStore(1 << 20, lambda: 0.0), cast("Gateway", OnlyALeg()), wait=0.01)


def fill(*, key: str = "k") -> Fill:
    asked = Asked("GET", "http", "h", "/", [], has_body=False)
    return Fill(key, asked, Lookup(None, 0), Miss("nothing-stored", "miss"), "client", 0.0)


def nothing(asked: Asked, key: str, lookup: Lookup) -> Miss:
    return Miss("nothing-stored", "miss")


@pytest.mark.parametrize(
    ("status", "because", "noted"),
    [
        (200, "private", True),
        (200, "max-body", True),
        (404, "no-store", True),
        (503, "not-cacheable", False),
        (200, "authorization", False),
        (200, "cookie", False),
    ],
)
async def test_only_what_holds_for_the_next_one_too_is_remembered(status: int, because: str, noted: bool) -> None:
    """An error passes, and another client's request may be answered with something that can be stored."""
    fills, first = filling(), fill()
    assert await fills.answered_by_another(first, nothing) is None
    fills.pointless(first, status, because)
    assert not first.leads
    assert fills.is_pointless("k") is noted


async def test_a_request_that_nobody_waits_for_says_nothing_about_the_others() -> None:
    """A part, a HEAD, or a condition that only the origin may evaluate."""
    fills = filling()
    fills.pointless(fill(), 206, "status")
    assert not fills.is_pointless("k")


async def test_whoever_waited_in_vain_asks_for_itself() -> None:
    """The leader never comes back; the wait is bounded."""
    fills, first, second = filling(), fill(), fill()
    assert await fills.answered_by_another(first, nothing) is None
    assert await fills.answered_by_another(second, nothing) is None
    assert (first.leads, second.leads, second.collapsed) == (True, False, False)
