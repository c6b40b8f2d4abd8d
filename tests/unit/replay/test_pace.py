"""How many at once: bounds, trouble and its probes, recovery, and who goes first."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from holdfast.replay.pace import IN_A_ROW, PAUSE, Pace, PaceRules
from holdfast.testing import FixedClock


@dataclass
class Upstream:
    """What the leg would say."""

    open: bool = True
    since: float | None = None
    clients: int = 0

    def admits(self) -> bool:
        return self.open

    def answers_since(self) -> float | None:
        return self.since

    def live(self) -> int:
        return self.clients


class Paced:
    """A pace, its clock and its upstream."""

    def __init__(self, **rules: float) -> None:
        self.clock, self.upstream = FixedClock(1000.0), Upstream()
        self.pace = Pace(PaceRules(**({"slow_start": 0.0} | rules)), self.clock, self.upstream)  # type: ignore[arg-type]

    def begin(self) -> int:
        """As many as may; how many."""
        count = 0
        while self.pace.allowance() > 0:
            self.pace.began()
            count += 1
        return count

    def fail(self, times: int) -> None:
        """One after the other."""
        for _ in range(times):
            self.pace.began()
            self.pace.ended(answered=False)


def test_no_more_than_the_bound_are_under_way() -> None:
    """Another one begins when one has ended, or was not sent after all."""
    paced = Paced(concurrency=3)
    assert paced.begin() == 3
    assert paced.pace.wait() is None
    paced.pace.ended(answered=True)
    paced.pace.given_up()
    assert paced.begin() == 2


def test_a_rate_spaces_them_out() -> None:
    """So many a second at most, and what was missed is not made up for."""
    paced = Paced(rate=10.0, concurrency=100)
    assert paced.begin() == 1
    assert paced.pace.wait() == pytest.approx(0.1)
    begun = 0
    for _ in range(200):
        paced.clock.advance(0.01)
        begun += paced.begin()
    assert begun == pytest.approx(20, abs=2)
    paced.clock.advance(60.0)
    assert paced.begin() == 1


def test_one_failure_more_than_are_normal_is_trouble() -> None:
    """One capture that an upstream chokes on does not make it a failing one."""
    paced = Paced()
    paced.fail(IN_A_ROW - 1)
    assert paced.pace.allowance() > 1
    paced.pace.began()
    paced.pace.ended(answered=True)
    paced.fail(IN_A_ROW - 1)
    assert paced.pace.allowance() > 1
    paced.fail(1)
    assert paced.pace.allowance() == 0
    assert paced.pace.is_held_up


def test_in_trouble_one_probe_at_a_time_goes_and_the_pause_grows() -> None:
    """Up to its bound."""
    paced = Paced()
    paced.fail(IN_A_ROW)
    pauses = []
    for _ in range(8):
        waited = 0.0
        while not paced.pace.allowance():
            waited += paced.clock.advance(0.5) and 0.5
        assert paced.begin() == 1, "one probe"
        paced.pace.ended(answered=False)
        pauses.append(waited)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == PAUSE


def test_the_wait_of_one_in_trouble_ends_when_its_probe_may_go() -> None:
    """Whoever rests so long finds it allowed."""
    paced = Paced()
    paced.fail(IN_A_ROW)
    for _ in range(100):
        wait = paced.pace.wait()
        assert wait is not None
        if wait == 0:
            break
        paced.clock.advance(wait)
    assert paced.pace.allowance() == 1
    paced.pace.began()
    assert paced.pace.wait() is None, "only its end can change something"


def test_an_answer_to_somebody_else_brings_the_probe_forward() -> None:
    """A client, or a health check; but not one from before the failure."""
    paced = Paced()
    paced.upstream.since = paced.clock()
    paced.clock.advance(1.0)
    paced.fail(IN_A_ROW)
    assert paced.pace.allowance() == 0
    paced.upstream.since = paced.clock() + 0.1
    assert paced.pace.allowance() == 1


def test_after_trouble_it_begins_slowly() -> None:
    """From one at a time to all of them."""
    paced = Paced(slow_start=10.0, concurrency=10)
    paced.fail(IN_A_ROW)
    paced.clock.advance(PAUSE[0])
    paced.pace.began()
    paced.pace.ended(answered=True)
    seen = []
    for _ in range(11):
        seen.append(paced.pace.allowance())
        paced.clock.advance(1.0)
    assert seen[0] == 1
    assert seen[5] == 5
    assert seen[10] == 10
    assert not paced.pace.is_held_up


def test_the_rate_begins_slowly_too() -> None:
    """A tenth of it at first."""
    paced = Paced(slow_start=10.0, rate=100.0)
    paced.fail(IN_A_ROW)
    paced.clock.advance(PAUSE[0])
    paced.pace.began()
    paced.pace.ended(answered=True)
    paced.clock.advance(1.0)
    paced.begin()
    assert paced.pace.wait() == pytest.approx(0.1, abs=0.02)


def test_with_every_circuit_open_nothing_is_sent_and_then_a_probe() -> None:
    """Clients have found out, or health checks."""
    paced = Paced(slow_start=10.0)
    paced.upstream.open = False
    assert paced.pace.allowance() == 0
    assert paced.pace.is_held_up
    paced.clock.advance(100.0)
    paced.upstream.open = True
    assert paced.begin() == 1, "a probe, as after any trouble"
    paced.pace.ended(answered=True)
    assert paced.begin() == 1, "and then slowly"


def test_a_probe_that_was_not_sent_leaves_room_for_the_next() -> None:
    """It was discarded, say."""
    paced = Paced()
    paced.fail(IN_A_ROW)
    paced.clock.advance(PAUSE[0])
    assert paced.begin() == 1
    paced.pace.given_up()
    assert paced.pace.under_way == 0
    assert paced.begin() == 1


def test_while_clients_are_many_one_at_a_time_is_enough() -> None:
    """They come first."""
    paced = Paced(concurrency=8, give_way=10)
    paced.upstream.clients = 10
    assert paced.pace.allowance() == 8
    paced.upstream.clients = 11
    assert paced.begin() == 1
    assert paced.pace.wait() is not None, "nobody says when they are fewer again"


def test_new_rules_hold_at_once() -> None:
    """A profile was changed."""
    paced = Paced(concurrency=8)
    assert paced.begin() == 8
    paced.pace.rules = PaceRules(concurrency=2)
    for _ in range(7):
        paced.pace.ended(answered=True)
    assert paced.pace.allowance() == 1


@pytest.mark.parametrize("seed_number", range(20))
def test_whatever_happens_a_wait_of_no_time_means_that_one_may_go(seed_number: int) -> None:
    """Otherwise the loop would turn round and round without end."""
    import random

    dice = random.Random(seed_number)
    paced = Paced(concurrency=3, slow_start=dice.choice((0.0, 5.0)), rate=dice.choice((None, 7.0)), give_way=5)
    for _ in range(2000):
        kind = dice.randrange(6)
        if kind == 0:
            paced.upstream.open = dice.random() < 0.8
        elif kind == 1:
            paced.upstream.clients = dice.choice((0, 0, 9))
        elif kind == 2:
            paced.clock.advance(dice.random())
        elif kind < 5 and paced.pace.allowance():
            paced.pace.began()
        elif paced.pace.under_way:
            paced.pace.ended(answered=dice.random() < 0.4)
        wait, allowed = paced.pace.wait(), paced.pace.allowance()
        assert wait != 0 or allowed > 0, f"seed {seed_number}"
        assert allowed == 0 or paced.pace.under_way < 3
        assert 0 <= paced.pace.under_way <= 3
