"""A profile's addons, made, wired to each other and in order. `loader` puts them onto mitmproxy.

The order of every chain: the upstream leg, the intake, the status page of captures, the profile's addons (each behind
its guard), the access log, the commands, the admin surface, the gate.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mitmproxy.hooks import all_hooks
from mitmproxy.options import Options
from prometheus_client import disable_created_metrics
from prometheus_client.registry import Collector

from holdfast.accesslog import AccessLog, Observer
from holdfast.admin.health import HealthPage
from holdfast.admin.listener import AdminListener
from holdfast.admin.traffic import Traffic
from holdfast.collectors import ChainRegistry
from holdfast.engine.gate import Gate
from holdfast.engine.leg import build_leg
from holdfast.engine.pacing import client_connection
from holdfast.engine.timers import Timers
from holdfast.engine.upstream import UpstreamLeg, engine_options
from holdfast.errors import Fault, ProfileError
from holdfast.gateway import (
    CountsHits,
    FaultControl,
    Gateway,
    HealthCheck,
    OutcomeListener,
    ReplayLedger,
    ResponseCache,
    RouteNaming,
)
from holdfast.guard import Guard
from holdfast.intake import Intake
from holdfast.lane.fast import FastLane
from holdfast.profile.entries import path_of
from holdfast.profile.settings import AddonEntry, Profile
from holdfast.registry import is_built_in, resolve, settings_class
from holdfast.status import StatusPage
from holdfast.workbench.commands import Workbench

if TYPE_CHECKING:
    from holdfast.policy.caching.model import Fields
    from holdfast.workers.worker import Worker


@dataclass(frozen=True, slots=True)
class Clocks:
    """What a chain reads the time from, and its dice: monotonic seconds, epoch seconds, uniform in [0, 1)."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random


THE_REAL = Clocks()


@dataclass(slots=True, eq=False)
class Member:
    """An addon of the profile behind its guard, and what its constructor wants to add to metrics and health page."""

    entry: AddonEntry
    addon: Any
    guard: Guard
    collectors: list[Collector]
    checks: dict[str, HealthCheck]


@dataclass(slots=True, eq=False)
class Chain:
    """All addons of one gateway. `members` are the profile's, between those that every chain has."""

    gateway: Gateway
    registry: ChainRegistry
    upstream: UpstreamLeg
    first: list[object]
    last: list[object]
    observers: list[Observer]  # shared with the access log
    counting: list[CountsHits]  # shared with the fast lane
    members: list[Member] = field(default_factory=list)
    _given: dict[str, object] = field(default_factory=dict)  # mitmproxy's options before a profile set them

    @property
    def addons(self) -> list[object]:
        """In their order."""
        return [*self.first, *(member.guard for member in self.members), *self.last]

    def member(self, entry: AddonEntry, before: Sequence[Collector] = ()) -> Member:
        """A new addon, which nobody knows of yet; its counters go on where those of `before` are."""
        checks, known = self.gateway.checks, dict(self.gateway.checks)
        with self.registry.aside(before) as collectors:
            try:
                addon = build_addon(entry, self.gateway)
                added = {name: check for name, check in checks.items() if known.get(name) is not check}
            finally:
                checks.clear()
                checks.update(known)
        return Member(entry, addon, Guard(addon, entry, self._count_failure), collectors, added)

    def consist_of(self, members: list[Member]) -> None:
        """These are the members from now on. Their collectors have been adopted by the registry."""
        checks = self.gateway.checks
        for name in [n for each in self.members for n, check in each.checks.items() if checks.get(n) is check]:
            del checks[name]
        for each in members:
            checks.update(each.checks)
        self.members = members
        sink = next((each.addon for each in members if is_built_in(each.addon, "failure_sink")), None)
        self.gateway.sink, self.gateway.leg.spooling = sink, sink.spooling if sink else None
        self.gateway.cache = next((each.addon for each in members if isinstance(each.addon, ResponseCache)), None)
        self.gateway.router = next((each.addon for each in members if isinstance(each.addon, RouteNaming)), None)
        self.gateway.replays = next((each.addon for each in members if isinstance(each.addon, ReplayLedger)), None)
        understudies = [each.guard for each in members if is_built_in(each.addon, "understudy")]
        self.gateway.stand_in = understudies[0].upstream_failed if understudies else None
        self.gateway.faults = next((each.addon for each in members if isinstance(each.addon, FaultControl)), None)
        self.gateway.leg.faults = self.gateway.faults
        self.gateway.listeners = [each.addon for each in members if isinstance(each.addon, OutcomeListener)]
        own = [Traffic(self.gateway)] if self.gateway.profile.admin.listen else []
        observing = [each.addon for each in members if is_built_in(each.addon, "metrics", "tracing", "notifier")]
        watching = [*own, *observing]
        self.observers[:] = [each.observe for each in watching]
        self.counting[:] = [each for each in watching if isinstance(each, CountsHits)]
        self.gateway.forget_hits()

    def options(self, options: Options, after: Profile, before: Profile | None = None) -> dict[str, object]:
        """Which of mitmproxy's options this profile changes. One that it leaves open becomes what it was at first."""
        old, new = engine_options(before) if before else {}, engine_options(after)
        found: dict[str, object] = {}
        for name in sorted({*old, *new}):
            current = getattr(options, name)
            if name not in old:
                self._given.setdefault(name, current)
            elif current != old[name]:
                continue  # the command line or a person has set it since
            wanted = new.get(name, self._given.get(name))
            if wanted != current:
                found[name] = wanted
        return found

    async def explain(self, method: str, url: str, fields: Fields) -> dict[str, Any]:
        """What all of them would do with a request. ValueError for what is none."""
        from holdfast.explaining.chain import explained_request  # few are ever asked

        named = [(member.entry.name, member.addon) for member in self.members]
        return await explained_request(self.gateway, self.first, named, method, url, fields)

    def _count_failure(self, addon: str, hook: str) -> None:
        self.gateway.addon_errors.labels(addon, hook).inc()


