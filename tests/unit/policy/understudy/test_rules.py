"""policy.understudy: what is recorded of an answer, which recording stands in, and what the client gets of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.failure import NO_SERVER, Failure, answered_with
from holdfast.policy.redaction import DEFAULT_HEADERS, RedactionRules
from holdfast.policy.understudy.answer import StandIn, mark, not_recorded, stand_in
from holdfast.policy.understudy.choosing import is_usable, nearest
from holdfast.policy.understudy.model import Recording, fingerprint, recorded_fields, same_but_for
from holdfast.policy.understudy.recordable import check_statuses, is_good, refusal

fixed = settings(derandomize=True, deadline=None)
RULES = RedactionRules(headers=DEFAULT_HEADERS | {"x-mine"})
TEXT = Recording(200, (("Content-Type", "text/plain"),), b"0123456789", "GET /a?q=1", recorded=1_795_289_349.0)


def named(fields: Any, name: str) -> list[str]:
    return [value.decode() for each, value in fields if each.lower() == name.encode()]


# --- what is recorded ---


@pytest.mark.parametrize(
    "name",
    ["Set-Cookie", "Authorization", "X-Mine", "Date", "X-Request-Id", "ETag", "Content-Length", "Age", "Connection",
     "Content-Encoding", "Cache-Control", "Holdfast-Understudy", "X-RateLimit-Remaining", "Surrogate-Key", "X-Hop"],
)  # fmt: skip
def test_secrets_and_what_holds_for_a_moment_are_not_recorded(name: str) -> None:
    """Whatever the case, and whatever `Connection` names."""
    fields = [(b"Connection", b"X-Hop"), (name.encode(), b"1"), (b"X-Kept", b"1")]
    assert recorded_fields(fields, RULES) == (("X-Kept", "1"),)


def test_secrets_within_a_url_are_masked() -> None:
    """`Location` of a sign-in."""
    fields = [(b"Location", b"https://user:pw@site.test/a?code=1&b=2")]
    assert recorded_fields(fields, RULES) == (("Location", "https://site.test/a?code=[redacted]&b=2"),)
    fields = [(b"Location", b"https://site.test/a?back_url=https://b.test/&code=1")]
    assert recorded_fields(fields, RULES)[0][1] == "https://site.test/a?back_url=https://b.test/&code=[redacted]"
    links = "<https://user:pw@a.test/?code=1>; rel=next, <https://user:pw@b.test/?p=2&code=3>; rel=last"
    fields = [(b"Link", links.encode()), (b"Refresh", b"5; url=https://user:pw@a.test/?code=1")]
    assert recorded_fields(fields, RULES) == (
        ("Link", "<https://a.test/?code=[redacted]>; rel=next, <https://b.test/?p=2&code=[redacted]>; rel=last"),
        ("Refresh", "5; url=https://a.test/?code=[redacted]"),
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, None),
        ({"streamed": True}, "streamed"),
        ({"length": None}, "streamed"),
        ({"content_type": "text/event-stream; charset=utf-8"}, "streamed"),
        ({"content_type": "application/grpc+proto"}, "streamed"),
        ({"status": 206}, "partial"),
        ({"length": 101}, "too_large"),
        ({"cache_control": "private, No-Store"}, None),
        ({"cache_control": "private, No-Store", "obey_no_store": True}, "no_store"),
        ({"cache_control": "x-no-store-x", "obey_no_store": True}, None),
    ],
)
def test_some_good_answers_are_not_recorded(more: dict[str, Any], reason: str | None) -> None:
    """Each with the reason that is counted."""
    base: dict[str, Any] = {"status": 200, "content_type": "", "cache_control": "", "length": 100}
    base |= {"streamed": False, "max_body": 100, "obey_no_store": False}
    assert refusal(**{**base, **more}) == reason


def test_a_status_is_good_by_its_number_or_its_class() -> None:
    """A 304 never is: it says nothing without what its client has."""
    assert is_good(201, ("2xx",))
    assert is_good(404, ("2xx", "404"))
    assert not is_good(500, ("2xx", "404"))
    assert not is_good(304, ("3xx", "304"))


@pytest.mark.parametrize("status", ["2x", "600", "1xx", "", "20 0", "²00"])
def test_what_names_no_status_is_refused(status: str) -> None:
    """When the profile is read."""
    with pytest.raises(ValueError, match="write 200"):
        check_statuses((status,))


def test_an_edit_shows_in_the_fingerprint_and_the_order_of_fields_does_not() -> None:
    """By what counts: status, header, body, request."""
    two = replace(TEXT, headers=(("a", "1"), ("b", "2")))
    assert fingerprint(two) == fingerprint(replace(two, headers=(("B", "2"), ("A", "1"))))
    changed: list[dict[str, Any]] = [{"status": 201}, {"body": b"x"}, {"headers": ()}, {"request": "GET /b"}]
    assert len({fingerprint(TEXT), *(fingerprint(replace(TEXT, **each)) for each in changed)}) == 5
    assert fingerprint(TEXT) == fingerprint(replace(TEXT, recorded=0.0, name="other", edited=True))


def test_a_later_answer_that_is_the_same_is_not_worth_writing() -> None:
    """Commits stay quiet."""
    later = replace(TEXT, recorded=2e9)
    assert same_but_for(TEXT, later, (1, 1))
    assert not same_but_for(TEXT, later, (1, 2))
    assert not same_but_for(TEXT, replace(later, status=201), (1, 1))


# --- which one stands in ---


def test_a_recording_grows_too_old_unless_a_person_wrote_it() -> None:
    """`max_age`; one without a time is as old as its writer likes."""
    assert is_usable(replace(TEXT, recorded=100.0), 160.0, 60.0)
    assert not is_usable(replace(TEXT, recorded=100.0), 161.0, 60.0)
    assert is_usable(replace(TEXT, recorded=None), 1e10, 1.0)
    assert is_usable(replace(TEXT, recorded=0.0), 1e10, None)


def test_the_nearest_is_the_same_path_then_a_similar_one_then_the_latest() -> None:
    """`match: route`."""
    ids = [Recording(200, (), b"", f"GET /u/{n}", recorded=float(n), name=str(n)) for n in (1, 9, 3)]
    query = Recording(200, (), b"", "GET /u/7?full=1", recorded=0.0, name="q")
    other = Recording(200, (), b"", "GET /x/7/z", recorded=99.0, name="o")
    assert nearest("/u/7", [*ids, other, query]) is query
    assert nearest("/u/7", [*ids, other]) is ids[1]
    assert nearest("/u/7", []) is None


@fixed
@given(st.permutations([replace(TEXT, name=str(n), request=f"GET /{n % 3}") for n in range(6)]), st.text(max_size=5))
def test_the_choice_does_not_depend_on_the_order_of_the_folder(recordings: list[Recording], path: str) -> None:
    """Every system lists files as it likes."""
    assert nearest(path, recordings) == nearest(path, sorted(recordings, key=lambda each: each.name))


# --- what the client gets ---


def given_for(
    recording: Recording = TEXT, method: str = "GET", failure: Failure | None = NO_SERVER, **asked: str
) -> StandIn:
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in asked.items()]
    return stand_in(recording, "exact", "users", method=method, asked=fields, failure=failure, not_retried="breaker")


def test_the_answer_is_marked_and_nobody_may_keep_it() -> None:
    """RFC 9209, RFC 9111 section 5.2.2.5; no Age, no Warning."""
    found = given_for()
    assert (found.status, found.body) == (200, b"0123456789")
    assert named(found.headers, "holdfast-understudy") == ['users; recorded="Sat, 21 Nov 2026 19:29:09 GMT"']
    assert named(found.headers, "cache-control") == ["no-store"]
    assert named(found.headers, "content-length") == ["10"]
    (status,) = named(found.headers, "proxy-status")
    assert status.startswith("holdfast; error=destination_unavailable; details=")
    assert not named(found.headers, "age")


def test_a_status_of_the_upstream_is_told_as_received() -> None:
    """RFC 9209, section 2.1.4; and where nobody was asked there is no error."""
    assert "received-status=503" in named(given_for(failure=answered_with(503)).headers, "proxy-status")[0]
    assert "error" not in named(given_for(failure=None).headers, "proxy-status")[0]


def test_what_a_person_writes_cannot_take_the_marks_away() -> None:
    """Nor make the framing wrong, nor say that a cache may keep it."""
    lies = ("Content-Length", "Transfer-Encoding", "Cache-Control", "Holdfast-Understudy", "Age", "Proxy-Status")
    found = given_for(replace(TEXT, headers=tuple((name, "1") for name in lies)))
    assert named(found.headers, "content-length") == ["10"]
    assert named(found.headers, "cache-control") == ["no-store"]
    assert len(named(found.headers, "holdfast-understudy")) == len(named(found.headers, "proxy-status")) == 1
    assert not named(found.headers, "transfer-encoding") + named(found.headers, "age")


def test_the_validator_is_of_what_is_sent() -> None:
    """An edit changes it; one that a person has written is kept."""
    (tag,) = named(given_for().headers, "etag")
    assert named(given_for(replace(TEXT, body=b"edited")).headers, "etag") != [tag]
    assert named(given_for(replace(TEXT, headers=(("ETag", '"mine"'),))).headers, "etag") == ['"mine"']
    found = given_for(if_none_match=tag)
    assert (found.status, found.body, named(found.headers, "etag")) == (304, b"", [tag])
    assert named(found.headers, "holdfast-understudy")


def test_parts_and_heads_are_made_from_the_whole() -> None:
    """RFC 9110, sections 9.3.2 and 14.2."""
    part = given_for(range="bytes=2-4")
    assert (part.status, part.body, named(part.headers, "content-range")) == (206, b"234", ["bytes 2-4/10"])
    assert given_for(range="bytes=99-").status == 416
    head = given_for(method="HEAD")
    assert (head.body, named(head.headers, "content-length")) == (b"", ["10"])
    assert given_for(replace(TEXT, status=201), method="POST", range="bytes=0-0", if_none_match="*").status == 201


def test_no_content_has_no_length() -> None:
    """RFC 9110, section 8.6; nor a body, whatever a person has written."""
    for method in ("GET", "HEAD"):
        found = given_for(replace(TEXT, status=204), method=method)
        assert found.body == b""
        assert not named(found.headers, "content-length")


def test_the_mark_says_where_the_answer_comes_from() -> None:
    """An item of RFC 9651: what is no token is a string."""
    edited = replace(TEXT, edited=True, recorded=None, request='GET /a"b')
    assert mark(edited, "exact", "users") == "users; edited"
    assert mark(edited, "route", "9lives") == '"9lives"; edited; match=route; of="/a\\"b"'


def test_offline_what_is_not_recorded_is_told_with_the_file_that_would_be() -> None:
    """`answer: always`."""
    found = not_recorded("users", "users/get.a.yaml")
    assert (found.status, dict(found.headers)["Holdfast-Understudy"]) == (504, "users; missing")
    assert b"users/get.a.yaml" in found.body
