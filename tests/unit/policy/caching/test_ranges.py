"""policy.caching.ranges: parts of a complete stored response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.model import Fields, StoredResponse
from holdfast.policy.caching.ranges import RANGES_MAX, parse_ranges, part_of

BODY = b"0123456789A"
MODIFIED, DATE = b"Thu, 01 Jan 2026 01:00:00 GMT", b"Thu, 01 Jan 2026 02:00:00 GMT"
HEADERS = ((b"ETag", b'"a"'), (b"Last-Modified", MODIFIED), (b"Date", DATE), (b"Content-Length", b"11"))
WHOLE = StoredResponse(200, HEADERS, BODY, 0, 0)


def get(value: bytes, *more: tuple[bytes, bytes], stored: StoredResponse = WHOLE) -> tuple[int, bytes] | None:
    part = part_of("GET", [(b"Range", value), *more], stored)
    return (part.status, part.body) if part else None


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (b"bytes=0-1", b"01"),
        (b"bytes=1-", b"123456789A"),
        (b"bytes=-1", b"A"),
        (b"bytes=-100", BODY),
        (b"bytes=0-100", BODY),
        (b"bytes=10-10", b"A"),
        (b"Bytes=0-0", b"0"),
        (b"bytes=9-9999999999999999999", b"9A"),
        (b"bytes= 2-3 ,", b"23"),
        (b"bytes=0-3,2-5", b"012345"),
        (b"bytes=4-5,0-3", b"012345"),
        (b"bytes=0-1,50-60", b"01"),
    ],
)
def test_one_range_is_a_206(value: bytes, body: bytes) -> None:
    """RFC 9110, sections 14.1.2 and 15.3.7; ranges that touch are one, and those beyond the end are left out."""
    assert get(value) == (206, body)


@pytest.mark.parametrize("value", [b"bytes=11-", b"bytes=11-20", b"bytes=-0", b"bytes=20-,30-40,-0"])
def test_a_range_beyond_the_end_is_a_416(value: bytes) -> None:
    """RFC 9110, section 15.5.17; its header has nothing by which it could be stored."""
    part = part_of("GET", [(b"Range", value)], WHOLE)
    assert part is not None
    assert (part.status, part.body) == (416, b"")
    assert part.headers == [(b"Content-Range", b"bytes */11"), (b"Content-Length", b"0")]


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"bytes", b"bytes=", b"bytes=,", b"bytes=-", b"bytes=a-b", b"bytes=5-2", b"bytes=1-2-3", b"bytes=--1"),
        *(b"lines=0-1", b"bytes =0-1", b"bytes=0 - 1", b"bytes=+1-2", b"bytes=0-1;2-3", b"bytes=\xb2-", b"0-1"),
        *(b"bytes=0-1,x", b"bytes=0-1,5-2", b"bytes=0-99999999999999999999"),
        b"bytes=0-1,5-6",
        b"bytes=0-1,3-4,6-7",
        b"bytes=" + b",".join([b"0-"] * (RANGES_MAX + 1)),
    ],
)
def test_what_cannot_be_read_or_is_in_pieces_is_answered_with_the_whole(value: bytes) -> None:
    """RFC 9110, section 14.2: a server may ignore Range; no multipart."""
    assert get(value) is None


def test_only_a_get_and_only_once() -> None:
    """RFC 9110, section 14.2; two lines are no list that could be read with confidence."""
    assert part_of("HEAD", [(b"Range", b"bytes=0-1")], WHOLE) is None
    assert part_of("GET", [(b"Range", b"bytes=0-1"), (b"range", b"bytes=0-1")], WHOLE) is None
    assert part_of("GET", [], WHOLE) is None


@pytest.mark.parametrize(
    "stored",
    [
        StoredResponse(404, HEADERS, BODY, 0, 0),
        StoredResponse(200, HEADERS, b"", 0, 0),
        StoredResponse(200, HEADERS, BODY, 0, 0, method="HEAD"),
    ],
)
def test_only_a_200_with_a_body_has_parts(stored: StoredResponse) -> None:
    """RFC 9110, section 14.2: where the answer without Range would be a 200."""
    assert get(b"bytes=0-1", stored=stored) is None


@pytest.mark.parametrize(
    ("if_range", "headers", "holds"),
    [
        ([b'"a"'], HEADERS, True),
        ([b'"b"'], HEADERS, False),
        ([b'W/"a"'], HEADERS, False),
        ([b'W/"a"'], ((b"ETag", b'W/"a"'),), False),
        ([b'"a"'], ((b"ETag", b'W/"a"'),), False),
        ([b'"a"'], (), False),
        ([MODIFIED], HEADERS, True),
        ([DATE], HEADERS, False),
        ([b"Thursday, 01-Jan-26 01:00:00 GMT"], HEADERS, False),
        ([MODIFIED], ((b"Last-Modified", MODIFIED),), False),
        ([DATE], ((b"Last-Modified", DATE), (b"Date", DATE)), False),
        ([b'"a"', b'"a"'], HEADERS, False),
        ([b""], HEADERS, False),
        ([b"a"], HEADERS, False),
    ],
)
def test_if_range_needs_a_strong_validator(
    if_range: list[bytes], headers: tuple[tuple[bytes, bytes], ...], holds: bool
) -> None:
    """RFC 9110, section 13.1.5: if in doubt, the whole."""
    found = get(b"bytes=0-1", *[(b"If-Range", v) for v in if_range], stored=StoredResponse(200, headers, BODY, 0, 0))
    assert (found is not None) is holds


def test_a_part_says_all_that_the_whole_would() -> None:
    """RFC 9110, section 15.3.7, but for the length, the range, and a digest of other bytes."""
    headers = (*HEADERS, (b"Content-MD5", b"x"), (b"Repr-Digest", b"y"), (b"Content-Type", b"text/plain"))
    part = part_of("GET", [(b"Range", b"bytes=2-4")], StoredResponse(200, headers, BODY, 0, 0))
    assert part is not None
    assert part.headers == [
        *HEADERS[:3],
        (b"Repr-Digest", b"y"),
        (b"Content-Type", b"text/plain"),
        (b"Content-Range", b"bytes 2-4/11"),
        (b"Content-Length", b"3"),
    ]


VALUES = st.binary(max_size=30) | st.lists(st.from_regex(r"([0-9]{0,3}-[0-9]{0,3})", fullmatch=True), max_size=20).map(
    lambda specs: b"bytes=" + ",".join(specs).encode()
)


@given(VALUES, st.binary(min_size=1, max_size=200))
def test_a_part_is_within_the_body(value: bytes, body: bytes) -> None:
    """Whatever is asked for; and it is where Content-Range says."""
    for first, last in parse_ranges(value, len(body)) or []:
        assert 0 <= first <= last < len(body)
    fields: Fields = [(b"Range", value)]
    part = part_of("GET", fields, StoredResponse(200, (), body, 0, 0))
    if part is not None and part.status == 206:
        where = dict(part.headers)[b"Content-Range"].removeprefix(b"bytes ").partition(b"/")[0]
        first, _, last = where.partition(b"-")
        assert part.body == body[int(first) : int(last) + 1] != b""
        assert int(dict(part.headers)[b"Content-Length"]) == len(part.body)
