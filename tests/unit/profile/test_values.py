"""Durations, sizes and shares: what they read, what they refuse, how they are written."""

from __future__ import annotations

import copy
import pickle
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.profile.values import Duration, Share, Size


@pytest.mark.parametrize(
    ("text", "seconds", "short"),
    [
        ("50ms", 0.05, "50ms"),
        ("5s", 5.0, "5s"),
        ("5 s", 5.0, "5s"),
        ("2m", 120.0, "2m"),
        ("90s", 90.0, "90s"),
        ("1h", 3600.0, "1h"),
        ("1d", 86400.0, "1d"),
        ("1.5s", 1.5, "1500ms"),
        ("7", 7.0, "7s"),
        ("0", 0.0, "0s"),
        (0.25, 0.25, "250ms"),
        (60, 60.0, "1m"),
    ],
)
def test_a_duration_is_read_in_seconds_and_written_in_its_largest_whole_unit(text, seconds, short):
    """50ms, 5s, 2m, 1h, 1d, or a number of seconds."""
    assert Duration(text) == seconds
    assert str(Duration(text)) == short


@pytest.mark.parametrize(
    ("text", "size", "short"),
    [
        ("512", 512, "512"),
        ("64KiB", 65536, "64KiB"),
        ("10MiB", 10 * 1024**2, "10MiB"),
        ("10mib", 10 * 1024**2, "10MiB"),
        ("1GB", 10**9, "1GB"),
        ("1.5KiB", 1536, "1536"),
        ("0", 0, "0"),
        (2048, 2048, "2KiB"),
        (3.0, 3, "3"),
    ],
)
def test_a_size_is_read_in_bytes_and_knows_both_kinds_of_units(text, size, short):
    """KiB is 1024 bytes, KB is 1000."""
    assert Size(text) == size
    assert str(Size(text)) == short


@pytest.mark.parametrize(
    ("text", "share", "short"),
    [("20%", 0.2, "20%"), ("0.2", 0.2, "20%"), (0.07, 0.07, "7%"), (1, 1.0, "100%"), ("12.5%", 0.125, "12.5%")],
)
def test_a_share_is_read_as_a_percentage_or_as_a_number(text, share, short):
    """20% and 0.2 are the same share."""
    assert Share(text) == share
    assert str(Share(text)) == short


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Duration, "5 parsecs", "the units are ms, s, m, h and d"),
        (Duration, "soon", "write a number with a unit, such as 50ms"),
        (Duration, "", "write a number with a unit"),
        (Duration, "-1s", "is not a duration"),
        (Duration, -1, "out of range"),
        (Duration, "9e999d", "out of range"),
        (Duration, float("nan"), "out of range"),
        (Duration, float("inf"), "out of range"),
        (Duration, 10**400, "out of range"),
        (Duration, True, "is not a duration"),
        (Duration, None, "is not a duration"),
        (Size, "10M", "the units are B, KB"),
        (Size, "big", "such as 512, 64KiB"),
        (Size, 1.5, "whole number of bytes"),
        (Size, "0.3B", "whole number of bytes"),
        pytest.param(Size, 10**5000, "out of range", id="a number without a text"),
        (Size, -1, "out of range"),
        (Share, 20, "between 0% and 100%"),
        (Share, "120%", "between 0% and 100%"),
        (Share, "20s", "a percentage such as 20%"),
    ],
)
def test_what_is_no_value_is_refused_with_what_to_write_instead(kind, value, message):
    """ValueError with a helpful sentence."""
    with pytest.raises(ValueError, match=message):
        kind(value)


@given(st.one_of(st.floats(0, 3e9), st.integers(0, 10**9)))
def test_a_duration_survives_its_text_form(seconds):
    """`Duration(str(d)) == d`, to the last bit."""
    assert Duration(str(Duration(seconds))) == Duration(seconds)


@given(st.integers(0, 2**63 - 1))
def test_a_size_survives_its_text_form(size):
    """`Size(str(s)) == s`."""
    assert Size(str(Size(size))) == size


@given(st.floats(0, 1))
def test_a_share_survives_its_text_form(share):
    """`Share(str(s)) == s`, to the last bit."""
    assert Share(str(Share(share))) == share


@given(st.text(max_size=30), st.sampled_from([Duration, Size, Share]))
def test_no_text_raises_anything_but_value_error(text, kind):
    """The only error of these types."""
    with suppress(ValueError):
        kind(text)


@pytest.mark.parametrize("value", [Duration("5s"), Size("1MiB"), Share("5%")])
def test_a_value_survives_copying_and_pickling_as_its_own_type(value):
    """Settings travel between processes."""
    for twin in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert type(twin) is type(value)
    assert repr(value) == f"{type(value).__name__}('{value}')"
