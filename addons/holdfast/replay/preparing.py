"""From a message to the request that is sent: read, unsealed, and changed as a replay has to be."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.policy.envelope import from_json
from holdfast.policy.replaying.requests import ReplayRequest, RequestRules, Unsendable, replay_request
from holdfast.policy.trace_context import parse_traceparent
from holdfast.policy.wire import first_value
from holdfast.sealing import Sealer, parse_keys, reveal

if TYPE_CHECKING:
    from holdfast.replay.lanes import Held
    from holdfast.replay.source import Headers

_LARGE = 256 * 1024  # bytes of a message


class Preparation:
    """`keys` gives the profile's keys for what is sealed, as they are now; empty: the environment's.

    `continues_spans`: whether a replay gets a span id here; an addon that makes spans gives it its own.
    """

    def __init__(self, rules: RequestRules, keys: Callable[[], str], *, continues_spans: Callable[[], bool]) -> None:
        self.rules = rules
        self._keys = keys
        self._continues_spans = continues_spans
        self._sealer: tuple[str, Sealer | None] = ("", None)

    def _opened_with(self) -> Sealer | None:
        """Keys may be changed while records that were sealed with the new ones wait already."""
        text = self._keys() or os.environ.get("HOLDFAST_SEAL_KEY", "")
        if text != self._sealer[0]:
            keys = parse_keys(text)
            self._sealer = text, Sealer(keys) if keys else None
        return self._sealer[1]

    async def prepare(self, value: bytes, headers: Headers, held: Held, number: int) -> ReplayRequest | Unsendable:
        """The `number`th replay of a message. PoisonRecord for a record that cannot be read, or unsealed."""
        if len(value) > _LARGE:
            return await asyncio.to_thread(self.prepared, value, number)
        return self.prepared(value, number)

    def prepared(self, value: bytes, number: int) -> ReplayRequest | Unsendable:
        """The same, at once; it takes seconds for the largest."""
        record = from_json(value)
        if sealer := self._opened_with():
            record = reveal(record, sealer)
        parent = parse_traceparent(first_value(record.headers, "traceparent"))
        own = parent.span_id if parent and not self._continues_spans() else secrets.token_hex(8)
        return replay_request(record, self.rules, number=number, parent_id=own)
