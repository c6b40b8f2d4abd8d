"""policy.breaker: when a server is left alone, and how it comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.breaker import Breaker, BreakerRules


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.permit(now)
        breaker.failed(now)


def test_it_opens_after_max_fails_in_a_row_and_not_before() -> None:
    """The original design: 3 failures, 30 seconds."""
    breaker = Breaker(BreakerRules())
    fail(breaker, 0.0, 2)
    breaker.succeeded(0.0)
    fail(breaker, 1.0, 2)
    assert breaker.state(1.0) == "closed"
    fail(breaker, 1.0)
    assert breaker.state(1.0) == "open"
    assert not breaker.allows(30.9)
    assert breaker.retry_in(21.0) == 10.0


def test_half_open_lets_only_the_probes_through() -> None:
    """The others are refused until the probes have told."""
    breaker = Breaker(BreakerRules(probes=2))
    fail(breaker, 0.0, 3)
    assert breaker.state(30.0) == "half_open"
    for _ in range(2):
        assert breaker.allows(30.0)
        breaker.permit(30.0)
    assert not breaker.allows(30.0)
    breaker.succeeded(30.1)
    assert breaker.state(30.1) == "half_open"
    assert not breaker.allows(30.1)
    breaker.succeeded(30.2)
    assert breaker.state(30.2) == "closed"


def test_a_failed_probe_opens_it_for_another_round() -> None:
    """From the moment of that failure on."""
    breaker = Breaker(BreakerRules())
    fail(breaker, 0.0, 3)
    breaker.permit(30.0)
    breaker.failed(31.0)
    assert breaker.state(60.9) == "open"
    assert breaker.state(61.0) == "half_open"


def test_a_probe_whose_client_left_gives_its_place_back() -> None:
    """Or the breaker would stay half-open for ever."""
    breaker = Breaker(BreakerRules())
    fail(breaker, 0.0, 3)
    breaker.permit(30.0)
    assert not breaker.allows(30.0)
    breaker.abandoned(30.0)
    assert breaker.allows(30.0)


@pytest.mark.parametrize(("failures", "state"), [(10, "closed"), (11, "open")])
def test_a_rate_opens_it_although_no_three_in_a_row_failed(failures: int, state: str) -> None:
    """More than half of twenty within the window."""
    breaker = Breaker(BreakerRules(max_fails=0, failure_rate=0.5, min_requests=20))
    for n in range(20):
        (breaker.failed if n >= 20 - failures else breaker.succeeded)(n * 0.1)
    assert breaker.state(2.0) == state


def test_failures_that_have_left_the_window_do_not_count() -> None:
    """The window slides."""
    breaker = Breaker(BreakerRules(max_fails=0, failure_rate=0.5, min_requests=4, window=10))
    fail(breaker, 0.0, 3)
    breaker.succeeded(11.0)
    fail(breaker, 11.0, 2)
    assert breaker.state(11.0) == "closed"


def test_a_server_that_has_come_back_starts_slowly() -> None:
    """Its share grows with the time since."""
    breaker = Breaker(BreakerRules(slow_start=10.0))
    assert breaker.weight(0.0) == 1.0
    fail(breaker, 0.0, 3)
    breaker.permit(30.0)
    breaker.succeeded(30.0)
    assert breaker.weight(30.0) == 0.1
    assert breaker.weight(35.0) == 0.5
    assert breaker.weight(45.0) == 1.0


def test_one_that_was_opened_by_hand_stays_open() -> None:
    """Until it is closed by hand."""
    breaker = Breaker(BreakerRules())
    breaker.force(True, 0.0)
    assert breaker.state(1e6) == "open"
    breaker.force(False, 1e6)
    assert breaker.state(1e6) == "closed"


def test_one_that_was_opened_by_hand_for_a_time_is_probed_after_it() -> None:
    """Whatever happens meanwhile; a failed probe opens it as any other."""
    breaker = Breaker(BreakerRules(fail_timeout=30.0))
    breaker.force(True, 0.0, 10.0)
    for event in (breaker.failed, breaker.succeeded, breaker.abandoned, breaker.hasten):
        event(5.0)
    assert (breaker.state(9.9), breaker.is_forced(9.9), breaker.retry_in(4.0)) == ("open", True, 6.0)
    assert (breaker.state(10.0), breaker.is_forced(10.0)) == ("half_open", False)
    breaker.permit(10.0)
    breaker.failed(11.0)
    assert (breaker.state(12.0), breaker.is_forced(12.0), breaker.state(41.0)) == ("open", False, "half_open")


def test_another_address_of_a_server_inherits_only_what_a_person_has_said() -> None:
    """A name whose addresses change stays closed to traffic; failures belong to an address."""
    breaker = Breaker(BreakerRules())
    fail(breaker, 0.0, 3)
    assert breaker.heir().state(1.0) == "closed"
    breaker.force(True, 2.0)
    assert (breaker.heir().state(1e6), breaker.heir().is_forced(3.0)) == ("open", True)


@given(st.lists(st.tuples(st.sampled_from(["succeed", "fail", "leave"]), st.floats(0, 40)), max_size=60))
def test_whatever_happens_it_lets_a_probe_through_in_the_end(steps: list[tuple[str, float]]) -> None:
    """No order of events can lock a server out for longer than fail_timeout, nor let more probes in than allowed."""
    breaker, now = Breaker(BreakerRules(probes=2, failure_rate=0.5, min_requests=3)), 0.0
    in_flight = 0
    for what, later in steps:
        now += later
        if breaker.allows(now):
            half_open = breaker.state(now) == "half_open"
            breaker.permit(now)
            in_flight += 1
            assert not half_open or breaker._probing <= 2
        if in_flight:
            in_flight -= 1
            {"succeed": breaker.succeeded, "fail": breaker.failed, "leave": breaker.abandoned}[what](now)
    for _ in range(in_flight):
        breaker.abandoned(now)
    assert breaker.allows(now + 30.0)


def test_a_server_that_is_known_to_be_back_is_probed_at_once() -> None:
    """Unless a person has opened the circuit."""
    breaker = Breaker(BreakerRules())
    fail(breaker, 0.0, 3)
    breaker.hasten(1.0)
    assert breaker.state(1.0) == "half_open"
    breaker.force(True, 2.0)
    breaker.hasten(3.0)
    assert breaker.state(3.0) == "open"


def test_no_moment_is_named_for_what_a_person_holds_open_until_it_is_closed() -> None:
    """Clients would be told to come back at once (Retry-After: 0), however long it has been open."""
    breaker = Breaker(BreakerRules(fail_timeout=30.0))
    breaker.force(True, 0.0)
    assert [breaker.retry_in(now) for now in (1.0, 29.0, 3600.0)] == [30.0] * 3
    breaker.force(True, 3600.0, 10.0)
    assert breaker.retry_in(3604.0) == 6.0
    breaker.force(False, 3605.0)
    assert breaker.retry_in(3605.0) == 0.0
