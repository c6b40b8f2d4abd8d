"""What an answer to a replay means: it is delivered, tried again later, or dead.

- What the rules call delivered is delivered, whatever else they say.
- A status to be retried, and an error without a whole answer, use up one of the attempts.
- An upstream that was not reached at all uses up none, unless the rules say so: an outage of a day must not kill all
  that was captured in it. The age does count then.
- Everything else is final: the same request would get the same answer.

For gRPC the status of the call decides. Retried are UNAVAILABLE, which may be corrected by retrying with a back-off;
RESOURCE_EXHAUSTED, which a server without free threads or with a quota answers; and DEADLINE_EXCEEDED, which says as
little about the outcome as a 504. Not ABORTED: it asks for a retry "at a higher level", such as reading again before
writing. Nor FAILED_PRECONDITION: not "until the system state has been explicitly fixed". UNKNOWN and INTERNAL are the
server's own faults in code or protocol. (grpc/doc/statuscodes.md, and the comments of google/rpc/code.proto.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from holdfast.policy.caching.dates import parse
from holdfast.policy.replaying.schedule import Schedule, next_delay

GRPC_OK = 0
GRPC_RETRIED = frozenset({4, 8, 14})  # DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
LONGEST_RETRY_AFTER = 86_400.0

_ONE = re.compile(r"(?P<hundred>[1-5])xx|(?P<first>[1-5][0-9]{2})(?:-(?P<last>[1-5][0-9]{2}))?", re.IGNORECASE)
_DIGITS = re.compile(rb"[0-9]+")
_TOO_LARGE_FOR_US = "http_response_body_size"  # the upstream's answer is whole, only our copy of it is not


@dataclass(frozen=True, slots=True)
class Statuses:
    """A set of statuses: `2xx`, `404`, `500-504`. Equal if the same are in it. ValueError says what to write."""

    texts: tuple[str, ...] = field(compare=False)
    codes: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        codes = frozenset(code for text in self.texts for code in _codes(text))
        object.__setattr__(self, "codes", codes)

    def __contains__(self, status: int) -> bool:
        return status in self.codes


def _codes(text: str) -> range:
    found = _ONE.fullmatch(text)
    if found and found["hundred"]:
        start = int(found["hundred"]) * 100
        return range(start, start + 100)
    if found:
        codes = range(int(found["first"]), int(found["last"] or found["first"]) + 1)
        if codes:
            return codes
    raise ValueError(f"{text!r} is no status: write it like 404, 5xx or 500-504")


DELIVERED = Statuses(("2xx", "3xx"))
RETRIED = Statuses(("408", "425", "429", "5xx"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRules:
    """`attempts`: how many replays at most. `expires_after`: seconds since the capture; None: it never expires.

    `outage_counts`: whether a replay that did not reach the upstream uses up an attempt. ValueError for an unusable
    number.
    """

    attempts: int
    schedule: Schedule
    delivered: Statuses = DELIVERED
    retry: Statuses = RETRIED
    expires_after: float | None = None
    outage_counts: bool = False

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("write at least 1 for attempts: the first replay counts")
        if self.expires_after is not None and not self.expires_after > 0:
            raise ValueError("write more than 0 seconds for expires_after, or leave it out")

    def is_expired(self, age: float) -> bool:
        """Whether a capture of this age (seconds) is not to be sent any more."""
        return self.expires_after is not None and age >= self.expires_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a replay. `error` is an RFC 9209 token, or `http_502` and the like beside that status.

    `retry_after` in seconds. `unreachable`: the request never reached a server (refused, circuit open). A gRPC call
    that ended without a status is the caller's to report as UNKNOWN, 2. ValueError if nothing is said.
    """

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    grpc_status: int | None = None
    unreachable: bool = False

    def __post_init__(self) -> None:
        if self.status is None and self.error is None and self.grpc_status is None and not self.unreachable:
            raise ValueError("an answer has a status or an error, or did not come because nobody was reached")


@dataclass(frozen=True, slots=True)
class Delivered:
    """Done."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Again after `delay` seconds. `counts`: whether this replay has used up an attempt."""

    delay: float
    counts: bool


@dataclass(frozen=True, slots=True)
class Dead:
    """No more replays. `reason`: `attempts`, `expired`, `status_404`, `grpc_3`."""

    reason: str


def judge(
    answer: Answer, rules: ReplayRules, attempts_so_far: int, age: float, jitter: float
) -> Delivered | RetryLater | Dead:
    """`attempts_so_far`: those that counted, without this one. `age`: seconds since the capture, now.

    What would be due only when it has expired is dead at once.
    """
    settled = _settled(answer, rules)
    if settled:
        return settled
    counts = not answer.unreachable or rules.outage_counts
    failed = attempts_so_far + 1
    if counts and failed >= rules.attempts:
        return Dead("attempts")
    delay = next_delay(rules.schedule, failed, jitter, answer.retry_after or 0.0)
    return Dead("expired") if rules.is_expired(age + delay) else RetryLater(delay, counts)


def _settled(answer: Answer, rules: ReplayRules) -> Delivered | Dead | None:
    """None: it is to be tried again."""
    if answer.unreachable:
        return None
    if answer.grpc_status is not None:
        if answer.grpc_status == GRPC_OK:
            return Delivered()
        return None if answer.grpc_status in GRPC_RETRIED else Dead(f"grpc_{answer.grpc_status}")
    if answer.status is None or answer.error not in (None, f"http_{answer.status}", _TOO_LARGE_FOR_US):
        return None  # no answer, or only the beginning of one
    if answer.status in rules.delivered:
        return Delivered()
    return None if answer.status in rules.retry else Dead(f"status_{answer.status}")


def parse_retry_after(value: bytes, now: float, longest: float = LONGEST_RETRY_AFTER) -> float | None:
    """Seconds to wait by a Retry-After field (RFC 9110, section 10.2.3): seconds or an HTTP date; None if neither.

    `now` in epoch seconds. Never below 0, and never above `longest`: no server may park a capture for years.
    """
    text = value.strip(b" \t")
    if _DIGITS.fullmatch(text):
        # int() refuses very long numbers, float() makes the largest of them infinite.
        return min(float(text), longest)
    moment = parse(text, now)
    return None if moment is None else max(0.0, min(moment - now, longest))
