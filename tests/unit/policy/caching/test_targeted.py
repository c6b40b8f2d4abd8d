"""policy.caching.targeted: which field governs a response."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.directives import LONGEST, Directives
from holdfast.policy.caching.model import CacheRules
from holdfast.policy.caching.targeted import STRIPPED, Policy, policy_of, surrogate_control, targeted

RULES = CacheRules()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"max-age=3600", Directives(max_age=3600)),
        (b"max-age=3600;a=1;b", Directives(max_age=3600)),
        (b"max-age=2147483648", Directives(max_age=LONGEST)),
        (b"max-age=99999999999", Directives(max_age=LONGEST)),
        (b"max-age=1, max-age=2", Directives(max_age=2)),
        (b"no-store", Directives(no_store=True)),
        (b"no-store=?1;x", Directives(no_store=True)),
        (b"no-store=?0, max-age=1", Directives(max_age=1)),
        (b"no-cache, private", Directives(no_cache=True, private=True)),
        (b'private="a, b"', Directives(private=frozenset({"a", "b"}))),
        (b"private=a", Directives(private=frozenset({"a"}))),
        (b"foobar, max-age=3600", Directives(max_age=3600, unparsed=("foobar",))),
    ],
)
def test_a_targeted_field_is_a_dictionary_of_directives(line: bytes, said: Directives) -> None:
    """RFC 9213, section 2.1; parameters are ignored, and of a repeated member the last counts (RFC 9651)."""
    assert targeted([line]) == said


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"max-age=10000, &&&&&",
        b"MaX-aGe=3600",
        b"max-age =100",
        b"max-age= 100",
        b"max-age=1,",
        b"a=(",
        b"\xff",
    ],
)
def test_a_targeted_field_that_is_empty_or_no_dictionary_is_ignored_as_a_whole(line: bytes) -> None:
    """RFC 9213, section 2.1: Cache-Control governs then."""
    fields = [(b"CDN-Cache-Control", line), (b"Cache-Control", b"max-age=1")]
    assert targeted([line]) is None
    assert policy_of(fields, RULES) == Policy(Directives(max_age=1))


@pytest.mark.parametrize("value", [b'"3600"', b"3600.0", b"-1", b"a", b":YQ==:", b"(1 2)", b"?1"])
def test_a_number_of_another_type_is_not_coerced(value: bytes) -> None:
    """RFC 9213, section 2.1: such a lifetime is none; the window is shut."""
    said = targeted([b"max-age=" + value + b", stale-while-revalidate=" + value])
    assert said is not None
    assert (said.max_age, said.stale_while_revalidate) == (0, None)


@pytest.mark.parametrize("value", [b"1", b"(a b)", b"1.5", b":YQ==:"])
def test_a_restriction_of_a_wrong_type_restricts_and_a_permission_does_not_permit(value: bytes) -> None:
    """In doubt, nothing is stored or shared that should not be."""
    names = (b"no-store", b"no-cache", b"private", b"public", b"must-understand")
    said = targeted([b", ".join(name + b"=" + value for name in names)])
    assert said == Directives(
        no_store=True,
        no_cache=True,
        private=True,
        unparsed=("no-store", "no-cache", "private", "public", "must-understand"),
    )


def test_the_lines_of_a_targeted_field_are_one_dictionary() -> None:
    """RFC 9651, section 4.2."""
    assert targeted([b"max-age=1", b"", b"no-cache"]) == Directives(max_age=1, no_cache=True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"max-age=3600", Directives(max_age=3600)),
        (b"MaX-aGe=3600", Directives(max_age=3600)),
        (b"max-age=60+30", Directives(max_age=60, stale_while_revalidate=30, stale_if_error=30)),
        (b"max-age=60;holdfast", Directives(max_age=60)),
        (b"max-age=60; Other; HoldFast", Directives(max_age=60)),
        (b"max-age=60, max-age=3600;holdfast", Directives(max_age=3600)),
        (b"no-store, max-age=3600;other", Directives(no_store=True)),
        (b'content="ESI/1.0, a;b", max-age=5', Directives(max_age=5, unparsed=("content",))),
        (b"max-age=5, no-store-remote", Directives(max_age=5, unparsed=("no-store-remote",))),
    ],
)
def test_surrogate_control_addresses_surrogates(line: bytes, said: Directives) -> None:
    """Edge Architecture, section 2.4; what is addressed to this device goes before what is for everyone."""
    found = surrogate_control([line], "holdfast")
    assert found is not None
    assert replace(found, unparsed=()) == replace(said, unparsed=())


@pytest.mark.parametrize("line", [b"", b"foo", b'content="ESI/1.0"', b"max-age=60;other", b"no-store-remote", b"\xff"])
def test_surrogate_control_that_does_not_concern_us_is_ignored(line: bytes) -> None:
    """It does not govern the storing of a response by only announcing ESI."""
    assert policy_of([(b"surrogate-control", line), (b"cache-control", b"max-age=1")], RULES).source == "Cache-Control"


def test_the_order_of_the_target_list_is_the_order_of_precedence() -> None:
    """RFC 9213, section 2.2; only Cache-Control takes Expires along."""
    fields = [
        (b"cache-control", b"max-age=1"),
        (b"cdn-cache-control", b"max-age=2"),
        (b"surrogate-control", b"max-age=3"),
        (b"ours-cache-control", b"max-age=4"),
    ]
    assert policy_of(fields, RULES) == Policy(Directives(max_age=3), "Surrogate-Control", expires=False)
    assert policy_of(fields[:2], RULES) == Policy(Directives(max_age=2), "CDN-Cache-Control", expires=False)
    assert policy_of(fields[:1], RULES) == Policy(Directives(max_age=1), "Cache-Control", expires=True)
    ours = replace(RULES, targeted=("Ours-Cache-Control", "CDN-Cache-Control"))
    assert policy_of(fields, ours).source == "Ours-Cache-Control"
    assert policy_of(fields, replace(RULES, targeted=())).source == "Cache-Control"


def test_only_surrogate_control_ends_at_the_gateway() -> None:
    """CDN-Cache-Control may be meant for a CDN in front, too (RFC 9213, section 3.1)."""
    assert b"surrogate-control" in STRIPPED
    assert b"cdn-cache-control" not in STRIPPED


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_no_line_is_too_strange_to_be_judged(lines: list[bytes]) -> None:
    """Neither parser raises."""
    targeted(lines)
    surrogate_control(lines, "holdfast")
