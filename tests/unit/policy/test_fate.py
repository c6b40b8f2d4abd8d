"""policy.fate: one word for what became of a request."""

import pytest

from holdfast.policy.fate import FATES, Outcome, fate_of


@pytest.mark.parametrize(
    ("outcome", "fate"),
    [
        (Outcome(200), ("ok", "")),
        (Outcome(500, attempts=1), ("ok", "")),
        (Outcome(200, attempts=2), ("retried", "attempts:2")),
        (Outcome(503, error="connection_refused", attempts=3), ("failed", "connection_refused")),
        (Outcome(503, error="http_502", attempts=3, capture_id="x"), ("captured", "http_502")),
        (Outcome(200, error="connection_refused", understudy="exact"), ("stale", "understudy")),
        (Outcome(200, error="http_503", understudy="route", cached=("stale", "grace")), ("stale", "grace")),
        (Outcome(None, understudy="exact", broken="client_disconnected"), ("failed", "client_disconnected")),
        (Outcome(413, rejected="body_too_large"), ("rejected", "body_too_large")),
        (Outcome(500, closed_by="banner", attempts=1), ("failed", "addon:banner")),
        (Outcome(None, attempts=1, broken="client_disconnected"), ("failed", "client_disconnected")),
        (Outcome(None, capture_id="x", error="http_502", broken="client_disconnected"), ("captured", "http_502")),
    ],
)
def test_each_outcome_has_one_fate(outcome: Outcome, fate: tuple[str, str]) -> None:
    """A stored request is `captured` even where its client has left meanwhile."""
    assert fate_of(outcome) == fate
    assert fate[0] in FATES
