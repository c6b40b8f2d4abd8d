"""Where notices go: a webhook, or a topic of the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.brokers import Broker, Message
from holdfast.errors import BrokerUnavailable, PoisonRecord
from holdfast.notifying.posting import NotTaken, Post, shown
from holdfast.policy.notices import NoticeType
from holdfast.policy.signature import sign

_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Event:
    """A notice as it is sent. `id` stays the same however often that is, `name` is the `type` in the document."""

    id: str
    type: NoticeType
    name: str
    route: str
    document: bytes = field(repr=False)


class Target(Protocol):
    """One place; events are sent to it one after the other."""

    name: str

    async def send(self, event: Event) -> None:
        """NotTaken unless it has been taken for good. Bounded in time."""

    async def close(self) -> None:
        """Let go of what is open."""


class Webhook:
    """Signed, if there are keys. `clock` gives epoch seconds."""

    def __init__(self, url: str, keys: Sequence[bytes], post: Post, clock: Callable[[], float]) -> None:
        self.name = shown(url)
        self._url = url
        self._keys = keys
        self._post = post
        self._clock = clock

    async def send(self, event: Event) -> None:
        # Each try has a time of its own, or a receiver would take a late one for an old message sent again.
        fields = sign(self._keys, event.id, int(self._clock()), event.document)
        await self._post(self._url, fields, event.document)

    async def close(self) -> None:
        """Nothing is open."""


class Topic:
    """A broker on a thread of its own, as `Broker` asks for. What is not stored in `timeout` seconds is taken back."""

    def __init__(self, broker: Broker, timeout: float) -> None:
        self.name = broker.name
        self.timeout = timeout
        self._broker = broker
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="notices")
        self._started = False
        self._closing = False

    async def send(self, event: Event) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._publish, event)

    async def close(self) -> None:
        self._closing = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._broker.close)
        self._thread.shutdown(wait=False)

    def _publish(self, event: Event) -> None:
        fields = {"content-type": "application/json", "holdfast-event": event.name, "holdfast-id": event.id}
        headers = tuple((name, value.encode()) for name, value in fields.items())
        reports: list[Exception | None] = []
        try:
            if not self._started:
                self._broker.start()
                self._started = True
            self._broker.publish(Message(event.route, event.document, headers), reports.append)
            deadline = time.monotonic() + self.timeout
            while not reports and time.monotonic() < deadline and not self._closing:
                self._broker.poll(_POLL)
            if not reports:
                raise BrokerUnavailable(self._broker.trouble or f"not stored within {self.timeout:g} s")
            if reports[0]:
                raise reports[0]
        except PoisonRecord as error:
            raise NotTaken(str(error), final=True) from error
        except BrokerUnavailable as error:
            # What it still holds is purged, so that a later try is not a second copy.
            self._started = False
            self._broker.close()
            raise NotTaken(str(error)) from error
