"""What else a hit would answer: the same question, asked again, for as long as the cache would say the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import floor
from weakref import ref

from mitmproxy.http import HTTPFlow

from holdfast.caching.filling import Filling, Served
from holdfast.caching.report import CacheReport
from holdfast.caching.rewarming import Rewarming
from holdfast.caching.settings import CacheSettings
from holdfast.exchange import route_of
from holdfast.gateway import Gateway
from holdfast.policy.caching.freshness import current_age
from holdfast.policy.caching.model import CacheRules, StoredResponse
from holdfast.policy.caching.reuse import Fresh, StaleWhileRevalidate, good_for
from holdfast.policy.caching.status import CacheStatus, member
from holdfast.policy.caching.vary import Selecting
from holdfast.stores import Lookup, Store

ALMOST_CERTAIN = 40.0  # e to the minus 40th: so unlikely it is that a refresh is due earlier than this many fills take


@dataclass(frozen=True, slots=True, eq=False)
class RepeatableHit:
    """A hit as `gateway.Hit` describes it. `since` and `until` are epoch seconds between which the decision stands."""

    key: str
    selecting: Selecting
    stale: bool
    since: float
    until: float
    age_then: float  # at `since`
    ttl_then: float
    status: CacheStatus
    stored: ref[StoredResponse]  # weak: what the store lets go of is to be gone
    store: Store
    filling: Filling
    again: Callable[[int], None]

    def holds(self, now: float) -> bool:
        """Whether the cache would answer with this response."""
        if not self.since <= now < self.until:
            return False
        found = self.store.repeat(self.key, self.selecting)
        if found is None or found.response is None or found.response is not self.stored():
            return False
        if found.soft or found.degraded:
            return False
        return not self.stale or self.filling.is_refreshing(self.key)

    def age(self, now: float) -> int:
        """For the Age field."""
        return int(self.age_then + (now - self.since))

    def ttl(self, now: float) -> int:
        """Seconds for which it is fresh yet, rounded down; negative: for which it has been stale."""
        return floor(self.ttl_then - (now - self.since))

    @property
    def body(self) -> bytes:
        """Of what is stored; empty once the store has let go of it."""
        stored = self.stored()
        return stored.body if stored else b""

    def cache_status(self, ttl: int) -> str:
        """The gateway's member of Cache-Status."""
        return member(replace(self.status, ttl=ttl))


class Repeating:
    """Offers hits to the fast lane, with the rules that they were decided by."""

    def __init__(
        self, store: Store, filling: Filling, report: CacheReport, rewarming: Rewarming, gateway: Gateway
    ) -> None:
        self._store, self._filling, self._report, self._rewarming = store, filling, report, rewarming
        self._gateway = gateway
        self._everywhere, self._own = True, dict[str, bool]()

    def reload(self, settings: CacheSettings) -> None:
        """A changed profile."""
        self._everywhere = settings.fast_lane
        self._own = {name: own.fast_lane for name, own in settings.routes.items() if own.fast_lane is not None}

    def offer(
        self,
        flow: HTTPFlow,
        key: str,
        lookup: Lookup,
        decision: Served,
        status: CacheStatus,
        rules: CacheRules,
    ) -> None:
        """This flow is being answered by this decision."""
        lane, stored, now = self._gateway.lane, lookup.response, self._gateway.wall_clock()
        if lane is None or stored is None or lookup.degraded or lookup.soft:
            return
        if not (self._own.get(route_of(flow), self._everywhere) and isinstance(decision, Fresh | StaleWhileRevalidate)):
            return
        stale = isinstance(decision, StaleWhileRevalidate)
        early = 0.0 if stale else ALMOST_CERTAIN * max(0.0, stored.response_time - stored.request_time)
        count, noted = self._report.counter("stale" if stale else "hit").inc, self._rewarming.again
        selecting = stored.selecting

        def again(times: int) -> None:
            count(times)
            noted(key, selecting, times)

        lane.offer(
            flow,
            RepeatableHit(
                key=key,
                selecting=selecting,
                stale=stale,
                since=now,
                until=now + good_for(stored, decision, now, rules) - early,
                age_then=current_age(stored, now),
                ttl_then=decision.ttl,
                status=status,
                stored=ref(stored),
                store=self._store,
                filling=self._filling,
                again=again,
            ),
        )
