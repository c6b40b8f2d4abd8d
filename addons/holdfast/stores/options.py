"""What can be set about a store; a profile's URL may say the same in its query."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Bytes and seconds. Gateways that share a Redis must agree on `prefix`, and should on `longest`."""

    max_memory: int = 256 * 1024 * 1024  # of the memory level
    max_entry: int = 64 * 1024 * 1024  # of one response in Redis
    timeout: float = 0.1  # of one question to Redis; one for which a large body travels gets more
    connections: int = 32  # to each server of Redis at most
    prefix: str = "holdfast"
    longest: float = 31 * 86400.0  # nothing is kept longer, and no purge has to be remembered longer
    max_records: int = 250_000  # purged tags and URLs that Redis remembers, some 100 bytes each
