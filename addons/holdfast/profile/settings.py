"""What a profile may say. Each key is written down here once, with its default and its meaning.

`Meta(extra=...)` carries what msgspec cannot express and `profile.check` enforces: `gt` and the other bounds for
durations, sizes and shares; `rule`, a function that raises ValueError for a value that will not do; `secret`, a value
that is never shown; `internal`, a field that is no key; `restart`, a key that cannot change while the gateway runs;
`in_tests`, what stands in its place while the profile's tests are played (`{folder}` is a temporary one).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from holdfast.profile.addresses import (
    check_listen,
    check_method,
    check_name_server,
    check_path,
    check_server,
    is_loopback,
)
from holdfast.profile.cases import CaseSettings
from holdfast.profile.values import Duration, Share, Size

OnError = Literal["open", "closed"]
FailureKind = Literal["connect", "reset", "timeout", "502", "503", "504"]
ListenAddress = Annotated[str, Meta(extra={"rule": check_listen})]
ServerUrl = Annotated[str, Meta(extra={"rule": check_server})]
NameServer = Annotated[str, Meta(extra={"rule": check_name_server})]
Method = Annotated[str, Meta(extra={"rule": check_method})]
UrlPath = Annotated[str, Meta(extra={"rule": check_path})]
_ABOVE_ZERO = {"gt": 0}
_RESTART = {"restart": True}


class AdminSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The control surface: health, metrics, captures, configuration."""

    listen: Annotated[
        ListenAddress | None,
        Meta(description="`HOST:PORT` of the control surface; `null`: there is none.", extra=_RESTART),
    ] = "127.0.0.1:9900"
    token: Annotated[
        str,
        Meta(
            description="Token that every call needs as `Bearer`, and that the page asks for; "
            "without one only loopback addresses are allowed.",
            extra={"secret": True, **_RESTART},
        ),
    ] = ""
    health_path: Annotated[
        UrlPath | None,
        Meta(description="Path that the proxied port answers itself, with the gateway's health; `null`: none."),
    ] = "/health"

    def __post_init__(self) -> None:
        if self.listen and not self.token and not is_loopback(self.listen):
            raise ValueError(
                "`listen` is not a loopback address and there is no token: "
                "set admin.token, e.g. ${HOLDFAST_ADMIN_TOKEN}, or listen on 127.0.0.1"
            )


class BackoffSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How long to wait before the next attempt: doubled each time, then a random part of it."""

    base: Annotated[Duration, Meta(description="Upper bound of the first wait.")] = Duration("50ms")
    max: Annotated[Duration, Meta(description="Upper bound of every wait.")] = Duration("1s")

    def __post_init__(self) -> None:
        if self.max < self.base:
            raise ValueError(f"`max` ({self.max}) is shorter than `base` ({self.base}): raise `max` or lower `base`")


class RetrySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often, and when, a failed attempt is repeated."""

    attempts: Annotated[
        int, Meta(description="Attempts in all, the first included; 1 switches retries off.", ge=1, le=20)
    ] = 3
    on: Annotated[tuple[FailureKind, ...], Meta(description="Kinds of failure that are worth another attempt.")] = (
        "connect",
        "reset",
        "timeout",
        "502",
        "503",
        "504",
    )
    methods: Annotated[
        tuple[Method, ...],
        Meta(
            description="Methods repeated even though the server may have seen the request. "
            "Others are repeated only with an `Idempotency-Key`, or if nothing was sent."
        ),
    ] = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE")
    backoff: Annotated[BackoffSettings, Meta(description="The waiting time between attempts.")] = BackoffSettings()
    budget: Annotated[
        Share | None,
        Meta(description="Retries are at most this share of live requests (and 3 a second); `null`: no bound."),
    ] = Share("20%")


class BreakerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a server is left alone, and how it comes back."""

    max_fails: Annotated[int, Meta(description="Failures in a row that open it; 0: they do not count.", ge=0)] = 3
    fail_timeout: Annotated[
        Duration, Meta(description="How long it stays open before a probe may go.", extra=_ABOVE_ZERO)
    ] = Duration("30s")
    failure_rate: Annotated[
        Share | None,
        Meta(description="Share of failures and 5xx answers within `window` that opens it; `null`: none does."),
    ] = None
    min_requests: Annotated[int, Meta(description="Fewer within `window` say nothing about a rate.", ge=1)] = 20
    window: Annotated[Duration, Meta(description="What `failure_rate` looks back on.", extra=_ABOVE_ZERO)] = Duration(
        "10s"
    )
    probes: Annotated[
        int, Meta(description="Requests let through after `fail_timeout`; all must succeed to close it.", ge=1)
    ] = 1
    slow_start: Annotated[
        Duration, Meta(description="Over which a server that has come back gets its full share again.")
    ] = Duration("0s")
    keep: Annotated[
        Share, Meta(description="Share of the servers that `failure_rate` leaves in service, however they do.")
    ] = Share("50%")


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One server, where its address alone does not say enough."""

    url: Annotated[ServerUrl, Meta(description="Base URL without a path.")]
    weight: Annotated[int, Meta(description="Its share of the traffic, relative to the others'.", ge=1, le=1000)] = 1
    backup: Annotated[bool, Meta(description="Asked only when the others cannot be.")] = False


class HealthCheckSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Asking the servers without being asked."""

    path: Annotated[UrlPath, Meta(description="What is fetched; any answer below 500 is healthy.")] = "/"
    interval: Annotated[Duration, Meta(description="Between two checks of a server.", extra=_ABOVE_ZERO)] = Duration(
        "5s"
    )
    timeout: Annotated[Duration, Meta(description="For one check.", extra=_ABOVE_ZERO)] = Duration("2s")
    unhealthy_after: Annotated[int, Meta(description="Failed checks in a row that take a server out.", ge=1)] = 2
    healthy_after: Annotated[int, Meta(description="Good checks in a row that take it in again.", ge=1)] = 1


class DnsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names that stand for several servers, such as a headless Kubernetes service."""

    expand: Annotated[
        bool,
        Meta(
            description="Treat each address of a name as a server of its own, where it has two or more of one family "
            "(IPv4 preferred; at most 64); `false`: every name is one server."
        ),
    ] = True
    refresh: Annotated[
        Duration,
        Meta(
            description="The longest time between two lookups of a name. It is looked up sooner after a connection to "
            "it has failed, and where `servers` say that an answer holds less long (TTL). While lookups fail, the "
            "addresses known last stay.",
            extra=_ABOVE_ZERO,
        ),
    ] = Duration("10s")
    servers: Annotated[
        tuple[NameServer, ...],
        Meta(
            description="`HOST:PORT` of the name servers to ask, in this order, for whole names (no search list, no "
            "hosts file); none: the operating system is asked."
        ),
    ] = ()

    def __post_init__(self) -> None:
        if self.servers and not self.expand:
            raise ValueError("`servers` are not asked with `expand: false`: take one of the two out")


class KeepaliveSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Idle HTTP/1 connections to the servers."""

    shared: Annotated[
        bool,
        Meta(
            description="All clients share them. `false`: each client has its own, which are closed with it, and the "
            "keys below do not hold. The same with `HOLDFAST_ENGINE=plain`."
        ),
    ] = True
    connections: Annotated[
        int,
        Meta(
            description="How many are kept to each server; beyond that the one that was idle longest is closed. "
            "0: a connection is closed after its request.",
            ge=0,
        ),
    ] = 32
    timeout: Annotated[
        Duration, Meta(description="How long one may be idle before it is closed.", extra=_ABOVE_ZERO)
    ] = Duration("60s")
    max_active: Annotated[
        int | None,
        Meta(
            description="How many may be in use to each server at once. Further requests wait for up to "
            "`connect_timeout`, first come first served; `null`: no bound.",
            ge=1,
        ),
    ] = None


class RouteUpstreamSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may differ per route: which servers, and how much patience with them."""

    servers: Annotated[
        tuple[ServerUrl | ServerSettings, ...],
        Meta(
            description="Base URLs without a path, or mappings with `url`, `weight`, `backup`. "
            "`h2c://` speaks HTTP/2 without TLS; with `https://` the protocol is agreed on.",
            min_length=1,
        ),
    ] = ("http://127.0.0.1:3000",)
    balance: Annotated[
        Literal["round_robin", "least_outstanding"], Meta(description="Which server is next, by weight in both.")
    ] = "round_robin"
    connect_timeout: Annotated[
        Duration, Meta(description="For the connection of one attempt, TLS included.", extra=_ABOVE_ZERO)
    ] = Duration("5s")
    response_timeout: Annotated[
        Duration, Meta(description="From the request's last byte to the response's first.", extra=_ABOVE_ZERO)
    ] = Duration("5s")
    read_timeout: Annotated[Duration, Meta(description="Between two reads of a response body.", extra=_ABOVE_ZERO)] = (
        Duration("60s")
    )
    deadline: Annotated[
        Duration, Meta(description="Over all attempts, until the response begins.", extra=_ABOVE_ZERO)
    ] = Duration("15s")
    retry: Annotated[RetrySettings, Meta(description="Repeating failed attempts.")] = RetrySettings()
    breaker: Annotated[BreakerSettings, Meta(description="The circuit breaker of each server.")] = BreakerSettings()
    health_check: Annotated[
        HealthCheckSettings | None, Meta(description="Active health checks; `null`: none are made.")
    ] = None
    dns: Annotated[DnsSettings, Meta(description="Servers given by a name that has several addresses.")] = DnsSettings()

    def each_server(self) -> tuple[ServerSettings, ...]:
        """All servers in their long form."""
        return tuple(ServerSettings(url=s) if isinstance(s, str) else s for s in self.servers)


