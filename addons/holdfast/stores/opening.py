"""A store from a profile's URL; not started yet.

    memory://?max=256MiB                         in this process
    redis://host:6379/0?memory=64MiB             shared, with a memory level; see `redis_url` for the other schemes

The query may set `timeout` (100ms), `prefix` (holdfast), `connections` (32), `memory` (0 for none) and `max_entry`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

from holdfast.profile.values import Duration, Size
from holdfast.stores import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.options import StoreOptions
from holdfast.stores.spread import Siblings, SpreadMemoryStore

_REDIS_KEYS = ("memory", "timeout", "prefix", "connections", "max_entry")
_LEAST_MEMORY = 1024 * 1024
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def open_store(url: str, options: StoreOptions, clock: Callable[[], float], siblings: Siblings | None = None) -> Store:
    """ValueError, with what to write instead, for a URL that names no store.

    Of a memory that several processes may have together, each has its part.
    """
    parts = siblings.count if siblings else 1
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme == "memory":
        size = _memory_of(url, options) // parts
        return SpreadMemoryStore(size, clock, siblings) if siblings else MemoryStore(size, clock)
    if not scheme.startswith("redis"):
        raise ValueError(f"{_masked(url)!r} names no store: write memory:// or redis://host:6379/0")
    # A gateway without Redis does not load its client.
    from holdfast.stores.redis import RedisStore
    from holdfast.stores.redis_url import parse_redis_url
    from holdfast.stores.tiered import TieredStore

    place = parse_redis_url(url)
    options = redis_options(url, options)
    redis = RedisStore(place, options, clock)
    return TieredStore(MemoryStore(options.max_memory // parts, clock), redis, clock) if options.max_memory else redis


def redis_options(url: str, options: StoreOptions) -> StoreOptions:
    """Those of a Redis URL laid over these. ValueError as above."""
    from holdfast.stores.redis_url import CONNECTION_KEYS

    return _with(options, _query(url, (*_REDIS_KEYS, *CONNECTION_KEYS)))


def _memory_of(url: str, options: StoreOptions) -> int:
    parts = urlsplit(url)
    if parts.netloc or parts.path:
        raise ValueError(f"write memory:// or memory://?max=256MiB, not {url!r}")
    query = _query(url, ("max",))
    return _memory(query["max"]) if "max" in query else options.max_memory


def _with(options: StoreOptions, query: dict[str, str]) -> StoreOptions:
    if "memory" in query:
        options = replace(options, max_memory=_memory(query["memory"]) if Size(query["memory"]) else 0)
    if "timeout" in query:
        timeout = float(Duration(query["timeout"]))
        if not 0.001 <= timeout <= 10:
            raise ValueError(f"timeout={query['timeout']} is out of range: between 1ms and 10s")
        options = replace(options, timeout=timeout)
    if "max_entry" in query:
        options = replace(options, max_entry=int(Size(query["max_entry"])))
    if "connections" in query:
        if not (query["connections"].isdecimal() and 0 < int(query["connections"]) <= 1024):
            raise ValueError(f"connections={query['connections']} is out of range: between 1 and 1024")
        options = replace(options, connections=int(query["connections"]))
    if "prefix" in query:
        if not _PREFIX.fullmatch(query["prefix"]):
            raise ValueError(f"prefix={query['prefix']!r}: use up to 64 of the characters a-z A-Z 0-9 . _ : -")
        options = replace(options, prefix=query["prefix"])
    return options


def _memory(text: str) -> int:
    size = int(Size(text))
    if size < _LEAST_MEMORY:
        raise ValueError(f"{text} of memory is too little to keep anything: give 1MiB at least")
    return size


def _query(url: str, known: tuple[str, ...]) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    unknown = [name for name, _ in pairs if name not in known]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} in the URL: what can be set is {', '.join(known)}")
    return dict(pairs)


def _masked(url: str) -> str:
    """Without credentials: it goes into messages."""
    return re.sub(r"//[^/@]*@", "//***@", url)
