"""What the lane remembers, and when it may be used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from weakref import WeakValueDictionary

from mitmproxy import ctx
from mitmproxy.http import HTTPFlow
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.accesslog import hit_line
from holdfast.engine.dispatch import HookTable, table_of
from holdfast.engine.shortcut import Shortcut
from holdfast.exchange import exchange_of
from holdfast.gateway import CountsHits, Gateway, Hit
from holdfast.lane.heads import LONGEST, WITHOUT_MEANING, essence, is_repeatable
from holdfast.lane.memo import Memo, Memos, memo_of
from holdfast.lane.onlookers import onlookers
from holdfast.policy.caching.key import canonical
from holdfast.request_ids import new_request_id

logger = logging.getLogger(__name__)


class FastLane:
    """Comes behind the access log: a response is as it goes out, and its fate is known.

    `counting` are those to be told of each hit; the list is the chain's, which changes it with the profile.
    """

    name = "holdfast-lane"

    def __init__(self, gateway: Gateway, counting: list[CountsHits]) -> None:
        self._gateway = gateway
        self._counting = counting
        self._shortcuts: WeakValueDictionary[str, Shortcut] = WeakValueDictionary()
        self._offered: dict[str, Hit] = {}
        self._exact = Memos(), Memos()  # without TLS, with it
        self._alike = Memos(), Memos()
        self._table: HookTable | None = None
        self._version = -1
        self._open = False
        self._wall, self._clock = gateway.wall_clock, gateway.leg.clock
        self._since = 0.0  # what began before may be answered by what does not hold any more
        self._answered = 0
        self._uncounted: list[Memo] = []
        gateway.registry.register(LaneFigures(self))

    # -- life -------------------------------------------------------------------------------------------------------

    def running(self) -> None:
        self._table = table_of(ctx.master)

    def join(self, client_id: str, shortcut: Shortcut) -> None:
        """A new client's."""
        self._shortcuts[client_id] = shortcut

    def forget(self) -> None:
        """The profile, the addons or the options have changed."""
        for memos in (*self._exact, *self._alike):
            memos.clear()
        self._offered.clear()
        self._since = self._clock()

    def is_open(self) -> bool:
        """Whether hits may be answered here: nobody else needs to see them."""
        table = self._table
        if table is None or not self._gateway.leg.shortcuts or self._gateway.phase != "serving":
            return False
        if table.version != self._version:
            self._version = table.version
            self.forget()
            logged = self._gateway.profile.log.access
            seeing = list(onlookers(ctx.master.addons.chain, ctx.options, logged=logged))
            if self._open is bool(seeing):
                logger.info("fast lane", extra={"open": not seeing, "onlookers": ",".join(seeing)})
            self._open = not seeing
        return self._open

    def figures(self) -> tuple[int, bool]:
        """How many hits were answered here, and whether that is possible now."""
        return self._answered, self.is_open()

    # -- learning ---------------------------------------------------------------------------------------------------

    def offer(self, flow: HTTPFlow, hit: Hit) -> None:
        """By the cache, while it answers."""
        if self.is_open() and exchange_of(flow).get("started", 0.0) >= self._since:
            self._offered[flow.id] = hit

    def response(self, flow: HTTPFlow) -> None:
        hit = self._offered.pop(flow.id, None)
        shortcut = self._shortcuts.get(flow.client_conn.id) if hit else None
        if hit and shortcut and self.is_open():
            self._learn(flow, hit, shortcut)

    def error(self, flow: HTTPFlow) -> None:
        self._offered.pop(flow.id, None)

    def _learn(self, flow: HTTPFlow, hit: Hit, shortcut: Shortcut) -> None:
        head, response, exchange = shortcut.head, flow.response, exchange_of(flow)
        http11 = flow.request.http_version == "HTTP/1.1"
        if not response or not http11 or not is_repeatable(head) or len(head) > self._longest:
            return
        found = essence(head)
        selected_by = {canonical(name.encode()) for name, _ in hit.selecting}
        counts = [each.hit_counter(flow, exchange) for each in self._counting]
        tell = hit_line(flow, exchange) if self._gateway.profile.log.access else None
        memo = memo_of(hit, response, counts, tell)
        if memo is None or found is None:
            return
        if selected_by.isdisjoint(WITHOUT_MEANING):
            self._alike[shortcut.tls].put(found[0], memo)
        elif not found[1]:
            self._exact[shortcut.tls].put(head, memo)

    @property
    def _longest(self) -> int:
        """Of a header in bytes; a longer one is not looked at, or is refused."""
        return min(LONGEST, self._gateway.leg.client.max_header)

    # -- answering --------------------------------------------------------------------------------------------------

    def answer(self, head: bytes, *, tls: bool) -> list[bytes] | None:
        """What goes out for this header, counted and logged; None: it goes the ordinary way."""
        begun, exact, given = self._clock(), self._exact[tls], b""
        if not self.is_open():
            return None
        memo = exact.get(head)
        if memo is None:
            if len(head) > self._longest or not (found := essence(head)):
                return None
            memo, given = self._alike[tls].get(found[0]), found[1]
            if memo is None:
                return None
            if not given:
                exact.put(head, memo)
        now = self._wall()
        if not memo.hit.holds(now):
            exact.drop(head)
            return None
        request_id = given.decode() if given else new_request_id()
        header = memo.header(request_id.encode(), now)
        self._answered += 1
        seconds = self._clock() - begun
        if not memo.took:
            if not self._uncounted:
                asyncio.get_running_loop().call_soon(self._count)
            self._uncounted.append(memo)
        memo.took.append(seconds)
        if memo.tell:
            memo.tell(request_id, seconds)
        return [header, memo.hit.body] if memo.is_long else [header]

    def _count(self) -> None:
        """The hits of one turn of the event loop, all at once."""
        uncounted, self._uncounted = self._uncounted, []
        for memo in uncounted:
            memo.count()


class LaneFigures(Collector):
    """`holdfast_fast_lane_hits_total`, and `holdfast_fast_lane_open`: 1 while no addon needs to see hits."""

    def __init__(self, lane: FastLane) -> None:
        self._lane = lane

    def describe(self) -> list[Metric]:
        """Empty: the names collide with nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        answered, is_open = self._lane.figures()
        yield CounterMetricFamily("holdfast_fast_lane_hits", "Hits that have passed mitmproxy by.", answered)
        open_now = "1 while hits may pass mitmproxy by: no addon needs to see them."
        yield GaugeMetricFamily("holdfast_fast_lane_open", open_now, float(is_open))
