"""What can be set about the cache, and how that reads as rules of the policy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Annotated

from msgspec import Meta, Struct, field

from holdfast.policy.caching.key import KeyRules, QueryRules
from holdfast.policy.caching.model import CacheRules
from holdfast.profile.values import Duration, Share, Size


class QuerySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which parts of the query tell one response from another."""

    ignore: Annotated[tuple[str, ...], Meta(description="Parameters that make no difference, like `utm_*`.")] = ()
    keep: Annotated[
        tuple[str, ...] | None, Meta(description="The only parameters that make a difference; `null`: all do.")
    ] = None
    sort: Annotated[bool, Meta(description="Whether the order of parameters makes no difference.")] = False


class RewarmSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """After a purge, what it touched is fetched anew, most requested first."""

    rate: Annotated[float, Meta(description="Requests a second to the upstream.", gt=0, le=1000)] = 10.0
    most: Annotated[int, Meta(description="Responses that are fetched after one purge.", ge=1)] = 100
    remember: Annotated[
        int, Meta(description="How many of the most requested responses are known by name.", ge=1, le=100_000)
    ] = 1000


class RouteCacheSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs on one route; what is left out is as for all."""

    max_body: Annotated[Size | None, Meta(description="Larger responses pass uncached.")] = None
    default_lifetime: Annotated[Duration | None, Meta(description="For responses that say nothing; 0s: not kept.")] = (
        None
    )
    heuristic: Annotated[Share | None, Meta(description="Of the time since Last-Modified; 0%: nothing is guessed.")] = (
        None
    )
    max_lifetime: Annotated[Duration | None, Meta(description="Nothing is kept longer.")] = None
    grace: Annotated[Duration | None, Meta(description="Stale, and fetched anew meanwhile.")] = None
    grace_on_error: Annotated[Duration | None, Meta(description="Stale, while the upstream fails.")] = None
    shared_cookies: Annotated[bool | None, Meta(description="Whether Set-Cookie is kept as anything else.")] = None
    obey_requests: Annotated[bool | None, Meta(description="Whether a client's Cache-Control decides.")] = None
    fast_lane: Annotated[bool | None, Meta(description="Whether hits may pass mitmproxy by.")] = None

    def over(self, rules: CacheRules) -> CacheRules:
        """The rules of this route, given those of all."""
        said: dict[str, float | int | bool | None] = {
            "max_body": None if self.max_body is None else int(self.max_body),
            "heuristic_share": _number(self.heuristic),
            "max_lifetime": _number(self.max_lifetime),
            "grace": _number(self.grace),
            "grace_on_error": _number(self.grace_on_error),
            "share_cookies": self.shared_cookies,
            "obey_requests": self.obey_requests,
        }
        changes: dict[str, float | int | bool | None] = {
            name: value for name, value in said.items() if value is not None
        }
        if self.default_lifetime is not None:
            changes["default_lifetime"] = float(self.default_lifetime) or None
        return replace(rules, **changes)  # type: ignore[arg-type]


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Responses kept by RFC 9111, and served stale where that is allowed and helps."""

    store: Annotated[
        str,
        Meta(
            description="`memory://`, or `redis://HOST:PORT/DB` and its relatives.",
            extra={"restart": True, "in_tests": "memory://"},
        ),
    ] = "memory://"
    memory: Annotated[
        Size, Meta(description="Memory for responses, also in front of Redis.", extra={"restart": True})
    ] = Size("64MiB")
    max_body: Annotated[Size, Meta(description="Larger responses pass uncached.")] = Size("1MiB")
    default_lifetime: Annotated[
        Duration | None, Meta(description="For responses that say nothing; `null`: they are not kept.")
    ] = None
    heuristic: Annotated[Share, Meta(description="Of the time since Last-Modified, where nothing else is said.")] = (
        Share("10%")
    )
    heuristic_max: Annotated[Duration, Meta(description="Bound of that guess.")] = Duration("1d")
    max_lifetime: Annotated[Duration, Meta(description="Nothing is kept longer, whatever the origin says.")] = Duration(
        "30d"
    )
    grace: Annotated[
        Duration, Meta(description="Stale responses may be served so long while they are fetched anew.")
    ] = Duration("0s")
    grace_on_error: Annotated[
        Duration | None,
        Meta(description="Stale responses may be served so long while the upstream fails; `null`: as `grace`."),
    ] = None
    shared_cookies: Annotated[
        bool,
        Meta(description="Keep responses with Set-Cookie for any explicit lifetime, not only `public` or `s-maxage`."),
    ] = False
    obey_requests: Annotated[
        bool, Meta(description="Whether a client's Cache-Control and Pragma decide what it gets.")
    ] = True
    query: Annotated[QuerySettings, Meta(description="What of the query is part of the key.")] = QuerySettings()
    coalesce: Annotated[
        Duration,
        Meta(description="How long a request waits for another one's answer for the same key; 0: it does not."),
    ] = Duration("5s")
    skip: Annotated[tuple[str, ...], Meta(description="Routes that pass by the cache, by the router's names.")] = ()
    routes: Annotated[
        dict[str, RouteCacheSettings], Meta(description="What differs per route, by the router's names.")
    ] = field(default_factory=dict)
    purge_from: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses and networks whose PURGE requests purge; none: PURGE goes upstream like any method."
        ),
    ] = ()
    fast_lane: Annotated[
        bool, Meta(description="Whether hits over HTTP/1.1 may pass mitmproxy by, while no addon needs to see them.")
    ] = True
    rewarm: Annotated[
        RewarmSettings | None, Meta(description="Fetch anew what a purge touched; `null`: when it is asked for.")
    ] = None

    def __post_init__(self) -> None:
        for each in self.purge_from:
            try:
                ip_network(each)
            except ValueError as error:
                raise ValueError(
                    f"purge_from: {each!r} is no address or network: write 127.0.0.1 or 10.0.0.0/8"
                ) from error

    def rules_of_routes(self) -> dict[str, CacheRules]:
        """Of those that have their own."""
        return {name: own.over(self.rules()) for name, own in self.routes.items()}

    def rules(self) -> CacheRules:
        """As the policy takes them."""
        return CacheRules(
            default_lifetime=None if self.default_lifetime is None else float(self.default_lifetime),
            heuristic_share=float(self.heuristic),
            heuristic_max=float(self.heuristic_max),
            grace=float(self.grace),
            grace_on_error=None if self.grace_on_error is None else float(self.grace_on_error),
            max_lifetime=float(self.max_lifetime),
            max_body=int(self.max_body),
            obey_requests=self.obey_requests,
            share_cookies=self.shared_cookies,
        )

    def key_rules(self) -> KeyRules:
        """As the policy takes them."""
        return KeyRules(query=QueryRules(ignore=self.query.ignore, keep_only=self.query.keep, sort=self.query.sort))


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
