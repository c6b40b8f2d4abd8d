"""explaining: what is told of a decision of the cache, to people and to programs."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.caching.explaining import explained, passed_by
from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.reuse import Fresh, GatewayTimeout, Miss, StaleIfError, Validate
from holdfast.stores import Lookup

NOW = 1_700_000_000.0
STORED = StoredResponse(200, ((b"ETag", b'"1"'),), b"one", NOW, NOW, (("accept", "x"),), ("t",))
FRESH, STALE = Fresh(1, 59.9, "max-age"), StaleIfError(70, -10, "grace")
MISS, VALIDATE = Miss("nothing-stored", "miss"), Validate("stale", "stale", 70, -10)


@pytest.mark.parametrize(
    ("lookup", "store"),
    [
        (Lookup(STORED, 0, level="redis"), "redis"),
        (Lookup(STORED, 0, level="memory", degraded="down"), "down"),
        (Lookup(None, 0), "nothing stored"),
        (Lookup(None, 0, degraded="down"), "down"),
    ],
)
def test_where_it_was_looked_for_is_told(lookup: Lookup, store: str) -> None:
    """The level that had it, or why that could not be asked."""
    assert explained("k", lookup, FRESH).details["store"] == store


def test_what_is_stored_is_described_without_its_body() -> None:
    """By its length, and with what selects it."""
    told = explained("k", Lookup(STORED, 0, soft=True), STALE).details
    assert told["stored"] == {
        "status": 200,
        "headers": [["ETag", '"1"']],
        "bytes": 3,
        "arrived": NOW,
        "vary": {"accept": "x"},
        "tags": ["t"],
    }
    assert (told["key"], told["soft_purged"]) == ("k", True)
    assert explained("k", Lookup(None, 0), MISS).details["stored"] is None


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (FRESH, {"decision": "Fresh", "because": "max-age", "age": 1, "ttl": 59.9}),
        (MISS, {"decision": "Miss", "because": "nothing-stored", "fwd": "miss"}),
        (VALIDATE, {"decision": "Validate", "because": "stale", "fwd": "stale", "age": 70, "ttl": -10}),
    ],
)
def test_a_decision_is_told_with_what_decides(decision: Any, expected: dict[str, Any]) -> None:
    """Its name, its reason, and the figures that it has."""
    told = explained("k", Lookup(None, 0), decision).details
    assert {name: told.get(name) for name in expected} == expected
    assert ("ttl" in told, "fwd" in told) == ("ttl" in expected, "fwd" in expected)


@pytest.mark.parametrize(
    ("decision", "answers"), [(FRESH, True), (STALE, True), (GatewayTimeout("only-if-cached"), True), (MISS, False)]
)
def test_who_answers_is_told(decision: Any, answers: bool) -> None:
    """Nobody after the cache is asked where it does."""
    told = explained("k", Lookup(STORED, 0), decision)
    assert (told.acts, told.answers) == (True, answers)


def test_what_a_failed_upstream_is_answered_with_is_told() -> None:
    """Where what is stored may be used then; not where it is the answer anyway."""
    told = explained("k", Lookup(STORED, 0), VALIDATE, STALE)
    assert (told.details["if_failed"], told.answers) == (STALE.because, False)
    assert "if the upstream fails, what is stored is the answer" in told.says
    assert "if_failed" not in explained("k", Lookup(STORED, 0), FRESH, STALE).details
    assert "if_failed" not in explained("k", Lookup(STORED, 0), VALIDATE).details


def test_what_passes_by_is_told_with_the_reason_in_words() -> None:
    """The token for programs, the sentence for people."""
    told = passed_by("method")
    assert (told.acts, told.answers, told.details) == (False, False, {"decision": "Pass", "because": "method"})
    assert "only GET and HEAD" in told.says
