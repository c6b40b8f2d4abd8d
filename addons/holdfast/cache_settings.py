"""What can be set about the cache, and how that reads as rules of the policy."""

from __future__ import annotations

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


class CacheSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Responses kept by RFC 9111, and served stale where that is allowed and helps."""

    store: Annotated[
        str,
        Meta(description="`memory://`, or `redis://HOST:PORT/DB` and its relatives.", extra={"restart": True}),
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
    skip: Annotated[tuple[str, ...], Meta(description="Routes that pass by the cache, by the router's names.")] = field(
        default=()
    )

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
