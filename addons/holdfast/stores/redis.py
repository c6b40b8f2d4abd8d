"""`redis://` and its kin: responses shared by all gateways.

A hit is one round trip: the variant and the purge records of its tags are asked for together, since the names that Vary
and the tags had the last time are remembered. Only the first question about a key may take a second one. Every call is
bounded in time, and an outage is a miss that says why (`Lookup.degraded`).

What Redis has lost (flushed, evicted, restarted, failed over to a replica) may include purges: all that was stored
before is unusable then. See `redis_scripts`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from holdfast.errors import StoreUnavailable
from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import Selecting
from holdfast.request_ids import random_bytes
from holdfast.stores import Heard, Lookup, Purged, StoreHealth
from holdfast.stores import redis_record as record
from holdfast.stores.options import StoreOptions
from holdfast.stores.redis_batches import Command
from holdfast.stores.redis_link import RedisLink, Refused, Unreachable
from holdfast.stores.redis_nodes import Nodes
from holdfast.stores.redis_reading import Hint, Reading
from holdfast.stores.redis_scripts import PUT, READ, UNLOCK, script_digest
from holdfast.stores.redis_url import RedisPlace
from holdfast.stores.selection import MAX_NAMES, MAX_VARIANTS, names_of

_HINTS = 20_000  # keys of which Vary's names and the tags are remembered
_BYTES_PER_SECOND = 20e6  # a body is given the time that it takes at this speed
_OWED = 1000  # locks that could not be given back; more than these have to expire
_TAGS_AT_ONCE = 500  # of a purge: Redis does nothing else meanwhile
_READ = script_digest(READ)
_PUT = script_digest(PUT)


class Found(NamedTuple):
    """An answer, and until when what was found may be kept (epoch seconds)."""

    lookup: Lookup
    until: float = 0.0


class RedisStore:
    """A Redis, a Redis behind Sentinels, or a Redis cluster."""

    def __init__(self, place: RedisPlace, options: StoreOptions, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.keys = record.Keys(options.prefix, place.database)
        self.link = RedisLink(Nodes(place, options.connections, options.timeout), self.keys, options.timeout)
        self._title = place.title
        self._clock = clock
        self._hints: dict[str, Hint] = {}
        self._heard: list[Heard] = []
        self._lent: dict[str, str] = {}  # the locks' names by the tokens that were given for them
        self._owed: dict[str, str] = {}  # those that Redis could not be told of
        self._settling: asyncio.Task[None] | None = None

    def lookup(self, key: str, request: Fields) -> Lookup | None:
        return None

    def repeat(self, key: str, selecting: Selecting) -> Lookup | None:
        return None

    async def get(self, key: str, request: Fields, *, fresh_enough: float | None = None) -> Lookup:
        return (await self.find(key, request)).lookup

    async def find(self, key: str, request: Fields) -> Found:
        """`get`, and how long it may be kept."""
        try:
            return await self._find(key, request)
        except (Unreachable, Refused) as error:
            # The clock as it was last seen: a fill that notes an older value is safe.
            return Found(Lookup(None, self.link.clock, degraded=str(error)))

    async def put(self, key: str, response: StoredResponse, *, keep: float) -> str:
        return await self._write(key, response, keep, with_body=True)

    async def touch(self, key: str, response: StoredResponse, *, keep: float) -> str:
        return await self._write(key, response, keep, with_body=False)

    async def purge(self, tags: Sequence[str], *, soft: bool) -> Purged:
        await self.purge_at(tags, soft=soft)
        for heard in self._heard:
            heard(tags)
        return Purged(len(tags), soft)

    def on_purge(self, heard: Heard) -> None:
        self._heard.append(heard)  # of other gateways only a memory level hears

    async def purge_at(self, tags: Sequence[str], *, soft: bool) -> int:
        """`purge`; returns the clock's value that the last of the tags was given, 0 without any."""
        value = 0
        for start in range(0, len(tags), _TAGS_AT_ONCE):
            value = await self._purge(tags[start : start + _TAGS_AT_ONCE], soft)
        return value

    async def lock(self, key: str, *, seconds: float) -> str | None:
        token, name = random_bytes(8).hex(), self.keys.lock(key)
        try:
            (answer,) = await self.link.ask(name, ("SET", name, token, "NX", "PX", max(1, round(seconds * 1000))))
        except (Unreachable, Refused):
            answer = True  # a Redis that hangs may do it all the same, later
        if not answer:
            return None
        self._lent[token] = name
        return token

    async def unlock(self, key: str, token: str) -> None:
        name = self._lent.pop(token, None)
        if name and not await self._give_back(name, token) and len(self._owed) < _OWED:
            self._owed[token] = name

    async def entries(self) -> tuple[int, int] | None:
        return None

    def health(self) -> StoreHealth:
        trouble = self.link.trouble
        nodes = list(self.link.nodes.all())
        figures = {
            "calls": self.link.calls,
            "servers": len(nodes),
            "servers_out": sum(node.circuit.is_open for node in nodes),
            "outages": sum(node.circuit.opened for node in nodes),
        }
        others = next((node.circuit.reason for node in nodes if node.circuit.is_open), "")
        wrong = trouble or others or self.link.no_room
        detail = "; ".join([wrong or f"connected to Redis at {self._title}", *self.link.notices])
        return StoreHealth(ok=not wrong, detail=detail, mode="none" if trouble else "full", figures=figures)

    async def start(self) -> None:
        self.link.listeners.append(self._settle)
        await self.link.start()

    async def stop(self) -> None:
        self.link.listeners.remove(self._settle)
        await self.link.stop()

    # --- locks ---

    async def _give_back(self, name: str, token: str) -> bool:
        try:
            await self.link.ask(name, ("EVAL", UNLOCK, 1, name, token))
        except (Unreachable, Refused):
            return False
        return True

    def _settle(self, clock: int) -> None:
        """With each beat, while Redis answers: nobody shall wait for a fill that has ended while it did not."""
        if self._owed and (self._settling is None or self._settling.done()):
            owed, self._owed = self._owed, {}
            self._settling = asyncio.create_task(self._give_all_back(owed), name="redis locks")

    async def _give_all_back(self, owed: dict[str, str]) -> None:
        for token, name in owed.items():
            await self._give_back(name, token)

    # --- reading ---

    async def _find(self, key: str, request: Fields) -> Found:
        reading = Reading(key, request, self._hints.get(key, Hint()))
        for _ in range(3):
            await self._question(key, reading)
            if reading.lost:
                await self.link.check(reload=True)
                return Found(Lookup(None, self.link.clock))
            if reading.complete():
                break
        else:
            return Found(Lookup(None, reading.clock))  # it changes faster than it can be read
        self.link.clock = max(self.link.clock, reading.clock)
        self._remember(key, reading.hint)
        match = reading.match(self._clock())
        response = match.response if match else None
        if match and match.record.body_field:
            body = await self._body(key, match.record)
            response = record.to_response(match.record, body) if body is not None else None
        if match is None or response is None:
            return Found(Lookup(None, reading.clock))
        return Found(Lookup(response, reading.clock, match.soft, "redis"), match.record.until)

    async def _question(self, key: str, reading: Reading) -> None:
        entry, purges = self.keys.entry(key), self.keys.purges
        fields, tags = reading.fields(), reading.tags()
        about_entry: Command = ("HMGET", entry, "v", "t", *fields)
        if not tags:
            (values,) = await self.link.ask(entry, about_entry)
        else:
            about_tags: Command = ("EVALSHA", _READ, 1, purges, *map(record.to_bytes, tags))
            values, scores = await self.link.ask_two(entry, about_entry, purges, about_tags)
            reading.note_purges(tags, scores)
        reading.note(fields, values)

    async def _body(self, key: str, found: record.Record) -> bytes | None:
        entry = self.keys.entry(key)
        (body,) = await self.link.ask(entry, ("HGET", entry, found.body_field), bound=self._bound(found.length))
        return body if isinstance(body, bytes) and len(body) == found.length else None

    def _bound(self, size: int) -> float:
        return self.options.timeout + size / _BYTES_PER_SECOND

    def _remember(self, key: str, hint: Hint) -> None:
        self._hints.pop(key, None)
        if hint == Hint():
            return
        self._hints[key] = hint
        if len(self._hints) > _HINTS:
            del self._hints[next(iter(self._hints))]

    # --- writing ---

    async def _write(self, key: str, response: StoredResponse, keep: float, *, with_body: bool) -> str:
        if not response.as_of:
            return "begun while the purge clock was not known"
        if keep <= 0:
            return "expired"
        if len(response.body) > self.options.max_entry:
            return "too large for Redis"
        keep = min(keep, self.options.longest)
        try:
            answer = await self._put(key, response, keep, with_body=with_body)
            if answer == b"body":
                answer = await self._put(key, response, keep, with_body=True)
        except (Unreachable, Refused) as error:
            return str(error)
        self.link.made_room()
        if answer == b"newer":
            return "a newer one is there"
        names = names_of(response.selecting)
        known = self._hints.get(key, Hint()).names
        self._remember(key, Hint(known if names in known else (names,), response.tags))
        return ""

    async def _put(self, key: str, response: StoredResponse, keep: float, *, with_body: bool) -> Any:
        variant, body_field = record.encode(response, self._clock() + keep)
        body = response.body if body_field and with_body else b""
        entry = self.keys.entry(key)
        arguments = (
            *(record.variant_field(response.selecting), variant, record.encode_names(names_of(response.selecting))),
            *(record.encode_tags(response.tags), max(1, round(keep * 1000))),
            *(2 * MAX_VARIANTS + 2, MAX_NAMES, body_field, body),
        )
        bound = self._bound(len(variant) + len(body))
        (answer,) = await self.link.ask(entry, ("EVALSHA", _PUT, 1, entry, *arguments), bound=bound)
        if isinstance(answer, NoScriptError):
            (answer,) = await self.link.ask(entry, ("EVAL", PUT, 1, entry, *arguments), bound=bound)
        return answer

    async def _purge(self, tags: Sequence[str], soft: bool) -> int:
        """Also tried while the circuit is open, and once more if that fails: somebody waits for it to be done."""
        error: Exception | None = None
        for _ in range(2):
            try:
                (answer,) = await self.link.ask(self.keys.purges, self._purge_command(tags, soft), probing=True)
                if isinstance(answer, bytes) and answer:
                    value = int(answer)
                    self.link.clock = max(self.link.clock, value + 1)
                    return value
                await self.link.check(reload=True)
            except Refused as refused:
                error = refused
                break
            except Unreachable as unreachable:
                error = unreachable
        raise StoreUnavailable(f"not purged: {error or 'Redis does not keep the purge records'}") from error

    def _purge_command(self, tags: Sequence[str], soft: bool) -> Command:
        limits = (self.options.max_records, round(self.options.longest * 1_000_000))
        return (
            *("EVALSHA", self.link.purge_digest, 1, self.keys.purges),
            *("s" if soft else "h", self.keys.channel, *limits),
            *map(record.to_bytes, tags),
        )
