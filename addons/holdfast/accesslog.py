"""The last addon of every chain: decides the fate of each request once, and writes it where people look.

One log line per request, the mark and the comment in mitmweb, and `fate` and `reason` in the exchange. The metrics
addon registers itself here, so that metric, log line and mark cannot disagree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mitmproxy.http import HTTPFlow

from holdfast.engine.failures import client_replay_failure
from holdfast.exchange import Exchange, exchange_of, route_of, sent_status
from holdfast.gateway import Gateway
from holdfast.logs import line_maker, tell
from holdfast.marks import faults_of, fingerprint, mark
from holdfast.policy.answer import with_fate
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.fate import Outcome, fate_of

access = logging.getLogger("holdfast.access")

_TOLD = frozenset(
    {"error", "withheld", "capture_id", "rejected", "closed_by", "cached", "understudy", "faults", "sent_status"}
)
"""The keys of an exchange that decide its fate, beside its attempts."""

Observer = Callable[[HTTPFlow, Exchange, float], None]


class AccessLog:
    """Ends the exchange. An observer is called as observer(flow, exchange, seconds) once a request."""

    name = "holdfast-accesslog"

    def __init__(self, gateway: Gateway, observers: list[Observer]) -> None:
        self._gateway = gateway
        self._observers = observers

    def responseheaders(self, flow: HTTPFlow) -> None:
        """Here, because a response that is passed on as it comes has no other moment at which its header can change."""
        exchange = exchange_of(flow)
        ended = len(exchange.get("attempts", ()))
        if not ended and _nothing_has_happened(flow, exchange):
            return  # it is `ok`, of which there is nothing to be told
        # The attempt that has brought this header has not ended yet.
        begun = ended + (not exchange.get("answered") and ended > 0)
        show(flow, *fate_of(outcome_of(flow, exchange, begun)))

    def response(self, flow: HTTPFlow) -> None:
        self._end(flow)

    def error(self, flow: HTTPFlow) -> None:
        self._end(flow)

    def _end(self, flow: HTTPFlow) -> None:
        exchange = exchange_of(flow)
        if "fate" in exchange:
            return
        clock = self._gateway.leg.clock
        seconds = clock() - exchange.get("started", clock())
        if "by_hand" in exchange:
            _account(flow, exchange, seconds)
        exchange["fate"], exchange["reason"] = fate_of(outcome_of(flow, exchange))
        if exchange["fate"] == "stale" and "holdfast-fate=" not in _proxy_status(flow):
            show(flow, exchange["fate"], exchange["reason"])  # it took the place of the upstream's answer just now
        if "capture_id" in exchange or exchange.get("edited") is False:
            exchange["as_captured"] = fingerprint(flow.request)
        mark(flow, exchange)
        for observe in self._observers:
            observe(flow, exchange, seconds)
        if self._gateway.profile.log.access:
            tell(access, "request", line_of(flow, exchange, seconds))


def hit_line(flow: HTTPFlow, exchange: Exchange) -> Callable[[str, float], None]:
    """What writes the line of a further hit that is answered as this flow was, given its id and its seconds."""
    write = line_maker(access, "request", line_of(flow, exchange, 0.0), ("request_id", "duration_ms"))
    return lambda request_id, seconds: write(request_id, round(seconds * 1000, 3))


def outcome_of(flow: HTTPFlow, exchange: Exchange, attempts: int | None = None) -> Outcome:
    """What `policy.fate` needs to know; `attempts` where it is not as many as have ended."""
    if _nothing_has_happened(flow, exchange):
        return Outcome(sent_status(flow), attempts=len(exchange.get("attempts", ())) if attempts is None else attempts)
    broken = flow.error.msg if flow.error else None
    withheld = exchange.get("withheld") if "capture_id" in exchange else None
    return Outcome(
        status=sent_status(flow),
        error=exchange.get("error") or withheld,
        attempts=len(exchange.get("attempts", ())) if attempts is None else attempts,
        capture_id=exchange.get("capture_id"),
        rejected=exchange.get("rejected") or _refusal(broken),
        closed_by=exchange.get("closed_by"),
        cached=(exchange["cached"], exchange["cached_because"]) if "cached" in exchange else None,
        understudy=exchange.get("understudy"),
        fault=_shown_fault(exchange),
        broken=_broken(broken),
    )


def _nothing_has_happened(flow: HTTPFlow, exchange: Exchange) -> bool:
    """As to most."""
    return not flow.error and _TOLD.isdisjoint(exchange)


def show(flow: HTTPFlow, fate: str, reason: str) -> None:
    """Tell the client, in `Proxy-Status`, what an ordinary answer does not show by itself."""
    assert flow.response
    if fate in ("ok", "hit"):
        return  # Cache-Status tells of a hit
    headers = flow.response.headers
    if exchange_of(flow).get("answered") and "proxy-status" in headers:
        headers["proxy-status"] += f"; holdfast-fate={fate}"
    else:
        # One member for each proxy on the way, the one nearest to the origin first (RFC 9209, section 2).
        headers.add("Proxy-Status", with_fate(flow.response.status_code, fate, reason))


def line_of(flow: HTTPFlow, exchange: Exchange, seconds: float) -> dict[str, object]:
    """The fields of the access log line. The query string is left out: it may hold secrets."""
    fields: dict[str, object] = {
        "request_id": exchange.get("request_id"),
        "route": route_of(flow),
        "method": flow.request.method,
        "path": flow.request.path.partition("?")[0],
        "status": sent_status(flow) if "faults" in exchange else flow.response.status_code if flow.response else None,
        "fate": exchange["fate"],
        "duration_ms": round(seconds * 1000, 3),
        "attempts": len(exchange.get("attempts", ())),
    }
    if exchange["reason"]:
        fields["reason"] = exchange["reason"]
    for key in ("capture_id", "capture_failed", "not_retried", "understudy"):
        if key in exchange:
            fields[key] = exchange[key]
    if "faults" in exchange:
        fields["faults"] = ",".join(faults_of(exchange))
    if "replay" in exchange:
        fields["replay"] = exchange["replay"]
    for hand in ("by_hand", "edited"):
        if hand in exchange:
            fields[hand] = exchange[hand]
    if "refresh" in exchange:
        fields["refresh"] = True  # the gateway's own, with the id of the request that caused it
    return fields


def _account(flow: HTTPFlow, exchange: Exchange, seconds: float) -> None:
    """mitmproxy's own client replay is one attempt, past the upstream leg: nobody else has noted it."""
    killed = flow.error and flow.error.msg == flow.error.KILLED_MESSAGE
    if exchange.get("answered") or exchange.get("attempts") or killed:
        return
    request, failure = flow.request, client_replay_failure(flow)
    if failure:
        exchange["error"], exchange["detail"] = failure.error, failure.detail
    exchange["attempts"] = [
        {
            "server": str(Endpoint(request.scheme, request.host, request.port)),
            "error": failure.error if failure else None,
            "status": flow.response.status_code if flow.response and not failure else None,
            "duration_ms": round(seconds * 1000, 3),
        }
    ]


def _shown_fault(exchange: Exchange) -> str | None:
    """The rule by which the client has got no answer, half of one or another one that is an error."""
    if exchange.get("sent_status", 400) < 400:
        return None
    spoilt = ("status", "reset", "hang", "truncate", "corrupt")
    shown = [f["rule"] for f in exchange.get("faults", ()) if f["at"] == "client" and f["kind"] in spoilt]
    return shown[0] if shown else None


def _proxy_status(flow: HTTPFlow) -> str:
    return str(flow.response.headers.get("proxy-status", "")) if flow.response else ""


def _refusal(message: str | None) -> str | None:
    """mitmproxy's own refusals of a client's request, as a token."""
    if message is None:
        return None
    if "body_size_limit" in message:
        return "body_too_large"
    return "malformed_request" if "from client" in message or "HTTP request" in message else None


def _broken(message: str | None) -> str | None:
    if message is None:
        return None
    text = message.lower()
    return "client_disconnected" if "client disconnected" in text or "killed" not in text else "killed"
