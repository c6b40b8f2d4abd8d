"""policy.retry: what may be repeated, how often, and after how long."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.failure import Failure, answered_with
from holdfast.policy.retry import GiveUp, Retry, RetryRules, Tried, backoff, decide

RULES = RetryRules(
    attempts=3,
    on=frozenset({"connect", "reset", "timeout", "502", "503", "504"}),
    methods=frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"}),
    backoff_base=0.05,
    backoff_max=1.0,
)
REFUSED = Failure("connection_refused", "")
RESET = Failure("connection_terminated", "")
GET = Tried(failure=RESET, method="GET", idempotency_key=False, body_held=True, attempts=1, remaining=10.0)
POST = replace(GET, method="POST")


@pytest.mark.parametrize(
    ("tried", "reason"),
    [
        (GET, None),
        (replace(GET, method="get"), None),
        (replace(GET, failure=answered_with(503)), None),
        (POST, "method"),
        (replace(POST, failure=answered_with(503)), "method"),
        (replace(POST, failure=REFUSED), None),
        (replace(POST, failure=Failure("connection_timeout", "")), None),
        (replace(POST, idempotency_key=True), None),
        (replace(GET, body_held=False), "body_streamed"),
        (replace(POST, failure=REFUSED, body_held=False), "body_streamed"),
        (replace(GET, attempts=3), "attempts"),
        (replace(GET, attempts=2), None),
        (replace(GET, remaining=0.0), "deadline"),
        (replace(GET, remaining=0.01), "deadline"),
        (replace(GET, failure=Failure("proxy_loop_detected", "")), "not_retriable"),
    ],
)
def test_what_may_be_repeated(tried: Tried, reason: str | None) -> None:
    """RFC 9110, section 9.2.2: a request that may have arrived is repeated only if that is known to be harmless."""
    verdict = decide(RULES, tried, jitter=0.9)
    assert (verdict.reason if isinstance(verdict, GiveUp) else None) == reason


def test_a_failure_that_the_profile_does_not_name_is_not_repeated() -> None:
    """`retry.on` is the whole list."""
    assert decide(replace(RULES, on=frozenset({"connect"})), GET, 0.0) == GiveUp("not_retriable")


@given(failed=st.integers(1, 2000), jitter=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_within_the_step_and_the_cap(failed: int, jitter: float) -> None:
    """Full jitter: anywhere between nothing and the doubled step, which the cap bounds."""
    wait = backoff(RULES, failed, jitter)
    assert 0.0 <= wait <= min(1.0, 0.05 * 2 ** min(failed - 1, 60))


@given(
    st.builds(
        Tried,
        failure=st.sampled_from([REFUSED, RESET, answered_with(503)]),
        method=st.sampled_from(["GET", "POST", "PUT", "PATCH"]),
        idempotency_key=st.booleans(),
        body_held=st.booleans(),
        attempts=st.integers(1, 5),
        remaining=st.floats(-1, 20),
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_a_retry_never_outlives_the_deadline_nor_repeats_what_may_not_be(tried: Tried, jitter: float) -> None:
    """Promise 3, over all combinations."""
    verdict = decide(RULES, tried, jitter)
    if isinstance(verdict, Retry):
        assert verdict.delay < tried.remaining
        assert tried.attempts < RULES.attempts
        safe = tried.idempotency_key or tried.method in RULES.methods
        assert tried.body_held
        assert safe or not tried.failure.reached
