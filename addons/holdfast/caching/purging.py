"""Purges, whoever asks for them: people, the method PURGE, the answers to unsafe requests, origins."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mitmproxy.http import HTTPFlow
from prometheus_client import CollectorRegistry, Counter

from holdfast.answering import as_response
from holdfast.caching.flow import Asked, asked_by
from holdfast.errors import StoreUnavailable
from holdfast.exchange import exchange_of
from holdfast.policy.answer import Answer, problem
from holdfast.policy.caching.invalidation import Resource, invalidated
from holdfast.policy.caching.key import KeyRules, cache_key, key_of_url
from holdfast.policy.caching.tags import tags_named
from holdfast.stores import EVERYTHING, Purged, Store, url_tag, why_not_purged

logger = logging.getLogger(__name__)
SOFT = (b"holdfast-soft-purge", b"fastly-soft-purge")  # the second is what plugins of content systems send


class Purging:
    """Of one store."""

    def __init__(self, store: Store, registry: CollectorRegistry) -> None:
        self.key_rules = KeyRules()
        self._store = store
        self._networks: list[IPv4Network | IPv6Network] = []
        self._purged = Counter("holdfast_purged", "Tags, URLs and whole caches purged.", ["kind"], registry=registry)

    def allow(self, networks: Sequence[str]) -> None:
        """Whose PURGE requests are obeyed; nobody's: PURGE is a method like any other."""
        self._networks = [ip_network(each) for each in networks]

    async def purge(
        self, *, tags: Sequence[str] = (), urls: Sequence[str] = (), everything: bool = False, soft: bool = False
    ) -> Purged:
        """Make unusable, or with `soft` stale. ValueError for what is no tag or URL, StoreUnavailable if it fails.

        A URL is purged as http and as https: where a proxy in front ends TLS, people and gateway call it differently.
        """
        if EVERYTHING in tags:
            raise ValueError('"*" is no tag: everything is {"all": true}, or --all')
        keys = dict.fromkeys(key for url in urls for key in self._both(url))
        named = [*tags, *map(url_tag, keys), *([EVERYTHING] if everything else [])]
        await self._store.purge(named, soft=soft)
        for kind, count in (("tag", len(tags)), ("url", len(urls)), ("all", int(everything))):
            if count:
                self._purged.labels(kind).inc(count)
        return Purged(len(tags) + len(urls) + int(everything), soft)

    async def invalidate(self, resources: Sequence[Resource]) -> None:
        """Because an unsafe request for them was answered (RFC 9111, section 4.4)."""
        await self.drop([cache_key("GET", each.scheme, each.host, each.target, self.key_rules) for each in resources])

    async def drop(self, keys: Sequence[str], *, soft: bool = False) -> None:
        """No purge that somebody asked for: if it fails, the client gets its answer all the same."""
        if not keys:
            return
        try:
            await self._store.purge([url_tag(key) for key in keys], soft=soft)
        except StoreUnavailable as error:
            logger.warning("stored responses not invalidated", extra={"keys": len(keys), "error": str(error)})

    async def answered(self, flow: HTTPFlow) -> None:
        """What an answer that the cache has no part in invalidates (RFC 9111, section 4.4)."""
        if "cached" in exchange_of(flow) or flow.response is None or exchange_of(flow).get("answered"):
            return
        asked = asked_by(flow)
        resource = Resource(asked.scheme, asked.host, asked.target)
        named = invalidated(asked.method, flow.response.status_code, resource, flow.response.headers.fields)
        await self.invalidate(named)

    # -- the method PURGE -------------------------------------------------------------------------------------------

    def is_ours(self, method: str) -> bool:
        """Whether it is the method PURGE, and the profile says who may use it."""
        return method == "PURGE" and bool(self._networks)

    async def answer(self, flow: HTTPFlow, asked: Asked) -> None:
        """Purge the tags that the request's header names, or else its URL."""
        answer = await self._obey(asked) if self._may(flow) else _refused(flow)
        flow.response = as_response(answer, flow)
        exchange_of(flow)["answered"] = True

    def _may(self, flow: HTTPFlow) -> bool:
        peer = ip_address(flow.client_conn.peername[0].partition("%")[0])
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._networks)

    async def _obey(self, asked: Asked) -> Answer:
        soft = any(name.lower() in SOFT and value.strip() == b"1" for name, value in asked.fields)
        tags = tags_named(asked.fields)
        urls = [] if tags else [f"{asked.scheme}://{asked.host}{asked.target}"]
        try:
            purged = await self.purge(tags=tags, urls=urls, soft=soft)
        except ValueError as error:
            return problem(400, "bad-purge", "Bad purge", str(error))
        except StoreUnavailable as error:
            return problem(503, "not-purged", "Not purged", why_not_purged(error))
        body = json.dumps({"purged": purged.keys, "soft": purged.soft}).encode() + b"\n"
        return Answer(200, (("Content-Type", "application/json"), ("Cache-Control", "no-store")), body)

    def _both(self, url: str) -> list[str]:
        key_of_url(url, self.key_rules)  # for its ValueError
        rest = url.partition("://")[2]
        return [key_of_url(f"{scheme}://{rest}", self.key_rules) for scheme in ("http", "https")]


def _refused(flow: HTTPFlow) -> Answer:
    exchange_of(flow)["rejected"] = "purge_not_allowed"
    fields = {"Proxy-Status": "holdfast; error=http_request_denied"}
    return problem(403, "purge-not-allowed", "Not allowed", "PURGE is not obeyed from this address", headers=fields)
