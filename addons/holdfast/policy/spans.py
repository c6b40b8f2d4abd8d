"""Trace spans as plain values, in the words of OpenTelemetry's semantic conventions for HTTP (stable since 1.23)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from holdfast.policy.endpoint import parse_endpoint
from holdfast.policy.failure import WITHHELD

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
LONGEST = 512  # characters of a value: what a client can make long must not fill the queue
type Attributes = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Span:
    """What has happened between two points in time (seconds since the epoch). Ids are in hexadecimal.

    `error` is the description of a failure, empty where the attributes say it all, None where there was none.
    """

    name: str
    kind: Literal["server", "client"]
    trace_id: str
    span_id: str
    parent_id: str | None
    start: float
    end: float
    attributes: Attributes
    error: str | None = None
    remote_parent: bool = False  # the parent is somebody else's span
    state: str = ""  # the client's `tracestate`


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, as the exchange has it."""

    number: int  # from 1
    server: str
    error: str | None
    status: int | None


def plain(text: str) -> str:
    """A value that can be encoded as UTF-8 whatever bytes the client sent, of bounded length."""
    text = text[:LONGEST]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def method_attributes(method: str) -> Attributes:
    """A method that is no common one is named beside `_OTHER`: it is the client's to choose."""
    if method in KNOWN_METHODS:
        return {"http.request.method": method}
    return {"http.request.method": "_OTHER", "http.request.method_original": plain(method)}


def span_name(method: str, route: str | None) -> str:
    """`{method} {route}`, of which there are few."""
    verb = method if method in KNOWN_METHODS else "HTTP"
    return f"{verb} {route}" if route else verb


def protocol_version(http_version: str) -> str:
    """`HTTP/1.1` and `HTTP/2.0` as the conventions write them: `1.1` and `2`."""
    number = http_version.removeprefix("HTTP/")
    return number if number.startswith("1") else number.removesuffix(".0")


def request_error(fate: str, reason: str, status: int | None) -> str | None:
    """`error.type` of the request's span, None where it is no error.

    An answer of 5xx is one whoever gave it; one of 4xx is the client's. A captured request has failed, whatever status
    the client was promised; one that was stored before any server was asked has not.
    """
    if fate == "failed" or (fate == "captured" and reason not in WITHHELD):
        return plain(reason) or "_OTHER"
    if status is not None and status >= 500:
        return plain(reason) if fate == "rejected" else str(status)
    return None


def attempt_attributes(tried: Tried, method: str, path: str) -> Attributes:
    """Of the CLIENT span of one attempt. `path` is without its query."""
    endpoint = _endpoint(tried.server.partition("#")[0])
    found: Attributes = {
        **method_attributes(method),
        "url.full": plain(f"{endpoint.uri_scheme}{endpoint.name.removeprefix(endpoint.scheme)}{path}"),
        "server.address": endpoint.host,
        "server.port": endpoint.port,
        "holdfast.attempt": tried.number,
    }
    if "#" in tried.server:
        found["network.peer.address"] = tried.server.partition("#")[2]
    if tried.number > 1:
        found["http.request.resend_count"] = tried.number - 1
    if tried.status is not None:
        found["http.response.status_code"] = tried.status
    # To a client an answer of 4xx is an error too.
    error = tried.error or (str(tried.status) if tried.status is not None and tried.status >= 400 else None)
    return found | ({"error.type": error} if error else {})


# The servers of a profile are few, and each is asked often.
_endpoint = lru_cache(maxsize=256)(parse_endpoint)


def without_empty(attributes: Mapping[str, str | int | None]) -> Attributes:
    """Only what is known."""
    return {name: value for name, value in attributes.items() if value not in (None, "")}
