"""policy.caching.reuse: what a stored response is good for, now, for this request."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.model import CacheRules, StoredResponse
from holdfast.policy.caching.reuse import (
    Fresh,
    GatewayTimeout,
    Miss,
    Pass,
    Reuse,
    StaleAllowed,
    StaleIfError,
    StaleWhileRevalidate,
    Validate,
    decide,
)

T0 = 1_790_000_000.0
RULES = CacheRules()
TAG = '"a"'


def response(control: str, *, tag: bool = True, status: int = 200, age: int = 0) -> StoredResponse:
    fields = [("Cache-Control", control), ("Age", str(age)), *([("ETag", TAG)] if tag else [])]
    encoded = tuple((name.encode(), value.encode()) for name, value in fields)
    return StoredResponse(status, encoded, b"", T0, T0)


def asked(control: str | None = None, pragma: str | None = None) -> list[tuple[bytes, bytes]]:
    fields = [(b"Cache-Control", control), (b"Pragma", pragma)]
    return [(name, value.encode()) for name, value in fields if value is not None]


def reuse(
    control: str,
    request: str | None = None,
    *,
    after: float = 0.0,
    soft: bool = False,
    failing: bool = False,
    rules: CacheRules = RULES,
) -> Reuse:
    return decide("GET", asked(request), response(control), T0 + after, rules, soft=soft, failing=failing)


def brief(found: Reuse) -> tuple[str, str]:
    return type(found).__name__, found.because


def test_what_is_fresh_answers_and_says_how_old_it_is() -> None:
    """RFC 9111, section 4.2."""
    assert reuse("max-age=60", after=10) == Fresh(age=10, ttl=50, because="max-age")
    stored = response("s-maxage=60", age=20)
    assert decide("HEAD", [], stored, T0 + 10, RULES) == Fresh(age=30, ttl=30, because="s-maxage")


def test_what_is_stale_is_validated_or_else_fetched_anew() -> None:
    """RFC 9111, sections 4.2.4 and 4.3; a lifetime is over when the age has reached it."""
    assert reuse("max-age=60", after=60) == Validate("stale", "stale", age=60, ttl=0)
    assert decide("GET", [], response("max-age=60", tag=False), T0 + 60, RULES) == Miss("stale", "stale")


def test_without_a_stored_response_the_upstream_is_asked() -> None:
    """RFC 9111, section 4."""
    assert decide("GET", [], None, T0, RULES) == Miss("nothing-stored", "miss")
    assert decide("GET", [], None, T0, RULES, failing=True) == Miss("nothing-stored", "miss")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_other_methods_are_not_answered_from_the_cache(method: str) -> None:
    """RFC 9111, section 4: a stored GET answers GET and HEAD."""
    assert decide(method, [], response("max-age=60"), T0, RULES) == Pass("method", "method")


@pytest.mark.parametrize(
    ("request_control", "after", "found"),
    [
        ("no-cache", 0, ("Validate", "request-no-cache")),
        ("max-age=0", 0, ("Validate", "request-max-age")),
        ("max-age=1", 3, ("Validate", "request-max-age")),
        ("max-age=3", 3, ("Fresh", "max-age")),
        ("max-age=x", 3, ("Fresh", "max-age")),
        ("min-fresh=57", 3, ("Fresh", "max-age")),
        ("min-fresh=58", 3, ("Validate", "request-min-fresh")),
        ("no-store", 0, ("Pass", "request-no-store")),
        ("only-if-cached", 0, ("Fresh", "max-age")),
        ("only-if-cached, no-store", 0, ("Fresh", "max-age")),
        ("only-if-cached", 60, ("GatewayTimeout", "only-if-cached")),
        ("only-if-cached, no-cache", 0, ("GatewayTimeout", "only-if-cached")),
        ("max-stale", 9999, ("StaleAllowed", "max-stale")),
        ("max-stale=10", 70, ("StaleAllowed", "max-stale")),
        ("max-stale=10", 71, ("Validate", "stale")),
        ("max-stale=x", 61, ("Validate", "stale")),
        ("max-stale=10, max-age=65", 64, ("StaleAllowed", "max-stale")),
        ("max-stale=10, max-age=65", 66, ("Validate", "request-max-age")),
        ("max-stale=10, only-if-cached", 61, ("StaleAllowed", "max-stale")),
        ("nothing-to-see-here", 3, ("Fresh", "max-age")),
    ],
)
def test_what_a_request_can_ask_for(request_control: str, after: float, found: tuple[str, str]) -> None:
    """RFC 9111, section 5.2.1."""
    assert brief(reuse("max-age=60", request_control, after=after)) == found


def test_a_refusal_by_the_request_is_told_from_staleness() -> None:
    """RFC 9211, section 2.2: `fwd=request` and `fwd=stale`."""
    assert reuse("max-age=60", "no-cache", after=1) == Validate("request-no-cache", "request", age=1, ttl=59)


def test_only_if_cached_without_a_stored_response_is_a_gateway_timeout() -> None:
    """RFC 9111, section 5.2.1.7."""
    assert decide("GET", asked("only-if-cached"), None, T0, RULES) == GatewayTimeout("only-if-cached")


@pytest.mark.parametrize(
    ("control", "pragma", "found"),
    [
        (None, "no-cache", ("Validate", "request-no-cache")),
        (None, "foo, No-Cache", ("Validate", "request-no-cache")),
        (None, "unrecognised-extension", ("Fresh", "max-age")),
        ("nothing-to-see-here", "no-cache", ("Fresh", "max-age")),
    ],
)
def test_pragma_counts_only_without_cache_control(control: str | None, pragma: str, found: tuple[str, str]) -> None:
    """RFC 9111, section 5.4."""
    assert brief(decide("GET", asked(control, pragma), response("max-age=60"), T0, RULES)) == found


@pytest.mark.parametrize("control", ["no-cache", "no-store", "max-age=0", "min-fresh=99"])
def test_the_operator_can_leave_clients_no_say(control: str) -> None:
    """`obey_requests`: nobody gets past the cache by asking; only-if-cached spares the upstream, so it is kept."""
    rules = replace(RULES, obey_requests=False)
    assert brief(reuse("max-age=60", control, rules=rules)) == ("Fresh", "max-age")
    assert brief(reuse("max-age=60", "max-stale", after=61, rules=rules)) == ("Validate", "stale")
    assert brief(reuse("max-age=60", "only-if-cached", after=61, rules=rules))[0] == "GatewayTimeout"


@pytest.mark.parametrize(
    ("control", "request_control", "after", "found"),
    [
        ("max-age=60, no-cache", None, 0, ("Validate", "no-cache")),
        ("max-age=60, no-cache", "max-stale", 0, ("Validate", "no-cache")),
        ('max-age=60, no-cache="a"', None, 0, ("Fresh", "max-age")),
        ("max-age=60, must-revalidate", None, 59, ("Fresh", "max-age")),
        ("max-age=60, must-revalidate", "max-stale", 61, ("Validate", "must-revalidate")),
        ("max-age=60, proxy-revalidate", "max-stale", 61, ("Validate", "proxy-revalidate")),
        ("s-maxage=60", "max-stale", 61, ("Validate", "s-maxage")),
        ("max-age=60, immutable", "max-age=0", 10, ("Fresh", "max-age")),
        ("max-age=60, immutable", "no-cache", 10, ("Validate", "request-no-cache")),
        ("max-age=60, immutable", None, 61, ("Validate", "stale")),
    ],
)
def test_what_a_response_says_about_its_reuse(
    control: str, request_control: str | None, after: float, found: tuple[str, str]
) -> None:
    """RFC 9111, section 5.2.2; RFC 8246 for immutable, which outlives a reload but not its lifetime."""
    assert brief(reuse(control, request_control, after=after)) == found


@pytest.mark.parametrize(
    ("control", "request_control", "after", "found"),
    [
        ("max-age=1, stale-while-revalidate=4", None, 5, ("StaleWhileRevalidate", "stale-while-revalidate")),
        ("max-age=1, stale-while-revalidate=4", None, 5.1, ("Validate", "stale")),
        ("max-age=1, stale-while-revalidate=4", "no-cache", 2, ("Validate", "request-no-cache")),
        ("max-age=1, stale-while-revalidate=4", "max-age=10", 2, ("Validate", "request-max-age")),
        ("max-age=1, stale-while-revalidate=4", "min-fresh=0", 2, ("Validate", "request-min-fresh")),
        ("max-age=1, stale-while-revalidate=4", "max-stale=9", 2, ("StaleAllowed", "max-stale")),
        ("s-maxage=1, stale-while-revalidate=4", None, 2, ("StaleWhileRevalidate", "stale-while-revalidate")),
        ("max-age=1, stale-while-revalidate=4, must-revalidate", None, 2, ("Validate", "must-revalidate")),
        ("max-age=1, stale-while-revalidate=x", None, 2, ("Validate", "stale")),
        ("max-age=1, stale-if-error=9", None, 2, ("Validate", "stale")),
    ],
)
def test_what_is_stale_can_be_used_while_it_is_fetched_anew(
    control: str, request_control: str | None, after: float, found: tuple[str, str]
) -> None:
    """RFC 5861, section 3; a client that names an age wants nothing stale (RFC 9111, section 5.2.1.1)."""
    assert brief(reuse(control, request_control, after=after)) == found


@pytest.mark.parametrize(
    ("control", "request_control", "after", "found"),
    [
        ("max-age=60", None, 10, ("Fresh", "max-age")),
        ("max-age=1, stale-if-error=9", None, 10, ("StaleIfError", "stale-if-error")),
        ("max-age=1, stale-if-error=9", None, 11, ("Validate", "stale")),
        ("max-age=1, stale-if-error=9", "no-cache", 0, ("StaleIfError", "stale-if-error")),
        ("max-age=1, stale-if-error=9", "no-store", 2, ("StaleIfError", "stale-if-error")),
        ("max-age=60", "no-cache", 0, ("Validate", "request-no-cache")),
        ("max-age=1", "stale-if-error=9", 10, ("StaleIfError", "request-stale-if-error")),
        ("max-age=1, stale-while-revalidate=9", "no-cache", 5, ("StaleIfError", "stale-while-revalidate")),
        ("max-age=1, must-revalidate", None, 2, ("GatewayTimeout", "must-revalidate")),
        ("max-age=1, must-revalidate, stale-if-error=9", None, 2, ("GatewayTimeout", "must-revalidate")),
        ("max-age=1, proxy-revalidate", "stale-if-error=9", 2, ("GatewayTimeout", "proxy-revalidate")),
        ("max-age=1, s-maxage=1", "stale-if-error=9", 2, ("GatewayTimeout", "s-maxage")),
        ("s-maxage=1, stale-if-error=9", None, 2, ("StaleIfError", "stale-if-error")),
        ("max-age=1, no-cache, stale-if-error=9", None, 2, ("GatewayTimeout", "no-cache")),
        ("max-age=1, must-revalidate", "no-cache", 0, ("Validate", "request-no-cache")),
    ],
)
def test_what_answers_in_place_of_an_upstream_that_fails(
    control: str, request_control: str | None, after: float, found: tuple[str, str]
) -> None:
    """RFC 5861, section 4; RFC 9111, section 5.2.2.2: what must be revalidated is never used without."""
    assert brief(reuse(control, request_control, after=after, failing=True)) == found


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_stored_error_does_not_stand_in_for_another(status: int) -> None:
    """RFC 5861, section 4: there is nothing to be gained."""
    stored = response("max-age=1, stale-if-error=9", status=status)
    assert brief(decide("GET", [], stored, T0 + 2, RULES, failing=True)) == ("Validate", "stale")


def test_an_operators_grace_fills_in_where_the_origin_says_nothing() -> None:
    """`grace`; it does not make usable what the origin wants to be asked for each time."""
    rules = replace(RULES, grace=9.0)
    assert brief(reuse("max-age=1", after=5, rules=rules)) == ("StaleWhileRevalidate", "grace")
    assert brief(reuse("max-age=1", after=5, failing=True, rules=rules)) == ("StaleIfError", "grace")
    assert brief(reuse("max-age=0", after=5, rules=rules)) == ("Validate", "stale")
    assert brief(reuse("max-age=0", after=5, failing=True, rules=rules)) == ("StaleIfError", "grace")
    assert brief(reuse("max-age=1, must-revalidate", after=5, rules=rules)) == ("Validate", "must-revalidate")


@pytest.mark.parametrize(
    ("control", "failing", "found"),
    [
        ("max-age=60", False, ("Validate", "soft-purge")),
        ("max-age=60, stale-while-revalidate=9", False, ("StaleWhileRevalidate", "stale-while-revalidate")),
        ("max-age=60, stale-if-error=9", False, ("Validate", "soft-purge")),
        ("max-age=60, stale-if-error=9", True, ("StaleIfError", "stale-if-error")),
        ("max-age=60, immutable", False, ("Validate", "soft-purge")),
        ("max-age=60, must-revalidate", False, ("Validate", "must-revalidate")),
    ],
)
def test_what_was_purged_softly_is_stale_from_then_on(control: str, failing: bool, found: tuple[str, str]) -> None:
    """It may still be used where anything stale may."""
    assert brief(reuse(control, after=10, soft=True, failing=failing)) == found
    assert brief(reuse(control, "max-stale=1", after=10, soft=True))[0] in {"StaleAllowed", "Validate"}


def test_a_targeted_field_decides_over_reuse_too() -> None:
    """RFC 9213, section 2.2."""
    stored = response("max-age=60")
    stored = replace(stored, headers=(*stored.headers, (b"CDN-Cache-Control", b"max-age=1")))
    assert brief(decide("GET", [], stored, T0 + 2, RULES)) == ("Validate", "stale")


RANK = {Fresh: 0, StaleAllowed: 1, StaleWhileRevalidate: 1, StaleIfError: 1}
WORDS = ["max-age=20", "s-maxage=30", "no-cache", "must-revalidate", "immutable", "public", "max-age=0"]
WINDOWS = ["stale-while-revalidate=15", "stale-if-error=25", "stale-while-revalidate=40"]
WISHES = ["max-age=25", "max-age=0", "min-fresh=5", "max-stale", "max-stale=10", "no-cache", "only-if-cached"]


def some(words: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), max_size=4).map(", ".join)


@given(
    control=some([*WORDS, *WINDOWS]),
    wishes=some([*WISHES, "stale-if-error=30", "no-store"]),
    grace=st.sampled_from([0.0, 10.0]),
    earlier=st.floats(0, 100),
    later=st.floats(0, 100),
    soft=st.booleans(),
    failing=st.booleans(),
)
def test_a_response_only_ever_gets_worse(
    control: str, wishes: str, grace: float, earlier: float, later: float, soft: bool, failing: bool
) -> None:
    """Fresh, then stale but usable, then of no use without the upstream: never the other way round."""
    rules = replace(RULES, grace=grace)
    first, second = (
        reuse(control, wishes, after=after, soft=soft, failing=failing, rules=rules)
        for after in sorted((earlier, later))
    )
    assert RANK.get(type(first), 2) <= RANK.get(type(second), 2)


@given(
    control=some([*WORDS, *WINDOWS]),
    wishes=some(WISHES),
    after=st.floats(-100, 100),
    grace=st.sampled_from([0.0, 10.0]),
    soft=st.booleans(),
)
def test_what_may_be_used_while_the_upstream_works_may_be_used_when_it_fails(
    control: str, wishes: str, after: float, grace: float, soft: bool
) -> None:
    """A failure takes no answer away and starts no fetch; and what must be revalidated is never used stale."""
    rules = replace(RULES, grace=grace)
    works = reuse(control, wishes, after=after, soft=soft, rules=rules)
    fails = reuse(control, wishes, after=after, soft=soft, rules=rules, failing=True)
    assert RANK.get(type(fails), 2) <= RANK.get(type(works), 2)
    assert not isinstance(fails, StaleWhileRevalidate)
    if "must-revalidate" in control or "no-cache" in control.split(", "):
        assert not isinstance(fails, StaleAllowed | StaleWhileRevalidate | StaleIfError)


@given(st.lists(st.tuples(st.sampled_from([b"cache-control", b"pragma"]), st.binary(max_size=30)), max_size=4))
def test_no_request_is_too_strange_to_be_decided(request_fields: list[tuple[bytes, bytes]]) -> None:
    """Neither the request's fields nor the response's can make the decision fail."""
    stored = StoredResponse(200, tuple(request_fields), b"", T0, T0)
    decide("GET", request_fields, stored, T0, RULES)
