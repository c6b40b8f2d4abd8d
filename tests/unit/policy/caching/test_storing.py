"""policy.caching.storing: what a shared cache may keep."""

from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.freshness import can_be_validated
from holdfast.policy.caching.model import CacheRules, StoredResponse
from holdfast.policy.caching.storing import UNDERSTOOD, NotStored, Stored, may_store, refused_at_sight

NOW = 1_790_000_000.0
RULES = CacheRules()
TAG = ("ETag", '"a"')
MODIFIED = ("Last-Modified", formatdate(NOW - 86400, usegmt=True))
Field = tuple[str, str]


def response(*fields: Field, status: int = 200, body: bytes = b"") -> StoredResponse:
    encoded = tuple((name.encode(), value.encode()) for name, value in fields)
    return StoredResponse(status, encoded, body, NOW, NOW)


def control(value: str, *fields: Field, status: int = 200) -> StoredResponse:
    return response(("Cache-Control", value), *fields, status=status)


def because(stored: StoredResponse, *request: Field, rules: CacheRules = RULES) -> tuple[bool, str]:
    fields = [(name.encode(), value.encode()) for name, value in request]
    verdict = may_store("GET", fields, stored, rules)
    return isinstance(verdict, Stored), verdict.because


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (control("max-age=60"), "max-age"),
        (control("s-maxage=60"), "s-maxage"),
        (response(("Expires", formatdate(NOW + 60, usegmt=True))), "expires"),
        (response(MODIFIED), "heuristic"),
        (response(TAG), "validator"),
        (control("no-cache", TAG), "validator"),
        (control("max-age=0", TAG), "validator"),
        (control("max-age=60", TAG, ("Age", "100")), "validator"),
        (control("max-age=0, stale-if-error=60"), "stale-if-error"),
        (control("max-age=0, stale-while-revalidate=60"), "stale-while-revalidate"),
        (control('max-age=60, private="x-user"'), "max-age"),
        (control("no-store", ("CDN-Cache-Control", "max-age=60")), "max-age"),
        (control("private", ("Surrogate-Control", "max-age=60")), "max-age"),
    ],
)
def test_what_can_be_of_use_is_stored(stored: StoredResponse, reason: str) -> None:
    """RFC 9111, section 3; the verdict names where the lifetime comes from."""
    assert because(stored) == (True, reason)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (control("max-age=60, no-store"), "no-store"),
        (control("max-age=60, No-StOrE"), "no-store"),
        (control("max-age=60, private"), "private"),
        (control("max-age=60", ("CDN-Cache-Control", "no-store")), "no-store"),
        (control("max-age=60", ("CDN-Cache-Control", "private")), "private"),
        (control("max-age=60", ("Surrogate-Control", "no-store")), "no-store"),
        (control("max-age=60", ("Vary", "Accept, *")), "vary"),
        (control("max-age=0"), "no-use"),
        (control("max-age=60", ("Age", "60")), "no-use"),
        (control("max-age=60, no-cache"), "no-use"),
        (control("public"), "no-use"),
        (response(), "no-use"),
        (response(("Expires", "0")), "no-use"),
        (response(TAG, status=500), "not-cacheable"),
        (response(MODIFIED, status=403), "not-cacheable"),
    ],
)
def test_what_must_not_or_need_not_be_stored(stored: StoredResponse, reason: str) -> None:
    """RFC 9111, section 3; the verdict names the directive that decided."""
    assert because(stored) == (False, reason)


@pytest.mark.parametrize(
    "status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 599]
)
def test_every_final_status_is_stored_where_freshness_is_explicit(status: int) -> None:
    """RFC 9111, section 3: even one that nobody has heard of."""
    assert because(control("max-age=60", status=status)) == (True, "max-age")


@pytest.mark.parametrize("status", [100, 103, 206, 304])
def test_neither_parts_nor_interim_responses_nor_a_304_are_stored(status: int) -> None:
    """RFC 9111, sections 3.3 and 4.3.4: parts are not combined, and a 304 is no response of its own."""
    assert because(control("max-age=60, public", TAG, status=status)) == (False, "status")


