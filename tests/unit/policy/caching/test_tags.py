"""policy.caching.tags: the names under which responses are purged together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.model import Fields
from holdfast.policy.caching.tags import (
    FOR_CACHES,
    TagFault,
    TagLimits,
    Tags,
    check_pattern,
    group_tag,
    merged,
    response_tags,
    route_tags,
    tags_invalidated,
)

HERE = "https://a.example"
LIMITS = TagLimits()


def plain(*response: tuple[bytes, bytes], limits: TagLimits = LIMITS) -> list[str]:
    return [tag for tag in response_tags(response, HERE, limits).tags if "\t" not in tag]


@pytest.mark.parametrize(
    ("response", "tags"),
    [
        ([(b"Surrogate-Key", b"a b  c,d")], ["a", "b", "c,d"]),
        ([(b"Cache-Tag", b"a, b c ,,d")], ["a", "b c", "d"]),
        ([(b"xkey", b"a b,c"), (b"XKEY", b"d")], ["a", "b", "c", "d"]),
        ([(b"Cache-Groups", b'"a", "b c";x=1;y="z"')], ["a", "b c"]),
        ([(b"Cache-Groups", b'"a"'), (b"Cache-Groups", b""), (b"cache-groups", b'"b"')], ["a", "b"]),
        ([(b"Cache-Groups", b'"a\\"b\\\\c"')], ['a"b\\c']),
        ([(b"Surrogate-Key", b"a A a"), (b"Cache-Tag", b"a")], ["a", "A"]),
        ([(b"Surrogate-Key", b""), (b"Cache-Tag", b" , "), (b"Cache-Groups", b"")], []),
        ([(b"Content-Type", b"a")], []),
    ],
)
def test_a_response_names_its_tags(response: Fields, tags: list[str]) -> None:
    """Each field in its own syntax; a tag is the same from wherever it comes, and case counts."""
    found = response_tags(response, HERE, LIMITS)
    assert plain(*response) == tags
    assert found.faults == ()


def test_a_group_is_known_by_its_origin_too() -> None:
    """RFC 9875, section 2.1: the same String is another group at another origin."""
    found = response_tags([(b"Cache-Groups", b'"a"'), (b"xkey", b"b")], HERE, LIMITS)
    assert found.tags == ("b", "a", group_tag(HERE, "a"))
    assert group_tag(HERE, "a") != group_tag("https://b.example", "a")


def test_no_field_can_name_the_group_of_another_origin() -> None:
    """The tab that separates the two is in no tag."""
    forged = group_tag(HERE, "a").encode()
    for name in (b"Surrogate-Key", b"Cache-Tag", b"xkey", b"Cache-Groups"):
        for value in (forged, b'"' + forged + b'"'):
            found = response_tags([(name, value)], "https://b.example", LIMITS)
            assert forged.decode() not in found.tags


@pytest.mark.parametrize(
    "value", [b"a", b'"a",', b'"a" "b"', b'"a", b', b'("a")', b'"a', b'"a\\n"', b'"\xc3\xa9"', b",", b'"a";=1', b"1"]
)
def test_a_malformed_list_of_groups_is_refused_as_a_whole(value: bytes) -> None:
    """RFC 9651, section 4.2; RFC 9875, section 2: a List of Strings."""
    found = response_tags([(b"Cache-Groups", value)], HERE, LIMITS)
    assert found.tags == ()
    assert [(fault.source, fault.reason) for fault in found.faults] == [("cache-groups", "syntax")]


@pytest.mark.parametrize(
    ("response", "limits", "kept", "reason"),
    [
        ([(b"Cache-Tag", b"caf\xc3\xa9, b")], LIMITS, ["b"], "characters"),
        ([(b"Cache-Tag", b"a\x07, b")], LIMITS, ["b"], "characters"),
        ([(b"Cache-Groups", b'"", "b"')], LIMITS, ["b"], "characters"),
        ([(b"Cache-Groups", b'" a", "b"')], LIMITS, ["b"], "characters"),
        ([(b"xkey", b"a bb ccc")], TagLimits(length=2), ["a", "bb"], "length"),
        ([(b"xkey", b"a b c d")], TagLimits(count=2), ["a", "b"], "count"),
        ([(b"xkey", b"aaa bbb c")], TagLimits(total=5), ["aaa"], "total"),
    ],
)
def test_a_tag_that_cannot_be_used_is_a_fault(
    response: Fields, limits: TagLimits, kept: list[str], reason: str
) -> None:
    """Not an omission: the response would survive a purge that is meant for it."""
    found = response_tags(response, HERE, limits)
    assert plain(*response, limits=limits) == kept
    assert [fault.reason for fault in found.faults] == [reason]


def test_what_the_rfc_demands_at_least_is_within_the_limits() -> None:
    """RFC 9875, section 2: 32 groups of 32 characters."""
    groups = [f"{number:032}" for number in range(32)]
    found = response_tags([(b"Cache-Groups", ", ".join(f'"{each}"' for each in groups).encode())], HERE, LIMITS)
    assert list(found.tags[:32]) == groups
    assert not found.faults


def test_a_fault_shows_only_a_beginning() -> None:
    """It goes into logs."""
    fault = response_tags([(b"xkey", b"x" * 5000)], HERE, LIMITS).faults[0]
    assert fault == TagFault("xkey", "length", "x" * 64)


def test_a_route_gives_tags() -> None:
    """The parameter as it stands in the URL, percent-encoding untouched."""
    found = route_tags(["users", "user-{id}", "{a}/{b}"], {"id": "a%2Fb", "a": "1", "b": "2"}, LIMITS)
    assert found == Tags(("users", "user-a%2Fb", "1/2"))


def test_a_parameter_is_not_a_pattern() -> None:
    """Braces in a URL are text."""
    assert route_tags(["user-{id}"], {"id": "{id}"}, LIMITS).tags == ("user-{id}",)


def test_a_route_without_the_parameter_is_a_fault() -> None:
    """The router leaves out values that are too long; `user-` would be another tag."""
    found = route_tags(["users", "user-{id}"], {}, LIMITS)
    assert found == Tags(("users",), (TagFault("user-{id}", "parameter", "id"),))
    assert route_tags(["user-{id}"], {"id": "é"}, LIMITS).faults[0].reason == "characters"


@pytest.mark.parametrize(
    ("pattern", "names"), [("users", set()), ("user-{id}", {"id"}), ("{a}-{b_2}", {"a", "b_2"}), ("a b", set())]
)
def test_a_pattern_says_what_it_needs(pattern: str, names: set[str]) -> None:
    """For the profile to be checked against the router's routes."""
    assert check_pattern(pattern) == names


