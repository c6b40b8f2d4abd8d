"""recordings.coding: bodies without their coding, within a bound."""

from __future__ import annotations

import gzip
import zlib

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard

from holdfast.recordings.coding import TooLarge, decoded

BODY = b"Ada " * 100
RAW_DEFLATE = zlib.compress(BODY, wbits=-15)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        ("X-Gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", RAW_DEFLATE),
        ("br", brotli.compress(BODY)),
        ("zstd", zstandard.compress(BODY)),
        ("gzip, br", brotli.compress(gzip.compress(BODY))),
    ],
)
def test_codings_are_taken_off_in_their_order(coding: str, body: bytes) -> None:
    """RFC 9110, section 8.4: the last one was applied last."""
    assert decoded(body, coding, 1000) == BODY


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("", bytes(2000)),
        ("gzip", gzip.compress(bytes(10_000_000))),
        ("deflate", zlib.compress(bytes(10_000_000))),
        ("br", brotli.compress(bytes(10_000_000))),
        ("zstd", zstandard.compress(bytes(10_000_000))),
    ],
)
def test_what_grows_beyond_the_bound_is_given_up(coding: str, body: bytes) -> None:
    """A small answer must not fill the memory."""
    with pytest.raises(TooLarge):
        decoded(body, coding, 1000)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(BODY)[:-12]),
        ("br", b"not brotli at all"),
        ("br", brotli.compress(BODY)[:-2]),
        ("zstd", b"not zstd"),
        ("aes", BODY),
        ("gzip, gzip, gzip, gzip", BODY),
        ("deflate", b""),
    ],
)
def test_what_cannot_be_decoded_is_told(coding: str, body: bytes) -> None:
    """It is then not recorded."""
    with pytest.raises(ValueError, match=r".*") as found:
        decoded(body, coding, 10_000)
    assert not isinstance(found.value, TooLarge)