@pytest.mark.parametrize(
    ("status", "value", "verdict"),
    [
        (200, "max-age=60, no-store, must-understand", (True, "max-age")),
        (599, "max-age=60, no-store, must-understand", (False, "must-understand")),
        (599, "max-age=60, must-understand", (False, "must-understand")),
        (200, "max-age=60, no-store, must-understand=1", (False, "no-store")),
        (200, "max-age=60, private, must-understand", (False, "private")),
    ],
)
def test_must_understand_stands_for_no_store_where_the_status_is_known(
    status: int, value: str, verdict: tuple[bool, str]
) -> None:
    """RFC 9111, section 5.2.2.3."""
    assert because(control(value, status=status)) == verdict
    assert UNDERSTOOD.isdisjoint({206, 304, 599})


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ("max-age=60", (False, "authorization")),
        ("max-age=60, proxy-revalidate", (False, "authorization")),
        ("max-age=60, public=1", (False, "authorization")),
        ("max-age=60, public", (True, "max-age")),
        ("max-age=60, must-revalidate", (True, "max-age")),
        ("s-maxage=60", (True, "s-maxage")),
    ],
)
def test_a_response_to_an_authorized_request_is_shared_only_on_the_origins_word(
    value: str, verdict: tuple[bool, str]
) -> None:
    """RFC 9111, section 3.5."""
    assert because(control(value), ("Authorization", "x")) == verdict


def test_a_request_can_forbid_storing_but_nothing_else_about_it() -> None:
    """RFC 9111, section 5.2.1.5; it counts even where the operator lets clients decide nothing."""
    stored = control("max-age=60")
    assert because(stored, ("Cache-Control", "no-store")) == (False, "request-no-store")
    assert because(stored, ("Cache-Control", "no-store"), rules=replace(RULES, obey_requests=False))[0] is False
    assert because(stored, ("Cache-Control", "no-cache, max-age=0"), ("Cookie", "a=b")) == (True, "max-age")


@pytest.mark.parametrize(
    ("stored", "shared", "careful"),
    [
        (control("max-age=60"), True, False),
        (response(("Expires", formatdate(NOW + 60, usegmt=True))), True, False),
        (control("max-age=60, public"), True, True),
        (control("s-maxage=60"), True, True),
        (response(("CDN-Cache-Control", "max-age=60")), True, True),
        (control('no-cache="set-cookie"', MODIFIED), True, True),
        (response(MODIFIED), False, False),
        (control("public", MODIFIED), True, True),
        (response(TAG), False, False),
    ],
)
def test_a_cookie_is_never_shared_by_a_guess(stored: StoredResponse, shared: bool, careful: bool) -> None:
    """RFC 9111, section 7.3, lets it be stored; `share_cookies` says how clearly the origin has to have said so."""
    stored = replace(stored, headers=(*stored.headers, (b"Set-Cookie", b"a=b")))
    assert because(stored)[0] is shared
    verdict = because(stored, rules=replace(RULES, share_cookies=False))
    assert verdict[0] is careful
    assert careful or verdict[1] == "set-cookie"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "get", "POST"])
def test_only_the_answer_to_get_is_stored(method: str) -> None:
    """RFC 9110, section 9.2.3; methods are case-sensitive."""
    assert may_store(method, [], control("max-age=60"), RULES) == NotStored("method")


@pytest.mark.parametrize(
    ("locations", "kept"),
    [
        (["/a?b"], True),
        (["http://x/a?b"], True),
        (["?b"], True),
        (["/a"], False),
        (["//[x/"], False),
        (["/a?b", "/a?b"], False),
        ([], False),
    ],
)
def test_the_answer_to_a_post_is_stored_as_the_resource_it_says_it_is(locations: list[str], kept: bool) -> None:
    """RFC 9110, section 9.3.3: explicit freshness, and a Content-Location that is the target."""
    stored = control("max-age=60", *(("Content-Location", location) for location in locations))
    verdict = may_store("POST", [], stored, RULES, target="http://x/a?b")
    assert isinstance(verdict, Stored) is kept
    assert may_store("POST", [], stored, RULES) == NotStored("method")
    guessed = replace(stored, headers=(*stored.headers[1:], (b"last-modified", MODIFIED[1].encode())))
    assert may_store("POST", [], guessed, RULES, target="http://x/a?b") == NotStored("method")


def test_a_body_beyond_the_bound_is_not_stored() -> None:
    """`max_body`, by what is announced or by what has come."""
    rules = replace(RULES, max_body=3)
    stored = control("max-age=60")
    assert may_store("GET", [], stored, rules, length=4) == NotStored("max-body")
    assert may_store("GET", [], replace(stored, body=b"1234"), rules) == NotStored("max-body")
    assert isinstance(may_store("GET", [], replace(stored, body=b"123"), rules, length=3), Stored)


