"""The source of captures that a profile names: the outbox, or topics of Kafka."""

from __future__ import annotations

from holdfast.errors import BrokerUnavailable
from holdfast.failure_sink import FailureSinkSettings
from holdfast.gateway import Gateway
from holdfast.outbox.reader import OutboxReader
from holdfast.replay.all_files import AllFiles
from holdfast.replay.outbox import OthersFiles, OutboxSource, OwnFiles
from holdfast.replay.settings import KafkaReplay
from holdfast.replay.source import Source


def open_source(sink: FailureSinkSettings, settings: KafkaReplay, gateway: Gateway) -> Source:
    """Not started yet. BrokerUnavailable for a broker that nothing can be read back from."""
    scheme, _, rest = sink.broker.partition("://")
    if scheme == "embedded":
        if gateway.role == "consumer":
            return OutboxSource(lambda _: OthersFiles(OutboxReader(sink.outbox, gateway.wall_clock)))
        own = lambda: gateway.sink.outbox if gateway.sink else None  # noqa: E731 - too short for a name of its own
        if gateway.worker:
            return OutboxSource(lambda woken: AllFiles(own, woken, OutboxReader(sink.outbox, gateway.wall_clock)))
        return OutboxSource(lambda woken: OwnFiles(own, woken))
    if scheme == "kafka":
        # A replayer without Kafka does not load its library.
        from holdfast.replay.kafka import KafkaSource, KafkaSourceSettings

        return KafkaSource(
            rest,
            sink.topic,
            sink.kafka,
            KafkaSourceSettings(
                group=settings.group,
                instance_id=settings.instance_id,
                retry_delays=tuple(float(each) for each in settings.retry_delays),
                dead_letters=settings.dead_letters,
                create_topics=settings.create_topics,
            ),
        )
    raise BrokerUnavailable(f"{scheme}:// cannot be replayed from: name kafka://HOST:PORT or embedded://")
