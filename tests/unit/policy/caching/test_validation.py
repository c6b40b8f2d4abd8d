"""policy.caching.validation: conditional requests in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.validation import (
    conditional_request,
    for_the_origin,
    for_this_client_only,
    freshened,
    head_effect,
    head_fields,
    identified,
    not_modified,
    not_modified_fields,
    strongly_modified,
    unconditional_request,
)
from holdfast.policy.caching.vary import selecting_values

EARLIER, LATER, LATEST = (f"Thu, 01 Jan 2026 0{hour}:00:00 GMT".encode() for hour in (1, 2, 3))
NOON = 1767268800.0  # of the same day


def stored(*headers: tuple[bytes, bytes], status: int = 200, body: bytes = b"body", at: float = NOON) -> StoredResponse:
    return StoredResponse(status, headers, body, at, at)


# --- towards the origin ---


@pytest.mark.parametrize(
    ("request_fields", "response", "sent"),
    [
        ([], [(b"ETag", b'"a"')], [(b"If-None-Match", b'"a"')]),
        ([], [(b"ETag", b'W/"a"')], [(b"If-None-Match", b'W/"a"')]),
        ([], [(b"Last-Modified", EARLIER)], [(b"If-Modified-Since", EARLIER)]),
        (
            [],
            [(b"Last-Modified", EARLIER), (b"etag", b'"a"')],
            [(b"If-None-Match", b'"a"'), (b"If-Modified-Since", EARLIER)],
        ),
        (
            [(b"Abc", b"1"), (b"If-None-Match", b'"b"'), (b"if-modified-since", LATER), (b"Range", b"bytes=0-")],
            [(b"ETag", b'"a"')],
            [(b"Abc", b"1"), (b"If-None-Match", b'"a"')],
        ),
        ([(b"If-Match", b'"b"')], [(b"ETag", b'"a"')], [(b"If-Match", b'"b"'), (b"If-None-Match", b'"a"')]),
        ([], [], None),
        ([], [(b"ETag", b""), (b"Last-Modified", b"yesterday")], None),
        ([], [(b"ETag", b'"a"'), (b"ETag", b'"b"')], None),
    ],
)
def test_the_origin_is_asked_with_what_is_stored(request_fields: Fields, response: Fields, sent: Fields | None) -> None:
    """RFC 9111, section 4.3.1: our validators in place of the client's, the rest as it was."""
    assert conditional_request(request_fields, stored(*response)) == sent


def test_a_whole_response_is_asked_for_without_conditions() -> None:
    """What follows a 304 that fits nothing."""
    fields = [(b"If-None-Match", b'"a"'), (b"A", b"1"), (b"If-Range", b'"a"'), (b"Range", b"bytes=0-")]
    assert unconditional_request(fields) == [(b"A", b"1")]


A, B = stored((b"ETag", b'"a"')), stored((b"ETag", b'"b"'))
OLD_A = stored((b"ETag", b'"a"'), at=NOON - 1)
WEAK, OLD_WEAK = stored((b"ETag", b'W/"a"')), stored((b"ETag", b'W/"a"'), at=NOON - 1)
DATED = stored((b"Last-Modified", EARLIER))
BARE = stored()


@pytest.mark.parametrize(
    ("candidates", "response", "updated"),
    [
        ([A, B, OLD_A], [(b"ETag", b'"a"')], [A, OLD_A]),
        ([A, B], [(b"ETag", b'"c"')], []),
        ([WEAK], [(b"ETag", b'"a"')], []),
        ([DATED], [(b"ETag", b'"a"'), (b"Last-Modified", EARLIER)], []),
        ([OLD_WEAK, WEAK, B], [(b"ETag", b'W/"a"')], [WEAK]),
        ([A], [(b"ETag", b'W/"a"')], [A]),
        ([A], [(b"ETag", b'W/"b"')], []),
        ([DATED, BARE], [(b"Last-Modified", EARLIER)], [DATED]),
        ([DATED], [(b"Last-Modified", b"Thursday, 01-Jan-26 01:00:00 GMT")], [DATED]),
        ([DATED], [(b"Last-Modified", LATER)], []),
        ([BARE], [], [BARE]),
        ([A], [], [A]),
        ([A, B], [], []),
        ([], [(b"ETag", b'"a"')], []),
    ],
)
def test_a_304_updates_what_it_identifies(
    candidates: list[StoredResponse], response: Fields, updated: list[StoredResponse]
) -> None:
    """RFC 9111, section 4.3.4: a strong validator, else the most recent with a weak one, else the only one."""
    found = identified(candidates, response)
    assert [candidates.index(each) for each in found] == [candidates.index(each) for each in updated]


