"""policy.replaying.verdict: what an answer to a replay means."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.replaying.schedule import Listed
from holdfast.policy.replaying.verdict import (
    Answer,
    Dead,
    Delivered,
    ReplayRules,
    RetryLater,
    Statuses,
    judge,
    parse_retry_after,
)

fixed = settings(derandomize=True, deadline=None)
NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
RULES = ReplayRules(attempts=5, schedule=Listed((10.0, 60.0)))
AGAIN = RetryLater(10.0, counts=True)
UNREACHABLE = Answer(error="connection_refused", unreachable=True)


def verdict(answer: Answer, rules: ReplayRules = RULES, so_far: int = 0, age: float = 0.0) -> object:
    """With the jitter that a list has no use for."""
    return judge(answer, rules, so_far, age, 0.5)


@pytest.mark.parametrize(
    ("texts", "inside", "outside"),
    [
        (("2xx",), (200, 299), (199, 300)),
        (("5XX",), (500, 599), (499,)),
        (("404",), (404,), (403, 405)),
        (("500-504",), (500, 504), (499, 505)),
        (("404-404", "1xx"), (404, 100, 199), (405, 200)),
        ((), (), (200,)),
    ],
)
def test_a_set_of_statuses_is_written_as_classes_ranges_and_numbers(
    texts: tuple[str, ...], inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    """Both ends of a range belong to it."""
    statuses = Statuses(texts)
    assert all(status in statuses for status in inside)
    assert not any(status in statuses for status in outside)


@pytest.mark.parametrize(
    "text", ["", "xx", "6xx", "20x", "99", "600", "504-500", "500-", "500-600", "2xx,3xx", " 200", "٢٠٠"]
)
def test_what_is_no_status_is_refused_with_an_example(text: str) -> None:
    """RFC 9110, section 15: three digits, the first from 1 to 5."""
    with pytest.raises(ValueError, match="write it like 404, 5xx or 500-504"):
        Statuses(("200", text))


def test_sets_with_the_same_statuses_are_equal() -> None:
    """However they were written; a reload then sees that nothing has changed."""
    assert Statuses(("500-599",)) == Statuses(("5xx", "503"))
    assert Statuses(("5xx",)) != Statuses(("4xx",))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(status=200), Delivered()),
        (Answer(status=204), Delivered()),
        (Answer(status=303), Delivered()),
        (Answer(status=408), AGAIN),
        (Answer(status=425), AGAIN),
        (Answer(status=429), AGAIN),
        (Answer(status=500), AGAIN),
        (Answer(status=503), AGAIN),
        (Answer(status=503, error="http_503"), AGAIN),
        (Answer(status=404, error="http_404"), Dead("status_404")),
        (Answer(status=400), Dead("status_400")),
        (Answer(status=409), Dead("status_409")),
        (Answer(status=101), Dead("status_101")),
        (Answer(error="http_response_timeout"), AGAIN),
        (Answer(error="connection_terminated"), AGAIN),
        (Answer(status=200, error="http_response_incomplete"), AGAIN),
        (Answer(status=404, error="http_response_incomplete"), AGAIN),
        (Answer(status=200, error="http_response_body_size"), Delivered()),
        (Answer(error="http_response_body_size"), AGAIN),
    ],
)
def test_the_status_decides_where_the_answer_is_whole(answer: Answer, expected: object) -> None:
    """Delivered by 2xx and 3xx, again by 408, 425, 429 and 5xx or without a whole answer, final by everything else."""
    assert verdict(answer) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, Delivered()),
        *((code, Dead(f"grpc_{code}")) for code in (1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16)),
        *((code, AGAIN) for code in (4, 8, 14)),
    ],
)
def test_for_grpc_the_status_of_the_call_decides(code: int, expected: object) -> None:
    """Google's code.proto: UNAVAILABLE asks for a retry of the call; ABORTED and FAILED_PRECONDITION do not."""
    assert verdict(Answer(status=200, grpc_status=code)) == expected


def test_the_status_of_a_call_goes_before_the_error_that_was_made_of_it() -> None:
    """`grpc_unavailable` is how the gateway names a call that was not taken."""
    assert verdict(Answer(status=200, error="grpc_unavailable", grpc_status=14)) == AGAIN
    assert verdict(Answer(status=503, grpc_status=0)) == Delivered()


def test_the_rules_say_what_is_delivered_and_what_is_tried_again() -> None:
    """What is delivered goes before what is to be tried again."""
    rules = replace(RULES, delivered=Statuses(("2xx", "409", "501")), retry=Statuses(("404", "501")))
    assert verdict(Answer(status=409), rules) == Delivered()
    assert verdict(Answer(status=501), rules) == Delivered()
    assert verdict(Answer(status=404), rules) == AGAIN
    assert verdict(Answer(status=301), rules) == Dead("status_301")
    assert verdict(Answer(status=500), rules) == Dead("status_500")


@pytest.mark.parametrize(
    ("so_far", "expected"),
    [
        (0, AGAIN),
        (1, RetryLater(60.0, counts=True)),
        (3, RetryLater(60.0, counts=True)),
        (4, Dead("attempts")),
        (9, Dead("attempts")),
    ],
)
def test_the_attempts_bound_the_replays(so_far: int, expected: object) -> None:
    """Five attempts are five replays: the fifth that fails is the last. Each step is the schedule's."""
    assert verdict(Answer(status=500), so_far=so_far) == expected


