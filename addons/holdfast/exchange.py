"""What Holdfast knows about one request: a plain dictionary in `flow.metadata["holdfast"]`.

Plain values only, because mitmproxy writes metadata to flow files and other people's addons may read and add keys.
The intake addon opens it, everything after that may rely on the keys marked as always there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from mitmproxy.http import HTTPFlow

KEY = "holdfast"


class Attempt(TypedDict):
    """One try at the upstream. `error` is an RFC 9209 token or None; `status` what the upstream answered, if it did."""

    server: str
    error: str | None
    status: int | None
    duration_ms: float


class Injected(TypedDict):
    """A fault that somebody has asked for: the rule's name, what it did and where, `client` or `upstream`."""

    rule: str
    kind: str
    at: str


class Exchange(TypedDict, total=False):
    """The keys; those above the gap are set for every request before any addon of the profile sees it."""

    request_id: str
    started: float  # monotonic seconds
    attempts: list[Attempt]

    trace_minted: bool  # the client brought no `traceparent`: the ids in it are the gateway's own
    original_host: str  # the client's Host, before reverse mode replaces it
    request_streamed: bool  # the body was not held: it went upstream, or into the spool, as it arrived
    request_bytes: int  # of a streamed body, which the flow does not keep
    retry_in: float  # seconds until it makes sense to ask again, such as a server that is held back
    backoff: float  # seconds to wait before the next attempt
    route: str
    route_params: dict[str, str]
    error: str  # why the upstream leg gave up: RFC 9209 token, or http_502 and the like
    detail: str  # the same for people
    not_retried: str  # why no further attempt was made
    withheld: str  # why it goes to no server: `accepted` or `queued`
    key: str  # what orders it, once somebody has asked
    capture_id: str
    capture_failed: str  # the reason token of a refused capture
    rejected: str  # why the gateway itself refused the request
    closed_by: str  # the addon whose failure fails the request (`on_error: closed`)
    faults: list[Injected]  # those that were asked for and have acted on this request
    distorted: bool  # what came from upstream is not what a server has sent: it must not be stored
    sent_status: int  # of the answer that a fault has put in place of the response
    answered: bool  # the gateway, not the upstream, made the response
    tags: list[str]  # surrogate keys of the response
    untaggable: str  # why its surrogate keys could not be used: it must not be stored
    cached: str  # `hit` or `stale`: the answer came from the cache
    cached_because: str  # the directive that decided
    understudy: str  # `exact` or `route`: which recording the answer came from
    no_recording: str  # why none answers, once it has been looked for
    conditions: list[list[str]]  # the client's Range, If-None-Match and their kin, names with values
    cache_pass: str  # why the cache has no part in this request
    replay: str  # the id of the capture that this request of the gateway's own replays
    by_hand: str  # a person replays this flow: the id of the capture that it is of, or empty
    edited: bool  # and has changed what was captured
    as_captured: str  # what tells whether a person has (`marks.fingerprint`)
    comment: str  # what the gateway has written beside the flow
    refresh: str  # the cache key that this request of the gateway's own fetches anew
    fate: str
    reason: str


def exchange_of(flow: HTTPFlow) -> Exchange:
    """The exchange of this flow; an empty one where intake has not run, as for a flow loaded from a file."""
    try:
        return flow.metadata[KEY]  # type: ignore[no-any-return]  # asked for thirty times a request
    except KeyError:
        return flow.metadata.setdefault(KEY, {})  # type: ignore[no-any-return]


def is_own(flow: HTTPFlow) -> bool:
    """Whether the gateway, or whoever watches it, has asked, and no client waits for what becomes of it."""
    exchange = exchange_of(flow)
    return "refresh" in exchange or "replay" in exchange or flow.is_replay == "request"


def is_replay(exchange: Exchange) -> bool:
    """Whether a capture or another flow is sent again: to the upstream, whatever the cache has, and as no client's."""
    return "replay" in exchange or "by_hand" in exchange


def sent_status(flow: HTTPFlow) -> int | None:
    """What the client was answered; None if it was not."""
    if flow.error and "sent_status" not in exchange_of(flow):
        return None
    return exchange_of(flow).get("sent_status", flow.response.status_code if flow.response else None)


def route_of(flow: HTTPFlow) -> str:
    """The bounded route label; `unrouted` when the profile has no router or the request never reached it."""
    try:
        return flow.metadata[KEY]["route"]  # type: ignore[no-any-return]
    except KeyError:
        return "unrouted"
