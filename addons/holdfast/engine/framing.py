"""Where a message ends and whether its connection stays, for the usual kind of message by one look at its fields.

mitmproxy answers both by a dozen look-ups, several times a request. Whatever is not usual is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Sized
from functools import lru_cache

from mitmproxy.http import MessageData, Request, Response
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.options import Options
from mitmproxy.utils.human import parse_size

_DECISIVE = frozenset({b"content-length", b"transfer-encoding"})
_MOST_DIGITS = 15
_BODILESS = frozenset({204, 304})
_LENGTH = len("transfer-encoding")
_REMEMBERED = 1024
_valid: set[bytes] = set()
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}").fullmatch  # RFC 9110, section 5.6.2
_bytes = lru_cache(maxsize=16)(parse_size)


def size_of(request: Request, response: Response | None = None) -> int | None:
    """As mitmproxy's `expected_http_body_size`: bytes, None for chunks, -1 until the end. ValueError as there."""
    if response is None:
        for name, _ in request.data.headers.fields:
            if name.lower() in _DECISIVE:
                break
        else:
            return 0
    return expected_http_body_size(request, response)


def is_small(options: Options, held: Sized, response: Response | None) -> bool:
    """Whether what has come of a response, or is announced, is below all limits; False: look closer."""
    if options.body_size_limit is not None or options.stream_large_bodies is None:
        return False
    largest, size = _bytes(options.stream_large_bodies), len(held)
    if not size and response:
        headers = response.headers
        announced = headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() and "transfer-encoding" not in headers else 0
    return largest is not None and 0 < size <= largest


def stays_open(request: Request, response: Response) -> bool:
    """Whether both sides leave the connection open after this exchange, and it is no tunnel. False: look closer."""
    return plain_size(request, response) is not None


def plain_size(request: Request, response: Response) -> int | None:
    """Bytes of the response's body, where its header says it plainly and both sides leave the connection open after it.

    None: look closer.
    """
    asked, answered = request.data, response.data
    status, method = answered.status_code, asked.method
    if not (asked.http_version == answered.http_version == b"HTTP/1.1"):
        return None
    if status < 200 or method.upper() == b"CONNECT":
        return None
    for name, value in asked.headers.fields:
        if name.lower() == b"connection" and value.lower() != b"keep-alive":
            return None
    size = None
    for name, value in answered.headers.fields:
        lower = name.lower()
        if lower == b"content-length" and size is None and value.isdigit() and len(value) <= _MOST_DIGITS:
            if not _is_plain(value):
                return None
            size = int(value)
        elif lower in _DECISIVE or (lower == b"connection" and value.lower() != b"keep-alive"):
            return None
    bodiless = status in _BODILESS or method.upper() == b"HEAD"
    return 0 if bodiless and size is not None else size


def has_known_names(response: Response) -> bool:
    """Whether each of its fields has a name that has been found valid before; its framing is plain."""
    known = _valid.issuperset([name for name, _ in response.data.headers.fields])
    if not known and len(_valid) < _REMEMBERED:
        _valid.update([name for name, _ in response.data.headers.fields if _is_name(name)])
    return known


def is_plain_http1(message: MessageData) -> bool:
    """Whether it can be written out as it is, header and body: neither of another HTTP, nor in chunks."""
    if message.http_version != b"HTTP/1.1":
        return False
    for name, _ in message.headers.fields:  # asked of every message: a loop is quicker than a generator
        if len(name) == _LENGTH and name.lower() == b"transfer-encoding":
            return False
    return True


def _is_plain(number: bytes) -> bool:
    return number == b"0" or not number.startswith(b"0")
