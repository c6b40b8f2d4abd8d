"""The cache: answers from stored responses by RFC 9111, and from stale ones where that is allowed and helps.

Place it after `router` and before `interceptor`, so that a failed upstream is answered from what is stored before a
failure is captured. `Cache-Status` (RFC 9211) says of every answer what part the cache had in it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence

from mitmproxy.connection import Client
from mitmproxy.http import Headers, HTTPFlow

from holdfast.answering import as_response
from holdfast.caching.explaining import explained, passed_by
from holdfast.caching.filling import SERVED, Fill, Filling
from holdfast.caching.flow import Asked, asked_by, storable
from holdfast.caching.purging import Purging
from holdfast.caching.repeating import Repeating
from holdfast.caching.report import CacheReport, StoreFigures, health_of, strip
from holdfast.caching.rewarming import Rewarming, Wanted
from holdfast.caching.settings import CacheSettings
from holdfast.caching.taking import Taking
from holdfast.exchange import exchange_of, is_replay, route_of
from holdfast.gateway import HAS_ANSWER, Gateway, Health, WouldDo
from holdfast.policy.answer import only_if_cached_answer
from holdfast.policy.caching.directives import has_any
from holdfast.policy.caching.invalidation import is_safe
from holdfast.policy.caching.key import cache_key, uncacheable_reason
from holdfast.policy.caching.model import CacheRules
from holdfast.policy.caching.reuse import (
    Fresh,
    GatewayTimeout,
    Miss,
    Pass,
    Reuse,
    StaleIfError,
    StaleWhileRevalidate,
    Validate,
    decide,
)
from holdfast.policy.caching.storing import NotStored, may_store, refused_at_sight
from holdfast.policy.caching.validation import (
    conditional_request,
    for_the_origin,
    unconditional_request,
)
from holdfast.stores import Lookup, Purged, Store
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions

_RANGE = frozenset({b"range"})
logger = logging.getLogger(__name__)


class Cache:
    """Looks up before the upstream is asked, and keeps what it answers."""

    Settings = CacheSettings

    def __init__(self, settings: CacheSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._store: Store = open_store(
            settings.store, StoreOptions(max_memory=int(settings.memory)), gateway.wall_clock, gateway.worker
        )
        self._now = gateway.wall_clock
        self._fills: dict[str, Fill] = {}
        self._filling = Filling(self._store, gateway, float(settings.coalesce))
        self._report = CacheReport(gateway.registry)
        self._purging = Purging(self._store, gateway.registry)
        gateway.registry.register(StoreFigures(self._store))
        self._rewarming = Rewarming(self._warm, gateway.registry)
        self._store.on_purge(self._rewarming.purged)
        self._repeating = Repeating(self._store, self._filling, self._report, self._rewarming, gateway)
        parts = self._store, self._filling, self._purging, self._rewarming, self._report
        self._taking = Taking(parts, self._now, self._rules_for, self._failing)
        gateway.checks["redis"] = self._check
        self.reload(settings)

    def reload(self, settings: CacheSettings) -> None:
        """A changed profile; what is stored stays."""
        self._settings, self._rules, self._key_rules = settings, settings.rules(), settings.key_rules()
        self._rules_of_routes = settings.rules_of_routes()
        self._filling.wait = float(settings.coalesce)
        self._purging.key_rules = self._key_rules
        self._purging.allow(settings.purge_from)
        self._rewarming.settings = settings.rewarm
        self._repeating.reload(settings)

    # -- for people -------------------------------------------------------------------------------------------------

    async def purge(
        self, *, tags: Sequence[str] = (), urls: Sequence[str] = (), everything: bool = False, soft: bool = False
    ) -> Purged:
        """Make unusable, or with `soft` stale. ValueError for what is no tag or URL, StoreUnavailable if it fails."""
        return await self._purging.purge(tags=tags, urls=urls, everything=everything, soft=soft)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """What would become of such a request from here on, and what decides."""
        if flow.response:
            return HAS_ANSWER
        asked = asked_by(flow)
        if self._purging.is_ours(asked.method):
            return WouldDo(True, "a purge, answered where `purge_from` allows the client", answers=True)
        if passes := "skip" if asked.route in self._settings.skip else self._passes(asked):
            return passed_by(passes)
        lookup = await self._store.get(key := self._key(asked), asked.fields)
        return explained(key, lookup, self._decide(asked, key, lookup), self._if_failed(asked, lookup))

    # -- life -------------------------------------------------------------------------------------------------------

    async def running(self) -> None:
        await self._store.start()

    async def done(self) -> None:
        self._rewarming.stop()
        await self._store.stop()

    # -- before the upstream is asked -------------------------------------------------------------------------------

    def request(self, flow: HTTPFlow) -> Awaitable[None] | None:
        if flow.response:
            return None
        if self._purging.is_ours(flow.request.method):
            return self._purging.answer(flow, asked_by(flow))
        if route_of(flow) in self._settings.skip or is_replay(exchange_of(flow)):
            return None
        asked = asked_by(flow)
        if reason := self._passes(asked):
            self._report.passed(flow, Pass(reason, "method" if reason == "method" else "bypass"))
            return None
        key = self._key(asked)
        lookup = self._store.lookup(key, asked.fields)
        return self._look_up(flow, asked, key) if lookup is None else self._decided(flow, asked, key, lookup)

    async def _look_up(self, flow: HTTPFlow, asked: Asked, key: str) -> None:
        """In a store that takes its time."""
        rest = self._decided(flow, asked, key, await self._store.get(key, asked.fields))
        if rest:
            await rest

    def _decided(self, flow: HTTPFlow, asked: Asked, key: str, lookup: Lookup) -> Awaitable[None] | None:
        decision = self._decide(asked, key, lookup)
        if "refresh" in exchange_of(flow) and not isinstance(decision, Validate | Miss):
            decision = Validate("refresh", "stale", 0.0, 0.0) if lookup.response else Miss("refresh", "miss")
        return self._act(flow, asked, key, lookup, decision)

    def _passes(self, asked: Asked) -> str | None:
        described = asked.method, asked.scheme, asked.host, asked.target, asked.fields
        return uncacheable_reason(*described, self._key_rules, has_body=asked.has_body)

    def _decide(self, asked: Asked, key: str, lookup: Lookup) -> Reuse:
        found, now, soft, rules = lookup.response, self._now(), lookup.soft, self._rules_for(asked)
        if self._filling.is_failing(key):
            decision = decide(asked.method, asked.fields, found, now, rules, soft=soft, failing=True)
            if isinstance(decision, SERVED):
                return decision
        return decide(asked.method, asked.fields, found, now, rules, soft=soft)

    def _act(self, flow: HTTPFlow, asked: Asked, key: str, lookup: Lookup, decision: Reuse) -> Awaitable[None] | None:
        if isinstance(decision, SERVED):
            assert lookup.response
            if isinstance(decision, StaleWhileRevalidate) or self._filling.is_due(decision, lookup.response):
                self._filling.refresh(flow, asked, key, lookup.response)
            status = self._report.serve(flow, asked, lookup.response, decision, key, self._now(), lookup.degraded)
            self._rewarming.note(flow, asked, key, lookup.response)
            self._repeating.offer(flow, key, lookup, decision, status, self._rules_for(asked))
        elif isinstance(decision, GatewayTimeout):
            flow.response = as_response(only_if_cached_answer(), flow)
            exchange_of(flow)["answered"] = True
            self._report.counter("only_if_cached").inc()
        elif isinstance(decision, Pass):
            self._report.passed(flow, decision)
        else:
            return self._fill(flow, Fill(key, asked, lookup, decision, flow.client_conn.id, self._now()))
        return None

    def _fill(self, flow: HTTPFlow, fill: Fill) -> Awaitable[None] | None:
        """Ask the upstream, unless somebody else is about to have the answer."""
        asked, missed = fill.asked, isinstance(fill.decision, Miss)
        # What has just shown that it cannot be stored is not fetched whole for a client that may have it.
        conditions_pass = for_the_origin(asked.fields) or (missed and self._filling.is_pointless(fill.key))
        ranged = missed and has_any(asked.fields, _RANGE)
        alone = "refresh" in exchange_of(flow) or asked.method != "GET" or conditions_pass or ranged
        if not alone and self._filling.wait > 0:
            return self._fill_for_many(flow, fill)
        self._go_upstream(flow, fill, as_asked=conditions_pass or ranged)
        return None

    async def _fill_for_many(self, flow: HTTPFlow, fill: Fill) -> None:
        try:
            answered = await self._filling.answered_by_another(fill, self._decide)
        except BaseException:
            self._filling.release(fill)
            raise
        if answered:
            self._report.serve(flow, fill.asked, *answered, fill.key, self._now(), collapsed=True)
            self._rewarming.note(flow, fill.asked, fill.key, answered[0])
        else:
            self._go_upstream(flow, fill, as_asked=False)

    def _go_upstream(self, flow: HTTPFlow, fill: Fill, *, as_asked: bool) -> None:
        """With the client's own conditions and range, or with what serves the store."""
        if not as_asked:
            fields, stored = flow.request.headers.fields, fill.lookup.response
            asking = None
            if stored and not isinstance(fill.decision, Miss):
                asking = conditional_request(fields, stored)
            if asking is None and fill.asked.method == "GET":
                asking = unconditional_request(fields)
            if asking is not None:
                flow.request.headers = Headers(asking)
        self._fills[flow.id] = fill
        fill.since = self._now()

    # -- what the upstream says -------------------------------------------------------------------------------------

    def responseheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Decide early whether anybody need wait for this one; and the last word on what is passed on as it comes."""
        if flow.response is None:
            return None
        fill, streamed = self._fills.get(flow.id), bool(flow.response.stream)
        if streamed and fill is None:
            strip(flow)
        if fill is None:
            return None if is_safe(flow.request.data.method.decode("latin-1")) else self._purging.answered(flow)
        if exchange_of(flow).get("answered"):
            self._filling.release(fill)
        else:
            self._foresee(flow, fill)
            if streamed:
                self._filling.release(fill)
                del self._fills[flow.id]
                self._report.forwarded(flow, fill, stored=False)
        if streamed:
            strip(flow)
        return None

    def _foresee(self, flow: HTTPFlow, fill: Fill) -> None:
        """Whether the answer can be stored, by its header."""
        assert flow.response
        fill.arrived = self._now()
        status, fields, rules = flow.response.status_code, flow.response.headers.fields, self._rules_for(fill.asked)
        refused = refused_at_sight(fill.asked.method, fill.asked.fields, status, fields, rules)
        if refused is None:
            refused = self._refused_at_length(flow, fill)
        if refused and status != 304:
            fill.refused = status, fields, refused
            self._filling.pointless(fill, status, refused)

    def _refused_at_length(self, flow: HTTPFlow, fill: Fill) -> str | None:
        assert flow.response
        candidate = storable(flow, fill.asked, (fill.since, fill.arrived), fill.lookup.as_of)
        announced = flow.response.headers.get("content-length", "")
        length = int(announced) if announced.isdigit() else None
        verdict = may_store(fill.asked.method, fill.asked.fields, candidate, self._rules_for(fill.asked), length=length)
        if isinstance(verdict, NotStored):
            return verdict.because
        fill.foreseen = candidate.status, flow.response.headers.fields, candidate, verdict
        return None

    def response_grown(self, flow: HTTPFlow) -> None:
        """It is not held to its end after all: nobody need wait for that, and its header goes out now."""
        fill = self._fills.pop(flow.id, None)
        if fill and flow.response:
            self._filling.pointless(fill, flow.response.status_code, "max-body")
            self._report.forwarded(flow, fill, stored=False, detail="max-body")
        strip(flow)

    def response(self, flow: HTTPFlow) -> Awaitable[None] | None:
        fill = self._fills.pop(flow.id, None)
        if fill and flow.response and not self._is_not_for_us(flow, fill):
            return self._take_in(flow, fill)
        if fill:
            self._filling.release(fill)
        strip(flow)
        return None

    async def _take_in(self, flow: HTTPFlow, fill: Fill) -> None:
        try:
            await self._taking.take(flow, fill)
        finally:
            self._filling.release(fill)
            strip(flow)

    def _is_not_for_us(self, flow: HTTPFlow, fill: Fill) -> bool:
        """Whether that was plain from the beginning, and has been said now."""
        response, exchange = flow.response, exchange_of(flow)
        assert response
        if exchange.get("answered") or not exchange.get("attempts"):
            self._report.forwarded(flow, fill, stored=False)  # the gateway's own answer, or another addon's
            return True
        plain = fill.asked.method == "GET" and fill.lookup.response is None and response.status_code != 304
        refused = self._filling.refused_before(flow, fill) if plain else None
        if refused:
            self._report.forwarded(flow, fill, stored=False, detail=refused)
        return refused is not None

    async def upstream_failed(self, flow: HTTPFlow) -> None:
        """In place of an error, what is stored, where it may be used although it is stale (RFC 5861, section 4)."""
        fill = self._fills.get(flow.id)
        stored = fill.lookup.response if fill else None
        decision = self._failing(fill) if fill and stored else None
        if fill and stored and decision and "refresh" not in exchange_of(flow):
            del self._fills[flow.id]
            self._filling.release(fill)
            status = flow.response.status_code if flow.response else None
            self._report.serve(flow, fill.asked, stored, decision, fill.key, self._now(), fwd_status=status)

    def _failing(self, fill: Fill) -> StaleIfError | None:
        """Whether what is stored may be used in place of an error."""
        if decision := self._if_failed(fill.asked, fill.lookup):
            self._filling.failed(fill.key)
        return decision

    def _if_failed(self, asked: Asked, lookup: Lookup) -> StaleIfError | None:
        how = lookup.response, self._now(), self._rules_for(asked)
        found = decide(asked.method, asked.fields, *how, soft=lookup.soft, failing=True)
        return found if isinstance(found, StaleIfError) else None

    def error(self, flow: HTTPFlow) -> None:
        fill = self._fills.pop(flow.id, None)
        if fill:
            self._filling.release(fill)

    def client_disconnected(self, client: Client) -> None:
        """Whatever was under way for this client brings nothing any more."""
        for flow_id in [each for each, fill in self._fills.items() if fill.client == client.id]:
            self._filling.release(self._fills.pop(flow_id))

    async def _warm(self, wanted: Wanted) -> bool | None:
        """Fetch what a purge touched, unless somebody has."""
        lookup = await self._store.get(wanted.key, wanted.asked.fields)
        if isinstance(self._decide(wanted.asked, wanted.key, lookup), Fresh):
            return None
        flow = await self._filling.refreshed(
            wanted.request.copy(), wanted.mode, wanted.asked, wanted.key, lookup.response
        )
        if flow is None:
            return None
        return flow.response is not None and flow.response.status_code < 500

    # -- parts ------------------------------------------------------------------------------------------------------

    def _key(self, asked: Asked) -> str:
        return cache_key(asked.method, asked.scheme, asked.host, asked.target, self._key_rules)

    def _rules_for(self, asked: Asked) -> CacheRules:
        return self._rules_of_routes.get(asked.route, self._rules)

    async def _check(self) -> Health:
        return health_of(self._store, self._settings.store)