@pytest.mark.parametrize("pattern", ["", "user-{", "user-{}", "user-{id", "{1}", "{{id}}", "é", " a", "a\tb"])
def test_a_pattern_that_cannot_work_is_refused(pattern: str) -> None:
    """At the start, not at the first request."""
    with pytest.raises(ValueError, match="tag"):
        check_pattern(pattern)


def test_sources_are_merged_under_common_limits() -> None:
    """The tags of a response are those of its header and of its route, each once; groups do not count."""
    parts = [
        response_tags([(b"xkey", b"a"), (b"Cache-Groups", b'"g"')], HERE, LIMITS),
        route_tags(["a", "b", "x-{y}"], {}, LIMITS),
    ]
    assert merged(parts, LIMITS) == Tags(("a", "g", "b", group_tag(HERE, "g")), parts[1].faults)
    assert [fault.reason for fault in merged(parts, TagLimits(count=2)).faults] == ["parameter", "count"]


def test_an_unsafe_request_invalidates_groups_of_its_origin() -> None:
    """RFC 9875, section 3."""
    response = [(b"Cache-Group-Invalidation", b'"a", "b";c, "a"')]
    assert tags_invalidated("POST", response, HERE) == Tags((group_tag(HERE, "a"), group_tag(HERE, "b")))
    assert tags_invalidated("POST", [], HERE) == Tags()


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_a_safe_request_invalidates_no_groups(method: str) -> None:
    """RFC 9875, section 3: the field must be ignored, however it looks."""
    assert tags_invalidated(method, [(b"Cache-Group-Invalidation", b'"a", ?')], HERE) == Tags()


def test_what_is_malformed_invalidates_nothing_and_is_said() -> None:
    """RFC 9651, section 4.2."""
    found = tags_invalidated("POST", [(b"Cache-Group-Invalidation", b"a")], HERE)
    assert found == Tags((), (TagFault("cache-group-invalidation", "syntax", "a"),))


def test_clients_are_not_shown_surrogate_keys() -> None:
    """They tell what the site is made of. Cache-Groups is of use to the client's own cache."""
    assert frozenset({b"surrogate-key", b"cache-tag", b"xkey"}) == FOR_CACHES


NAMES = st.sampled_from([b"Surrogate-Key", b"Cache-Tag", b"xkey", b"Cache-Groups"])
VALUES = st.binary(max_size=30) | st.text(alphabet='"\\,; ab=?1:@%', max_size=20).map(str.encode)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_whatever_is_sent_tags_are_printable_and_within_the_limits(response: Fields) -> None:
    """Nothing is raised."""
    limits = TagLimits(count=5, length=8, total=20)
    tags = [tag for tag in response_tags(response, HERE, limits).tags if "\t" not in tag]
    assert len(tags) <= 5
    assert sum(map(len, tags)) <= 20
    assert all(tag.isascii() and tag.isprintable() and 0 < len(tag) <= 8 for tag in tags)


@given(st.lists(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=10), max_size=5))
def test_every_string_survives_a_list_of_groups(groups: list[str]) -> None:
    """RFC 9651, section 3.3.3."""
    escaped = ['"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in groups]
    found = tags_invalidated("POST", [(b"Cache-Group-Invalidation", ", ".join(escaped).encode())], HERE)
    assert found == Tags(tuple(dict.fromkeys(group_tag(HERE, each) for each in groups)))
