"""What an answered unsafe request makes unusable (RFC 9111, section 4.4)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from holdfast.policy.caching.key import normal_host
from holdfast.policy.caching.model import Fields

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, section 9.2.1. A method whose safety is not known counts as unsafe."""

_NAMED = frozenset({b"location", b"content-location"})
_URL_MAX = 8192


@dataclass(frozen=True, slots=True)
class Resource:
    """What `key.cache_key` makes a key of, together with the method GET."""

    scheme: str
    host: str
    target: str


def is_safe(method: str) -> bool:
    """Case counts: `get` is a method nobody knows (RFC 9110, section 9.1)."""
    return method in SAFE


def invalidated(
    method: str, status: int, request: Resource, response: Fields, *, also_ours: Collection[str] = ()
) -> list[Resource]:
    """The request's own URL, and those of the same origin that Location and Content-Location name; each once.

    Nothing after a safe method or an error: 4xx and 5xx changed nothing, or so the origin says. `also_ours` are other
    names of the same origin: `https://example.com` where a proxy in front ends TLS and this is `http` for us.
    """
    if is_safe(method) or not 200 <= status < 400:
        return []
    named = [value for name, value in response if name.lower() in _NAMED]
    found = [request, *filter(None, (_same_origin(request, value, {origin(request), *also_ours}) for value in named))]
    return list(dict.fromkeys(found))


def origin(resource: Resource) -> str:
    """RFC 9110, section 4.3.1, with the host in its normal form."""
    return f"{resource.scheme.lower()}://{normal_host(resource.scheme.lower(), resource.host)}"


def _same_origin(request: Resource, reference: bytes, origins: Collection[str]) -> Resource | None:
    """None for another origin, which has no say here (RFC 9111, section 4.4), and for what is no URL."""
    text = reference.decode("latin-1").strip(" \t")
    if len(text) > _URL_MAX or not text.isascii() or not text.isprintable() or "\\" in text:
        return None  # a backslash is a slash to browsers only
    try:
        found = urlsplit(urljoin(f"{origin(request)}{request.target}", text))
    except ValueError:  # an IPv6 address that is none
        return None
    target = (found.path or "/") + (f"?{found.query}" if found.query else "")
    named = Resource(found.scheme, found.netloc, target)
    if "@" in found.netloc or origin(named) not in origins:
        return None
    return Resource(request.scheme, request.host, target)
