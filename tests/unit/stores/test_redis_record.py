"""How a response lies in Redis."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from holdfast.policy.caching.model import StoredResponse
from holdfast.stores.redis_record import (
    HEAD,
    INLINE_BYTES,
    Keys,
    decode,
    decode_names,
    decode_tags,
    encode,
    encode_names,
    encode_tags,
    to_response,
    variant_field,
)

TEXT = st.text(max_size=20)
RESPONSES = st.builds(
    StoredResponse,
    status=st.integers(100, 599),
    headers=st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=4).map(tuple),
    body=st.binary(max_size=100),
    request_time=st.floats(0, 2e9),
    response_time=st.floats(0, 2e9),
    selecting=st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=3).map(tuple),
    tags=st.lists(TEXT, max_size=4).map(tuple),
    as_of=st.integers(0, 2**53),
    method=st.just("GET"),
    reason=TEXT,
    http_version=st.just("HTTP/2.0"),
)
PLAIN = StoredResponse(200, (), b"", 1.0, 2.0, as_of=7)


@given(RESPONSES)
def test_what_is_encoded_is_decoded_as_it_was(response: StoredResponse) -> None:
    """Every field of it."""
    data, field = encode(response, 5.0)
    record = decode(data)
    assert record
    assert field == ""
    assert record.until == 5.0
    assert to_response(record, record.body) == response


def test_a_large_body_lies_apart_under_a_name_of_its_content() -> None:
    """So that a renewed header can go with the body that is there already."""
    large = replace(PLAIN, body=b"x" * (INLINE_BYTES + 1))
    data, field = encode(large, 5.0)
    assert len(data) < 1000
    assert field
    assert encode(replace(large, headers=((b"a", b"b"),)), 9.0)[1] == field
    assert encode(replace(large, body=b"y" * len(large.body)), 5.0)[1] != field
    assert encode(replace(large, selecting=(("accept", "a"),)), 5.0)[1] != field


def test_the_head_is_what_the_scripts_read() -> None:
    """as_of compares as text, the name of the body's field follows."""
    small, large = replace(PLAIN, as_of=2**40), replace(PLAIN, as_of=2**50, body=b"x" * (INLINE_BYTES + 1))
    assert encode(small, 5.0)[0][:16] < encode(large, 5.0)[0][:16]
    data, field = encode(large, 5.0)
    assert data[16:HEAD].decode().strip() == field


def test_what_somebody_else_has_written_is_a_miss() -> None:
    """Not an exception."""
    data, _ = encode(PLAIN, 5.0)
    for wrong in (b"", b"x" * 100, data[:-1], data[: HEAD + 1] + b"\x02" + data[HEAD + 2 :], data[:HEAD] + b"\x90"):
        assert decode(wrong) is None
    assert decode_tags(b"\xff") == ()


def test_variants_lie_under_different_fields() -> None:
    """What differs in any way is another variant."""
    ways = [
        (),
        (("a", None),),
        (("a", ""),),
        (("a", "b"),),
        (("a", "b"), ("c", None)),
        (("a", "b,c"),),
        (("a,b", "c"),),
    ]
    assert len({variant_field(way) for way in ways}) == len(ways)


def test_names_and_tags_come_back() -> None:
    """Also the empty set of names, which is the most common."""
    assert decode_names(encode_names(()).encode()) == ((),)
    assert decode_names(b"a,b\n\nc") == (("a", "b"), (), ("c",))
    assert decode_tags(encode_tags(("a", "b c\td"))) == ("a", "b c\td")


def test_all_of_an_entry_is_in_one_slot() -> None:
    """What is in the key cannot change that."""
    keys = Keys("shop")
    for key in ("a", "{tags}", "}{", ""):
        assert key_slot(keys.entry(key).encode()) == key_slot(keys.lock(key).encode())
