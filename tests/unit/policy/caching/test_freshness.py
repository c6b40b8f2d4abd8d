"""policy.caching.freshness: lifetimes, ages, windows, and how long to keep."""

from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.freshness import (
    HEURISTICALLY_CACHEABLE,
    Lifetime,
    Windows,
    age_field,
    can_be_validated,
    current_age,
    initial_age,
    keep_for,
    lifetime,
    windows,
    with_date,
)
from holdfast.policy.caching.model import CacheRules, StoredResponse
from holdfast.policy.caching.targeted import policy_of

NOW = 1_790_000_000.37  # a clock has a fraction, a date has none
DAY = 86400
RULES = CacheRules()


def date(offset: float) -> bytes:
    return formatdate(int(NOW) + offset, usegmt=True).encode()


def response(*fields: tuple[str, str | bytes], status: int = 200, took: float = 0.0) -> StoredResponse:
    encoded = tuple((name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in fields)
    return StoredResponse(status, encoded, b"", NOW - took, NOW)


def life(stored: StoredResponse, rules: CacheRules = RULES) -> Lifetime:
    return lifetime(stored, policy_of(stored.headers, rules), rules)


def open_windows(stored: StoredResponse, rules: CacheRules = RULES) -> Windows:
    return windows(policy_of(stored.headers, rules), life(stored, rules), rules)


def kept(stored: StoredResponse, rules: CacheRules = RULES) -> float:
    return keep_for(stored, policy_of(stored.headers, rules), rules)


CC, DATE, EXPIRES, MODIFIED = "Cache-Control", ("Date", date(0)), "Expires", "Last-Modified"


@pytest.mark.parametrize(
    ("fields", "seconds", "because"),
    [
        ([(CC, "max-age=60")], 60, "max-age"),
        ([(CC, "max-age=60"), (EXPIRES, date(-7200)), DATE], 60, "max-age"),
        ([(CC, "max-age=60"), (EXPIRES, "0"), DATE], 60, "max-age"),
        ([(CC, "max-age=0"), (EXPIRES, date(3600)), DATE], 0, "max-age"),
        ([(CC, "max-age=a"), (EXPIRES, date(3600)), DATE], 0, "max-age"),
        ([(CC, "max-age=3600, s-maxage=1")], 1, "s-maxage"),
        ([(CC, "max-age=1"), (CC, "s-maxage=3600")], 3600, "s-maxage"),
        ([(CC, "max-age=0, s-maxage=3600"), (EXPIRES, date(-10))], 3600, "s-maxage"),
        ([(EXPIRES, date(60)), DATE], 60, "expires"),
        ([(EXPIRES, date(60))], 60, "expires"),
        ([(EXPIRES, date(60)), ("Date", "foo")], 60, "expires"),
        ([(EXPIRES, date(300)), ("Date", date(400))], 0, "expires"),
        ([(EXPIRES, date(0)), DATE], 0, "expires"),
        ([(EXPIRES, "0"), DATE, (MODIFIED, date(-DAY))], 0, "expires"),
        ([(EXPIRES, date(60)), (EXPIRES, date(30)), DATE], 30, "expires"),
        ([(EXPIRES, date(60)), (EXPIRES, "-1"), DATE], 0, "expires"),
        ([(EXPIRES, date(20)), ("Date", date(10))], 10, "expires"),
        ([(MODIFIED, date(-DAY)), DATE], DAY / 10, "heuristic"),
        ([(MODIFIED, date(-DAY))], DAY / 10, "heuristic"),
        ([(MODIFIED, date(-DAY)), (CC, "public")], DAY / 10, "heuristic"),
        ([(MODIFIED, date(-100 * DAY)), DATE], DAY, "heuristic"),
        ([(MODIFIED, date(60)), DATE], 0, "heuristic"),
        ([(MODIFIED, "yesterday"), DATE], 0, "none"),
        ([("ETag", '"a"')], 0, "none"),
        ([], 0, "none"),
        ([("CDN-Cache-Control", "max-age=60"), (CC, "max-age=1"), (EXPIRES, "0")], 60, "max-age"),
        ([("CDN-Cache-Control", "public"), (EXPIRES, date(60)), DATE], 0, "none"),
    ],
)
def test_where_a_lifetime_comes_from(fields: list[tuple[str, str | bytes]], seconds: float, because: str) -> None:
    """RFC 9111, section 4.2.1: s-maxage, max-age, Expires less Date, a guess; what is invalid means stale."""
    assert life(response(*fields)) == Lifetime(pytest.approx(seconds), because)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_a_lifetime_is_guessed_for_what_is_cacheable_by_default(status: int) -> None:
    """RFC 9110, section 15.1."""
    assert status in HEURISTICALLY_CACHEABLE
    assert life(response((MODIFIED, date(-DAY)), DATE, status=status)).because == "heuristic"


@pytest.mark.parametrize("status", [201, 202, 302, 307, 400, 403, 500, 502, 503, 504, 599])
def test_no_lifetime_is_guessed_for_other_responses_unless_they_are_public(status: int) -> None:
    """RFC 9111, section 4.2.2."""
    stored = response((MODIFIED, date(-DAY)), DATE, status=status)
    assert life(stored) == Lifetime(0.0, "none")
    assert life(replace(stored, headers=(*stored.headers, (b"cache-control", b"public")))).because == "heuristic"


def test_the_default_lifetime_is_for_what_has_neither_freshness_nor_validator() -> None:
    """`default_lifetime` never overrules the origin."""
    rules = replace(RULES, default_lifetime=10.0)
    assert life(response(), rules) == Lifetime(10.0, "default")
    assert life(response(("ETag", '"a"')), rules) == Lifetime(0.0, "none")
    assert life(response((CC, "max-age=0")), rules) == Lifetime(0.0, "max-age")
    assert life(response(status=500), rules) == Lifetime(0.0, "none")


def test_only_what_the_origin_says_is_explicit() -> None:
    """RFC 9111, section 4.2.1."""
    assert life(response((CC, "max-age=1"))).explicit
    assert not life(response((MODIFIED, date(-DAY)))).explicit


def test_no_response_stays_longer_than_the_operator_allows() -> None:
    """`max_lifetime` bounds the stay here, not the age it had on arrival."""
    rules = replace(RULES, max_lifetime=100.0)
    assert life(response((CC, "max-age=1000")), rules).seconds == 100
    assert life(response((CC, "max-age=1000"), ("Age", "500")), rules).seconds == 600
    assert kept(response((CC, "max-age=1000"), ("ETag", '"a"')), rules) == 100


@pytest.mark.parametrize(
    ("values", "age"),
    [
        ([], 0),
        (["30"], 30),
        (["7200, 0"], 7200),
        (["0, 7200"], 0),
        (["7200", "0"], 7200),
        (["0", "7200"], 0),
        (["abc"], 0),
        (["-7200"], 0),
        (["7200.0"], 0),
        (["7200;foo=bar"], 0),
        (["abc, 30"], 0),
        ([""], 0),
        (["2147483649"], 2**31),
        (["9" * 5000], 2**31),
    ],
)
def test_the_first_value_of_age_counts_and_an_invalid_one_does_not(values: list[str], age: int) -> None:
    """RFC 9111, section 5.1."""
    assert age_field([(b"Age", value.encode()) for value in values]) == age


@pytest.mark.parametrize(
    ("fields", "took", "age"),
    [
        ([], 0.0, 0.0),
        ([DATE], 0.0, 0.0),
        ([("Date", date(-30))], 0.0, 30.0),
        ([("Date", date(30))], 0.0, 0.0),
        ([("Date", "foo"), ("Age", "5")], 0.0, 5.0),
        ([("Date", date(-30)), ("Age", "5")], 0.0, 30.0),
        ([("Date", date(-3)), ("Age", "5")], 2.0, 7.0),
        ([], 2.5, 2.5),
        ([], -2.5, 0.0),
    ],
)
def test_the_age_on_arrival(fields: list[tuple[str, str | bytes]], took: float, age: float) -> None:
    """RFC 9111, section 4.2.3: the older of what Date and what Age and the time of the exchange make it."""
    assert initial_age(response(*fields, took=took)) == pytest.approx(age)


def test_the_age_grows_with_the_stay_and_is_never_negative() -> None:
    """RFC 9111, section 4.2.3; a clock set back does not make a response younger than on its arrival."""
    stored = response(("Age", "5"))
    assert current_age(stored, NOW + 10) == pytest.approx(15)
    assert current_age(stored, NOW - 1000) == 5


@pytest.mark.parametrize(
    ("control", "revalidate", "error", "forbidden"),
    [
        ("max-age=1", 10, 10, None),
        ("max-age=1, stale-while-revalidate=5", 5, 10, None),
        ("max-age=1, stale-if-error=0", 10, 0, None),
        ("max-age=0", 0, 10, None),
        ("max-age=0, stale-while-revalidate=5", 5, 10, None),
        ("s-maxage=1", 0, 0, "s-maxage"),
        ("s-maxage=1, stale-while-revalidate=5", 5, 0, "s-maxage"),
        ("s-maxage=1, stale-if-error=5", 0, 5, "s-maxage"),
        ("max-age=1, must-revalidate, stale-if-error=5", 0, 0, "must-revalidate"),
        ("max-age=1, proxy-revalidate, stale-while-revalidate=5", 0, 0, "proxy-revalidate"),
        ("max-age=1, no-cache, stale-if-error=5", 0, 0, "no-cache"),
        ('max-age=1, no-cache="a", stale-if-error=5', 10, 5, None),
    ],
)
def test_who_allows_and_who_forbids_the_use_of_what_is_stale(
    control: str, revalidate: float, error: float, forbidden: str | None
) -> None:
    """RFC 9111, section 4.2.4; RFC 5861; `grace` fills in where the origin says nothing."""
    found = open_windows(response((CC, control)), replace(RULES, grace=10.0))
    assert (found.while_revalidate, found.if_error, found.forbidden) == (revalidate, error, forbidden)
    assert found.longest == max(revalidate, error)


def test_grace_on_errors_can_be_another_than_grace() -> None:
    """`grace_on_error`: stale while the upstream fails, but not for the sake of speed."""
    found = open_windows(response((CC, "max-age=1")), replace(RULES, grace_on_error=60.0))
    assert (found.while_revalidate, found.if_error, found.longest_because) == (0, 60, "grace")


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([(CC, "max-age=60")], 60),
        ([(CC, "max-age=60"), ("Age", "20")], 40),
        ([(CC, "max-age=60"), ("Age", "100")], 0),
        ([(CC, "max-age=60, stale-while-revalidate=5, stale-if-error=30")], 90),
        ([(CC, "max-age=60"), ("ETag", '"a"')], 60 + DAY),
        ([(CC, "max-age=60"), (MODIFIED, date(-DAY))], 60 + DAY),
        ([(CC, "max-age=60, no-cache")], 0),
        ([(CC, "no-cache"), ("ETag", '"a"')], DAY),
        ([(CC, "max-age=60, must-revalidate, stale-if-error=30")], 60),
        ([("ETag", "")], 0),
        ([], 0),
    ],
)
def test_a_response_is_kept_while_it_can_be_of_use(fields: list[tuple[str, str | bytes]], seconds: float) -> None:
    """Its lifetime, the longer window, or `validate_for` if it can be validated."""
    assert kept(response(*fields)) == seconds


