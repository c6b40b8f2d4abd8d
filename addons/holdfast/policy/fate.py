"""The fate of a request: the one word that metrics, logs and marks agree on, and why."""

from __future__ import annotations

from dataclasses import dataclass

FATES = ("ok", "retried", "stale", "hit", "captured", "failed", "rejected")
LOST = ("captured", "failed")  # those of requests that the upstream did not answer


@dataclass(slots=True)  # one for each request, and a frozen one takes three times as long to make
class Outcome:
    """What is known when a request has ended. `status` is what the client got, None if it got nothing."""

    status: int | None
    error: str | None = None
    attempts: int = 0
    capture_id: str | None = None
    rejected: str | None = None
    closed_by: str | None = None
    cached: tuple[str, str] | None = None  # (hit or stale, the directive that decided)
    understudy: str | None = None  # which recording it was answered from
    fault: str | None = None  # the rule of one that was asked for, and that the client has taken for a failure
    broken: str | None = None  # mitmproxy's text when the exchange broke off


def fate_of(outcome: Outcome) -> tuple[str, str]:
    """(fate, reason). A 4xx or 5xx of the upstream's own that the profile does not call a failure is `ok`."""
    if outcome.capture_id:
        return "captured", outcome.error or ""
    if outcome.fault:
        return "failed", f"fault:{outcome.fault}"
    if outcome.rejected:
        return "rejected", outcome.rejected
    if outcome.closed_by:
        return "failed", f"addon:{outcome.closed_by}"
    if outcome.cached and not outcome.broken:
        return outcome.cached
    if outcome.understudy and not outcome.broken:
        return "stale", "understudy"
    if outcome.error:
        return "failed", outcome.error
    if outcome.broken:
        return "failed", outcome.broken
    if outcome.attempts > 1:
        return "retried", f"attempts:{outcome.attempts}"
    return "ok", ""
