"""Faults on demand: makes requests fail on purpose, by rules in the profile or set while the gateway runs.

What the operator gets: clients and the gateway itself tried out against an upstream that is slow, broken or away, again
and again in the same way. Where the addon stands in the chain does not matter: the engine carries the faults out
(`engine.faulty_stream`), this decides, by `policy.faults`, and tells. Whatever is touched says so: in `Holdfast-Fault`,
the access log, mitmproxy's comment, the metrics and the health page.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any

from mitmproxy.http import HTTPFlow
from msgspec.structs import replace
from prometheus_client import Counter, Gauge

from holdfast.exchange import Injected, exchange_of, is_own, route_of
from holdfast.fault_rules import MOST, FaultRuleSettings, FaultsSettings, named, read_rule, written
from holdfast.gateway import Gateway, Health, WouldDo
from holdfast.policy.faults import Asked, FaultPlan, Injection, Place, Tally, plan_of
from holdfast.policy.wire import wire_text
from holdfast.profile.routed import route_labels

logger = logging.getLogger(__name__)
OWN_PAGES = frozenset({"health", "captures"})


class Faults:
    """Says which faults there are, counts them, and lets them be changed while the gateway runs."""

    Settings = FaultsSettings

    def __init__(self, settings: FaultsSettings, gateway: Gateway) -> None:
        self._gateway = gateway
        self._fired = Counter(
            "holdfast_faults",
            "Faults that were injected because somebody asked for them, by rule.",
            ["rule", "kind", "at"],
            registry=gateway.registry,
        )
        active = Gauge(
            "holdfast_faults_active",
            "Rules by which requests fail on purpose, and that are not over.",
            registry=gateway.registry,
        )
        active.set_function(lambda: float(len(self._active())))
        gateway.checks["faults"] = self._health
        self._settings, self._origin = settings, "profile"
        self._rules: dict[str, FaultRuleSettings] = {}
        self._plan = self._planned(settings.rules, settings.seed)
        self._before: tuple[Any, ...] = ()

    def reload(self, settings: FaultsSettings) -> None:
        """The profile's own have changed: they hold, and what was set by hand is gone."""
        now = (self._settings, self._origin, self._rules, self._plan)
        if self._before and self._before[0] == settings:  # what was to come has been refused: nothing has changed
            self._settings, self._origin, self._rules, self._plan = self._before
        else:
            self._settings, self._origin = settings, "profile"
            self._plan = self._planned(settings.rules, settings.seed)
            self._warn("faults of the profile hold")
        self._before = now
        asyncio.get_running_loop().call_soon(self._settle)  # it is refused at once or not at all

    def _settle(self) -> None:
        self._before = ()

    def running(self) -> None:
        self._warn("faults are active: requests fail on purpose")

    # -- for the engine ---------------------------------------------------------------------------------------------

    def injection(self, flow: HTTPFlow, at: Place, server: str = "") -> Injection | None:
        """What happens to this answer, or to the attempt that is about to begin; noted and counted."""
        if route_of(flow) in OWN_PAGES or (at == "client" and is_own(flow)):
            return None
        found = self._plan.decide(_asked(flow, at, server), self._gateway.leg.clock())
        if found:
            rule = found.rule
            noted = Injected(rule=rule.name, kind=rule.kind, at=rule.at)
            exchange_of(flow).setdefault("faults", []).append(noted)
            self._fired.labels(rule.name, rule.kind, rule.at).inc()
        return found

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """Which rules may act; what the dice or a script say is left for a request that is sent."""
        active = [] if route_of(flow) in OWN_PAGES else [tally.rule for tally in self._active()]
        rules = [rule for rule in active if rule.concerns(_asked(flow, rule.at, rule.server or ""))]
        if not rules:
            return WouldDo(False, "no fault is for it")
        named = ", ".join(f"{rule.name} ({rule.kind} at {rule.at})" for rule in rules)
        return WouldDo(True, f"may have it fail on purpose: {named}", {"rules": [rule.name for rule in rules]})

    # -- for people -------------------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """The rules as they were written, how often each was asked and has acted, and why it is over if it is."""
        return {
            "seed": self._plan.seed,
            "set": self._origin,
            "active": len(self._active()),
            "rules": [self._shown(tally) for tally in self._plan.tallies],
        }

    def put(self, document: object) -> dict[str, Any]:
        """Add one rule, or put it in the place of the one of its name. ValueError with what is wrong."""
        settings = self._read(document)
        name = settings.name or settings.fault
        rule = settings.rule(name)
        if name not in self._rules and len(self._rules) == MOST:
            raise ValueError(f"there can be at most {MOST} faults: clear one first")
        self._rules[name] = replace(settings, name=name)
        self._plan.put(rule, self._gateway.leg.clock())
        self._changed("fault set")
        return self.document()

    def put_all(self, documents: Sequence[object], seed: int | None) -> dict[str, Any]:
        """In place of all rules. ValueError with what is wrong, and nothing has changed."""
        self._plan = self._planned([self._read(each) for each in documents], seed)
        self._changed("faults set")
        return self.document()

    def clear(self, names: Sequence[str]) -> dict[str, Any]:
        """These, or all. ValueError for a name that there is not, and nothing has changed."""
        unknown = [name for name in names if name not in self._rules]
        if unknown:
            known = ", ".join(self._rules) or "none at all"
            raise ValueError(f"there is no fault named {', '.join(unknown)}: there are {known}")
        for name in dict.fromkeys(names or self._rules):
            self._plan.drop(name)
            del self._rules[name]
        self._changed("faults cleared")
        return self.document()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _planned(self, rules: Sequence[FaultRuleSettings], seed: int | None) -> FaultPlan:
        listed = named(rules)
        self._rules = {each.name: each for each in listed}
        drawn = secrets.randbelow(2**32) if seed is None else seed
        return plan_of([each.rule(each.name) for each in listed], drawn, self._gateway.leg.clock())

    def _read(self, document: object) -> FaultRuleSettings:
        made = read_rule(document)
        labels = route_labels(self._gateway.profile)
        if made.route is not None and labels is not None and made.route not in labels:
            raise ValueError(f"the router gives no route the name {made.route}: there are {', '.join(sorted(labels))}")
        return made

    def _active(self) -> list[Tally]:
        return self._plan.active(self._gateway.leg.clock())

    def _shown(self, tally: Tally) -> dict[str, Any]:
        over = tally.over(self._gateway.leg.clock())
        told = {"asked": tally.asked, "fired": tally.fired, "over": over or None}
        return written(self._rules[tally.rule.name]) | told

    def _changed(self, what: str) -> None:
        self._origin = "live"
        self._warn(what)

    def _warn(self, what: str) -> None:
        rules = [f"{t.rule.name} ({t.rule.kind} at {t.rule.at})" for t in self._active()]
        if rules:
            logger.warning(what, extra={"rules": rules, "seed": self._plan.seed})
        elif self._origin == "live":
            logger.info("no fault is active any more")

    async def _health(self) -> Health:
        active = self._active()
        detail = (
            f"{len(active)} active: requests fail on purpose (holdfast faults list)" if active else "none is active"
        )
        return Health("ok", detail, {"active": len(active), "rules": self.document()["rules"]})


def _asked(flow: HTTPFlow, at: Place, server: str) -> Asked:
    path = flow.request.path.partition("?")[0]
    raw = path if path.isascii() else wire_text(path.encode("utf-8", "surrogateescape"))
    return Asked(at, route_of(flow), flow.request.method.upper(), raw, server)