def test_the_default_lifetime_makes_storable_what_says_nothing() -> None:
    """`default_lifetime`; but nothing beyond what could be guessed about."""
    rules = replace(RULES, default_lifetime=10.0)
    assert may_store("GET", [], response(), rules) == Stored("default", 10.0)
    assert may_store("GET", [], response(status=500), rules) == NotStored("not-cacheable")


def test_the_verdict_says_for_how_long_and_without_which_fields() -> None:
    """RFC 9111, sections 5.2.2.4 and 5.2.2.7."""
    stored = control('max-age=60, stale-if-error=30, private="X-User", no-cache="b"')
    assert may_store("GET", [], stored, RULES) == Stored("max-age", 90.0, frozenset({"x-user", "b"}))


VALUES = st.lists(
    st.sampled_from(
        ["no-store", "private", "public", "max-age=60", "max-age=0", "s-maxage=5", "no-cache", "must-understand", "x"]
    ),
    max_size=5,
).map(", ".join)


@given(value=VALUES, status=st.integers(100, 599), tagged=st.booleans(), authorized=st.booleans())
def test_nothing_is_stored_against_the_origins_word_or_to_no_purpose(
    value: str, status: int, tagged: bool, authorized: bool
) -> None:
    """RFC 9111, section 3, over all combinations."""
    stored = control(value, *([TAG] if tagged else []), status=status)
    verdict = may_store("GET", [(b"authorization", b"x")] if authorized else [], stored, RULES)
    if isinstance(verdict, NotStored):
        return
    said = set(value.split(", "))
    assert "private" not in said
    assert "no-store" not in said or "must-understand" in said
    assert not authorized or said & {"public", "s-maxage=5"}
    assert verdict.keep_for > 0
    assert can_be_validated(stored) or said & {"max-age=60", "s-maxage=5"}


REQUESTS = st.lists(
    st.sampled_from(
        [
            (b"Cache-Control", b"no-store"),
            (b"cache-control", b"max-age=0"),
            (b"Authorization", b"Basic x"),
            (b"accept", b"*/*"),
        ]
    ),
    max_size=2,
)
CONTROLS = [b"no-store", b"private", b'private="x"', b"public", b"max-age=60", b"s-maxage=9", b"must-understand"]
RESPONSES = st.lists(
    st.tuples(st.sampled_from([b"Cache-Control", b"CDN-Cache-Control"]), st.sampled_from(CONTROLS))
    | st.sampled_from(
        [
            (b"Vary", b"Accept, *"),
            (b"vary", b"accept"),
            (b"ETag", b'"a"'),
            (b"Set-Cookie", b"a=b"),
            (b"Surrogate-Control", b"no-store"),
        ]
    ),
    max_size=4,
)


@given(
    st.sampled_from(["GET", "GET", "HEAD", "POST"]),
    REQUESTS,
    st.sampled_from([103, 200, 206, 304, 404, 599]),
    RESPONSES,
    st.sampled_from([RULES, CacheRules(targeted=()), CacheRules(default_lifetime=60.0, max_body=0)]),
)
def test_what_is_refused_at_sight_is_refused_for_the_same_reason(
    method: str, request: list[tuple[bytes, bytes]], status: int, headers: list[tuple[bytes, bytes]], rules: CacheRules
) -> None:
    """The word is the one that the whole look would have given."""
    refused = refused_at_sight(method, request, status, headers, rules)
    verdict = may_store(method, request, StoredResponse(status, tuple(headers), b"x", NOW, NOW), rules)
    if refused is not None:
        assert verdict == NotStored(refused)
    elif method == "GET":  # all that the messages alone forbid has been seen
        assert isinstance(verdict, Stored) or verdict.because in {"not-cacheable", "set-cookie", "max-body", "no-use"}


def test_most_of_what_is_not_stored_is_refused_at_sight() -> None:
    """Or nothing would be gained."""
    for value in ("no-store", "private"):
        assert refused_at_sight("GET", (), 200, control(value).headers, RULES) == value
    assert (
        refused_at_sight("GET", [(b"Authorization", b"x")], 200, control("max-age=60").headers, RULES)
        == "authorization"
    )
    assert refused_at_sight("GET", (), 200, control("max-age=60").headers, RULES) is None
