"""What the parts of one chain share: the profile, the registry of metrics, the sink, the checks, the state of life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter

from holdfast.engine.leg import Leg
from holdfast.errors import Fault
from holdfast.policy.failure import Failure
from holdfast.policy.minutes import Minutes

if TYPE_CHECKING:
    from mitmproxy.http import HTTPFlow

    from holdfast.audit import Audit
    from holdfast.exchange import Exchange
    from holdfast.outbox import Outbox
    from holdfast.policy.caching.model import Fields
    from holdfast.policy.caching.vary import Selecting
    from holdfast.policy.faults import Injection, Place
    from holdfast.profile.settings import Profile
    from holdfast.stores import Purged
    from holdfast.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class Health:
    """One component's state for the health page. `failing` makes the whole page say so; `detail` is for people."""

    status: Literal["ok", "failing", "unknown", "not_configured"]
    detail: str = ""
    figures: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WouldDo:
    """What an addon would do with a request. `says` is for people, `details` for programs.

    `acts` False: it leaves such a request alone. `answers`: nobody after it, and no server, is asked.
    """

    acts: bool
    says: str
    details: dict[str, object] = field(default_factory=dict)
    answers: bool = False


HAS_ANSWER = WouldDo(False, "it has its answer already")
"""Of an addon that leaves alone what one before it would answer."""


@runtime_checkable
class Explaining(Protocol):
    """An addon that can tell what it would do, for `holdfast explain`."""

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """Of a request that nobody has sent; it has a response where an addon before would answer. Changes nothing."""


class Hit(Protocol):
    """An answer of the cache's that others who ask the same may get too. Times are epoch seconds."""

    @property
    def since(self) -> float:
        """When the first got it."""

    @property
    def selecting(self) -> Selecting:
        """What of the request has selected it."""

    def holds(self, now: float) -> bool:
        """Whether the cache would answer with it at this moment."""

    def age(self, now: float) -> int:
        """Its age, for the Age field."""

    def ttl(self, now: float) -> int:
        """Seconds for which it is fresh yet."""

    @property
    def body(self) -> bytes:
        """Of the whole response, not kept for this: empty once the cache has let go of it."""

    def cache_status(self, ttl: int) -> str:
        """What Cache-Status says of it with so many seconds left."""

    def again(self, times: int) -> None:
        """So many others have got it."""


class HitLane(Protocol):
    """Who answers hits before mitmproxy has read the request."""

    def offer(self, flow: HTTPFlow, hit: Hit) -> None:
        """This flow is being answered with a hit that others may get too."""

    def forget(self) -> None:
        """What was offered so far need not hold any more."""


@runtime_checkable
class CountsHits(Protocol):
    """An addon that counts requests when they have ended, hits of the fast lane among them."""

    def hit_counter(self, flow: HTTPFlow, exchange: Exchange) -> Callable[[Sequence[float]], None]:
        """What is called for further hits that are answered as this flow was, with the seconds that each took."""


HealthCheck = Callable[[], Awaitable[Health]]
HealthReport = Callable[[], Awaitable[tuple[int, dict[str, Any]]]]
Explain = Callable[[str, str, "Fields"], Awaitable[dict[str, Any]]]


class CaptureSink(Protocol):
    """Where failed requests are kept."""

    @property
    def outbox(self) -> Outbox | None:
        """The store behind it, once it is open."""

    async def capture(self, flow: HTTPFlow, failure: Failure) -> str:
        """The id of the capture, durable on disk when this returns; CaptureRefused otherwise."""

    async def key_of(self, flow: HTTPFlow) -> str:
        """What orders this request, as it would be captured. The body is looked at only where the profile says so."""

    async def waits(self, key: str) -> bool:
        """Whether a capture of this key is not settled yet. StoreUnavailable if that cannot be known."""


@runtime_checkable
class ResponseCache(Protocol):
    """Where responses are kept, as the control surface sees it."""

    async def purge(
        self, *, tags: Sequence[str] = (), urls: Sequence[str] = (), everything: bool = False, soft: bool = False
    ) -> Purged:
        """What was made unusable; ValueError for what is no URL, StoreUnavailable if it could not be done."""