def build_chain(
    profile: Profile,
    role: Literal["gateway", "consumer"] = "gateway",
    clocks: Clocks = THE_REAL,
    worker: Worker | None = None,
) -> Chain:
    """The shared gateway and all addons; nothing has been started. ProfileError where a constructor refuses."""
    disable_created_metrics()  # a second series for each counter that nobody asked for
    registry = ChainRegistry()
    leg = build_leg(profile, Timers(client_connection), registry, clocks.monotonic, clocks.jitter)
    gateway = Gateway(profile, leg, registry, clocks.wall, role, worker)
    gateway.health = HealthPage(gateway).document
    upstream, observers = UpstreamLeg(gateway.leg, profile.upstream), list[Observer]()
    counting = list[CountsHits]()
    first: list[object] = [upstream, Intake(gateway), StatusPage(gateway)]
    gateway.lane = gateway.leg.lane = lane = FastLane(gateway, counting)
    ends = AccessLog(gateway, observers), lane
    last: list[object] = [*ends, Workbench(gateway), AdminListener(gateway), Gate(gateway)]
    chain = Chain(gateway, registry, upstream, first, last, observers, counting)
    gateway.explain = chain.explain
    members = build_members(chain, profile.addons)
    for member in members:
        adopt(chain, member)
    chain.consist_of(members)
    return chain


def build_members(chain: Chain, entries: Collection[AddonEntry]) -> list[Member]:
    """A member for each entry. ProfileError with the faults of all that cannot be made."""
    made, faults = [], list[Fault]()
    for entry in entries:
        before = next((each for each in chain.members if each.entry.name == entry.name), None)
        try:
            made.append(chain.member(entry, before.collectors if before else ()))
        except ProfileError as error:
            faults.extend(error.faults)
    if faults:
        raise ProfileError(faults)
    return made


def adopt(chain: Chain, member: Member) -> None:
    """Register its metrics. ProfileError if a name is taken."""
    try:
        chain.registry.adopt(member.collectors)
    except ValueError as error:
        raise refused(member.entry, f"its metrics cannot be registered: {error}") from error


def build_addon(entry: AddonEntry, gateway: Gateway) -> object:
    """The addon that this entry names. ProfileError where its constructor refuses."""
    found = resolve(entry.target)
    try:
        if settings_class(found) is not None:
            return found(entry.settings, gateway)
        made = found(**entry.settings) if callable(found) else found  # a ready-made instance
    except Exception as e:
        raise refused(entry, f"the addon could not be made: {type(e).__name__}: {e}") from e
    if not any(callable(getattr(made, hook, None)) for hook in all_hooks) and not hasattr(made, "addons"):
        raise refused(entry, f"{entry.target} is no addon: it has no method named like an event, such as `request`")
    return made


def refused(entry: AddonEntry, fault: str) -> ProfileError:
    """Because of one addon."""
    return ProfileError([Fault(entry.file, entry.line, path_of(entry.name), fault)])