def fresh(before: StoredResponse, *response: tuple[bytes, bytes], withheld: tuple[str, ...] = ()) -> StoredResponse:
    return freshened(
        before, response, request=[(b"Foo", b"1")], request_time=NOON + 5, response_time=NOON + 6, withheld=withheld
    )


def test_a_304_replaces_fields_and_times_and_leaves_the_rest() -> None:
    """RFC 9111, sections 3.2 and 4.3.4; several lines of a field are replaced as one."""
    before = stored((b"A", b"1"), (b"B", b"1"), (b"b", b"2"), (b"Cache-Control", b"max-age=1"))
    after = fresh(before, (b"B", b"3"), (b"cache-control", b"max-age=60"), (b"C", b"4"))
    assert after.headers == ((b"A", b"1"), (b"B", b"3"), (b"cache-control", b"max-age=60"), (b"C", b"4"))
    assert (after.request_time, after.response_time) == (NOON + 5, NOON + 6)
    assert (after.body, after.status) == (b"body", 200)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Test-Header", b"X-Test-Header", b"Content-Foo", b"X-Content-Foo", b"Cache-Control", b"Content-Location"),
        *(b"Content-MD5", b"Content-Security-Policy", b"Content-Type", b"Clear-Site-Data", b"Expires", b"ETag"),
        *(b"Public-Key-Pins", b"X-Frame-Options", b"X-XSS-Protection", b"Last-Modified", b"Date", b"Age"),
    ],
)
def test_a_304_updates_this_field(name: bytes) -> None:
    """RFC 9111, section 3.2: all that is not excepted, known or not."""
    assert (name, b"new") in fresh(stored((name, b"old")), (name, b"new")).headers


@pytest.mark.parametrize(
    "name",
    [
        *(b"Content-Length", b"Content-Encoding", b"Content-Range", b"Set-Cookie", b"Set-Cookie2"),
        *(b"Proxy-Authenticate", b"Proxy-Authentication-Info", b"Trailer", b"Withheld"),
    ],
)
def test_a_304_does_not_update_this_field(name: bytes) -> None:
    """RFC 9111, sections 3.1 and 3.2: the body is as it came, and nobody's cookie is handed to others."""
    assert fresh(stored((name, b"old")), (name, b"new"), withheld=("withheld",)).headers == ((name, b"old"),)


