"""The relay beside live traffic: how long it rests for what it has done."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.outbox import Outbox, Relay
from holdfast.outbox import share as shares
from holdfast.outbox.share import Share, beside_this_thread
from tests.unit.outbox.fake_broker import FakeBroker
from tests.unit.outbox.records import make_record


@dataclass
class Machine:
    """A clock, what two threads have used of it, and a backlog."""

    now: float = 100.0
    traffic: float = 7.0
    own: float = 3.0
    backlog: int = 1000
    share: Share = field(init=False)

    def __post_init__(self) -> None:
        self.share = Share(lambda: self.traffic, lambda: self.backlog, lambda: self.own, lambda: self.now)

    def work(self, own: float = 0.005, loop_busy: float = 0.0) -> float:
        """The relay works for `own` seconds and rests as it is told; how long. The loop works all the while."""
        self.own += own
        self.now += own
        rest = self.share.rest()
        self.now += rest
        self.traffic += loop_busy * (own + rest)
        return rest

    def portion(self, loop_busy: float, turns: int = 200, new: int = -10) -> float:
        """How much of the time the relay has worked, after a while."""
        for _ in range(20):
            self.work(loop_busy=loop_busy)
        began, before = self.now, self.own
        for _ in range(turns):
            self.backlog += new
            self.work(loop_busy=loop_busy)
        return (self.own - before) / (self.now - began)


def test_alone_it_takes_what_it_can_get() -> None:
    """Also beside a loop that does next to nothing."""
    assert Machine().portion(loop_busy=0.0) == pytest.approx(1.0)
    assert Machine().portion(loop_busy=0.02) == pytest.approx(1.0)


def test_beside_a_busy_loop_it_takes_little() -> None:
    """The proxy must not lose a tenth to it, with what other threads do for it."""
    machine = Machine()
    assert machine.portion(loop_busy=0.9) == pytest.approx(0.025, abs=0.005)
    assert machine.share.is_tight


def test_beside_a_loop_that_is_half_idle_it_takes_a_part_of_what_is_left() -> None:
    """The busier the loop, the less; from a third on it is as good as busy, for the relay slows it down itself."""
    assert 0.4 < Machine().portion(loop_busy=0.15) < 0.6
    assert Machine().portion(loop_busy=0.35) < 0.05


def test_while_more_is_captured_than_published_it_takes_more() -> None:
    """Else the outbox would be full in the end."""
    assert Machine().portion(loop_busy=0.9, new=10) == pytest.approx(0.25, abs=0.03)


def test_when_the_traffic_ends_it_goes_on_at_full_speed() -> None:
    """Within a moment."""
    machine = Machine()
    machine.portion(loop_busy=0.9)
    assert machine.portion(loop_busy=0.0) == pytest.approx(1.0)


def test_a_rest_is_never_long() -> None:
    """A piece of work that took a second is not paid for by half a minute in which nothing is published."""
    machine = Machine()
    machine.portion(loop_busy=0.9)
    assert machine.work(own=1.0, loop_busy=0.9) == 0.5


def test_a_loop_that_has_ended_is_not_waited_for() -> None:
    """The relay has a moment left to bring out what it has."""
    times = iter([1.0])

    def gone() -> float:
        for each in times:
            return each
        raise OSError("no such thread")

    share = Share(gone, lambda: 0)
    assert share.rest() == 0.0
    share._looked = (0.0, 1.0, 0)
    assert share.rest() == 0.0


def test_the_time_of_this_thread_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the scheduler's figures, or else by the thread's own clock."""
    assert beside_this_thread(lambda: 0)
    with monkeypatch.context() as patch:
        patch.setattr(shares, "Path", lambda path: tmp_path / "missing")
        assert beside_this_thread(lambda: 0)
        patch.delattr("time.pthread_getcpuclockid")
        assert beside_this_thread(lambda: 0) is None


def test_beside_traffic_records_go_in_pieces_and_all_of_them_go(outbox: Outbox) -> None:
    """Between two pieces the relay rests; a stop is not held up by it."""
    for _ in range(600):
        outbox.append_sync(make_record())
    machine = Machine()
    machine.portion(loop_busy=0.9)
    machine.now = 0.0  # nothing is looked at any more: it stays tight
    broker, sent = FakeBroker(batch=1000), threading.Event()
    broker.on_poll = lambda: sent.set() if len(broker.log) == 600 else None
    relay = Relay(outbox, broker, share=machine.share)
    relay.start()
    assert sent.wait(20)
    relay.stop()
    assert broker.most_waiting <= 256
    assert relay.stats.published == 600
