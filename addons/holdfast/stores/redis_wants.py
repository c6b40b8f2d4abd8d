"""What the store wants of a Redis: its version, its eviction policy, the commands that its user may run. Pure."""

from __future__ import annotations

from collections.abc import Mapping

LEAST_VERSION = (6, 2)  # ZMSCORE
# Every command that the store sends or its scripts call, as it might be sent about one of our keys or our channel.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("PING",),
    ("TIME",),
    ("EVAL", "return 1", "1", "{key}"),
    ("EVALSHA", "0" * 40, "1", "{key}"),
    ("HMGET", "{key}", "v"),
    ("HGET", "{key}", "v"),
    ("HSET", "{key}", "v", "1"),
    ("HDEL", "{key}", "v"),
    ("HLEN", "{key}"),
    ("HKEYS", "{key}"),
    ("HEXISTS", "{key}", "v"),
    ("PTTL", "{key}"),
    ("PEXPIRE", "{key}", "1000"),
    ("SET", "{key}", "1", "NX", "PX", "1000"),
    ("GET", "{key}"),
    ("DEL", "{key}"),
    ("ZADD", "{key}", "1", "c"),
    ("ZSCORE", "{key}", "c"),
    ("ZMSCORE", "{key}", "c"),
    ("ZCARD", "{key}"),
    ("ZRANGE", "{key}", "0", "1"),
    ("ZREM", "{key}", "c"),
    ("PUBLISH", "{channel}", "x"),
    ("SUBSCRIBE", "{channel}"),
)


def memory_in(info: bytes) -> dict[str, object]:
    """What INFO says, numbers as such."""
    pairs = [line.partition(":") for line in info.decode("utf-8", "replace").splitlines() if ":" in line]
    return {name: int(value) if value.isdecimal() else value for name, _, value in pairs}


def eviction_notice(memory: Mapping[str, object]) -> str:
    """What is wrong with the eviction policy that INFO's section `memory` tells; empty if nothing is."""
    policy = str(memory.get("maxmemory_policy", ""))
    if not policy.startswith("allkeys-") or not memory.get("maxmemory"):
        return ""
    return f"maxmemory-policy {policy} may evict the purge records, and with them everything: use volatile-lru"


def fills_up(memory: Mapping[str, object]) -> bool:
    """Whether it refuses what is new once it is full."""
    return bool(memory.get("maxmemory")) and memory.get("maxmemory_policy") == "noeviction"


def parse_version(text: str) -> tuple[int, ...]:
    """`7.0.15` as numbers; what is no number counts as nothing."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())
