"""What mitmweb and the console show beside a flow: a mark for its fate, and a comment that says what happened.

A person's own mark and comment stay. `by_hand` is what becomes of the exchange when a person replays a flow there.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain

from mitmproxy.connection import Server
from mitmproxy.http import HTTPFlow, Request

from holdfast.exchange import KEY, Attempt, Exchange, exchange_of
from holdfast.policy.caching.status import NAME

MARKS = {
    "retried": ":arrows_counterclockwise:",
    "captured": ":inbox_tray:",
    "failed": ":x:",
    "rejected": ":no_entry_sign:",
    "stale": ":hourglass:",
    "hit": ":zap:",
}
REPLAY = ":repeat:"  # what the replayer sends again, if all goes well
FAULTY = ":wrench:"  # what simply passed, but for a fault that was asked for
BETWEEN = "\n· "  # a line each in the console; mitmweb makes one of them
BY_HAND = ":hand:"  # what a person sends again, and a capture that is loaded for that


def mark(flow: HTTPFlow, exchange: Exchange) -> None:
    """Once its fate is known. What simply passed stays as it is."""
    symbol = MARKS.get(exchange["fate"]) or (
        BY_HAND if "by_hand" in exchange else REPLAY if "replay" in exchange else FAULTY if "faults" in exchange else ""
    )
    if symbol:
        label(flow, symbol, comment_of(flow, exchange))


def label(flow: HTTPFlow, symbol: str, comment: str) -> None:
    """Where a person has not written anything."""
    if not flow.marked:
        flow.marked = symbol
    if not flow.comment:
        flow.comment = exchange_of(flow)["comment"] = comment


def by_hand(flow: HTTPFlow) -> None:
    """A person replays this flow. What was known of it is over, but of which capture it is, and whom it asked."""
    before = exchange_of(flow)
    if flow.comment == before.get("comment"):
        flow.comment = ""
    if flow.marked in (*MARKS.values(), REPLAY, BY_HAND, FAULTY):
        flow.marked = ""
    now: Exchange = {"by_hand": before.get("by_hand") or before.get("capture_id") or before.get("replay") or ""}
    if "original_host" in before:
        now["original_host"] = before["original_host"]
    request = flow.request
    if "as_captured" in before:
        now["as_captured"] = before["as_captured"]
        now["edited"] = fingerprint(request) != before["as_captured"]
    if now["by_hand"]:
        request.headers.setdefault("holdfast-replay", "1")
        request.headers.setdefault("holdfast-capture-id", now["by_hand"])
    flow.metadata[KEY] = now
    flow.server_conn = Server(address=(request.host, request.port))  # that of before would seem to be this one's


def fingerprint(request: Request) -> str:
    """Of what a person may edit."""
    method, fields = request.method.encode("latin-1", "replace"), chain.from_iterable(request.headers.fields)
    parts = [method, request.data.path, *fields, request.raw_content or b""]
    lengths = b",".join([b"%d" % len(part) for part in parts])
    return blake2b(b"%b:%b" % (lengths, b"".join(parts)), digest_size=16).hexdigest()


def comment_of(flow: HTTPFlow, exchange: Exchange) -> str:
    """For people: the fate and why, the route, each attempt, what the cache did, where the capture is."""
    detail, reason = exchange.get("detail"), exchange["reason"]
    why = f"{reason}, since {detail}" if detail and exchange["fate"] == "stale" else detail or reason
    lines = [": ".join(part for part in (_what(exchange), why) if part)]
    if "route" in exchange:
        lines.append(f"route {exchange['route']}")
    lines += [f"attempt {n} {_tried(each)}" for n, each in enumerate(exchange.get("attempts", ()), 1)]
    lines += [f"injected: {fault}" for fault in faults_of(exchange)]
    if "not_retried" in exchange:
        lines.append(f"not retried: {exchange['not_retried']}")
    lines += _cache(flow, exchange)
    if "capture_id" in exchange:
        lines.append(f"holdfast.show {exchange['capture_id']} tells what becomes of it")
        lines.append(f"holdfast.replay {exchange['capture_id']} puts it into the flow list, to edit and to send")
    if "capture_failed" in exchange:
        lines.append(f"not stored: {exchange['capture_failed']}")
    if exchange.get("by_hand"):
        lines.append(
            "the capture stays as it was; if this has settled it: holdfast captures discard " + exchange["by_hand"]
        )
    return BETWEEN.join(lines)


def faults_of(exchange: Exchange) -> list[str]:
    """Those that were asked for and have acted on this request, in the order of their first time."""
    told = [f"{each['rule']} ({each['kind']} at {each['at']})" for each in exchange.get("faults", ())]
    return list(dict.fromkeys(told))


def _what(exchange: Exchange) -> str:
    fate = exchange["fate"]
    if "by_hand" in exchange:
        capture = f" of capture {exchange['by_hand']}" if exchange["by_hand"] else ""
        return f"replay by hand{capture}{', edited' if exchange.get('edited') else ''}: {fate}"
    return f"replay of capture {exchange['replay']}: {fate}" if "replay" in exchange else fate


def _tried(attempt: Attempt) -> str:
    return f"{attempt['server']} {attempt['error'] or attempt['status']} {attempt['duration_ms']:.0f} ms"


def _cache(flow: HTTPFlow, exchange: Exchange) -> list[str]:
    """The gateway's own member of Cache-Status is the last one (RFC 9211, section 2)."""
    if "cache_pass" in exchange:
        return [f"cache: passed by, {exchange['cache_pass']}"]
    told = flow.response.headers.get_all("cache-status") if flow.response else []
    ours = told[-1].removeprefix(f"{NAME};") if told and told[-1].startswith(NAME) else ""
    return [f"cache: {ours}"] if ours else []
