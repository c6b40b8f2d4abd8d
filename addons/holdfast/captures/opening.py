"""The stores that a profile names, opened for somebody who only looks, or has captures sent again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from holdfast.audit import Audit
from holdfast.audit.opening import file_of, open_audit
from holdfast.captures.redriving import Publish, Publishable, Redriver
from holdfast.captures.view import Captures
from holdfast.errors import StoreUnavailable
from holdfast.failure_sink import FailureSinkSettings, settings_in
from holdfast.gateway import Gateway
from holdfast.outbox import OutboxReader
from holdfast.profile.settings import Profile
from holdfast.replay.settings import ReplayerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where captures are. `audit`: its URL, None where nothing keeps what becomes of captures."""

    outbox: Path | None
    audit: str | None
    sink: FailureSinkSettings | None
    replayer: ReplayerSettings | None

    @property
    def publishes(self) -> bool:
        """Whether the outbox hands its records to a broker."""
        return self.sink is not None and not self.sink.broker.startswith("embedded://")

    @property
    def is_replayed(self) -> bool:
        """Whether what is put back would ever be sent: Kafka's replayers may be anywhere."""
        if self.publishes:
            return self.sink is not None and self.sink.broker.startswith("kafka://")
        return self.replayer is not None

    def redriver(self, captures: Captures) -> Redriver:
        """For captures of these places."""
        return Redriver(captures, self._publish())

    def _publish(self) -> Publish | None:
        sink = self.sink
        if sink is None or not sink.broker.startswith("kafka://"):
            return None

        def publish(messages: Sequence[Publishable]) -> None:
            from holdfast.replay.kafka import publish as publish_to_kafka  # whoever has no Kafka loads no library

            publish_to_kafka(sink.broker.removeprefix("kafka://"), sink.topic, sink.kafka, messages)

        return publish


def places_of(profile: Profile) -> Places:
    """Those of the profile's failure sink and replayer."""
    sink = settings_in(profile)
    replayer = next((e.settings for e in profile.addons if isinstance(e.settings, ReplayerSettings)), None)
    return Places(
        outbox=Path(sink.outbox) if sink else None,
        audit=replayer.audit if replayer else None,
        sink=sink,
        replayer=replayer,
    )


@asynccontextmanager
async def opened(places: Places) -> AsyncIterator[Captures]:
    """Nothing is made: where there is no store yet, there is nothing in it. StoreUnavailable for one that is away."""
    audit: Audit | None = None
    if places.audit is not None:
        file = file_of(places.audit)
        audit = open_audit(places.audit, time.time) if file is None or file.exists() else None
    outbox = OutboxReader(places.outbox) if places.outbox else None
    try:
        if audit:
            await audit.open()
        yield Captures(outbox, audit, publishes=places.publishes)
    finally:
        if audit:
            await audit.close()
        if outbox:
            outbox.close()


class GatewayCaptures:
    """Those of a gateway that runs, over all outboxes beside its own. `close` lets go of them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader: OutboxReader | None = None

    def places(self) -> Places:
        """As the profile has them now."""
        return places_of(self._gateway.profile)

    def captures(self) -> Captures | None:
        """None where the profile captures nothing. StoreUnavailable while the audit store cannot be asked."""
        places, replays = self.places(), self._gateway.replays
        if places.outbox is None:
            return None
        if replays and replays.audit is None:
            raise StoreUnavailable("the audit store is not open")
        if self._reader is None or self._reader.path != places.outbox.absolute():
            self.close()
            self._reader = OutboxReader(places.outbox, self._gateway.wall_clock)
        return Captures(self._reader, replays.audit if replays else None, publishes=places.publishes)

    def close(self) -> None:
        """Of the files."""
        if self._reader:
            self._reader.close()