def test_a_last_attempt_that_succeeds_is_delivered() -> None:
    """The bounds are for failures."""
    late = replace(RULES, expires_after=1.0)
    assert verdict(Answer(status=200), late, so_far=4, age=100.0) == Delivered()
    assert verdict(Answer(status=404), late, so_far=4, age=100.0) == Dead("status_404")


@pytest.mark.parametrize("so_far", [0, 4, 100])
def test_an_outage_uses_up_no_attempts(so_far: int) -> None:
    """An upstream that is down for a day must not kill everything that was captured in it."""
    assert verdict(UNREACHABLE, so_far=so_far) == RetryLater(60.0 if so_far else 10.0, counts=False)


def test_an_outage_counts_where_the_rules_say_so() -> None:
    """`outage_counts`."""
    rules = replace(RULES, outage_counts=True)
    assert verdict(UNREACHABLE, rules) == AGAIN
    assert verdict(UNREACHABLE, rules, so_far=4) == Dead("attempts")


def test_a_gateways_own_answer_for_an_upstream_that_is_down_is_an_outage() -> None:
    """`unreachable` goes before any status."""
    answer = Answer(status=404, grpc_status=3, unreachable=True)
    assert verdict(answer, so_far=4) == RetryLater(60.0, counts=False)


@pytest.mark.parametrize(
    ("age", "expected"), [(0.0, AGAIN), (89.9, AGAIN), (90.0, Dead("expired")), (1e9, Dead("expired"))]
)
@pytest.mark.parametrize("answer", [Answer(status=500), UNREACHABLE])
def test_what_would_be_due_after_it_has_expired_is_dead(answer: Answer, age: float, expected: object) -> None:
    """The age counts in an outage too."""
    found = verdict(answer, replace(RULES, expires_after=100.0), age=age)
    if isinstance(expected, RetryLater):
        expected = replace(expected, counts=not answer.unreachable)
    assert found == expected


@pytest.mark.parametrize(
    ("expires_after", "age", "expired"), [(None, 1e12, False), (10.0, 9.9, False), (10.0, 10.0, True)]
)
def test_an_expired_capture_is_not_sent(expires_after: float | None, age: float, expired: bool) -> None:
    """To be asked before each replay."""
    assert replace(RULES, expires_after=expires_after).is_expired(age) is expired


def test_the_wait_is_at_least_what_the_server_asked_for() -> None:
    """RFC 9110, section 10.2.3; and it counts towards the expiry."""
    assert verdict(Answer(status=503, retry_after=30.0)) == RetryLater(30.0, counts=True)
    assert verdict(Answer(status=503, retry_after=3.0)) == AGAIN
    assert verdict(Answer(status=503, retry_after=30.0), replace(RULES, expires_after=20.0)) == Dead("expired")


@fixed
@given(
    status=st.none() | st.integers(100, 599),
    error=st.none() | st.sampled_from(["http_500", "http_response_timeout", "connection_refused"]),
    unreachable=st.booleans(),
    so_far=st.integers(0, 10),
    age=st.floats(0, 1e6),
    expires=st.none() | st.floats(0.1, 1e6),
)
def test_whatever_happens_no_bound_is_passed(
    status: int | None, error: str | None, unreachable: bool, so_far: int, age: float, expires: float | None
) -> None:
    """A retry that counts leaves an attempt, and every retry is due before the expiry."""
    if status is None and error is None:
        unreachable = True
    rules = replace(RULES, expires_after=expires)
    found = verdict(Answer(status=status, error=error, unreachable=unreachable), rules, so_far, age)
    if isinstance(found, RetryLater):
        assert not found.counts or so_far + 1 < rules.attempts
        assert not rules.is_expired(age + found.delay)


def test_an_answer_says_something() -> None:
    """A mistake of the caller would otherwise be an endless retry."""
    with pytest.raises(ValueError, match="an answer has a status or an error"):
        Answer(retry_after=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempts": 0}, "at least 1"),
        ({"expires_after": 0.0}, "more than 0"),
        ({"expires_after": -1.0}, "more than 0"),
    ],
)
def test_rules_under_which_nothing_could_be_sent_are_refused(changes: dict[str, float], message: str) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match=message):
        replace(RULES, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120.0),
        (b" 0\t", 0.0),
        (b"99999999", 86_400.0),
        (b"9" * 6000, 86_400.0),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        (b"Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
        (b"Sun Nov  6 08:50:37 1994", 60.0),
        (b"Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        (b"Sun, 06 Nov 2094 08:50:37 GMT", 86_400.0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (b"+1", None),
        (b"12, 13", None),
        (b"\xb2", None),
        (b"soon", None),
        (b"Sun, 06 Nov 1994 08:50:37 CET", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    """RFC 9110, section 10.2.3; a date that has passed is now, and nothing is later than a day."""
    assert parse_retry_after(value, NOW) == seconds


def test_the_bound_of_retry_after_can_be_set() -> None:
    """For both of its forms."""
    assert parse_retry_after(b"120", NOW, longest=60.0) == 60.0
    assert parse_retry_after(b"Sun, 06 Nov 1994 09:49:37 GMT", NOW, longest=60.0) == 60.0
