"""policy.caching.directives: what Cache-Control says, and what it says when it is misspelt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.directives import (
    ANY_STALENESS,
    LONGEST,
    Directives,
    delta_seconds,
    field_names,
    items,
    lines_of,
    parse,
    parse_request,
)

DURATIONS = ("max_age", "s_maxage", "stale_while_revalidate", "stale_if_error", "min_fresh", "max_stale")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", Directives()),
        (b" , ,", Directives()),
        (b"max-age=3600", Directives(max_age=3600)),
        (b"MaX-aGe=3600", Directives(max_age=3600)),
        (b'max-age="3600"', Directives(max_age=3600)),
        (b"max-age=003600", Directives(max_age=3600)),
        (b"max-age=1,s-maxage=2", Directives(max_age=1, s_maxage=2)),
        (b"max-age=1 ,\t public", Directives(max_age=1, public=True)),
        (b"max-age=2147483648", Directives(max_age=LONGEST)),
        (b"max-age=99999999999", Directives(max_age=LONGEST)),
        (b"max-age=" + b"9" * 9000, Directives(max_age=LONGEST)),
        (b"max-age=2147483647", Directives(max_age=2147483647)),
        (b"No-StOrE", Directives(no_store=True)),
        (b"no-cache", Directives(no_cache=True)),
        (b"private", Directives(private=True)),
        (b"must-revalidate, proxy-revalidate", Directives(must_revalidate=True, proxy_revalidate=True)),
        (b"must-understand, no-store", Directives(must_understand=True, no_store=True)),
        (b"immutable, no-transform", Directives(immutable=True, no_transform=True)),
        (
            b"max-age=1, stale-while-revalidate=30, stale-if-error=60",
            Directives(max_age=1, stale_while_revalidate=30, stale_if_error=60),
        ),
    ],
)
def test_what_is_well_formed_is_understood(line: bytes, said: Directives) -> None:
    """RFC 9111, section 5.2: names of any case, values as token or quoted-string."""
    assert parse([line]) == said


@pytest.mark.parametrize(
    "line",
    [
        b"max-age='3600'",
        b"max-age=a3600",
        b"max-age=3600a",
        b"max-age=3600.0",
        b"max-age=-3600",
        b"max-age=+3600",
        b"max-age=",
        b'max-age=""',
        b"max-age",
        b"max-age =3600",
        b"max-age= 3600",
        b'max-age="3600"0',
        b'max-age="3600',
        b"max-age=36 00",
        b"max-age=3600; public",
        b"max-age=\xb2",
    ],
)
def test_a_lifetime_that_cannot_be_read_makes_a_response_stale(line: bytes) -> None:
    """RFC 9111, section 4.2.1: invalid freshness information is taken for staleness."""
    assert parse([line]).max_age == 0


@pytest.mark.parametrize("value", [b"a", b"-1", b"1.5", b""])
def test_a_window_that_cannot_be_read_is_not_open(value: bytes) -> None:
    """RFC 5861: what allows the use of stale responses has to be said clearly."""
    said = parse([b"stale-while-revalidate=" + value + b", stale-if-error=" + value])
    assert said.stale_while_revalidate is None
    assert said.stale_if_error is None


@pytest.mark.parametrize("value", [b"a", b"-1", b"1.5", b"'60'"])
def test_a_request_whose_number_cannot_be_read_asks_for_nothing(value: bytes) -> None:
    """RFC 9111, section 5.2.1: a client's directives are wishes; a garbled one is not guessed at."""
    line = b"max-age=%s, min-fresh=%s, max-stale=%s" % (value, value, value)
    said = parse_request([line])
    assert (said.max_age, said.min_fresh, said.max_stale) == (None, None, None)


@pytest.mark.parametrize(
    ("lines", "max_age"),
    [
        ([b"max-age=1800, max-age=1"], 1),
        ([b"max-age=1, max-age=1800"], 1),
        ([b"max-age=1800", b"max-age=1"], 1),
        ([b"max-age=1800", b"max-age=x"], 0),
        ([b'extension="max-age=3600", max-age=1'], 1),
        ([b'max-age=1, extension="max-age=3600"'], 1),
        ([b'extension="a\\", max-age=3600", max-age=1'], 1),
        ([b"foobar, max-age=3600"], 3600),
    ],
)
def test_of_several_lifetimes_the_shortest_counts(lines: list[bytes], max_age: int) -> None:
    """RFC 9111, section 4.2.1: the first or none; the shortest is never longer than either."""
    assert parse(lines).max_age == max_age


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b'no-cache="a"', frozenset({"a"})),
        (b'no-cache="A, b ,\tc"', frozenset({"a", "b", "c"})),
        (b"no-cache=a", frozenset({"a"})),
        (b'no-cache="a", no-cache="b"', frozenset({"a", "b"})),
        (b'no-cache="a", no-cache', True),
        (b'no-cache=""', True),
        (b"no-cache=", True),
        (b'no-cache= "a, b"', True),
        (b'no-cache="a, b', True),
        (b"no-cache='set-cookie'", True),
        (b'no-cache="a b(c)"', True),
    ],
)
def test_a_qualified_directive_names_fields_unless_they_cannot_be_told(
    line: bytes, names: bool | frozenset[str]
) -> None:
    """RFC 9111, section 5.2.2.4; in doubt the directive is about the whole response."""
    said = parse([line, line.replace(b"no-cache", b"private")])
    assert said.no_cache == names
    assert said.private == names


