"""One request to one server, from this process, over HTTP/1.1: what is sent is what was made, byte for byte."""

from __future__ import annotations

import ssl
import time
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse, parse_headers
from socket import create_connection, socket
from typing import cast

from holdfast.errors import HoldfastError
from holdfast.policy.endpoint import Endpoint, parse_endpoint
from holdfast.policy.redaction import DEFAULT_HEADERS, MASK
from holdfast.policy.replaying.requests import ReplayRequest
from holdfast.policy.wire import HeaderMap, header_map, wire_bytes, wire_text

PATIENCE = 30.0  # seconds of silence
KEPT_BODY = 1 << 20
_WITH_A_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, secrets in its header masked; `body` bounded."""

    status: int
    headers: HeaderMap = field(repr=False)
    body: bytes = field(repr=False)
    truncated: bool
    duration_ms: float


def server(text: str) -> Endpoint:
    """ValueError for what is no server for this."""
    found = parse_endpoint(text)
    if found.http2_only:
        raise ValueError(f"{text!r}: over HTTP/1.1 only, so write http:// or https://")
    return found


def fields_to_show(request: ReplayRequest) -> HeaderMap:
    """Its header, secrets masked."""
    return _masked(header_map(request.headers))


def send(request: ReplayRequest, to: Endpoint) -> Answered:
    """Blocks. HoldfastError where no answer comes; the server may have had the request then."""
    began = time.monotonic()
    try:
        with closing(_connected(to)) as connection:
            connection.sendall(_as_bytes(request, to))
            answer = _Answer(connection, method=request.method)
            answer.begin()
            body = answer.read(KEPT_BODY + 1)
    except (OSError, HTTPException) as error:
        raise HoldfastError(f"no answer from {to.name}: {str(error) or type(error).__name__}") from error
    fields = [(wire_bytes(name), wire_bytes(value)) for name, value in answer.getheaders()]
    took = round((time.monotonic() - began) * 1000, 3)
    return Answered(answer.status, _masked(header_map(fields)), body[:KEPT_BODY], len(body) > KEPT_BODY, took)


class _Answer(HTTPResponse):
    """Passes over interim answers, of which the standard library knows only one (RFC 9110, section 15.2)."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found = cast(tuple[str, int, str], super()._read_status())  # type: ignore[misc]
            if not 101 < found[1] < 200:
                return found
            parse_headers(self.fp)


def _connected(to: Endpoint) -> socket:
    connection = create_connection(to.address, PATIENCE)
    return ssl.create_default_context().wrap_socket(connection, server_hostname=to.host) if to.tls else connection


def _as_bytes(request: ReplayRequest, to: Endpoint) -> bytes:
    host = to.name.partition("://")[2]
    host = host.removesuffix(":443" if to.tls else ":80")
    fields = [(b"Host", host.encode()), *request.headers]
    if request.body or request.method in _WITH_A_BODY:
        fields.append((b"Content-Length", str(len(request.body)).encode()))
    fields.append((b"Connection", b"close"))
    line = b" ".join((request.method.encode(), wire_bytes(request.target), b"HTTP/1.1"))
    return b"\r\n".join([line, *(name + b": " + value for name, value in fields), b"", request.body])


def _masked(headers: HeaderMap) -> HeaderMap:
    return {wire_text(wire_bytes(n)): MASK if n in DEFAULT_HEADERS else value for n, value in headers.items()}
