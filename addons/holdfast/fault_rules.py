"""The rules of the addon `faults` as a profile writes them, and as the control surface takes and shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from holdfast.policy.endpoint import parse_endpoint
from holdfast.policy.faults import LONGEST, Kind, Rule, check_rule_name, parse_script
from holdfast.policy.routes import compile_route
from holdfast.profile.check import Check
from holdfast.profile.compose import ROOT
from holdfast.profile.nodes import Table, Where, from_plain
from holdfast.profile.shapes import fields_of
from holdfast.profile.values import Duration, Share, Size

MOST = 100  # rules
_OF_ONE_KIND = {"status": "status", "headers": "status", "body": "status", "after": "truncate", "rate": "slow"}
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive"})


class FaultRuleSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule: which requests, what happens to them, and when."""

    fault: Annotated[
        Kind,
        Meta(
            description="`latency`, `status` (another answer), `reset`, `hang` (no answer at all), `truncate`, "
            "`corrupt`, `slow` (the body), `refuse` (no connection; `at: upstream` only)."
        ),
    ]
    name: Annotated[str, Meta(description="Its label: 1 to 64 of a-z, 0-9, `_`, `.`, `-`. Default: the `fault`.")] = ""
    at: Annotated[
        Literal["client", "upstream"],
        Meta(
            description="`client`: the answer that goes out, whoever made it. `upstream`: an attempt at a server, to "
            "which retries, breaker, cache and captures react."
        ),
    ] = "client"
    route: Annotated[str | None, Meta(description="Only this route, by the router's name.")] = None
    methods: Annotated[tuple[str, ...], Meta(description="Only these methods; none listed: any.")] = ()
    path: Annotated[
        str | None, Meta(description="Only this path: `/api/users/{id}`, and `/files/{rest*}` for all below.")
    ] = None
    server: Annotated[
        str | None, Meta(description="Only attempts at this server, as in `upstream.servers`; `at: upstream`.")
    ] = None
    delay: Annotated[Duration, Meta(description="Time that passes before it, with any fault but `hang`.")] = Duration(0)
    jitter: Annotated[Duration, Meta(description="The delay is this much longer or shorter, at random.")] = Duration(0)
    status: Annotated[
        int | None, Meta(ge=200, le=599, description="Of the answer of `fault: status`. Default: 503.")
    ] = None
    headers: Annotated[dict[str, str], Meta(description="Header fields of that answer, such as Retry-After.")] = {}
    body: Annotated[str | None, Meta(description="Its body. Default: one that names the rule.")] = None
    after: Annotated[
        Size | None, Meta(description="How much of the body passes before `truncate` ends it. Default: half of it.")
    ] = None
    rate: Annotated[Size | None, Meta(ge=1, description="Bytes a second of `slow`. Default: 1KiB.")] = None
    share: Annotated[Share, Meta(description="How likely it acts on a request it is for.")] = Share(1)
    script: Annotated[
        tuple[str, ...],
        Meta(description="In place of `share`: `fail` or `pass` for one request after the other, such as `fail*2`."),
    ] = ()
    repeat: Annotated[bool, Meta(description="true: the script begins again at its end.")] = False
    times: Annotated[int | None, Meta(ge=1, description="Over after it has acted so often.")] = None
    lasts: Annotated[Duration | None, Meta(description="Over so long after it was set, or the gateway started.")] = None

    def __post_init__(self) -> None:
        self.rule("any")
        fault = self._misfit()
        if fault:
            raise ValueError(fault)
        for name, value in self.headers.items():
            if not _FIELD_NAME.fullmatch(name) or name.lower() in _FRAMING:
                raise ValueError(f"headers: {name!r} is no header field that can be set here")
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"headers: the value of {name} has characters that a header field cannot have")

    def _misfit(self) -> str | None:
        """What does not go together, and what to do about it."""
        kind = self.fault
        strays = [k for k, own in _OF_ONE_KIND.items() if kind != own and getattr(self, k) not in (None, {})]
        wrong = [
            (f"`{k}` belongs to `fault: {_OF_ONE_KIND[k]}`: leave it out of `fault: {kind}`", True) for k in strays
        ] + [
            ("`refuse` is what a server does: it needs `at: upstream`", kind == "refuse" and self.at == "client"),
            ("`server` is for attempts: it needs `at: upstream`", bool(self.server) and self.at == "client"),
            ("`fault: latency` needs a `delay`, such as 200ms", kind == "latency" and not self.delay),
            ("`fault: hang` has no end: leave `delay` out, or use `fault: latency`", kind == "hang" and self.delay > 0),
            (f"`delay` is at most {Duration(LONGEST)}: a client that waits longer is gone", self.delay > LONGEST),
            ("`jitter` is at most the `delay`: more would be an answer before the request", self.jitter > self.delay),
            ("304 says nothing by itself: take another status", self.status == 304),
            ("204 has no body: take another status, or leave it out", self.status == 204 and bool(self.body)),
            ("`share` and `script` both say when: give one of them", bool(self.script) and self.share < 1),
            ("`repeat` is for a `script`: give one", self.repeat and not self.script),
        ]
        return next((sentence for sentence, holds in wrong if holds), None)

    def rule(self, name: str) -> Rule:
        """As `policy.faults` takes it; ValueError says what is wrong."""
        label = check_rule_name(self.name or name)
        # Its names are those of routes; what it says about them begins with that.
        try:
            aimed = compile_route("any", path=self.path or "/", methods=self.methods)
        except ValueError as error:
            raise ValueError(str(error).partition(": ")[2]) from error
        return Rule(
            name=label,
            kind=self.fault,
            at=self.at,
            route=self.route,
            methods=aimed.methods,
            path=None if self.path is None else aimed.expression,
            server=None if self.server is None else parse_endpoint(self.server).name,
            delay=float(self.delay),
            jitter=float(self.jitter),
            status=self.status or 503,
            headers=tuple(self.headers.items()),
            body=self.body,
            after=None if self.after is None else int(self.after),
            rate=int(self.rate or 1024),
            share=float(self.share),
            script=parse_script(self.script),
            repeat=self.repeat,
            times=self.times,
            lasts=None if self.lasts is None else float(self.lasts),
        )


class FaultsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests fail on purpose. Without rules nothing does, until `holdfast faults set` sets one."""

    seed: Annotated[
        int | None, Meta(ge=0, description="The same seed gives the same faults again. Default: another each time.")
    ] = None
    rules: Annotated[
        tuple[FaultRuleSettings, ...],
        Meta(description="In their order; the first that is for a request, and not over, decides."),
    ] = ()

    def __post_init__(self) -> None:
        named(self.rules)

    @property
    def routes(self) -> list[str]:
        """The routes that are named."""
        return [each.route for each in self.rules if each.route is not None]


def named(rules: Sequence[FaultRuleSettings]) -> list[FaultRuleSettings]:
    """Each with its name; ValueError where two have the same."""
    if len(rules) > MOST:
        raise ValueError(f"there can be at most {MOST} faults")
    found: dict[str, FaultRuleSettings] = {}
    given = {each.name for each in rules}
    for each in rules:
        free = (f"{each.fault}{n}" for n in ["", *(f"-{n}" for n in range(2, len(rules) + 2))])
        name = each.name or next(f for f in free if f not in found and f not in given)
        if name in found:
            raise ValueError(f"more than one fault is named {name}")
        found[name] = replace(each, name=name)
    return list(found.values())


def read_rule(document: object) -> FaultRuleSettings:
    """From plain values, by the rules of a profile and in its words. ValueError with all that is wrong."""
    check, table = Check(), from_plain(document, Where("", 0))
    if not isinstance(table, Table):
        raise ValueError('a fault is an object, such as {"name": "flaky", "fault": "status", "status": 503}')
    made: FaultRuleSettings = check.struct(table, FaultRuleSettings, "")
    if check.faults:
        told = [each.message if each.path == ROOT else f"{each.path}: {each.message}" for each in check.faults]
        raise ValueError("; ".join(told))
    return made


def written(settings: FaultRuleSettings) -> dict[str, Any]:
    """The keys that say more than the default, in the form of the profile."""
    shown: dict[str, Any] = {"name": settings.name, "fault": settings.fault, "at": settings.at}
    for item in fields_of(FaultRuleSettings):
        value = getattr(settings, item.attribute)
        if item.name not in shown and (item.required or value != item.default):
            shown[item.name] = _plain(value)
    return shown


def _plain(value: object) -> object:
    if isinstance(value, Duration | Share | Size):
        return str(value)
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