def test_the_fields_of_both_qualified_directives_are_withheld() -> None:
    """RFC 9111, sections 5.2.2.4 and 5.2.2.7."""
    assert parse([b'private="a", no-cache="B"']).withheld == {"a", "b"}
    assert parse([b"private, no-cache"]).withheld == frozenset()


@pytest.mark.parametrize(
    "line",
    [
        b"no-store=1",
        b'no-store="x"',
        b"no-store; max-age=60",
        b"public no-store",
        b"no-store =",
        b'extension="unclosed, no-store',
        b"=no-store",
        b'"no-store"',
    ],
)
def test_a_misspelt_restriction_still_restricts(line: bytes) -> None:
    """Promise of this module: in doubt, nothing is stored that should not be."""
    assert parse([line]).no_store


@pytest.mark.parametrize("line", [b"public=1", b"public;", b'public="x"', b"public x", b"public ="])
def test_a_misspelt_permission_permits_nothing(line: bytes) -> None:
    """The other half of that promise; must-understand and immutable are permissions too."""
    assert not parse([line]).public
    assert not parse([line.replace(b"public", b"must-understand")]).must_understand
    assert not parse([line.replace(b"public", b"immutable")]).immutable


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"max-stale", Directives(max_stale=ANY_STALENESS)),
        (b"max-stale=10", Directives(max_stale=10)),
        (b"max-stale, max-stale=10", Directives(max_stale=10)),
        (b"min-fresh=10, min-fresh=20", Directives(min_fresh=20)),
        (b"max-age=0", Directives(max_age=0)),
        (b"only-if-cached, no-cache", Directives(only_if_cached=True, no_cache=True)),
        (b"nothing-to-see-here", Directives(unparsed=("nothing-to-see-here",))),
    ],
)
def test_what_a_request_may_ask_for(line: bytes, said: Directives) -> None:
    """RFC 9111, section 5.2.1."""
    assert parse_request([line]) == said


def test_what_was_not_understood_is_kept_for_a_diagnosis() -> None:
    """RFC 9111, section 5.2.3: unknown directives are ignored, but not hidden from the operator."""
    said = parse([b'max-age=60, foo, bar="x y", max-age =1, @'])
    assert set(said.unparsed) == {"foo", "bar=x y", "@", "max-age"}
    assert len(parse([b",".join(b"x%d" % n for n in range(100))]).unparsed) == 16


def test_empty_means_that_nothing_was_understood() -> None:
    """What decides whether Surrogate-Control governs a response."""
    assert parse([b"foo"]).empty
    assert not parse([b"max-age=0"]).empty
    assert not parse([b'private="a"']).empty


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("000", 0), ("60", 60), ("", None), ("-1", None), ("1_0", None), ("٣", None)]
)
def test_delta_seconds_are_ascii_digits(text: str, seconds: int | None) -> None:
    """RFC 9111, section 1.2.2."""
    assert delta_seconds(text) == seconds


def test_lines_of_finds_every_line_in_order_whatever_its_case() -> None:
    """RFC 9110, section 5.1."""
    assert lines_of([(b"Age", b"1"), (b"x", b"2"), (b"AGE", b"3")], b"age") == [b"1", b"3"]


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_line_is_too_strange_to_be_parsed(lines: list[bytes]) -> None:
    """The parser never raises, and every duration it reports is one."""
    for said in (parse(lines), parse_request(lines)):
        for name in DURATIONS:
            value = getattr(said, name)
            assert value is None or 0 <= value <= LONGEST or value == math.inf
        assert said.withheld == frozenset(name.lower() for name in said.withheld)


@given(
    st.lists(st.text(alphabet='max-ge=s,"\\ \t;0123no-tr', max_size=20).map(lambda text: text.encode()), max_size=4),
    st.text(alphabet='ab="\\ ', max_size=8).map(lambda text: text.encode()),
)
def test_a_restriction_is_heard_behind_whatever_else_was_sent(lines: list[bytes], noise: bytes) -> None:
    """Only a closed quoted-string can hide a directive, and then it is none."""
    assert parse([*lines, b"no-store"]).no_store
    if b'"' not in noise:
        assert parse([noise + b",no-store"]).no_store


@given(st.text(max_size=60))
def test_items_and_names_take_any_text(text: str) -> None:
    """Neither raises; names are in lower case."""
    assert all(item.name for item in items(text))
    assert all(name == name.lower() for name in field_names(text))
