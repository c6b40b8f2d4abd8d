"""What the rules speak about: a stored response, and the settings that bound what may be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Fields = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StoredResponse:
    """A complete response as it may be kept. Its header has no hop-by-hop fields."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = field(repr=False)
    request_time: float  # epoch seconds at which the request for it was sent (RFC 9111, section 4.2.3)
    response_time: float  # epoch seconds at which its header had arrived
    selecting: tuple[tuple[str, str | None], ...] = ()  # the request's fields that Vary named, normalised
    tags: tuple[str, ...] = ()
    as_of: int = 0  # the store's purge clock when the fill began
    method: str = "GET"
    reason: str = ""
    http_version: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class CacheRules:
    """The operator's part; seconds, bytes."""

    default_lifetime: float | None = None  # for what has neither freshness nor validator; None: it is not stored
    heuristic_share: float = 0.1  # of the time since Last-Modified (RFC 9111, section 4.2.2)
    heuristic_max: float = 86400.0
    grace: float = 0.0  # adds stale-while-revalidate and stale-if-error where the origin says nothing
    grace_on_error: float | None = None  # the stale-if-error part of grace, if it is to be another
    max_lifetime: float = 30 * 86400.0  # nothing is kept longer, whatever the origin says
    max_body: int = 10 * 1024 * 1024
    validate_for: float = 86400.0  # how long beyond its freshness a response is kept that can be validated
    targeted: tuple[str, ...] = ("Surrogate-Control", "CDN-Cache-Control")  # what overrides Cache-Control, first wins
    surrogate: str = "holdfast"  # the device that Surrogate-Control may address, as in `max-age=60;holdfast`
    obey_requests: bool = True  # Cache-Control and Pragma of a request decide what may answer it
    share_cookies: bool = True  # keep Set-Cookie if freshness is explicit; False: only if meant for shared caches
