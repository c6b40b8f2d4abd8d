"""policy.understudy.key: what tells recordings apart, and names that no file system can take for anything else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.redaction import RedactionRules
from holdfast.policy.understudy.key import (
    RecordingKey,
    file_name,
    folder_name,
    is_plain,
    key_of,
    named_method,
    plain_path,
)

fixed = settings(derandomize=True, deadline=None)
RULES = RedactionRules()
SAFE = re.compile(r"[a-z0-9_-][a-z0-9._~-]{0,120}")
DEVICES = {"con", "prn", "aux", "nul", "com1", "lpt9"}

texts = st.text(st.characters(max_codepoint=255), max_size=300)
paths = st.one_of(texts, st.from_regex(r"(/[a-zA-Z0-9._~%-]{0,12}){0,6}", fullmatch=True))
methods = st.sampled_from(["GET", "POST", "get", "CON", "M-SEARCH", "P*T"])
keys = st.builds(
    RecordingKey,
    method=methods,
    path=paths,
    query=texts,
    when=st.lists(st.tuples(texts, texts), max_size=2).map(tuple),
    body=st.sampled_from(["", "a" * 64]),
)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/api/users/7", "get.api.users.7"),
        ("GET", "/", "get"),
        ("POST", "/api/sign-in", "post.api.sign-in"),
    ],
)
def test_a_simple_request_has_a_name_that_a_person_can_type(method: str, path: str, name: str) -> None:
    """A recording can be written by hand, and the name says what it is for."""
    assert file_name(RecordingKey(method, path)) == name
    assert is_plain(name)
    assert (named_method(name), plain_path(name)) == (method.lower(), path)


@pytest.mark.parametrize(
    "target",
    [
        "/api/Users",
        "/api/v1.2",
        "//api",
        "/api/",
        "/a%2Fb",
        "/..",
        "/../../etc/passwd",
        "/a\0b",
        "/a?",
        "/é",
        "*",
        "/~",
    ],
)
def test_what_a_plain_name_would_not_tell_has_a_digest(target: str) -> None:
    """Upper case, dots, empty segments and encoded separators are different paths, and different files."""
    name = file_name(RecordingKey("GET", target))
    assert not is_plain(name)
    assert SAFE.fullmatch(name)


@fixed
@given(keys)
def test_a_name_is_safe_on_every_file_system(key: RecordingKey) -> None:
    """No separator, no letter case, nothing hidden, no device, not too long, no dot at the end."""
    name = file_name(key)
    assert SAFE.fullmatch(name), name
    assert name.partition(".")[0] not in DEVICES
    assert not name.endswith(".")
    assert named_method(name) == named_method(name).lower()


@fixed
@given(keys, keys)
def test_two_requests_have_two_names(one: RecordingKey, other: RecordingKey) -> None:
    """But for `` and `/`, which are the same path."""
    same = RecordingKey(one.method, one.path or "/", one.query, one.when, one.body) == RecordingKey(
        other.method, other.path or "/", other.query, other.when, other.body
    )
    assert (file_name(one) == file_name(other)) == same


@fixed
@given(st.one_of(texts, st.sampled_from(["..", ".", "con", "nul", "a.", "A", "a/b", "user", "-"])))
def test_the_folder_of_a_route_stays_in_the_folder(route: str) -> None:
    """A route is what the router or an addon says it is."""
    name = folder_name(route)
    assert SAFE.fullmatch(name)
    assert "." not in name
    assert name not in DEVICES


def test_a_route_has_its_own_name_where_that_is_safe() -> None:
    """So that a person finds it."""
    assert (folder_name("user"), folder_name("api_v2-users")) == ("user", "api_v2-users")
    assert folder_name("con") != "con"
    assert folder_name("a.b") != folder_name("a-b")


def test_secrets_in_the_query_are_in_no_key() -> None:
    """Neither in the name, by way of the digest, nor in the request line."""
    one, other = (key_of("GET", f"/a?token={value}&q=1", [], rules=RULES) for value in ("s3cret", "0ther"))
    assert one == other
    assert one.target == "/a?token=[redacted]&q=1"


def test_head_is_answered_from_get() -> None:
    """RFC 9110, section 9.3.2: the same header fields."""
    assert key_of("HEAD", "/a", [], rules=RULES) == key_of("GET", "/a", [], rules=RULES)


def test_only_fields_that_count_tell_recordings_apart() -> None:
    """By name without regard to case, several lines as one value; one that is not there is not the empty one."""
    fields = [(b"Accept", b"a"), (b"accept", b" b "), (b"X-Other", b"1")]
    key = key_of("GET", "/a", fields, counting=("ACCEPT", "x-none"), rules=RULES)
    assert key.when == (("accept", "a, b"),)
    assert key_of("GET", "/a", fields, rules=RULES).when == ()
    assert key_of("GET", "/a", [(b"accept", b"")], counting=("accept",), rules=RULES) != key_of(
        "GET", "/a", [], counting=("accept",), rules=RULES
    )


def test_a_body_that_counts_tells_recordings_apart() -> None:
    """GraphQL: one path, and the question is in the body."""
    one, other = (key_of("POST", "/graphql", [], rules=RULES, body=body) for body in (b"{a}", b"{b}"))
    assert file_name(one) != file_name(other)
