"""A store from a URL."""

from __future__ import annotations

import re
import time

import pytest

from holdfast.stores.memory import MemoryStore
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions
from holdfast.stores.redis import RedisStore
from holdfast.stores.tiered import TieredStore

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("url", "size"), [("memory://", 5 * MIB), ("memory://?max=256MiB", 256 * MIB), ("memory://?max=2MB", 2_000_000)]
)
def test_memory_is_as_large_as_the_url_says(url: str, size: int) -> None:
    """Or as the options say."""
    store = open_store(url, StoreOptions(max_memory=5 * MIB), time.time)
    assert isinstance(store, MemoryStore)
    assert store.health().figures["max_bytes"] == size


def test_redis_comes_with_a_memory_level_unless_it_is_told_not_to() -> None:
    """Nothing connects before the start."""
    store = open_store(
        "redis://h/0?memory=8MiB&timeout=50ms&prefix=shop&connections=5&max_entry=1MiB", StoreOptions(), time.time
    )
    assert isinstance(store, TieredStore)
    assert store.health().figures["max_bytes"] == 8 * MIB
    options = store.redis.options
    assert (options.timeout, options.prefix, options.connections, options.max_entry) == (0.05, "shop", 5, MIB)
    assert isinstance(open_store("redis+cluster://a,b?memory=0", StoreOptions(), time.time), RedisStore)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "names no store"),
        ("memory", "names no store"),
        ("memcached://h", "names no store"),
        ("postgres://me:secret@h/db", "'postgres://***@h/db' names no store"),
        ("memory://host", "write memory://"),
        ("memory:///path", "write memory://"),
        ("memory://?size=1MiB", "what can be set is max"),
        ("memory://?max=much", "not a size"),
        ("memory://?max=1KiB", "too little"),
        ("redis://h?max=1MiB", "what can be set is memory"),
        ("redis://h?memory=100", "too little"),
        ("redis://h?timeout=soon", "not a duration"),
        ("redis://h?timeout=0s", "between 1ms and 10s"),
        ("redis://h?connections=0", "between 1 and 1024"),
        ("redis://h?connections=many", "between 1 and 1024"),
        ("redis://h?prefix=a%7Bb", "prefix="),
        ("redis://h?max_entry=-1", "not a size"),
        ("redisx://h", "is no Redis"),
    ],
)
def test_nonsense_is_refused_with_what_to_write_instead(url: str, part: str) -> None:
    """Without the credentials in it."""
    with pytest.raises(ValueError, match=re.escape(part)) as error:
        open_store(url, StoreOptions(), time.time)
    assert "secret" not in str(error.value)