@runtime_checkable
class RouteNaming(Protocol):
    """Who gives requests the names of their routes, as those see it who ask about a request that nobody has sent."""

    def route_for(self, method: str, host: str, target: str) -> tuple[str, Mapping[str, str]]:
        """The label of such a request, and the named parts of its path."""


@runtime_checkable
class FaultControl(Protocol):
    """Who makes requests fail on purpose, as the control surface sees it. Documents are of plain values."""

    def injection(self, flow: HTTPFlow, at: Place, server: str = "") -> Injection | None:
        """As the engine asks it."""

    def document(self) -> dict[str, Any]:
        """The rules, and how they have fared."""

    def put(self, document: object) -> dict[str, Any]:
        """Add a rule, or replace the one of its name; ValueError says what is wrong with it."""

    def put_all(self, documents: Sequence[object], seed: int | None) -> dict[str, Any]:
        """In place of all rules; ValueError says what is wrong."""

    def clear(self, names: Sequence[str]) -> dict[str, Any]:
        """Take these away, or all; ValueError for a name that there is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a capture. `error`: why it was captured; `status`, `last_error`: of the last replay.

    Times in epoch seconds; `redrive` counts how often a person has had it sent again.
    """

    id: str
    key: str
    route: str
    method: str
    path: str
    error: str
    captured: float
    outcome: Literal["delivered", "dead", "parked", "discarded"]
    reason: str
    attempts: int
    status: int | None
    last_error: str | None
    settled: float
    redrive: int
    traceparent: str


@runtime_checkable
class OutcomeListener(Protocol):
    """An addon that wants to know what became of captures."""

    def capture_settled(self, settled: Settled) -> None:
        """Its outcome is stored. Must not block, and not raise."""


@runtime_checkable
class ReplayLedger(Protocol):
    """Who knows what became of captures."""

    @property
    def audit(self) -> Audit | None:
        """The store behind it, once it is open."""

    async def settled(self, ids: Sequence[str]) -> set[str]:
        """Which of these captures are settled. StoreUnavailable if nobody can say."""

    def shows_answer(self, route: str) -> bool:
        """Whether whoever has the id of a capture of this route may see what the replay was answered."""


@dataclass(slots=True)
class Gateway:
    """Made once per chain. `phase` goes one way: starting, serving, draining.

    A `consumer` has the same chain and no clients: it does nothing but replay.
    """

    profile: Profile
    leg: Leg
    registry: CollectorRegistry
    wall_clock: Callable[[], float] = time.time
    role: Literal["gateway", "consumer"] = "gateway"
    worker: Worker | None = None  # which of several this is; None where it is the only one
    sink: CaptureSink | None = None
    cache: ResponseCache | None = None
    router: RouteNaming | None = None
    stand_in: Callable[[HTTPFlow], Awaitable[None]] | None = None  # the understudy's `upstream_failed`, guarded
    replays: ReplayLedger | None = None
    faults: FaultControl | None = None
    lane: HitLane | None = None
    listeners: list[OutcomeListener] = field(default_factory=list)
    checks: dict[str, HealthCheck] = field(default_factory=dict)
    phase: Literal["starting", "serving", "draining"] = "starting"
    serving: asyncio.Event = field(default_factory=asyncio.Event)  # set once all addons run, mitmproxy's own too
    in_flight: int = 0
    minutes: Minutes = field(default_factory=Minutes)  # what became of the requests of the last hour
    profile_since: float = field(init=False)  # wall-clock time at which the profile took over
    refused: tuple[Fault, ...] = ()  # why what its files hold now was not taken over
    addon_errors: Counter = field(init=False)
    health: HealthReport = field(init=False)  # set by the chain: (HTTP status, document)
    explain: Explain = field(init=False)  # set by the chain: method, URL, header fields -> document

    def forget_hits(self) -> None:
        """The profile has changed: the next hits go the ordinary way."""
        if self.lane:
            self.lane.forget()

    def __post_init__(self) -> None:
        self.profile_since = self.wall_clock()
        self.addon_errors = Counter(
            "holdfast_addon_errors", "Exceptions raised by an addon's hook.", ["addon", "hook"], registry=self.registry
        )
