"""Values that are each allowed, and make no sense together. Pure; each rule stands here once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.policy.endpoint import parse_endpoint, parse_listen
from holdfast.profile.entries import path_of
from holdfast.profile.settings import Profile, RetrySettings, RouteUpstreamSettings

type Told = tuple[str, str, str]  # the dotted path, what is wrong, what to do

_ENVELOPE = 64 * 1024  # a capture holds the header and the attempts besides the body
_SHORTEST_TOKEN = 16
_NEW_TOKEN = "make one with `openssl rand -hex 24`"  # noqa: S105 - is none
_GUESSED = ("changeme", "change-me", "secret", "password", "token", "admin", "holdfast", "letmein", "example", "test")


def nonsense(profile: Profile) -> list[Told]:
    """Everything that is found."""
    upstream = profile.upstream
    for_all = [*_patience(upstream), *_retries(upstream, RetrySettings()), *_servers(upstream)]
    if any(route.retry.attempts > 1 for route in upstream.routes.values()):
        for_all = [each for each in for_all if each[0] != "retry.attempts"]  # `on` is for those routes
    found = [*_listeners(profile), *_token(profile), *_under("upstream", for_all)]
    for name, route in upstream.routes.items():
        own = [*_patience(route), *_retries(route, upstream.retry), *_servers(route)]
        # What a route takes over has been told.
        found += _under(f"upstream.routes.{name}", [each for each in own if each not in for_all])
    return [*found, *_under("upstream", list(_tls(profile))), *_addons(profile)]


def _under(path: str, found: list[Told]) -> Iterator[Told]:
    for key, what, advice in found:
        yield f"{path}.{key}" if key else path, what, advice


def _listeners(profile: Profile) -> Iterator[Told]:
    admin = profile.admin.listen
    if not admin:
        return
    (host, port), (other, same) = parse_listen(profile.listen), parse_listen(admin)
    if port == same != 0 and (host == other or {host, other} & {"0.0.0.0", "::"}):
        yield "admin.listen", f"has the port of `listen` ({profile.listen})", "choose another, such as 127.0.0.1:9900"


def _token(profile: Profile) -> Iterator[Told]:
    token = profile.admin.token
    if not token:
        return
    if token.lower().strip("!1234567890") in _GUESSED or len(set(token)) < 5:
        yield "admin.token", "is easily guessed", _NEW_TOKEN
    elif len(token) < _SHORTEST_TOKEN:
        yield "admin.token", f"has {len(token)} characters, and can be tried out", _NEW_TOKEN


def _patience(upstream: RouteUpstreamSettings) -> Iterator[Told]:
    """Timeouts against the deadline, checks against their interval, and a breaker that never or always acts."""
    deadline, retry = upstream.deadline, upstream.retry
    for key in ("connect_timeout", "response_timeout"):
        limit = getattr(upstream, key)
        advice = f"raise deadline or lower {key}"
        if limit > deadline:
            yield key, f"is {limit}, and never reached: `deadline` ends everything after {deadline}", advice
        elif limit == deadline and retry.attempts > 1 and "timeout" in retry.on:
            told = f"is {limit}, as `deadline` is: after a timeout no time is left for another attempt"
            yield key, told, advice
    check = upstream.health_check
    if check and check.timeout > check.interval:
        told = f"is {check.timeout}, longer than `interval` ({check.interval})"
        yield "health_check.timeout", told, "lower it, or raise the interval"
    breaker = upstream.breaker
    if breaker.failure_rate is not None and breaker.keep >= 1:
        yield "breaker.keep", "is 100%, so that `failure_rate` takes no server out", "lower it, such as to 50%"
    if breaker.failure_rate is not None and not breaker.failure_rate:
        advice = "raise it, such as to 50%, or write null"
        yield "breaker.failure_rate", "is 0%, which one failure exceeds", advice


def _retries(upstream: RouteUpstreamSettings, others: RetrySettings) -> Iterator[Told]:
    """Retries that never happen. `others`: what would hold if nothing were said."""
    retry = upstream.retry
    if retry.attempts > 1 and not retry.on:
        yield "retry.on", "is empty, so nothing is ever retried", "name kinds of failure, or set `attempts: 1`"
    if retry.attempts == 1 and (retry.on, retry.methods) != (others.on, others.methods):
        told = "is 1, the first attempt: what `on` and `methods` say is of no use"
        yield "retry.attempts", told, "set attempts to 2 or more"
    if retry.attempts > 1 and retry.backoff.base >= upstream.deadline:
        told = f"waits up to {retry.backoff.base} before the second attempt, and `deadline` is {upstream.deadline}"
        yield "retry.backoff.base", told, "lower it, such as to 50ms"


def _servers(upstream: RouteUpstreamSettings) -> Iterator[Told]:
    servers = upstream.each_server()
    addresses = [parse_endpoint(server.url).address for server in servers]
    twice = next((each for each in addresses if addresses.count(each) > 1), None)
    if twice:
        advice = "take one out, and give the other a `weight` if it is to get more"
        yield "servers", f"name {twice[0]}:{twice[1]} twice", advice
    if all(server.backup for server in servers):
        yield "servers", "are all `backup: true`, so that none is asked first", "leave it out at one of them"


def _tls(profile: Profile) -> Iterator[Told]:
    upstream = profile.upstream
    https = any(
        parse_endpoint(server.url).tls
        for section in (upstream, *upstream.routes.values())
        for server in section.each_server()
    )
    if upstream.ca_file and not https:
        advice = "write https:// there, or take it out"
        yield "ca_file", "is of no use: none of the servers is https://", advice
    if upstream.ca_file and not upstream.verify_tls:
        yield "ca_file", "is not looked at with `verify_tls: false`", "take that out"
    elif https and not upstream.verify_tls:
        told = "is false: whoever gets between sees and changes everything"
        yield "verify_tls", told, "name the authority in `ca_file` instead"


def _addons(profile: Profile) -> Iterator[Told]:
    for entry in profile.addons:
        if rule := _BY_ADDON.get(entry.target):
            yield from _under(path_of(entry.name), list(rule(entry.settings, profile)))


def _cache(settings: Any, _: Profile) -> Iterator[Told]:
    if settings.store.startswith("memory://") and settings.max_body > settings.memory:
        told = f"is {settings.max_body}, and all of the memory is {settings.memory}"
        yield "max_body", told, "lower it, or raise `memory`"


def _failure_sink(settings: Any, profile: Profile) -> Iterator[Told]:
    if settings.max_record > settings.max_bytes:
        told = f"is {settings.max_record}, more than the outbox holds (`max_bytes`: {settings.max_bytes})"
        yield "max_record", told, "lower it, or raise `max_bytes`"
    largest = profile.limits.buffer_body * 4 // 3 + _ENVELOPE  # in base64
    if largest > settings.max_record:
        told = f"is {settings.max_record}: bodies of `limits.buffer_body` ({profile.limits.buffer_body}) may not fit"
        yield "max_record", told, "raise it to one and a half times that"


def _notifier(settings: Any, _: Profile) -> Iterator[Told]:
    if not settings.webhook and settings.kafka is None:
        yield "", "tells nobody", "set `webhook` or `kafka`, or take it out"


_BY_ADDON = {"cache": _cache, "failure_sink": _failure_sink, "notifier": _notifier}
