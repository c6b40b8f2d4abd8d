"""From a message to the request that is sent: read, unsealed, and changed as a replay has to be."""

from __future__ import annotations

import asyncio
import os
import secrets

from holdfast.policy.envelope import from_json
from holdfast.policy.replaying.requests import ReplayRequest, RequestRules, Unsendable, replay_request
from holdfast.policy.trace_context import parse_traceparent
from holdfast.policy.wire import first_value
from holdfast.replay.lanes import Held
from holdfast.replay.source import Headers
from holdfast.sealing import Sealer, parse_keys, reveal

_LARGE = 256 * 1024  # bytes of a message


class Preparation:
    """`continues_spans`: whether a replay gets a span id here; an addon that makes spans gives it its own."""

    def __init__(self, rules: RequestRules, *, continues_spans: bool) -> None:
        self.rules = rules
        self._continues_spans = continues_spans
        self._sealer: Sealer | None = None

    def follow_keys(self, text: str) -> None:
        """The profile's keys, or else the environment's. ValueError for what is no key."""
        keys = parse_keys(text or os.environ.get("HOLDFAST_SEAL_KEY", ""))
        self._sealer = Sealer(keys) if keys else None

    async def prepare(self, value: bytes, headers: Headers, held: Held, number: int) -> ReplayRequest | Unsendable:
        """The `number`th replay of a message. PoisonRecord for a record that cannot be read, or unsealed."""
        if len(value) > _LARGE:
            return await asyncio.to_thread(self.prepared, value, number)
        return self.prepared(value, number)

    def prepared(self, value: bytes, number: int) -> ReplayRequest | Unsendable:
        """The same, at once; it takes seconds for the largest."""
        record = from_json(value)
        if self._sealer:
            record = reveal(record, self._sealer)
        parent = parse_traceparent(first_value(record.headers, "traceparent"))
        own = parent.span_id if parent and not self._continues_spans else secrets.token_hex(8)
        return replay_request(record, self.rules, number=number, parent_id=own)
