"""`memory://`: what it counts, what it lets go, and how few purge records it needs."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.caching.model import StoredResponse
from holdfast.stores import EVERYTHING
from holdfast.stores.memory import _MOST_RECORDS, MemoryStore
from holdfast.testing import FixedClock
from tests.contract.responses import PLAIN, make_response

MIB = 1024 * 1024
HEADERS = tuple((b"x-header-%d" % number, b"value of header %d" % number) for number in range(12))


def keep(store: MemoryStore, key: str, body: bytes = b"x", *, tags: tuple[str, ...] = ()) -> str:
    return store.insert(key, make_response(store.clock, body, tags=tags), 60)


def has(store: MemoryStore, key: str) -> bool:
    return store.lookup(key, PLAIN).response is not None


def taken(store: MemoryStore) -> int:
    return int(store.health().figures["bytes"])


def fresh(make: Callable[[int], bytes], number: int, clock: int) -> StoredResponse:
    """Every bytes object its own, as when it comes from a socket."""
    return make_response(
        clock,
        make(number),
        tags=(f"tag-{number}", f"user-{number}"),
        headers=[(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in HEADERS],
    )


@pytest.mark.parametrize("size", [0, 500, 20_000])
def test_what_it_counts_is_what_it_takes(size: int) -> None:
    """Header fields, tags, keys and Python's own part included; never less than the truth, and not much more."""
    store = MemoryStore(1024 * MIB, time.time)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(3000):
        key = f"GET http://origin.test/some/path/{number}"
        store.insert(key, fresh(lambda n: b"%d" % n + bytes(size), number, store.clock), 60)
        store.lookup(key, PLAIN)
    gc.collect()
    real = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert real <= taken(store) <= real * 1.2


def test_it_never_takes_more_than_it_may() -> None:
    """Whatever is put in; what goes is counted."""
    store = MemoryStore(2 * MIB, time.time)
    for number in range(2000):
        assert keep(store, f"key-{number}", bytes(number * 7 % 30_000)) == ""
        assert taken(store) <= 2 * MIB
    assert store.evicted > 1000
    assert has(store, "key-1999")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 60_000), st.sampled_from([b"a", b"b", b"c"]), st.booleans()),
        max_size=60,
    )
)
def test_the_bound_holds_with_variants_replacements_and_hits(steps: list[tuple[int, int, bytes, bool]]) -> None:
    """And what it says it has is the sum of what is there."""
    store = MemoryStore(256 * 1024, time.time)
    for number, size, coding, hit in steps:
        request = ((b"accept-encoding", coding),)
        response = make_response(store.clock, bytes(size), vary="accept-encoding", request=request)
        store.insert(f"k{number}", response, 60)
        if hit:
            store.lookup(f"k{number}", request)
        assert taken(store) <= 256 * 1024
    store.invalidate([EVERYTHING], soft=False)
    for number in range(9):
        for coding in (b"a", b"b", b"c"):
            store.lookup(f"k{number}", ((b"accept-encoding", coding),))
    assert taken(store) == 0


