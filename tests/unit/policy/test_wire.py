"""Bytes off the wire as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.wire import (
    declared_charset,
    decode_body,
    encode_body,
    first_value,
    header_fields,
    header_map,
    wire_bytes,
    wire_text,
)

fixed = settings(derandomize=True, deadline=None)
NAMES = st.sampled_from([b"x-a", b"set-cookie", b"authorization", b"date", b"content-length"])


@fixed
@given(st.binary())
def test_any_bytes_are_text_and_the_same_bytes_again(raw: bytes) -> None:
    """latin-1 has a character for every byte."""
    assert wire_bytes(wire_text(raw)) == raw


@pytest.mark.parametrize(
    ("text", "raw"),
    [("\u00e9", b"\xe9"), ("\u20ac", b"\xe2\x82\xac"), ("a\udcff", b"a\xff"), ("a\ud800", b"a?")],
)
def test_text_from_elsewhere_still_has_bytes(text: str, raw: bytes) -> None:
    """A record that another program wrote must not break the replay of it."""
    assert wire_bytes(text) == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([(b"Accept", b"a")], {"accept": "a"}),
        ([(b"Accept", b"a"), (b"X-B", b"1"), (b"ACCEPT", b"b")], {"accept": "a, b", "x-b": "1"}),
        ([(b"cookie", b"a=1"), (b"cookie", b"b=2")], {"cookie": "a=1; b=2"}),
        ([(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")], {"set-cookie": ("a=1", "b=2")}),
        ([(b"Authorization", b"x"), (b"Authorization", b"y")], {"authorization": ("x", "y")}),
        ([(b"X-Unknown", b"a, b"), (b"X-Unknown", b"c")], {"x-unknown": ("a, b", "c")}),
        ([(b"X-\xc4", b"\xff\x00\xe9")], {"x-\xc4": "\xff\x00\xe9"}),
        ([(b"X-Empty", b"")], {"x-empty": ""}),
    ],
)
def test_fields_are_joined_only_where_that_keeps_their_meaning(
    raw: list[tuple[bytes, bytes]], expected: dict[str, object]
) -> None:
    """RFC 9110, section 5.3, and RFC 9113, section 8.2.3 for cookies."""
    assert header_map(raw) == expected


@fixed
@given(st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=12))
def test_fields_that_are_no_lists_survive_as_they_were(raw: list[tuple[bytes, bytes]]) -> None:
    """Every value, byte for byte, in its order within the name."""
    back = header_fields(header_map(raw))
    assert sorted(back, key=lambda each: each[0]) == sorted(raw, key=lambda each: each[0])


def test_the_first_of_several_values_can_be_asked_for() -> None:
    """One value, several, none."""
    headers = {"a": "1", "b": ("2", "3"), "c": ()}
    assert [first_value(headers, name) for name in "abcd"] == ["1", "2", "", ""]


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "", ("", "utf-8")),
        (b'{"a": 1}', "application/json", ('{"a": 1}', "utf-8")),
        ("\u00fc\u20ac\U0001f600".encode(), "text/plain; charset=UTF-8", ("\u00fc\u20ac\U0001f600", "utf-8")),
        (b"\xef\xbb\xbfx", "text/plain", ("\ufeffx", "utf-8")),
        (b"abc", 'text/plain; charset="US-ASCII"', ("abc", "utf-8")),
        (b"abc", "text/plain; charset=shift_jis", ("YWJj", "base64")),
        (b"a\x00b", "text/plain", ("YQBi", "base64")),
        (b"\xff", "text/plain", ("/w==", "base64")),
        (b"\xed\xa0\x80", "text/plain", ("7aCA", "base64")),
    ],
)
def test_text_is_text_and_the_rest_is_base64(body: bytes, content_type: str, expected: tuple[str, str]) -> None:
    """Only what reads as what it is; a surrogate in UTF-8 is not UTF-8."""
    assert encode_body(body, content_type) == expected


@fixed
@given(st.binary() | st.text().map(str.encode), st.sampled_from(["", "text/plain", "a/b; charset=latin-1"]))
def test_a_body_comes_back_byte_for_byte(body: bytes, content_type: str) -> None:
    """Whatever it is and whatever it claims to be."""
    assert decode_body(*encode_body(body, content_type)) == body


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("abc", "base64"), ("YQ==\n", "base64"), ("\u00e9", "base64"), ("\ud800", "utf-8"), ("", "gzip")],
)
def test_a_text_that_is_not_of_its_encoding_is_refused(text: str, encoding: str) -> None:
    """A body that cannot be given back exactly is not given back at all."""
    with pytest.raises(ValueError, match=r"."):
        decode_body(text, encoding)


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [("", "utf-8"), ("a/b; Charset = Latin1", "latin1"), ("a/b;charset='utf8'", "utf-8"), ("a/b; charset=", "utf-8")],
)
def test_the_charset_is_found_however_it_is_written(content_type: str, charset: str) -> None:
    """RFC 9110, section 8.3.2, and a little more."""
    assert declared_charset(content_type) == charset
