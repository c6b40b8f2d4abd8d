"""No purge is lost, in any order of fills and purges: against a model, and with all of them under way at once."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.stores import EVERYTHING, Store, url_tag
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions
from tests.contract.responses import PLAIN, make_response
from tests.services.redis import RedisCluster

KEYS, TAGS = ("k1", "k2"), ("a", "b")
PURGEABLE = (*TAGS, EVERYTHING, *map(url_tag, KEYS))

# A fill in two steps, so that anything can come between: begin(slot, key, tags), then keep(slot); the last one looks.
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 2), st.sampled_from(KEYS), st.sets(st.sampled_from(TAGS))),
        st.tuples(st.just("keep"), st.integers(0, 2)),
        st.tuples(st.just("purge"), st.sets(st.sampled_from(PURGEABLE), min_size=1), st.booleans()),
        st.tuples(st.just("look"), st.sampled_from(KEYS)),
    ),
    max_size=25,
)


@dataclass
class Fill:
    key: str
    tags: tuple[str, ...]
    as_of: int
    began: int  # how many purges there had been
    body: bytes
    carried: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.carried = {*self.tags, EVERYTHING, url_tag(self.key)}


class Model:
    """Every purge in order, and what was kept; says what a look-up may answer."""

    def __init__(self) -> None:
        self.purges: list[tuple[set[str], bool]] = []
        self.kept: dict[str, list[Fill]] = {key: [] for key in KEYS}

    def hit_by(self, fill: Fill, *, soft: bool) -> bool:
        return any(tags & fill.carried for tags, is_soft in self.purges[fill.began :] if is_soft is soft)

    def check(self, key: str, body: bytes | None, is_soft: bool) -> None:
        by_body = {fill.body: fill for fill in self.kept[key]}
        if body is not None:
            fill = by_body[body]
            assert not self.hit_by(fill, soft=False), "purged content was served"
            assert is_soft is self.hit_by(fill, soft=True), "a soft purge was lost, or made up"
        if self.kept[key]:
            latest = self.kept[key][-1]
            is_newest = all(other.began <= latest.began for other in self.kept[key])
            if is_newest and not self.hit_by(latest, soft=False):
                assert body == latest.body, "what may be served was not"


async def follow(stores: Sequence[Store], operations: Sequence[tuple[object, ...]]) -> None:
    """The operations, dealt to the stores in turn, all of which must agree with the model."""
    model, slots, numbers = Model(), {}, count()
    for number, operation in enumerate(operations):
        store = stores[number % len(stores)]
        match operation:
            case ("begin", int(slot), str(key), set(tags)):
                as_of = (await store.get(key, PLAIN)).as_of
                slots[slot] = Fill(key, tuple(sorted(tags)), as_of, len(model.purges), b"%d" % next(numbers))
            case ("keep", int(slot)) if slot in slots:
                fill = slots.pop(slot)
                response = make_response(fill.as_of, fill.body, tags=fill.tags, arrived=time.time() + number)
                await store.put(fill.key, response, keep=60)
                model.kept[fill.key].append(fill)
                if len(stores) > 1:
                    model.kept[fill.key].sort(key=lambda each: each.began)
            case ("purge", set(tags), bool(soft)):
                await store.purge(sorted(tags), soft=soft)
                model.purges.append((tags, soft))
                if len(stores) > 1:
                    await asyncio.sleep(0.01)  # on the way to the others
            case ("look", str(key)):
                found = await store.get(key, PLAIN)
                if len(stores) == 1:
                    model.check(key, found.response.body if found.response else None, found.soft)
                elif found.response:  # which of several usable ones the others have is theirs
                    fill = next(each for each in model.kept[key] if each.body == found.response.body)
                    assert not model.hit_by(fill, soft=False)
            case _:
                pass


async def with_stores(urls: Sequence[str], operations: Sequence[tuple[object, ...]]) -> None:
    query = f"?prefix=test-{uuid.uuid4().hex}&timeout=1s" if "redis" in urls[0] else ""
    stores = [open_store(f"{url}{query}", StoreOptions(), time.time) for url in urls]
    for store in stores:
        await store.start()
    try:
        await follow(stores, operations)
    finally:
        for store in stores:
            await store.stop()


@settings(max_examples=300, deadline=None)
@given(OPERATIONS)
def test_no_order_of_fills_and_purges_loses_a_purge_in_memory(operations: list[tuple[object, ...]]) -> None:
    """Promise 4: a purge, once answered, is never undone by a fill that began before it."""
    asyncio.run(with_stores(["memory://"], operations))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_no_order_of_fills_and_purges_loses_a_purge_in_redis(
    redis_url: str, operations: list[tuple[object, ...]]
) -> None:
    """The same, by way of scripts."""
    asyncio.run(with_stores([redis_url], operations))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_no_order_of_fills_and_purges_loses_a_purge_between_gateways(
    redis_url: str, operations: list[tuple[object, ...]]
) -> None:
    """Two of them with a memory level each, taking turns."""
    asyncio.run(with_stores([redis_url, redis_url], operations))


class Traffic:
    """Fills, purges and look-ups of a few keys, all at once, and the proof that nothing purged was served."""

    def __init__(self, stores: Sequence[Store], seed: int, grace: float) -> None:
        self.stores = stores
        self.dice = random.Random(seed)
        self.grace = grace  # seconds until a purge must be known everywhere
        self.fills: dict[bytes, tuple[float, tuple[str, ...]]] = {}  # when its clock had been noted
        self.purges: list[tuple[float, float, str]] = []  # began, answered
        self.served = 0
        self.numbers = count()

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(self.filling(until))
                group.create_task(self.looking(until))
            group.create_task(self.purging(until))

    async def filling(self, until: float) -> None:
        while time.monotonic() < until:
            store, key = self.dice.choice(self.stores), self.dice.choice(KEYS)
            as_of = (await store.get(key, PLAIN)).as_of
            noted, body = time.monotonic(), b"%d" % next(self.numbers)
            tags = tuple(tag for tag in TAGS if self.dice.random() < 0.5)
            self.fills[body] = (noted, (*tags, EVERYTHING, url_tag(key)))
            await asyncio.sleep(self.dice.random() * 0.005)
            await store.put(key, make_response(as_of, body, tags=tags), keep=60)

    async def purging(self, until: float) -> None:
        while time.monotonic() < until:
            tag = self.dice.choice(PURGEABLE)
            began = time.monotonic()
            await self.dice.choice(self.stores).purge([tag], soft=False)
            self.purges.append((began, time.monotonic(), tag))
            await asyncio.sleep(self.dice.random() * 0.02)

    async def looking(self, until: float) -> None:
        while time.monotonic() < until:
            store, key = self.dice.choice(self.stores), self.dice.choice(KEYS)
            asked = time.monotonic()
            found = await store.get(key, PLAIN)
            if found.response:
                self.served += 1
                noted, carried = self.fills[found.response.body]
                undone = [p for p in self.purges if p[2] in carried and noted < p[0] and p[1] + self.grace < asked]
                assert not undone, f"filled at {noted}, purged at {undone[-1]}, served at {asked}"
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["memory", "redis", "tiered", "two gateways", "cluster"])
async def test_nothing_purged_is_served_while_all_are_at_it(
    kind: str, request: pytest.FixtureRequest, seed: int
) -> None:
    """Promise 4 under concurrency; between gateways within a quarter of a second on a busy machine."""
    query = f"prefix=test-{uuid.uuid4().hex}&timeout=2s"
    if kind == "memory":
        urls = ["memory://"]
    elif kind == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        urls = [f"{cluster.url}?{query}"] * 2
    else:
        address = request.getfixturevalue("redis_url")
        urls = [f"{address}?{query}{'&memory=0' if kind == 'redis' else ''}"] * (2 if kind == "two gateways" else 1)
    stores = [open_store(url, StoreOptions(), time.time) for url in urls]
    for store in stores:
        await store.start()
    traffic = Traffic(stores, seed, grace=0.25 if len(stores) > 1 else 0.0)
    await traffic.run(2.0)
    for store in stores:
        await store.stop()
    assert traffic.served > 20
    assert len(traffic.purges) > 20
