"""The bound of what is held, and what becomes of it when a partition is lost."""

from __future__ import annotations

import time

from holdfast.replay.kafka.buffer import Buffer, Gate, Position, Share
from holdfast.replay.source import Taken


def put(buffer: Buffer, share: Share, offset: int, weight: int = 10) -> Taken:
    position = Position(share, offset, None, b"", (), weight)
    taken = Taken(None, weight, position=position)
    buffer.add(taken, position)
    return taken


def at(*taken: Taken) -> list[Position]:
    return [each.position for each in taken if isinstance(each.position, Position)]


def test_a_gate_shuts_when_full_and_opens_at_half() -> None:
    """With the room between, pausing is rare. Either bound is enough."""
    gate = Gate(4, 100)
    gate.move(3, 30)
    assert not gate.is_shut
    gate.move(1, 10)
    assert gate.is_shut
    gate.move(-1, -10)
    assert gate.is_shut
    gate.move(-1, -10)
    assert not gate.is_shut
    gate.move(1, 90)
    assert gate.is_shut
    gate.move(-2, -60)
    assert not gate.is_shut


def test_messages_are_taken_once_and_in_their_order() -> None:
    """Taken is not settled: it keeps its room."""
    buffer, share = Buffer(8, 1000), Share("t", 0)
    put_in = [put(buffer, share, offset) for offset in (3, 5, 9)]
    assert buffer.take(2) == put_in[:2]
    assert buffer.take(2) == put_in[2:]
    assert buffer.take(2) == []
    assert buffer.held() == (3, 30)
    buffer.settle(at(put_in[1], put_in[1], put_in[0]))
    assert buffer.held() == (1, 10)
    assert share.offsets.to_commit() == 9


def test_what_is_lost_is_marked_gone_and_no_longer_settled() -> None:
    """Those of other partitions stay; the room is free."""
    buffer, gone, stays = Buffer(8, 1000), Share("t", 0), Share("t", 1)
    one, other, waiting = put(buffer, gone, 0), put(buffer, stays, 0), put(buffer, gone, 1)
    assert buffer.take(2) == [one, other]
    buffer.lose([gone])
    assert [each.is_lost for each in (one, other, waiting)] == [True, False, True]
    assert buffer.take(5) == []
    assert buffer.held() == (1, 10)
    buffer.settle(at(one, waiting, other))
    assert gone.offsets.to_commit() is None
    assert buffer.held() == (0, 0)


def test_a_wait_for_room_ends_when_there_is_some() -> None:
    """And once only."""
    buffer, share = Buffer(3, 1000), Share("t", 0)
    held = [put(buffer, share, offset) for offset in range(3)]
    assert buffer.is_shut
    buffer.settle(at(*held))
    began = time.monotonic()
    buffer.wait(5.0)
    assert time.monotonic() - began < 1.0
    buffer.wait(0.05)
    assert time.monotonic() - began >= 0.05
