"""Messages from the bytes of their header, for headers that the rules of `policy` have found to be in order.

The same as mitmproxy makes of them by `read_request_head` and `read_response_head`, in a fraction of the steps: what
those check has been checked. Whatever is not usual goes to them. (mitmproxy 12.2)
"""

from __future__ import annotations

import time

from mitmproxy.http import Headers, Request, RequestData, Response, ResponseData
from mitmproxy.net.http.http1 import read_request_head, read_response_head

from holdfast.engine.request_head import lines_of
from holdfast.policy.response_faults import mended

_FOLDED = (b" ", b"\t")


def request_of(head: bytes) -> Request:
    """Of a header with which `http1_fault` has found nothing wrong. ValueError for what mitmproxy cannot read."""
    first, *lines = lines_of(head)
    method, target, version = first.split(b" ")
    if not target.startswith(b"/"):
        return read_request_head([first, *lines])
    request = object.__new__(Request)
    request.data = data = object.__new__(RequestData)
    data.host, data.port, data.scheme, data.authority = "", 0, b"", b""
    data.method, data.path, data.http_version = method, target, version
    data.headers = _headers([line.partition(b":") for line in lines])
    data.content = data.trailers = data.timestamp_end = None
    data.timestamp_start = time.time()
    return request


def response_of(lines: list[bytes]) -> Response:
    """Of a header with which `response_fault` has found nothing wrong. ValueError for what mitmproxy cannot read."""
    parts = [line.partition(b":") for line in lines[1:]]
    for name, _, _ in parts:
        if not name or name.startswith(_FOLDED) or name.endswith(_FOLDED):
            return read_response_head(mended(lines))
    version, _, rest = lines[0].partition(b" ")
    response = object.__new__(Response)
    response.data = data = object.__new__(ResponseData)
    data.http_version, data.status_code, data.reason = version, int(rest[:3]), rest[4:].lstrip()
    data.headers = _headers(parts)
    data.content = data.trailers = data.timestamp_end = None
    data.timestamp_start = time.time()
    return response


def _headers(parts: list[tuple[bytes, bytes, bytes]]) -> Headers:
    headers = object.__new__(Headers)
    headers.fields = tuple([(name, value.strip()) for name, _, value in parts])
    return headers
