"""Whether, and after how long, a failed attempt is repeated.

The rules, in their order: the attempts and the deadline bound everything; a failure must be of a class the profile
names; a request that never reached the upstream may be repeated whatever it is; one that may have arrived only if its
method is listed, or it carries an `Idempotency-Key`; and either only while there is a whole body to send.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from holdfast.policy.failure import Failure


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The profile's `upstream.retry`, times in seconds."""

    attempts: int
    on: Set[str]
    methods: Set[str]
    backoff_base: float
    backoff_max: float


@dataclass(frozen=True, slots=True)
class Tried:
    """What is known when an attempt has failed. `attempts` counts the failed one; times in seconds."""

    failure: Failure
    method: str
    idempotency_key: bool
    body_held: bool
    attempts: int
    remaining: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt; `reason` is one of attempts, not_retriable, method, body_streamed, deadline."""

    reason: str


def repeated_because(rules: RetryRules, method: str, *, idempotency_key: bool) -> str:
    """Why a request that a server may have seen may be sent again: `method`, `idempotency_key`; empty if it may not."""
    if method.upper() in rules.methods:
        return "method"
    return "idempotency_key" if idempotency_key else ""


def decide(rules: RetryRules, tried: Tried, jitter: float) -> Retry | GiveUp:
    """`jitter` in [0, 1) spreads the waiting time over the whole of the exponential step ("full jitter")."""
    refusal = _refusal(rules, tried)
    if refusal:
        return GiveUp(refusal)
    delay = backoff(rules, tried.attempts, jitter)
    return Retry(delay) if delay < tried.remaining else GiveUp("deadline")


def backoff(rules: RetryRules, failed: int, jitter: float) -> float:
    """Seconds to wait after the `failed`-th attempt (1-based)."""
    # The exponent is bounded because 2.0**1100 overflows, and the cap was passed long before.
    return min(rules.backoff_max, rules.backoff_base * 2.0 ** min(failed - 1, 60)) * jitter


def _refusal(rules: RetryRules, tried: Tried) -> str | None:
    if tried.failure.kind not in rules.on:
        return "not_retriable"
    repeatable = repeated_because(rules, tried.method, idempotency_key=tried.idempotency_key)
    if tried.failure.reached and not repeatable:
        return "method"
    if not tried.body_held:
        return "body_streamed"
    if tried.attempts >= rules.attempts:
        return "attempts"
    return None if tried.remaining > 0 else "deadline"