@pytest.mark.parametrize("name", [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Upgrade", b"TE", b"Listed"])
def test_fields_of_the_connection_are_not_stored_by_a_304(name: bytes) -> None:
    """RFC 9111, section 3.1, first exception."""
    assert fresh(stored(), (b"Connection", b"listed"), (name, b"x")).headers == ()


def test_the_age_of_the_first_response_ends_with_its_validation() -> None:
    """RFC 9111, section 4.2.3: Age and Date belong to the times beside them."""
    assert fresh(stored((b"Age", b"1000"), (b"Date", EARLIER)), (b"Date", LATER)).headers == ((b"Date", LATER),)
    assert fresh(stored((b"Age", b"1000"), (b"Date", EARLIER))).headers == ()


def test_a_cookie_in_a_304_is_for_the_client_that_caused_it() -> None:
    """It may be that client's session."""
    fields = [(b"Set-Cookie", b"a=1"), (b"A", b"1"), (b"set-cookie", b"b=2")]
    assert for_this_client_only(fields) == [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2")]


def test_a_304_that_changes_vary_selects_by_the_request_it_answers() -> None:
    """RFC 9111, section 4.1: the original request is then this one."""
    assert fresh(stored(), (b"Vary", b"Foo")).selecting == (("foo", "1"),)
    assert fresh(stored((b"Vary", b"Foo")), (b"Vary", b"*")).selecting == ()


def test_a_304_that_keeps_vary_keeps_what_selects() -> None:
    """Several variants may be freshened by one 304; each stays what it was."""
    before = StoredResponse(200, ((b"Vary", b"Foo"),), b"", 0, 0, selecting_values(("foo",), [(b"Foo", b"2")]))
    assert fresh(before, (b"vary", b"foo")).selecting == (("foo", "2"),)


@pytest.mark.parametrize(
    ("before", "status", "response", "effect"),
    [
        (BARE, 200, [], "update"),
        (BARE, 200, [(b"Content-Length", b"4")], "update"),
        (BARE, 200, [(b"Content-Length", b"5")], "stale"),
        (A, 200, [], "update"),
        (A, 200, [(b"ETag", b'"a"'), (b"Content-Length", b"4")], "update"),
        (A, 200, [(b"ETag", b'"b"')], "stale"),
        (A, 200, [(b"ETag", b'W/"a"')], "stale"),
        (BARE, 200, [(b"ETag", b'"a"')], "stale"),
        (DATED, 200, [(b"Last-Modified", EARLIER)], "update"),
        (DATED, 200, [(b"Last-Modified", LATER)], "stale"),
        (stored(status=404), 200, [], "stale"),
        (A, 410, [], "none"),
        (A, 500, [], "none"),
        (A, 304, [], "none"),
    ],
)
def test_the_answer_to_a_head_updates_a_stored_get_or_makes_it_stale(
    before: StoredResponse, status: int, response: Fields, effect: str
) -> None:
    """RFC 9111, section 4.3.5."""
    assert head_effect(before, status, response) == effect


# --- towards the client ---


@pytest.mark.parametrize(
    ("request_fields", "response", "is_304"),
    [
        ([(b"If-None-Match", b'"a"')], [(b"ETag", b'"a"')], True),
        ([(b"if-none-match", b'W/"a"')], [(b"ETag", b'"a"')], True),
        ([(b"If-None-Match", b'"a"')], [(b"ETag", b'W/"a"')], True),
        ([(b"If-None-Match", b'"b"')], [(b"ETag", b'"a"')], False),
        ([(b"If-None-Match", b'"A"')], [(b"ETag", b'"a"')], False),
        ([(b"If-None-Match", b'"a", "b", "c"')], [(b"ETag", b'"a"')], True),
        ([(b"If-None-Match", b'"b","a" ,"c"')], [(b"ETag", b'"a"')], True),
        ([(b"If-None-Match", b'"b"'), (b"If-None-Match", b'"a"')], [(b"ETag", b'"a"')], True),
        ([(b"If-None-Match", b'"b, \\"a\\""')], [(b"ETag", b'"a"')], False),
        ([(b"If-None-Match", b'"x,y"')], [(b"ETag", b'"x,y"')], True),
        ([(b"If-None-Match", b'"x,y"')], [(b"ETag", b'"x')], False),
        ([(b"If-None-Match", b'"abcdef\xfc"')], [(b"ETag", b'"abcdef\xfc"')], True),
        ([(b"If-None-Match", b"abcdef")], [(b"ETag", b"abcdef")], True),
        ([(b"If-None-Match", b"abcdef")], [(b"ETag", b'"abcdef"')], False),
        ([(b"If-None-Match", b'"abcdef"')], [(b"ETag", b"abcdef")], False),
        ([(b"If-None-Match", b'w/"a"')], [(b"ETag", b'w/"a"')], True),
        ([(b"If-None-Match", b'"*"')], [(b"ETag", b'"a"')], False),
        ([(b"If-None-Match", b"*")], [], True),
        ([(b"If-None-Match", b"")], [(b"ETag", b"")], False),
        ([(b"If-None-Match", b'"a"')], [], False),
        ([(b"If-Modified-Since", EARLIER)], [(b"Last-Modified", EARLIER)], True),
        ([(b"If-Modified-Since", LATER)], [(b"Last-Modified", EARLIER)], True),
        ([(b"If-Modified-Since", EARLIER)], [(b"Last-Modified", LATER)], False),
        ([(b"If-Modified-Since", b"Thursday, 01-Jan-26 01:00:00 GMT")], [(b"Last-Modified", EARLIER)], True),
        ([(b"If-Modified-Since", LATER)], [(b"Date", EARLIER)], True),
        ([(b"If-Modified-Since", EARLIER)], [(b"Date", LATER)], False),
        ([(b"If-Modified-Since", EARLIER)], [], False),
        ([(b"If-Modified-Since", b"Fri, 02 Jan 2026 00:00:00 GMT")], [], True),
        ([(b"If-Modified-Since", LATER)], [(b"Last-Modified", b"soon"), (b"Date", EARLIER)], True),
        ([(b"If-Modified-Since", b"2026-01-01")], [(b"Last-Modified", EARLIER)], False),
        ([(b"If-Modified-Since", LATER), (b"If-Modified-Since", LATER)], [(b"Last-Modified", EARLIER)], False),
        ([(b"If-None-Match", b'"a"'), (b"If-Modified-Since", EARLIER)], [(b"ETag", b'"a"'), (b"Date", LATER)], True),
        ([(b"If-None-Match", b'"b"'), (b"If-Modified-Since", LATER)], [(b"Last-Modified", EARLIER)], False),
        ([], [(b"ETag", b'"a"')], False),
    ],
)
def test_a_client_that_has_what_is_stored_gets_a_304(request_fields: Fields, response: Fields, is_304: bool) -> None:
    """RFC 9110, sections 13.1.2 and 13.1.3; RFC 9111, section 4.3.2."""
    assert not_modified(request_fields, stored(*response)) is is_304


def test_only_a_200_is_not_modified() -> None:
    """RFC 9110, section 13.2.1: the condition is not looked at where there would be no success."""
    assert not not_modified([(b"If-None-Match", b'"a"')], stored((b"ETag", b'"a"'), status=404))


@pytest.mark.parametrize(
    ("name", "passes"), [(b"If-Match", True), (b"if-unmodified-since", True), (b"If-Range", False)]
)
def test_some_conditions_are_for_the_origin(name: bytes, passes: bool) -> None:
    """RFC 9111, section 4.3.2: a cache must not evaluate them."""
    assert for_the_origin([(b"A", b""), (name, b"x")]) is passes


def test_a_304_carries_what_updates_the_clients_copy() -> None:
    """RFC 9110, section 15.4.5."""
    kept = [
        *((b"ETag", b'"a"'), (b"Date", EARLIER), (b"Cache-Control", b"max-age=1"), (b"Expires", LATER)),
        *((b"Vary", b"Foo"), (b"Content-Location", b"/x"), (b"Content-Security-Policy", b"x"), (b"X", b"y")),
    ]
    of_the_content = [
        *((b"Content-Type", b"text/plain"), (b"Content-Length", b"4"), (b"Content-Encoding", b"gzip")),
        *((b"Last-Modified", EARLIER), (b"Content-Language", b"de")),
    ]
    assert not_modified_fields(stored(*kept, *of_the_content)) == kept
    assert not_modified_fields(stored((b"Last-Modified", EARLIER))) == [(b"Last-Modified", EARLIER)]


def test_a_head_is_answered_with_the_length_of_the_body() -> None:
    """RFC 9110, sections 8.6 and 9.3.2."""
    assert head_fields(stored((b"A", b"1"), (b"content-length", b"7"))) == [(b"A", b"1"), (b"Content-Length", b"4")]


@pytest.mark.parametrize(
    ("modified", "date", "strong"),
    [
        (EARLIER, LATER, True),
        (b"Thu, 01 Jan 2026 01:00:00 GMT", b"Thu, 01 Jan 2026 01:00:01 GMT", True),
        (EARLIER, EARLIER, False),
        (LATER, EARLIER, False),
        (EARLIER, b"", False),
        (b"", LATER, False),
    ],
)
def test_a_date_is_strong_once_a_second_has_passed(modified: bytes, date: bytes, strong: bool) -> None:
    """RFC 9110, section 8.8.2.2: within the second, there may have been another."""
    assert (strongly_modified(stored((b"Last-Modified", modified), (b"Date", date))) is not None) is strong


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"If-None-Match", b"If-Modified-Since", b"ETag", b"Last-Modified", b"Vary", b"Date", b"Content-Length"]
        ),
        st.binary(max_size=20) | st.sampled_from([b'"a"', b'W/"a"', b"*", EARLIER, LATEST]),
    ),
    max_size=5,
)


@given(FIELDS, FIELDS, FIELDS)
def test_whatever_is_sent_nothing_is_raised(request_fields: Fields, kept: Fields, response: Fields) -> None:
    """And what is freshened twice by the same 304 is freshened once."""
    before = stored(*kept)
    conditional_request(request_fields, before)
    not_modified(request_fields, before)
    identified([before, A], response)
    head_effect(before, 200, response)
    after = fresh(before, *response)
    assert fresh(after, *response) == after
    assert after.body == before.body
