"""A replayer's source as a process of its own: takes, settles after a moment, and says so line by line.

    python replay_member.py ADDRESS TOPIC INSTANCE PAUSE [NAME=VALUE...]

INSTANCE is empty for a dynamic member; PAUSE are the seconds between taking and settling; options are librdkafka's. It
stops in order at the end of its input. Lines are JSON: {"at": seconds of the monotonic clock, "event": ..., ...}.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from holdfast.replay.kafka import KafkaSource, KafkaSourceSettings
from holdfast.replay.kafka.buffer import Position, Share
from holdfast.replay.source import Taken


def say(event: str, **more: Any) -> None:
    print(json.dumps({"at": time.monotonic(), "event": event, **more}), flush=True)


def place(taken: Taken) -> list[Any]:
    """[topic, partition, offset, which assignment of it]."""
    assert isinstance(taken.position, Position)
    share = taken.position.share
    return [share.topic, share.partition, taken.position.offset, id(share)]


async def work(source: KafkaSource, pause: float, stopping: asyncio.Event) -> None:
    owned: list[Share] = []
    while not stopping.is_set():
        now = list(source._readings[0]._shares.values())
        if {id(share) for share in now} != {id(share) for share in owned}:
            owned = now  # kept, so that no other is given the same id
            say("shares", shares=sorted([share.topic, share.partition, id(share)] for share in now))
        taken = await source.take(20)
        for each in taken:
            say("taken", id=each.arrival.id if each.arrival else "", place=place(each))
        await asyncio.sleep(pause if taken else 0.02)
        await source.settle([each for each in taken if not each.is_lost])
        for each in taken:
            if not each.is_lost:
                say("settled", id=each.arrival.id if each.arrival else "", place=place(each))


async def main(address: str, topic: str, instance: str, pause: str, *options: str) -> None:
    # Without topics of retries: Kafka shares out partitions evenly, but not those of each topic.
    settings = KafkaSourceSettings(group=topic, instance_id=instance or None, retry_delays=())
    source = KafkaSource(address, topic, dict(each.split("=", 1) for each in options), settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    ended.add_done_callback(lambda _: stopping.set())
    await source.start(lambda: None)
    await work(source, float(pause), stopping)
    await source.stop()
    say("stopped")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
