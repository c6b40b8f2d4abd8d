"""Getting responses for the cache: one request upstream for many, in the background, and not at all for a while.

What is shared by all requests for a key is here: who fetches it, who waits for that, and since when the upstream has
been failing for it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy.http import Headers, HTTPFlow, Request
from mitmproxy.utils import asyncio_utils

from holdfast.caching.coalescing import Coalescing
from holdfast.caching.flow import Asked, unkept
from holdfast.engine.background import Mode, send_in_background
from holdfast.exchange import exchange_of
from holdfast.gateway import Gateway
from holdfast.policy.caching.model import CacheRules, Fields, StoredResponse
from holdfast.policy.caching.reuse import (
    ERRORS,
    Fresh,
    Miss,
    Reuse,
    StaleAllowed,
    StaleIfError,
    StaleWhileRevalidate,
    Validate,
    decide,
)
from holdfast.policy.caching.storing import Stored
from holdfast.policy.caching.validation import unconditional_request
from holdfast.stores import Lookup, Store

BACK_OFF = (1.0, 30.0)  # seconds for which a failing upstream is not asked again for what may be served stale
POINTLESS = 120.0  # seconds for which requests for what could not be stored do not wait for each other
LOOK_AGAIN = 0.05  # seconds; another process does not tell when it is done
_BACKED_OFF = 10_000
ELSEWHERE = 0.5  # seconds for which a refresh by another process is taken to go on
SERVED = (Fresh, StaleAllowed, StaleWhileRevalidate, StaleIfError)
type Served = Fresh | StaleAllowed | StaleWhileRevalidate | StaleIfError
type Deciding = Callable[[Asked, str, Lookup], Reuse]


@dataclass(slots=True)
class Fill:
    """A request on its way to the upstream, whose answer concerns the store."""

    key: str
    asked: Asked
    lookup: Lookup
    decision: Validate | Miss
    client: str
    since: float  # epoch seconds
    leads: bool = False
    token: str | None = None  # of the store's lock
    collapsed: bool | None = None
    arrived: float = 0.0
    refused: tuple[int, Fields, str] | None = None  # why a response with this status and this header is not stored
    foreseen: tuple[int, Fields, StoredResponse, Stored] | None = None  # what would be stored of one with these


class Filling:
    """What is under way for which key. `wait` is how long a request waits for another, in seconds; 0: it does not."""

    def __init__(self, store: Store, gateway: Gateway, wait: float) -> None:
        self.wait = wait
        self._store = store
        self._leg = gateway.leg
        self._coalescing = Coalescing(gateway.leg.clock)
        self._backed_off: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (until, for how long)
        self._refreshing: dict[str, float] = {}  # key -> until when

    # -- one for many -----------------------------------------------------------------------------------------------

    async def answered_by_another(self, fill: Fill, decide: Deciding) -> tuple[StoredResponse, Served] | None:
        """What another request has brought meanwhile. None: this one goes to the upstream."""
        event = self._coalescing.begin(fill.key, fill, self.wait)
        if event is None:
            fill.leads = True
            fill.token = await self._store.lock(fill.key, seconds=self.wait)
            if fill.token:
                return None
            event = asyncio.Event()  # another process
        deadline = self._leg.clock() + self.wait
        while (left := deadline - self._leg.clock()) > 0:
            await self._coalescing.wait(event, min(left, LOOK_AGAIN) if fill.leads else left)
            if fill.leads:  # before the look: whoever has given it back has stored by then what it stores
                fill.token = await self._store.lock(fill.key, seconds=self.wait)
            lookup = await self._store.get(fill.key, fill.asked.fields, fresh_enough=fill.since)
            decision = decide(fill.asked, fill.key, lookup)
            if isinstance(decision, SERVED) and lookup.response:
                self.release(fill)
                return lookup.response, decision
            if not fill.leads or fill.token:
                break
        fill.collapsed = False
        return None

    def pointless(self, fill: Fill, status: int, because: str) -> None:
        """It cannot be stored: nobody need wait for this one, or for the next if that will be no different.

        An error passes, and what was asked for with a password, a cookie or a range says nothing of the others.
        """
        if fill.leads and status < 500 and because not in ("authorization", "cookie"):
            self._coalescing.note_pointless(fill.key, POINTLESS)
        self.release(fill)

    def refused_before(self, flow: HTTPFlow, fill: Fill) -> str | None:
        """Why the response is not stored, where its header has said so before and has not changed since."""
        response, refused = flow.response, fill.refused
        if response is None or refused is None or unkept(exchange_of(flow)):
            return None
        if refused[:2] != (response.status_code, response.headers.fields):
            return None
        for name, _ in fill.asked.fields:
            if name[:3].lower() == b"if-":
                return None  # a condition may decide how the client is answered
        if response.status_code not in ERRORS:
            self.recovered(fill.key)
        self.pointless(fill, response.status_code, refused[2])
        return refused[2]

    def is_pointless(self, key: str) -> bool:
        """Whether what came for this key a short while ago could not be stored."""
        return self._coalescing.is_pointless(key)

    def release(self, fill: Fill) -> None:
        """It has ended, however it has: let those go on who wait for it."""
        if fill.leads:
            fill.leads = False
            self._coalescing.end(fill.key, fill)
        if fill.token:
            token, fill.token = fill.token, None
            asyncio_utils.create_task(self._store.unlock(fill.key, token), name="cache unlock", keep_ref=True)

    # -- in the background ------------------------------------------------------------------------------------------

    def is_due(self, decision: Served, stored: StoredResponse) -> bool:
        """Early, at random, the more likely the closer to the end and the longer a fill takes.

        So that of many requests for a hot key one goes before it is stale (Vattani, Chierichetti, Lowenstein 2015).
        """
        took = max(0.0, stored.response_time - stored.request_time)
        return isinstance(decision, Fresh) and -took * math.log(1.0 - random.random()) > decision.ttl

    def refresh(self, flow: HTTPFlow, asked: Asked, key: str, stored: StoredResponse) -> None:
        """Fetch it anew through the chain, exactly once at a time across processes."""
        request, mode = _whole(flow.request), flow.client_conn.proxy_mode
        refreshing = self.refreshed(request, mode, asked, key, stored)
        asyncio_utils.create_task(refreshing, name="cache refresh", keep_ref=True)

    async def refreshed(
        self, request: Request, mode: Mode, asked: Asked, key: str, stored: StoredResponse | None
    ) -> HTTPFlow | None:
        """The flow of the refresh, once it has ended; None if somebody else is at it, or has just replaced `stored`."""
        seconds = self._leg.plan(asked.route).bounds.deadline + 5.0
        token = await self._store.lock(f"refresh {key}", seconds=seconds)
        if token is None:
            self._note_refresh(key, self._leg.clock() + ELSEWHERE)
            return None
        self._note_refresh(key, math.inf)
        try:
            newer = math.nextafter(stored.response_time, math.inf) if stored else 0.0
            found = (await self._store.get(key, asked.fields, fresh_enough=newer)).response if stored else None
            if found and found.response_time >= newer:
                return None
            return await self._sent(request, mode, asked, key)
        finally:
            self._refreshing.pop(key, None)
            await self._store.unlock(f"refresh {key}", token)

    def is_refreshing(self, key: str) -> bool:
        """Whether it is being fetched anew, here or, as far as is known, by another process."""
        return self._leg.clock() < self._refreshing.get(key, 0.0)

    def _note_refresh(self, key: str, until: float) -> None:
        if len(self._refreshing) >= _BACKED_OFF:
            now = self._leg.clock()
            self._refreshing = {key: until for key, until in self._refreshing.items() if until > now}
        self._refreshing[key] = until

    async def fetched_anew(self, flow: HTTPFlow, asked: Asked, key: str) -> HTTPFlow:
        """The whole response, whoever else is fetching it."""
        return await self._sent(_whole(flow.request), flow.client_conn.proxy_mode, asked, key)

    async def _sent(self, request: Request, mode: Mode, asked: Asked, key: str) -> HTTPFlow:
        known = {"refresh": key, "original_host": asked.host}
        return await send_in_background(request, self._leg, mode, known, tls=asked.scheme == "https")

    def is_of_use(self, fill: Fill, stored: StoredResponse, rules: CacheRules, now: float) -> bool:
        """Whether it still answers others, who have not asked for more than usual: no error takes its place."""
        return isinstance(decide("GET", (), stored, now, rules, soft=fill.lookup.soft, failing=True), SERVED)

    # -- not at all -------------------------------------------------------------------------------------------------

    def is_failing(self, key: str) -> bool:
        """Whether the upstream is left alone for this key just now."""
        return self._leg.clock() < self._backed_off.get(key, (0.0, 0.0))[0]

    def failed(self, key: str) -> None:
        """A stale response has taken the place of an error: the upstream is left alone for a growing while."""
        _, pause = self._backed_off.get(key, (0.0, BACK_OFF[0] / 2))
        pause = min(BACK_OFF[1], pause * 2)
        self._backed_off[key] = (self._leg.clock() + pause, pause)
        self._backed_off.move_to_end(key)
        while len(self._backed_off) > _BACKED_OFF:
            self._backed_off.popitem(last=False)

    def recovered(self, key: str) -> None:
        """It has answered."""
        self._backed_off.pop(key, None)


def _whole(asked: Request) -> Request:
    """A request for the whole response, as that one will be once it has passed the chain."""
    request = asked.copy()
    request.headers = Headers(unconditional_request(asked.headers.fields))
    request.method = "GET"
    return request
