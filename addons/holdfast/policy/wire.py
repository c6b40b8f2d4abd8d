"""Bytes off the wire as JSON can carry them, and back: text, header fields, bodies.

Wire text. What came as bytes (header fields, the request target) is decoded as latin-1, one character for one byte: it
never fails, and `.encode("latin-1")` gives back exactly what was received.

Header fields. An object with lower-case names. A field that occurred once is a string. One that occurred more often is
one string where joining is known to keep its meaning (RFC 9110, section 5.3: the list-valued fields, with ", "; and
`cookie`, with "; ", RFC 9113, section 8.2.3), and a list of strings otherwise: `set-cookie`, `authorization`, dates and
whatever is unknown are never glued together.

Bodies. `body_encoding` is `utf-8` where the text is byte for byte the body, `base64` everywhere else.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

type HeaderMap = Mapping[str, str | tuple[str, ...]]

_LIST_FIELDS = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "allow", "baggage",
    "cache-control", "connection", "content-encoding", "content-language", "expect", "forwarded", "if-match",
    "if-none-match", "keep-alive", "link", "pragma", "prefer", "proxy-status", "cache-status", "te", "trailer",
    "tracestate", "transfer-encoding", "upgrade", "vary", "via", "warning", "x-forwarded-for",
    "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"
})  # fmt: skip
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';,]+)""", re.IGNORECASE)
_UTF8_NAMES = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


def wire_text(raw: bytes) -> str:
    """Bytes off the wire as text, reversibly."""
    return raw.decode("latin-1")


def wire_bytes(text: str) -> bytes:
    """The bytes behind a wire text. Text that came from elsewhere becomes UTF-8; never raises."""
    for charset, errors in (("latin-1", "strict"), ("utf-8", "surrogateescape")):
        try:
            return text.encode(charset, errors)
        except UnicodeEncodeError:
            continue
    return text.encode("utf-8", "replace")


def header_map(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str | tuple[str, ...]]:
    """Header fields in wire order -> the record's object. Only the order *between* names, and their case, are lost."""
    first: dict[str, str] = {}
    several: dict[str, list[str]] = {}
    for raw_name, value in raw:
        name, text = raw_name.lower().decode("latin-1"), value.decode("latin-1")
        if name in first:
            several.setdefault(name, [first[name]]).append(text)
        else:
            first[name] = text
    return {**first, **{name: _combined(name, values) for name, values in several.items()}}


def _combined(name: str, values: list[str]) -> str | tuple[str, ...]:
    if name == "cookie":
        return "; ".join(values)
    return ", ".join(values) if name in _LIST_FIELDS else tuple(values)


def header_fields(headers: HeaderMap) -> list[tuple[bytes, bytes]]:
    """The way back from `header_map`: a field line for every value."""
    return [
        (wire_bytes(name), wire_bytes(value))
        for name, held in headers.items()
        for value in ((held,) if isinstance(held, str) else held)
    ]


def first_value(headers: HeaderMap, name: str) -> str:
    """The field's value, the first of several, or nothing."""
    value = headers.get(name, "")
    return value if isinstance(value, str) else next(iter(value), "")


def declared_charset(content_type: str) -> str:
    """The lower-case charset of a content type; `utf-8` also where none is given or it is ASCII."""
    found = _CHARSET.search(content_type)
    charset = found[1].lower() if found else "utf-8"
    return "utf-8" if charset in _UTF8_NAMES else charset


def encode_body(body: bytes, content_type: str = "") -> tuple[str, str]:
    """(text, encoding): `utf-8` if it round-trips byte for byte and reads as what it is, otherwise `base64`.

    A body declared in another charset may be valid UTF-8 by accident and would then mislead, and NUL characters are
    refused inside text by too many consumers (PostgreSQL among them): both are written as base64.
    """
    if b"\0" not in body and declared_charset(content_type) == "utf-8":
        try:
            return body.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode("ascii"), "base64"


def decode_body(text: str, encoding: str) -> bytes:
    """The bytes behind `encode_body`; ValueError for an unknown encoding or a text that is not of it."""
    if encoding == "utf-8":
        return text.encode("utf-8")
    if encoding == "base64":
        return base64.b64decode(text, validate=True)
    raise ValueError("body_encoding is neither utf-8 nor base64")
