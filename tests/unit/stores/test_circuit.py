"""When a server is asked again."""

from __future__ import annotations

from holdfast.stores.circuit import Circuit
from holdfast.testing import FixedClock


def test_one_failure_opens_it_and_only_a_probe_closes_it() -> None:
    """However long nobody probes."""
    clock = FixedClock()
    circuit = Circuit(clock)
    circuit.failed("no answer")
    assert (circuit.is_open, circuit.reason, circuit.due()) == (True, "no answer", False)
    clock.advance(0.11)
    assert circuit.is_open
    assert circuit.due()
    clock.advance(3600)
    assert circuit.is_open
    circuit.succeeded()
    assert (circuit.is_open, circuit.reason, circuit.due()) == (False, "", False)


def test_the_pause_grows_while_it_keeps_failing() -> None:
    """Up to a bound."""
    clock = FixedClock(0.0)
    circuit = Circuit(clock, first=0.1, longest=2.0)
    pauses = []
    for _ in range(8):
        circuit.failed("no answer")
        began = clock.now
        while not circuit.due():
            clock.advance(0.05)
        pauses.append(round(clock.now - began, 2))
    assert [round(pause, 1) for pause in pauses] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_calls_that_fail_together_count_once() -> None:
    """All that were under way when the server went."""
    clock = FixedClock()
    circuit = Circuit(clock, first=0.1)
    for _ in range(1000):
        circuit.failed("no answer")
    clock.advance(0.11)
    assert circuit.due()
    assert circuit.opened == 1


def test_one_that_flaps_is_left_alone_longer_than_one_that_had_been_well() -> None:
    """The streak is forgotten after a while without failures."""
    clock = FixedClock()
    circuit = Circuit(clock, first=0.1, longest=2.0)
    for _ in range(4):
        circuit.failed("no answer")
        clock.advance(2.0)
        circuit.succeeded()
    circuit.failed("no answer")
    clock.advance(1.0)
    assert not circuit.due()
    clock.advance(1.0)
    circuit.succeeded()
    clock.advance(60)
    circuit.failed("no answer")
    clock.advance(0.11)
    assert circuit.due()
