"""Takes content codings off a body, so that a person can read and edit it; never more than is asked for."""

from __future__ import annotations

import io
import zlib

import brotli  # type: ignore[import-untyped]
import zstandard

_CODINGS_MAX = 3
_PIECE = 4096


class TooLarge(ValueError):
    """The body is larger than the bound once it is decoded."""


def decoded(body: bytes, coding: str, longest: int) -> bytes:
    """The body without the codings of `Content-Encoding`. TooLarge, or ValueError for what cannot be decoded."""
    codings = [each.strip().lower() for each in coding.split(",")]
    codings = [each for each in codings if each not in ("", "identity")]
    if len(codings) > _CODINGS_MAX:
        raise ValueError("too many codings")
    for each in reversed(codings):
        body = _without(body, each, longest)
    if len(body) > longest:
        raise TooLarge
    return body


def _without(body: bytes, coding: str, longest: int) -> bytes:
    try:
        if coding in ("gzip", "x-gzip"):
            return _inflated(body, 31, longest)
        if coding == "deflate":  # some send it without the zlib wrapper that RFC 9110, section 8.4.1.2 asks for
            return _inflated(body, 15 if body[:1] and body[0] & 15 == 8 else -15, longest)
        if coding == "br":
            return _of_brotli(body, longest)
        if coding == "zstd":
            return _bounded(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read(longest + 1), longest)
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise ValueError(str(error)) from error
    raise ValueError(f"unknown coding {coding[:30]!r}")


def _inflated(body: bytes, window: int, longest: int) -> bytes:
    inflate = zlib.decompressobj(window)
    found = _bounded(inflate.decompress(body, longest + 1), longest)
    if not inflate.eof:
        raise ValueError("cut short")
    return found


def _of_brotli(body: bytes, longest: int) -> bytes:
    stream, pieces, size = brotli.Decompressor(), list[bytes](), 0
    for start in range(0, len(body), _PIECE):
        piece = stream.process(body[start : start + _PIECE])
        size += len(piece)
        if size > longest:
            raise TooLarge
        pieces.append(piece)
    if not stream.is_finished():
        raise ValueError("cut short")
    return b"".join(pieces)


def _bounded(found: bytes, longest: int) -> bytes:
    if len(found) > longest:
        raise TooLarge
    return found
