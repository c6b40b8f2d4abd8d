"""When a worker that has ended is started again."""

from holdfast.policy.restarts import ALONE, LONGEST, STEADY, failures_after, pause_before


def test_the_first_time_it_is_at_once_and_later_ever_longer_up_to_a_bound() -> None:
    """While others serve."""
    pauses = [pause_before(n, others_serve=True) for n in range(1, 12)]
    assert pauses[:5] == [0, 1, 2, 4, 8]
    assert pauses[-1] == LONGEST
    assert pause_before(10_000, others_serve=True) == LONGEST


def test_while_no_other_serves_nobody_waits_for_long() -> None:
    """A gateway that clients cannot reach is worse than a busy processor."""
    assert pause_before(20, others_serve=False) == ALONE
    assert pause_before(1, others_serve=False) == 0


def test_one_that_has_lived_long_has_not_failed_before() -> None:
    """It begins anew."""
    assert failures_after(7, STEADY) == 1
    assert failures_after(7, STEADY - 1) == 8