class UpstreamSettings(RouteUpstreamSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The servers behind the gateway, and how much patience it has with them."""

    keep_host_header: Annotated[
        bool, Meta(description="Pass the client's `Host` on instead of the server's own name.")
    ] = False
    forwarded: Annotated[
        bool, Meta(description="Append to `X-Forwarded-For`, and set `-Proto` and `-Host` where they are missing.")
    ] = True
    ca_file: Annotated[
        str | None, Meta(description="PEM file of the certificate authorities to trust, in place of the usual ones.")
    ] = None
    verify_tls: Annotated[bool, Meta(description="Check the certificates of https servers.")] = True
    keepalive: Annotated[
        KeepaliveSettings, Meta(description="Connections to servers that outlive the request and its client.")
    ] = KeepaliveSettings()
    routes: Annotated[
        dict[str, RouteUpstreamSettings],
        Meta(
            description="What differs per route, by the router's names: any key of `upstream` from `servers` to `dns`. "
            "What is left out, also within `retry` or `breaker`, is as for all."
        ),
    ] = field(default_factory=dict)


class RouteLimitSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds that may differ per route."""

    max_body: Annotated[
        Size | None,
        Meta(description="Larger requests are refused with 413; `null`: no bound.", extra=_ABOVE_ZERO),
    ] = None
    max_response: Annotated[
        Size | None,
        Meta(
            description="A larger response is a failure of the upstream, or is cut where the client has begun to read "
            "it; `null`: no bound.",
            extra=_ABOVE_ZERO,
        ),
    ] = None
    body_timeout: Annotated[
        Duration,
        Meta(description="Between two reads of a request body; then the answer is 408.", extra=_ABOVE_ZERO),
    ] = Duration("60s")


class LimitSettings(RouteLimitSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on what the gateway holds in memory, and on how long it waits for a client."""

    buffer_body: Annotated[
        Size,
        Meta(
            description="Larger bodies are streamed: not retried once bytes were sent, and captured only with "
            "`failure_sink.spool`."
        ),
    ] = Size("10MiB")
    max_header: Annotated[
        Size, Meta(description="A request header that grows larger is refused with 431.", extra=_ABOVE_ZERO)
    ] = Size("64KiB")
    header_timeout: Annotated[
        Duration,
        Meta(
            description="From the first byte of a request header to its last; then the answer is 408.",
            extra=_ABOVE_ZERO,
        ),
    ] = Duration("60s")
    routes: Annotated[
        dict[str, RouteLimitSettings],
        Meta(description="What differs per route, by the router's names: `max_body`, `max_response`, `body_timeout`."),
    ] = field(default_factory=dict)


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is written to the standard error stream."""

    format: Annotated[
        Literal["human", "json"], Meta(description="For people, or one JSON object a line for collectors.")
    ] = "human"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least severe messages shown.")
    ] = "info"
    access: Annotated[bool, Meta(description="A line for each request.")] = True


class AddonEntry(Struct, frozen=True, kw_only=True):
    """One addon of the chain, as the loader hands it over: its settings are checked, its class can be imported."""

    name: str
    target: str  # a built-in's or an entry point's name, or "package.module:Class"
    settings: Any = None  # the class's `Settings` struct, or a dict of keyword arguments
    on_error: OnError = "open"
    line: int = 0
    file: str = ""


class Profile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole profile."""

    version: Annotated[Literal[1], Meta(description="The profile format; always 1.")]
    extends: Annotated[
        str | None,
        Meta(
            description="A shipped profile's name, or a file relative to this one, that this profile is laid over: "
            "mappings merge, lists are replaced, `addons` merge by name."
        ),
    ] = None
    listen: Annotated[ListenAddress, Meta(description="`HOST:PORT` that clients connect to.", extra=_RESTART)] = (
        "127.0.0.1:8080"
    )
    admin: Annotated[AdminSettings, Meta(description="The control surface.")] = AdminSettings()
    upstream: Annotated[UpstreamSettings, Meta(description="The servers behind the gateway.")] = UpstreamSettings()
    limits: Annotated[LimitSettings, Meta(description="Bounds on memory.")] = LimitSettings()
    log: Annotated[LogSettings, Meta(description="What is logged, and how.")] = LogSettings()
    shutdown_grace: Annotated[Duration, Meta(description="How long requests in flight may finish after SIGTERM.")] = (
        Duration("10s")
    )
    watch: Annotated[
        bool,
        Meta(
            description="Follow the files that the profile is read from: what changes in them takes over at once. "
            "`false`: only on SIGHUP."
        ),
    ] = True
    addons: Annotated[tuple[AddonEntry, ...], Meta(description="The addons, loaded in this order.")] = ()
    tests: Annotated[
        tuple[CaseSettings, ...],
        Meta(
            description="What the profile promises: requests, what the servers do, and what must come of it. "
            "`holdfast check PROFILE --test` plays them; a gateway that runs does not look at them. "
            "They belong to this file and are not inherited."
        ),
    ] = ()
    source: Annotated[
        str, Meta(description="The file or shipped name it was loaded from.", extra={"internal": True})
    ] = ""
