"""Where a message ends and whether its connection stays, for the usual kind of message by one look at its fields.

mitmproxy answers both by a dozen look-ups, several times a request. Whatever is not usual is left to it.
"""

from __future__ import annotations

from collections.abc import Sized
from functools import lru_cache

from mitmproxy.http import MessageData, Request, Response
from mitmproxy.net.http.http1 import expected_http_body_size
from mitmproxy.options import Options
from mitmproxy.utils.human import parse_size

_DECISIVE = frozenset({b"content-length", b"transfer-encoding"})
_MOST_DIGITS = 15
_LENGTH = len("transfer-encoding")
_bytes = lru_cache(maxsize=16)(parse_size)


def size_of(request: Request, response: Response | None = None) -> int | None:
    """As mitmproxy's `expected_http_body_size`: bytes, None for chunks, -1 until the end. ValueError as there."""
    if response is None and not any(name.lower() in _DECISIVE for name, _ in request.data.headers.fields):
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
    asked, answered = request.data, response.data
    if not (asked.http_version == answered.http_version == b"HTTP/1.1"):
        return False
    if answered.status_code < 200 or asked.method.upper() == b"CONNECT":
        return False
    for name, value in asked.headers.fields:
        if name.lower() == b"connection" and value.lower() != b"keep-alive":
            return False
    framed = 0
    for name, value in answered.headers.fields:
        lower = name.lower()
        if lower == b"content-length" and value.isdigit() and len(value) <= _MOST_DIGITS and _is_plain(value):
            framed += 1
        elif lower in _DECISIVE or (lower == b"connection" and value.lower() != b"keep-alive"):
            return False
    return framed == 1


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
