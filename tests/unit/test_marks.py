"""marks: what is beside a flow in mitmweb, and what a replay by hand makes of it."""

from typing import Any

import pytest
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.test import tflow

from holdfast.exchange import exchange_of
from holdfast.marks import BY_HAND, MARKS, REPLAY, by_hand, fingerprint, mark
from holdfast.policy.fate import FATES

TRIED = {"server": "http://a:1", "error": None, "status": 201, "duration_ms": 12.4}


def flow_with(**exchange: Any) -> HTTPFlow:
    flow = tflow.tflow(resp=True)
    exchange_of(flow).update(**({"fate": "ok", "reason": "", "attempts": [TRIED]} | exchange))  # type: ignore[typeddict-item]
    return flow


def test_each_fate_has_a_mark_of_its_own() -> None:
    """But for what simply passed."""
    assert set(MARKS) == set(FATES) - {"ok"}
    assert len({*MARKS.values(), BY_HAND, REPLAY}) == len(MARKS) + 2


@pytest.mark.parametrize(
    ("exchange", "symbol", "comment"),
    [
        ({}, "", ""),
        (
            {
                "fate": "retried",
                "reason": "attempts:2",
                "route": "user",
                "attempts": [TRIED | {"error": "reset"}, TRIED],
            },
            MARKS["retried"],
            "retried: attempts:2\n· route user\n· attempt 1 http://a:1 reset 12 ms\n· attempt 2 http://a:1 201 12 ms",
        ),
        ({"replay": "ID"}, REPLAY, "replay of capture ID: ok\n· attempt 1 http://a:1 201 12 ms"),
        ({"by_hand": ""}, BY_HAND, "replay by hand: ok\n· attempt 1 http://a:1 201 12 ms"),
        (
            {"fate": "failed", "reason": "x", "detail": "refused", "by_hand": "ID", "edited": True, "attempts": []},
            MARKS["failed"],
            "replay by hand of capture ID, edited: failed: refused\n"
            "· the capture stays as it was; if this has settled it: holdfast captures discard ID",
        ),
        ({"fate": "hit", "reason": "max-age", "attempts": []}, MARKS["hit"], "hit: max-age"),
        (
            {
                "fate": "captured",
                "reason": "http_503",
                "attempts": [],
                "capture_id": "ID",
                "cache_pass": "bypass:no-store",
            },
            MARKS["captured"],
            "captured: http_503\n· cache: passed by, bypass:no-store\n· holdfast.show ID tells what becomes of it\n"
            "· holdfast.replay ID puts it into the flow list, to edit and to send",
        ),
    ],
)
def test_a_flow_says_what_became_of_it(exchange: dict[str, Any], symbol: str, comment: str) -> None:
    """The fate, the route, each attempt, the cache, the capture."""
    flow = flow_with(**exchange)
    mark(flow, exchange_of(flow))
    assert (flow.marked, flow.comment) == (symbol, comment)


def test_the_comment_has_what_the_caches_member_says() -> None:
    """The gateway's own is the last one, whatever caches before it have said."""
    flow = flow_with(fate="stale", reason="stale-if-error", attempts=[])
    flow.response = Response.make(
        200, headers=[(b"cache-status", b"cdn; hit"), (b"cache-status", b"holdfast;hit;ttl=-3")]
    )
    mark(flow, exchange_of(flow))
    assert flow.comment == "stale: stale-if-error\n· cache: hit;ttl=-3"


def test_a_replay_by_hand_begins_anew_and_remembers_the_capture() -> None:
    """Else the flow would show the answer of one request and the fate of another."""
    flow = flow_with(fate="captured", capture_id="ID", reason="http_503", error="http_503")
    exchange_of(flow)["as_captured"] = fingerprint(flow.request)
    mark(flow, exchange_of(flow))
    by_hand(flow)
    assert (flow.marked, flow.comment) == ("", "")
    assert exchange_of(flow)["by_hand"] == "ID"
    assert not exchange_of(flow)["edited"]
    assert (flow.request.headers["holdfast-capture-id"], flow.request.headers["holdfast-replay"]) == ("ID", "1")
    for edit in ("method", "path", "text"):
        setattr(flow.request, edit, "/CHANGED")
        by_hand(flow)
        assert exchange_of(flow)["edited"]


def test_what_a_person_has_written_beside_a_flow_stays() -> None:
    """Their mark and their comment are theirs."""
    flow = flow_with(fate="captured", capture_id="ID")
    flow.marked, flow.comment = ":star:", "mine"
    by_hand(flow)
    assert (flow.marked, flow.comment) == (":star:", "mine")
    other = flow_with()
    other.comment = ""
    by_hand(other)
    assert exchange_of(other) == {"by_hand": ""}