def test_one_that_is_too_large_is_refused_rather_than_all_others_let_go() -> None:
    """A quarter of the room at most."""
    store = MemoryStore(MIB, time.time)
    keep(store, "small")
    assert keep(store, "large", bytes(MIB // 4)) == "too large for the memory level"
    assert has(store, "small")


def test_a_scan_does_not_push_out_what_is_in_use() -> None:
    """What is asked for once only goes first."""
    store = MemoryStore(MIB, time.time)
    for number in range(100):
        keep(store, f"used-{number}", bytes(2000))
    for _ in range(2):
        assert all(has(store, f"used-{number}") for number in range(100))
    for number in range(5000):
        keep(store, f"scan-{number}", bytes(2000))
        if number % 500 == 0:
            for each in range(100):
                has(store, f"used-{each}")
    assert sum(has(store, f"used-{number}") for number in range(100)) >= 95


def test_what_comes_back_soon_is_kept_longer() -> None:
    """It is remembered by name for a while after it went."""
    store = MemoryStore(MIB, time.time)
    keep(store, "wanted", bytes(2000))
    number = 0
    while has_quietly(store, "wanted"):
        keep(store, f"scan-{number}", bytes(2000))
        number += 1
    keep(store, "wanted", bytes(2000))
    for more in range(number, number + 300):
        keep(store, f"scan-{more}", bytes(2000))
    assert has(store, "wanted")


def has_quietly(store: MemoryStore, key: str) -> bool:
    """Without being a use of it."""
    return key in store._entries


def test_the_purge_records_stay_few() -> None:
    """However many different tags are purged."""
    store = MemoryStore(64 * MIB, time.time)
    for number in range(2000):
        keep(store, f"key-{number}", tags=(f"kept-{number}",))
    for number in range(300_000):
        store.invalidate([f"tag-{number}"], soft=bool(number % 2))
    assert store.health().figures["purge_records"] < 1.5 * _MOST_RECORDS
    assert all(has(store, f"key-{number}") for number in range(2000))


def test_nothing_purged_comes_back_when_the_records_go() -> None:
    """Neither what is there nor what is on its way; and what was made stale stays so."""
    store = MemoryStore(64 * MIB, time.time)
    late = make_response(store.clock, tags=("t",))
    for number in range(500):
        keep(store, f"gone-{number}", tags=("t",))
        keep(store, f"stale-{number}", tags=("s",))
    store.invalidate(["t"], soft=False)
    store.invalidate(["s"], soft=True)
    for number in range(2 * _MOST_RECORDS):
        store.invalidate([f"tag-{number}"], soft=False)
    assert len(store._records) < 1.5 * _MOST_RECORDS
    assert store.insert("late", late, 60) == "begun before too many purges"
    assert not any(has(store, f"gone-{number}") for number in range(500))
    assert all(store.lookup(f"stale-{number}", PLAIN).soft for number in range(500))
    keep(store, "late", tags=("t",))
    assert has(store, "late")


def test_a_stale_response_that_comes_during_a_sweep_stays_stale() -> None:
    """The sweep does not see it, and the record that made it stale goes with the others."""
    store = MemoryStore(64 * MIB, time.time)
    for number in range(2000):
        keep(store, f"key-{number}")
    late = make_response(store.clock, tags=("t",))
    store.invalidate(["t"], soft=True)
    numbers = count()
    while store._sweep_began is None:
        store.invalidate([f"tag-{next(numbers)}"], soft=False)
    store.insert("late", late, 60)
    for _ in range(1000):  # it is through long before
        store.invalidate([f"tag-{next(numbers)}"], soft=False)
    assert len(store._records) < _MOST_RECORDS // 4
    assert store.lookup("late", PLAIN).soft


def test_clearing_refuses_what_was_checked_before() -> None:
    """What was purged since is not known any more."""
    store = MemoryStore(MIB, time.time)
    early = make_response(store.clock)
    keep(store, "k")
    store.clear(store.clock + 5)
    assert not has(store, "k")
    assert taken(store) == 0
    assert store.insert("k", early, 60) == "begun before too many purges"
    assert keep(store, "k") == ""


def test_a_copy_may_be_older_than_the_memory_if_it_was_checked_since() -> None:
    """Redis has answered for it: what it was purged by before then counts, what came later is known here."""
    store = MemoryStore(MIB, time.time)
    store.clear(1000)
    old = make_response(10, tags=("t",))
    assert store.insert("k", old, 60, checked=1000, soft=True) == ""
    assert store.lookup("k", PLAIN).soft
    store.invalidate(["t"], soft=False, at=1000)
    assert not has(store, "k")
    assert store.insert("k", old, 60, checked=1000) == "purged since it was asked for"


async def test_a_lock_whose_holder_never_came_back_expires() -> None:
    """As it does in Redis."""
    clock = FixedClock()
    store = MemoryStore(MIB, clock)
    first = await store.lock("k", seconds=5)
    clock.advance(5)
    second = await store.lock("k", seconds=5)
    assert first and second
    await store.unlock("k", first)
    assert await store.lock("k", seconds=5) is None
    for number in range(5000):
        await store.lock(f"k{number}", seconds=0)
    assert len(store._locks) < 2000
