"""Captures from a Kafka topic, and the topics beside it in which they wait for a retry, or lie dead.

    source      all of it as a `Source`
    options     settings, and librdkafka's options
    topics      names, and whether they are there
    consumer    the thread that reads, a member of a consumer group
    buffer      what is held of what it has read
    offsets     which offset may be committed; `commits` does it
    messages    what a message says
    producer    messages back to Kafka
    watch       how much waits

A capture may be given twice (after a crash, a failure in the middle of `hand_on`, or a rebalance: what is then on its
way from a partition that is given back has two seconds to be settled), and is never lost: an offset is committed when
everything before it is settled.
"""

from holdfast.replay.kafka.options import KafkaSourceSettings
from holdfast.replay.kafka.producer import publish
from holdfast.replay.kafka.source import KafkaSource

__all__ = ["KafkaSource", "KafkaSourceSettings", "publish"]
