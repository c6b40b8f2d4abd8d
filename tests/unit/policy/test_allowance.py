"""So much at once, so much a second."""

from holdfast.policy.allowance import Allowance


def test_what_is_saved_up_can_be_spent_at_once_and_then_only_what_comes_in() -> None:
    """A token bucket, full at first and never more than full."""
    bucket = Allowance(capacity=10, rate=2, since=100.0)
    assert all(bucket.take(5, 100.0) for _ in range(2))
    assert not bucket.take(1, 100.0)
    assert bucket.take(1, 101.0)
    assert bucket.take(10, 1000.0)
    assert not bucket.take(1, 1000.0)
    assert bucket.take(0, 1001.0)
