"""What becomes of what the upstream says: stored, compared with what is stored, or passed on as it is (RFC 9111)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mitmproxy.http import HTTPFlow, Response

from holdfast.answering import as_response
from holdfast.caching.filling import Fill, Filling
from holdfast.caching.flow import Asked, answer_from, storable, ttl_of, unkept, unsaid, without
from holdfast.caching.purging import Purging
from holdfast.caching.report import CacheReport, put_answer
from holdfast.caching.rewarming import Rewarming
from holdfast.exchange import exchange_of
from holdfast.policy.answer import upstream_failed_answer
from holdfast.policy.caching.freshness import with_date
from holdfast.policy.caching.model import CacheRules, StoredResponse
from holdfast.policy.caching.reuse import ERRORS, StaleIfError, Validate
from holdfast.policy.caching.storing import NotStored, Stored, may_store
from holdfast.policy.caching.validation import (
    for_the_origin,
    for_this_client_only,
    freshened,
    head_effect,
    identified,
    not_modified,
)
from holdfast.policy.failure import NO_SERVER
from holdfast.stores import Store


class Taking:
    """Takes the answers of one cache. `rules_for` a request, `failing`: what is stored may stand in for an error."""

    def __init__(
        self,
        parts: tuple[Store, Filling, Purging, Rewarming, CacheReport],
        now: Callable[[], float],
        rules_for: Callable[[Asked], CacheRules],
        failing: Callable[[Fill], StaleIfError | None],
    ) -> None:
        self._store, self._filling, self._purging, self._rewarming, self._report = parts
        self._now = now
        self._rules_for = rules_for
        self._failing = failing

    async def take(self, flow: HTTPFlow, fill: Fill) -> None:
        """The response of this flow, which is whole."""
        response, exchange = flow.response, exchange_of(flow)
        assert response
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
        self._report.counter("miss").inc()

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
        exchange = exchange_of(flow)
        candidate, verdict = self._judged(flow, flow.response, fill)
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

    def _judged(self, flow: HTTPFlow, response: Response, fill: Fill) -> tuple[StoredResponse, Stored | NotStored]:
        """What would be stored, and whether it may be; where the header is the one that was judged already, by that."""
        rules, body, foreseen = self._rules_for(fill.asked), response.raw_content or b"", fill.foreseen
        if foreseen and foreseen[:2] == (response.status_code, response.headers.fields) and len(body) <= rules.max_body:
            tags = tuple(exchange_of(flow).get("tags", ()))
            return replace(foreseen[2], body=body, tags=tags), foreseen[3]
        candidate = storable(flow, fill.asked, (fill.since, fill.arrived or self._now()), fill.lookup.as_of)
        return candidate, may_store(fill.asked.method, fill.asked.fields, candidate, rules)

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
