"""A request that nobody has sent, as the addons of the chain would see it."""

from __future__ import annotations

import re
import time

from mitmproxy.connection import Client, Server
from mitmproxy.http import Headers, HTTPFlow, Request

from holdfast.exchange import exchange_of
from holdfast.gateway import RouteNaming
from holdfast.policy.caching.model import Fields
from holdfast.policy.endpoint import Endpoint

_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_HERE = ("127.0.0.1", 0)
_USUAL = {"http": ":80", "https": ":443"}


def imagined_flow(
    method: str, url: str, fields: Fields, router: RouteNaming | None, aimed: Endpoint, *, forwarded: bool
) -> HTTPFlow:
    """With its route, and with what the intake would give it if `forwarded`. ValueError for what is no request.

    `aimed` is the server that reverse mode would name.
    """
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is no URL: write it like http://host/path")
    if not _METHOD.fullmatch(method):
        raise ValueError(f"{method!r} is no HTTP method")
    if "@" in host:
        raise ValueError(f"{url!r}: a request has no user in its URL; write it as -H 'Authorization: ...'")
    target = rest[len(host) :].partition("#")[0]
    target = target if target.startswith("/") else f"/{target}"
    named = [value.decode("latin-1") for name, value in fields if name.lower() == b"host"]
    host = named[0] if named else host.removesuffix(_USUAL[scheme])  # no client says the usual port
    flow = HTTPFlow(Client(peername=_HERE, sockname=_HERE, timestamp_start=time.time()), Server(address=aimed.address))
    flow.client_conn.tls, flow.server_conn.tls = scheme == "https", aimed.uri_scheme == "https"
    flow.request = _request(method, aimed, target, Headers(_completed(fields, scheme, host, forwarded=forwarded)))
    exchange = exchange_of(flow)
    exchange["attempts"], exchange["original_host"] = [], host
    if router:
        route, params = router.route_for(method, host, target)
        exchange["route"], exchange["route_params"] = route, dict(params)
    return flow


def _completed(fields: Fields, scheme: str, host: str, *, forwarded: bool) -> list[tuple[bytes, bytes]]:
    """Those that were named, Host before them, and what the intake adds; what is named is not said twice."""
    for name, _ in fields:
        if not _FIELD.fullmatch(name.decode("latin-1")):
            raise ValueError(f"{name.decode('latin-1')!r} is no name of a header field")
    told = {name.lower() for name, _ in fields}
    ours = [(b"X-Forwarded-Proto", scheme), (b"X-Forwarded-Host", host)] if forwarded else []
    added = [(name, value.encode("latin-1", "replace")) for name, value in ours if name.lower() not in told]
    others = [each for each in fields if each[0].lower() != b"host"]
    return [(b"Host", host.encode("latin-1", "replace")), *others, *added]


def _request(method: str, aimed: Endpoint, target: str, headers: Headers) -> Request:
    now = time.time()
    return Request(
        host=aimed.host,
        port=aimed.port,
        method=method.encode(),
        scheme=aimed.uri_scheme.encode(),
        authority=b"",
        path=target.encode("utf-8", "surrogateescape"),
        http_version=b"HTTP/1.1",
        headers=headers,
        content=b"",
        trailers=None,
        timestamp_start=now,
        timestamp_end=now,
    )
