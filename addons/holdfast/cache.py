"""The cache: answers from stored responses by RFC 9111, and from stale ones where that is allowed and helps.

Place it after `router` and before `interceptor`, so that a failed upstream is answered from what is stored before a
failure is captured. `Cache-Status` (RFC 9211) says of every answer what part the cache had in it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from mitmproxy.connection import Client
from mitmproxy.http import Headers, HTTPFlow

from holdfast.answering import as_response
from holdfast.caching.explaining import explained, passed_by
from holdfast.caching.filling import SERVED, Fill, Filling
from holdfast.caching.flow import Asked, answer_from, asked_by, storable, ttl_of, unkept, unsaid, without
from holdfast.caching.purging import Purging
from holdfast.caching.repeating import Repeating
from holdfast.caching.report import CacheReport, StoreFigures, health_of, put_answer, strip
from holdfast.caching.rewarming import Rewarming, Wanted
from holdfast.caching.settings import CacheSettings
from holdfast.exchange import exchange_of, is_replay, route_of
from holdfast.gateway import HAS_ANSWER, Gateway, Health, WouldDo
from holdfast.policy.answer import only_if_cached_answer, upstream_failed_answer
from holdfast.policy.caching.freshness import with_date
from holdfast.policy.caching.key import cache_key, uncacheable_reason
from holdfast.policy.caching.model import CacheRules, StoredResponse
from holdfast.policy.caching.reuse import (
    ERRORS,
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
from holdfast.policy.caching.storing import NotStored, Stored, may_store
from holdfast.policy.caching.validation import (
    conditional_request,
    for_the_origin,
    for_this_client_only,
    freshened,
    head_effect,
    identified,
    not_modified,
    unconditional_request,
)
from holdfast.policy.failure import NO_SERVER
from holdfast.stores import Lookup, Purged, Store
from holdfast.stores.opening import open_store
from holdfast.stores.options import StoreOptions

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

    async def request(self, flow: HTTPFlow) -> None:
        if flow.response:
            return
        if self._purging.is_ours(flow.request.method):
            await self._purging.answer(flow, asked_by(flow))
            return
        if route_of(flow) in self._settings.skip or is_replay(exchange_of(flow)):
            return
        asked = asked_by(flow)
        if reason := self._passes(asked):
            self._report.passed(flow, Pass(reason, "method" if reason == "method" else "bypass"))
            return
        key = self._key(asked)
        lookup = await self._store.get(key, asked.fields)
        refresh = "refresh" in exchange_of(flow)
        decision = self._decide(asked, key, lookup)
        if refresh and not isinstance(decision, Validate | Miss):
            decision = Validate("refresh", "stale", 0.0, 0.0) if lookup.response else Miss("refresh", "miss")
        await self._act(flow, asked, key, lookup, decision)

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

    async def _act(self, flow: HTTPFlow, asked: Asked, key: str, lookup: Lookup, decision: Reuse) -> None:
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
            self._report.results.labels("only_if_cached").inc()
        elif isinstance(decision, Pass):
            self._report.passed(flow, decision)
        else:
            await self._fill(flow, Fill(key, asked, lookup, decision, flow.client_conn.id, self._now()))

    async def _fill(self, flow: HTTPFlow, fill: Fill) -> None:
        """Ask the upstream, unless somebody else is about to have the answer."""
        asked, missed = fill.asked, isinstance(fill.decision, Miss)
        # What has just shown that it cannot be stored is not fetched whole for a client that may have it.
        conditions_pass = for_the_origin(asked.fields) or (missed and self._filling.is_pointless(fill.key))
        ranged = missed and any(name.lower() == b"range" for name, _ in asked.fields)
        alone = "refresh" in exchange_of(flow) or asked.method != "GET" or conditions_pass or ranged
        if not alone and self._filling.wait > 0:
            try:
                answered = await self._filling.answered_by_another(fill, self._decide)
            except BaseException:
                self._filling.release(fill)
                raise
            if answered:
                self._report.serve(flow, asked, *answered, fill.key, self._now(), collapsed=True)
                self._rewarming.note(flow, asked, fill.key, answered[0])
                return
        if not (conditions_pass or ranged):
            fields, stored = flow.request.headers.fields, fill.lookup.response
            asking = None if missed or stored is None else conditional_request(fields, stored)
            if asking is None and asked.method == "GET":
                asking = unconditional_request(fields)
            if asking is not None:
                flow.request.headers = Headers(asking)
        self._fills[flow.id] = fill
        fill.since = self._now()

    # -- what the upstream says -------------------------------------------------------------------------------------

    async def responseheaders(self, flow: HTTPFlow) -> None:
        """Decide early whether anybody need wait for this one; and the last word on what is passed on as it comes."""
        if flow.response is None:
            return
        fill, streamed = self._fills.get(flow.id), bool(flow.response.stream)
        if fill is None:
            await self._purging.answered(flow)
        elif exchange_of(flow).get("answered"):
            self._filling.release(fill)
        else:
            self._foresee(flow, fill)
            if streamed:
                self._filling.release(fill)
                del self._fills[flow.id]
                self._report.forwarded(flow, fill, stored=False)
        if streamed:
            strip(flow)

    def _foresee(self, flow: HTTPFlow, fill: Fill) -> None:
        """Whether the answer can be stored, by its header."""
        assert flow.response
        fill.arrived = self._now()
        candidate = storable(flow, fill.asked, (fill.since, fill.arrived), fill.lookup.as_of)
        announced = flow.response.headers.get("content-length", "")
        length = int(announced) if announced.isdigit() else None
        verdict = may_store(fill.asked.method, fill.asked.fields, candidate, self._rules_for(fill.asked), length=length)
        if isinstance(verdict, NotStored) and candidate.status != 304:
            fill.refused = candidate.status, flow.response.headers.fields, verdict.because
            self._filling.pointless(fill, candidate.status, verdict.because)

    def response_grown(self, flow: HTTPFlow) -> None:
        """It is not held to its end after all: nobody need wait for that, and its header goes out now."""
        fill = self._fills.pop(flow.id, None)
        if fill and flow.response:
            self._filling.pointless(fill, flow.response.status_code, "max-body")
            self._report.forwarded(flow, fill, stored=False, detail="max-body")
        strip(flow)

    async def response(self, flow: HTTPFlow) -> None:
        fill = self._fills.pop(flow.id, None)
        try:
            if fill and flow.response:
                await self._take(flow, fill)
        finally:
            if fill:
                self._filling.release(fill)
            strip(flow)

    async def _take(self, flow: HTTPFlow, fill: Fill) -> None:
        response, exchange = flow.response, exchange_of(flow)
        assert response
        if exchange.get("answered") or not exchange.get("attempts"):
            self._report.forwarded(flow, fill, stored=False)  # the gateway's own answer, or another addon's
            return
        stored, status = fill.lookup.response, response.status_code
        # A 304 to conditions of the client's own says nothing of what is stored.
        about_ours = isinstance(fill.decision, Validate) and not for_the_origin(fill.asked.fields)
        if status == 304 and stored and about_ours:
            if identified([stored], response.headers.fields):
                await self._freshened(flow, fill, stored)
            else:
                await self._fetched_anew(flow, fill)
            return
        if status in ERRORS and stored:
            decision = self._failing(fill)
            if decision and "refresh" not in exchange:
                self._report.serve(flow, fill.asked, stored, decision, fill.key, self._now(), fwd_status=status)
                return
            if decision or self._filling.is_of_use(fill, stored, self._rules_for(fill.asked), self._now()):
                self._report.forwarded(flow, fill, stored=False, detail="error")
                return
        if fill.asked.method == "HEAD":
            await self._learn_from_head(flow, fill)
            self._report.forwarded(flow, fill, stored=False)
            return
        await self._keep(flow, fill)

    async def _fetched_anew(self, flow: HTTPFlow, fill: Fill) -> None:
        """RFC 9111, section 4.3.4: a 304 about another response than the one asked about is of no use to anybody.

        What is stored goes, since the origin cannot be asked about it; the whole is fetched, and is this one's answer.
        """
        await self._purging.drop([fill.key])
        if "refresh" in exchange_of(flow):
            return  # nobody waits for the answer
        again = await self._filling.fetched_anew(flow, fill.asked, fill.key)
        exchange, other = exchange_of(flow), exchange_of(again)
        if "error" in other:
            exchange["error"], exchange["detail"] = other["error"], other.get("detail", "")
        if again.response is None:
            flow.response = as_response(upstream_failed_answer(NO_SERVER, ""), flow)
            exchange["answered"] = True
            return
        exchange["answered"] = other.get("answered", False)
        whole = storable(again, fill.asked, (fill.since, self._now()), fill.lookup.as_of)
        put_answer(flow, answer_from(whole, fill.asked, self._now()))
        self._report.results.labels("miss").inc()

    async def _freshened(self, flow: HTTPFlow, fill: Fill, stored: StoredResponse) -> None:
        """RFC 9111, section 4.3.4."""
        assert flow.response
        fields = flow.response.headers.fields
        new, refused = await self._renew(flow, fill, self._updated(flow, fill, stored))
        self._filling.recovered(fill.key)
        if not refused and "refresh" not in exchange_of(flow):
            self._rewarming.note(flow, fill.asked, fill.key, new)
        answer = answer_from(new, fill.asked, self._now())
        for name, value in for_this_client_only(fields):
            answer.headers.add(name.decode("latin-1"), value.decode("latin-1"))
        put_answer(flow, answer)
        self._report.forwarded(
            *(flow, fill),
            stored=not refused,
            fwd_status=304,
            ttl=ttl_of(new, self._rules_for(fill.asked), self._now()),
            detail=refused or None,
            result="revalidated",
        )

    async def _renew(self, flow: HTTPFlow, fill: Fill, new: StoredResponse) -> tuple[StoredResponse, str]:
        """Keep what is stored as `new`, and say why not, if so; it goes where it may not be kept any longer."""
        verdict = may_store("GET", fill.asked.fields, new, self._rules_for(fill.asked))
        if isinstance(verdict, Stored) and "untaggable" not in exchange_of(flow):
            new = without(new, verdict.withheld)
            return new, await self._store.touch(fill.key, new, keep=verdict.keep_for)
        because = verdict.because if isinstance(verdict, NotStored) else f"tags-{exchange_of(flow)['untaggable']}"
        if because != "authorization":  # that is said of this request, and not of what is stored
            await self._purging.drop([fill.key])  # it would be used by rules that no longer hold
        return new, because

    async def _keep(self, flow: HTTPFlow, fill: Fill) -> None:
        """Store it if that is allowed; the client gets it either way."""
        assert flow.response
        if refused := self._filling.refused_before(flow, fill):
            self._report.forwarded(flow, fill, stored=False, detail=refused)
            return
        candidate = storable(flow, fill.asked, (fill.since, fill.arrived or self._now()), fill.lookup.as_of)
        exchange = exchange_of(flow)
        verdict = may_store(fill.asked.method, fill.asked.fields, candidate, self._rules_for(fill.asked))
        if isinstance(verdict, Stored) and (withheld := unsaid(fill.asked, candidate, self._rules_for(fill.asked))):
            verdict = NotStored(withheld)
        if because := unkept(exchange):
            verdict = NotStored(because)
        refused = await self._put(fill, candidate, verdict)
        if not refused and "refresh" not in exchange:
            self._rewarming.note(flow, fill.asked, fill.key, candidate)
        if not_modified(fill.asked.fields, candidate):  # its condition had been taken off, or the origin has none
            put_answer(flow, answer_from(candidate, fill.asked, self._now()))
        self._report.forwarded(
            flow,
            fill,
            stored=not refused,
            ttl=None if refused else ttl_of(candidate, self._rules_for(fill.asked), self._now()),
            detail=refused or None,
        )

    async def _put(self, fill: Fill, candidate: StoredResponse, verdict: Stored | NotStored) -> str:
        """Why it is not stored; empty if it is."""
        if candidate.status not in ERRORS:
            self._filling.recovered(fill.key)
        if isinstance(verdict, NotStored):
            self._filling.pointless(fill, candidate.status, verdict.because)
            return verdict.because
        return await self._store.put(fill.key, without(candidate, verdict.withheld), keep=verdict.keep_for)

    async def _learn_from_head(self, flow: HTTPFlow, fill: Fill) -> None:
        """RFC 9111, section 4.3.5."""
        stored = fill.lookup.response
        assert flow.response
        if not stored:
            return
        effect = head_effect(stored, flow.response.status_code, flow.response.headers.fields)
        if effect == "stale":
            await self._purging.drop([fill.key], soft=True)
        elif effect == "update":
            await self._renew(flow, fill, self._updated(flow, fill, stored))

    def _updated(self, flow: HTTPFlow, fill: Fill, stored: StoredResponse) -> StoredResponse:
        """What is stored, as this flow's answer leaves it (RFC 9111, section 3.2)."""
        assert flow.response
        arrived = fill.arrived or self._now()
        new = freshened(
            stored,
            flow.response.headers.fields,
            request=fill.asked.fields,
            request_time=fill.since,
            response_time=arrived,
        )
        tags = dict.fromkeys([*stored.tags, *exchange_of(flow).get("tags", ())])
        return replace(new, headers=with_date(new.headers, arrived), as_of=fill.lookup.as_of, tags=tuple(tags))

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