def test_what_it_takes_to_be_validated() -> None:
    """RFC 9111, section 4.3.1."""
    assert can_be_validated(response(("ETag", 'W/"a"')))
    assert can_be_validated(response((MODIFIED, date(-1))))
    assert not can_be_validated(response((MODIFIED, "0"), ("ETag", " ")))


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"age", b"date", b"expires", b"cache-control", b"last-modified", b"etag", b"surrogate-control"]
        ),
        st.one_of(
            st.binary(max_size=20),
            st.integers(-(10**6), 10**12).map(lambda number: str(number).encode()),
            st.integers(-(10**7), 10**7).map(date),
            st.integers(0, 10**6).map(lambda number: b"max-age=%d, stale-if-error=%d" % (number, number)),
        ),
    ),
    max_size=6,
).map(tuple)


@given(
    headers=FIELDS,
    took=st.floats(-1e6, 1e6),
    stay=st.floats(-1e9, 1e9),
    bound=st.floats(0, 1e9),
    status=st.integers(200, 599),
)
def test_no_age_or_lifetime_is_negative_and_none_exceeds_its_bound(
    headers: tuple[tuple[bytes, bytes], ...], took: float, stay: float, bound: float, status: int
) -> None:
    """Whatever an origin sends."""
    stored = StoredResponse(status, headers, b"", NOW - took, NOW)
    rules = replace(RULES, max_lifetime=bound, default_lifetime=60.0)
    assert current_age(stored, NOW + stay) >= initial_age(stored) >= 0
    assert 0 <= life(stored, rules).seconds <= initial_age(stored) + bound
    assert 0 <= kept(stored, rules) <= bound


def test_what_came_without_a_date_gets_that_of_its_arrival() -> None:
    """RFC 9110, section 6.6.1; one that is there is left alone, readable or not."""
    assert with_date([(b"A", b"1")], NOW) == ((b"A", b"1"), (b"Date", date(0)))
    for said in (b"Thu, 01 Jan 2026 12:00:00 GMT", b"foo"):
        assert with_date([(b"date", said)], NOW) == ((b"date", said),)
