"""Surrogate keys: names by which many stored responses are purged at once.

What the operator gets: tags from the origin's `Surrogate-Key`, `Cache-Tag`, `xkey` and `Cache-Groups`, and from the
routes of the profile (`user-{id}`), taken off the answer before the client sees it; and purges by tag. Place it after
`cache`, whose store it purges.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from typing import Annotated

from mitmproxy.http import HTTPFlow, Response
from msgspec import Meta, Struct, field
from prometheus_client import Counter

from holdfast.caching.flow import asked_by
from holdfast.errors import StoreUnavailable
from holdfast.exchange import Exchange, exchange_of, route_of
from holdfast.gateway import HAS_ANSWER, Gateway, WouldDo
from holdfast.policy.caching.invalidation import Resource, origin
from holdfast.policy.caching.tags import (
    FOR_CACHES,
    TagLimits,
    Tags,
    check_pattern,
    merged,
    names_tags,
    response_tags,
    route_tags,
    tags_invalidated,
)

logger = logging.getLogger(__name__)


class SurrogateSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which responses have which surrogate keys."""

    tags: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description='By route, with its parameters in braces: `user: ["users", "user-{id}"]`.'),
    ] = field(default_factory=dict)
    strip: Annotated[bool, Meta(description="Take the header fields with tags off the answer.")] = True
    max_tags: Annotated[int, Meta(description="Of one response; one with more is not stored.", ge=1)] = 1000
    max_length: Annotated[int, Meta(description="Of one tag, in characters.", ge=1)] = 1024

    def __post_init__(self) -> None:
        for patterns in self.tags.values():
            for pattern in patterns:
                check_pattern(pattern)


class Surrogate:
    """Finds the tags of a response while its header passes, before the cache stores it."""

    Settings = SurrogateSettings

    def __init__(self, settings: SurrogateSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._faults = Counter(
            "holdfast_surrogate_refused", "Tags that were refused, by reason.", ["reason"], registry=gateway.registry
        )
        self.reload(settings)

    def reload(self, settings: SurrogateSettings) -> None:
        """A changed profile."""
        self._settings = settings
        self._limits = TagLimits(count=settings.max_tags, length=settings.max_length)

    def responseheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        exchange = exchange_of(flow)
        if flow.response is None or "cached" in exchange:
            return None
        if route_of(flow) in self._settings.tags or names_tags(flow.response.headers.fields):
            return self._tag(flow, flow.response, exchange)
        exchange["tags"] = []
        return None

    async def _tag(self, flow: HTTPFlow, response: Response, exchange: Exchange) -> None:
        fields, asked = response.headers.fields, asked_by(flow)
        where = origin(Resource(asked.scheme, asked.host, asked.target))
        patterns = self._settings.tags.get(route_of(flow), ())
        found = merged(
            [
                response_tags(fields, where, self._limits),
                route_tags(patterns, exchange.get("route_params", {}), self._limits),
            ],
            self._limits,
        )
        self._report(found, exchange.get("request_id", ""))
        exchange["tags"] = list(found.tags)
        if found.faults:
            exchange["untaggable"] = found.faults[0].reason
        if self._settings.strip:
            response.headers.fields = tuple((n, v) for n, v in fields if n.lower() not in FOR_CACHES)
        if 200 <= response.status_code < 400 and not exchange.get("answered"):
            await self._purge(tags_invalidated(asked.method, fields, where).tags)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """The tags of its route; those that the origin names are not known yet."""
        if flow.response:
            return HAS_ANSWER
        if flow.request.method not in ("GET", "HEAD"):
            return WouldDo(True, "purges what the origin's answer says is changed")
        patterns = self._settings.tags.get(route_of(flow), ())
        found = route_tags(patterns, exchange_of(flow).get("route_params", {}), self._limits).tags
        named = " ".join(found) or "no tags of its route"
        return WouldDo(True, f"gives what is stored of it {named}, and those that the origin names", {"tags": [*found]})

    async def _purge(self, tags: Sequence[str]) -> None:
        """Before the client has the answer (RFC 9875, section 3), which it gets even if this cannot be done."""
        if not (tags and self._gateway.cache):
            return
        try:
            await self._gateway.cache.purge(tags=tags)
        except StoreUnavailable as error:
            logger.warning("not purged", extra={"tags": len(tags), "error": str(error)})

    def _report(self, found: Tags, request_id: str) -> None:
        for fault in found.faults:
            self._faults.labels(fault.reason).inc()
            told = {"source": fault.source, "reason": fault.reason, "tag": fault.shown, "request_id": request_id}
            logger.warning("surrogate key refused: the response is not stored", extra=told)
