"""The memory store of several processes: a purge at one is a purge at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
from msgspec import Raw

from holdfast.errors import StoreUnavailable
from holdfast.stores import PurgedInPart, why_not_purged
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions
from holdfast.stores.spread import SpreadMemoryStore
from tests.contract.responses import make_response


class Line:
    """Two processes on one line."""

    def __init__(self) -> None:
        self.count = 2
        self.others: list[Line] = []
        self.away = False
        self._answering: dict[str, Callable[[Raw], Awaitable[object]]] = {}

    def answer(self, kind: str, function: Callable[[Raw], Awaitable[object]]) -> None:
        self._answering[kind] = function

    async def tell(self, kind: str, payload: object) -> None:
        for other in self.others:
            if other.away:
                raise StoreUnavailable("worker 2: does not answer")
            await other._answering[kind](Raw(msgspec.msgpack.encode(payload)))


@pytest.fixture
def pair() -> tuple[SpreadMemoryStore, SpreadMemoryStore, Line]:
    """Both, and the line of the second."""
    lines = Line(), Line()
    lines[0].others, lines[1].others = [lines[1]], [lines[0]]
    made = [open_store("memory://?max=8MiB", StoreOptions(), lambda: 1000.0, line) for line in lines]
    assert isinstance(made[0], SpreadMemoryStore)
    assert isinstance(made[1], SpreadMemoryStore)
    return made[0], made[1], lines[1]


async def test_a_purge_reaches_the_other_and_what_it_is_filling(
    pair: tuple[SpreadMemoryStore, SpreadMemoryStore, Line],
) -> None:
    """Whoever wants to know of purges is told in both; each has half of the memory."""
    one, other, _ = pair
    heard: list[str] = []
    other.on_purge(heard.extend)
    began = (await other.get("k", ())).as_of
    await other.put("k", make_response(began, tags=("t",)), keep=60)
    assert (await other.get("k", ())).response
    await one.purge(["t"], soft=False)
    assert heard == ["t"]
    assert (await other.get("k", ())).response is None
    assert await other.put("k", make_response(began, tags=("t",)), keep=60)
    assert one.health().figures["max_bytes"] == 4 * 1024 * 1024


async def test_a_purge_that_not_all_have_heard_of_is_not_answered_as_one(
    pair: tuple[SpreadMemoryStore, SpreadMemoryStore, Line],
) -> None:
    """It says so, and does not claim that nothing was purged."""
    one, _, line = pair
    line.away = True
    with pytest.raises(PurgedInPart, match="worker 2: does not answer") as error:
        await one.purge(["t"], soft=False)
    assert why_not_purged(error.value).startswith("not every worker has purged, so do it again")
    assert why_not_purged(StoreUnavailable("away")) == "nothing was purged: away"
