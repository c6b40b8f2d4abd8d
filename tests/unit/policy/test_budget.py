"""policy.budget: retries stay a share of live requests."""

from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.budget import RetryBudget


def test_retries_are_at_most_the_share_and_the_allowance() -> None:
    """20 % of 100 requests, and 3 a second over the window."""
    budget = RetryBudget(share=0.2, at_least=3.0, window=10.0)
    for _ in range(100):
        budget.request(0.0)
    made = sum(budget.try_retry(0.5) for _ in range(100))
    assert made == 20 + 30


def test_what_was_not_used_within_the_window_is_gone() -> None:
    """Yesterday's traffic does not pay for today's storm."""
    budget = RetryBudget(share=0.5, at_least=0.0, window=10.0)
    for _ in range(100):
        budget.request(0.0)
    assert not budget.try_retry(10.0)


def test_a_quiet_service_may_retry_at_all() -> None:
    """One request in ten seconds."""
    budget = RetryBudget(share=0.2)
    budget.request(0.0)
    assert budget.try_retry(0.1)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=300))
def test_no_window_ever_holds_more_retries_than_allowed(steps: list[tuple[bool, float]]) -> None:
    """Counted from the outside, for every window of whole seconds."""
    budget, now = RetryBudget(share=0.2, at_least=1.0, window=5.0), 0.0
    requests: list[int] = []
    retries: list[int] = []
    for is_request, later in steps:
        now += later
        if is_request:
            budget.request(now)
            requests.append(int(now))
        elif budget.try_retry(now):
            retries.append(int(now))
            recent = [t for t in retries if t > int(now) - 5]
            live = [t for t in requests if t > int(now) - 5]
            assert len(recent) <= len(live) * 0.2 + 5.0
