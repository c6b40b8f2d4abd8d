"""policy.caching.vary: which of several stored responses a request means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.vary import NAMES_MAX, choose, matches, selecting_values, vary_names


def stored(
    vary: str | None, request: Fields, *, date: str = "Thu, 01 Jan 2026 00:00:00 GMT", at: float = 0, body: bytes = b""
) -> StoredResponse:
    headers = ((b"Date", date.encode()), *([(b"Vary", vary.encode())] if vary is not None else []))
    return StoredResponse(200, headers, body, at, at, selecting_values(vary_names(headers) or (), request))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        ([b""], ()),
        ([b"Foo"], ("foo",)),
        ([b"Foo, BAR ,foo"], ("bar", "foo")),
        ([b"b", b"a"], ("a", "b")),
        ([b",, Foo ,"], ("foo",)),
        ([b"*"], None),
        ([b"*, *"], None),
        ([b"*", b"*"], None),
        ([b", *"], None),
        ([b"", b"*"], None),
        ([b"*, Foo"], None),
        ([b"Foo, *"], None),
        ([b"Accept Encoding"], None),
        ([b'"Accept"'], None),
        ([b",".join(b"n%d" % n for n in range(NAMES_MAX + 1))], None),
    ],
)
def test_vary_is_a_list_of_names_or_matches_nothing(lines: list[bytes], names: tuple[str, ...] | None) -> None:
    """RFC 9110, section 12.5.5; what cannot be read is taken for `*`."""
    assert vary_names([(b"Vary", line) for line in lines]) == names


@pytest.mark.parametrize(
    ("vary", "first", "second", "same"),
    [
        ("Foo", [(b"Foo", b"1")], [(b"fOO", b"1")], True),
        ("Foo", [(b"Foo", b"1")], [(b"Foo", b"2")], False),
        ("Foo", [(b"Foo", b"1")], [], False),
        ("Foo", [], [(b"Foo", b"1")], False),
        ("Foo", [(b"Foo", b"")], [], False),
        ("Foo", [(b"Foo", b"a")], [(b"Foo", b"A")], False),
        ("Foo", [(b"Foo", b"1"), (b"Other", b"2")], [(b"Foo", b"1"), (b"Other", b"3")], True),
        ("Foo, Bar", [(b"Foo", b"1"), (b"Bar", b"2")], [(b"Bar", b"2"), (b"Foo", b"1")], True),
        ("Foo, Bar, Baz", [(b"Foo", b"1"), (b"Baz", b"3")], [(b"Foo", b"1"), (b"Baz", b"3")], True),
        ("Foo", [(b"Foo", b"1, 2")], [(b"Foo", b"1"), (b"Foo", b"2")], True),
        ("Foo", [(b"Foo", b"1,2")], [(b"Foo", b" 1, 2 ")], True),
        ("Foo", [(b"Foo", b"1,2")], [(b"Foo", b"2,1")], False),
        ("Foo", [(b"Foo", b'"a,b"')], [(b"Foo", b'"a, b"')], False),
        ("Foo", [(b"Foo", b'"a\\",b" , c')], [(b"Foo", b'"a\\",b",c')], True),
        ("Foo", [(b"Foo", b'"a')], [(b"Foo", b'"a ')], True),
        ("Cookie", [(b"Cookie", b"a=1,2")], [(b"Cookie", b"a=1, 2")], False),
        ("Cookie", [(b"Cookie", b"a=1; b=2")], [(b"cookie", b"a=1"), (b"cookie", b"b=2")], True),
        ("User-Agent", [(b"User-Agent", b"x (a,b)")], [(b"User-Agent", b"x (a, b)")], False),
        ("Accept-Language", [(b"Accept-Language", b"en, de")], [(b"Accept-Language", b"eN , De")], True),
        ("Accept-Language", [(b"Accept-Language", b"en,de")], [(b"Accept-Language", b"de,en")], False),
        (
            "Accept-Language",
            [(b"Accept-Language", b"en;q=1.0,de;q=0.50")],
            [(b"Accept-Language", b"en, de; Q=0.5")],
            True,
        ),
        ("Accept-Language", [(b"Accept-Language", b"de;q=0.5")], [(b"Accept-Language", b"de;q=0.6")], False),
        ("Accept-Encoding", [(b"Accept-Encoding", b"gzip, br")], [(b"Accept-Encoding", b"BR,x-gzip,gzip;q=1")], True),
        ("Accept-Encoding", [(b"Accept-Encoding", b"gzip, br;q=0")], [(b"Accept-Encoding", b"gzip, br")], False),
        ("Accept-Encoding", [(b"Accept-Encoding", b"")], [], False),
        ("X_Foo", [(b"X_Foo", b"1")], [(b"X_Foo", b"1")], True),
        ("Accept-Language", [(b"Accept-Language", b"de")], [(b"Accept_Language", b"de")], False),
        (None, [(b"Foo", b"1")], [], True),
    ],
)
def test_fields_match_where_the_origin_would_answer_the_same(
    vary: str | None, first: Fields, second: Fields, same: bool
) -> None:
    """RFC 9111, section 4.1."""
    assert matches(stored(vary, first), second) is same
    assert matches(stored(vary, second), first) is same


def test_nothing_matches_a_star() -> None:
    """RFC 9111, section 4.1; not even the request it was stored for."""
    assert not matches(stored("*", []), [])


def test_what_was_stored_without_its_selecting_fields_matches_nothing() -> None:
    """A store that lost them must not hand out just any variant."""
    bare = StoredResponse(200, ((b"Vary", b"Foo"),), b"", 0, 0)
    assert not matches(bare, [(b"Foo", b"1")])
    assert not matches(bare, [])


@pytest.mark.parametrize(
    "field",
    [
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Scheme", b"nothttps"),
        (b"X_Forwarded_Proto", b"http"),
        (b"X-Forwarded-Port", b"1337"),
        (b"X-Forwarded-Prefix", b"/evil"),
        (b"X-Forwarded-Host", b"evil"),
        (b"X-Original-URL", b"/admin"),
        (b"Forwarded", b"for=1;proto=http"),
        (b"Front-End-Https", b"on"),
    ],
)
def test_what_the_origin_is_told_about_its_url_selects_unasked(field: tuple[bytes, bytes]) -> None:
    """A redirect provoked by X-Forwarded-Scheme is stored, if at all, for those who send it."""
    poisoned = stored(None, [field])
    assert not matches(poisoned, [])
    assert matches(poisoned, [field])
    assert not matches(stored(None, []), [field])


def test_who_the_client_is_does_not_select() -> None:
    """X-Forwarded-For differs with every client."""
    one, other = [(b"Forwarded", b"for=1"), (b"X-Forwarded-For", b"1")], [(b"Forwarded", b"for=2")]
    assert matches(stored(None, one), other)


def test_the_most_recent_by_date_is_chosen() -> None:
    """RFC 9111, section 4.1; not the one that arrived last."""
    old = stored("Foo", [], date="Thu, 01 Jan 2026 00:00:00 GMT", at=2e9, body=b"old")
    new = stored("Foo", [], date="Fri, 02 Jan 2026 00:00:00 GMT", at=1e9, body=b"new")
    other = stored("Foo", [(b"Foo", b"1")], date="Sat, 03 Jan 2026 00:00:00 GMT", body=b"other")
    assert choose([new, old, other], []) is new
    assert choose([other, old, new], [(b"Foo", b"1")]) is other
    assert choose([old, new], [(b"Foo", b"2")]) is None
    assert choose([], []) is None


def test_a_response_with_vary_goes_before_one_that_forgot_it() -> None:
    """RFC 9111, section 4.1: default responses are often without it."""
    default = stored(None, [], date="Sat, 03 Jan 2026 00:00:00 GMT")
    german = stored("Accept-Language", [(b"Accept-Language", b"de")])
    assert choose([default, german], [(b"Accept-Language", b"de")]) is german
    assert choose([default, german], [(b"Accept-Language", b"en")]) is default


def test_without_a_date_the_arrival_counts() -> None:
    """RFC 9110, section 6.6.1: the recipient's clock stands in."""
    one = StoredResponse(200, (), b"", 1, 1)
    other = StoredResponse(200, ((b"Date", b"soon"),), b"", 2, 2)
    assert choose([one, other], []) is other


FIELD = st.tuples(
    st.sampled_from([b"Foo", b"Accept-Encoding", b"accept-language", b"Cookie", b"X-Forwarded-Proto", b"Forwarded"]),
    st.binary(max_size=12) | st.text(alphabet='gzip;q=0.1,"\\ ', max_size=12).map(str.encode),
)


@given(st.lists(FIELD, max_size=4), st.lists(FIELD, max_size=4), st.binary(max_size=12))
def test_whatever_is_sent_a_response_matches_the_request_it_is_for(one: Fields, other: Fields, vary: bytes) -> None:
    """And matching is symmetric."""
    for names in ("Foo, Accept-Encoding, Accept-Language, Cookie", None):
        assert matches(stored(names, one), one)
        assert matches(stored(names, one), other) == matches(stored(names, other), one)
    vary_names([(b"Vary", vary)])
