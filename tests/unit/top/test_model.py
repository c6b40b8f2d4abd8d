"""From what was read to what is shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.top.frame import Frame, Seen
from holdfast.top.history import History
from holdfast.top.model import GROUPS, frame_of
from tests.unit.top.scrapes import requests, scrape

A, B = "http://127.0.0.1:1", "http://127.0.0.1:2"


def frame(*readings: dict[str, float], **seen: Any) -> Frame:
    """The frame after these readings, a second apart."""
    history = History(GROUPS)
    for second, samples in enumerate(readings):
        history.add(scrape(float(second), samples))
    return frame_of(history, Seen(**seen), address="127.0.0.1:9900", at=1000.0, interval=1.0)


def attempts(server: str, **outcomes: float) -> dict[str, float]:
    return {f'holdfast_upstream_attempts_total{{server="{server}",outcome="{o}"}}': n for o, n in outcomes.items()}


def opened(**servers: float) -> dict[str, float]:
    return {f'holdfast_upstream_open{{server="{name}"}}': value for name, value in servers.items()}


def test_a_gateway_that_was_never_read_has_no_parts() -> None:
    """And says why."""
    found = frame(away="Connection refused", away_seconds=3.0)
    assert (found.gateway.status, found.gateway.away, found.gateway.away_seconds) == ("away", "Connection refused", 3.0)
    assert (found.requests, found.servers, found.outbox, found.replay, found.cache) == (None, (), None, None, None)


def test_requests_are_shown_by_fate_in_the_usual_order() -> None:
    """With rate, minute, total and line."""
    found = frame(requests(failed=1, ok=10), requests(failed=3, ok=20, hit=5)).requests
    assert found
    assert [(f.name, f.rate, f.minute, f.total) for f in found.fates] == [
        ("ok", 10, 10, 20),
        ("hit", 5, 5, 5),
        ("failed", 2, 2, 3),
    ]
    assert found.rate == 17
    assert found.fates[0].line[-1] == 10


def test_a_gateway_that_is_away_has_no_rates_and_keeps_its_totals() -> None:
    """An old rate would look like a living gateway."""
    found = frame(requests(ok=10), requests(ok=20), away="Connection refused")
    assert found.requests
    assert (found.requests.rate, found.requests.fates[0].rate, found.requests.fates[0].total) == (None, None, 20)
    assert found.gateway.uptime_seconds is None


def test_routes_that_lose_requests_come_first() -> None:
    """Then the busiest; the share is of the last minute."""
    routes = {"quiet": (1, 0), "busy": (90, 0), "broken": (6, 2)}
    samples = {
        f'holdfast_requests_total{{route="{route}",fate="{fate}"}}': float(count)
        for route, counts in routes.items()
        for fate, count in zip(("ok", "captured"), counts, strict=True)
    }
    found = frame(dict.fromkeys(samples, 0.0), samples).requests
    assert found
    assert [(r.route, r.failed, r.minute) for r in found.routes] == [
        ("broken", 0.25, 8),
        ("busy", 0, 90),
        ("quiet", 0, 1),
    ]


def page(circuit: str = "closed", status: str = "ok", **more: Any) -> dict[str, Any]:
    return {"circuit": circuit, "status": status, "healthy": True, "consecutive_failures": 0, **more}


@pytest.mark.parametrize(
    ("told", "gauge", "state"),
    [
        (page(), 0, "ok"),
        (page("open", "failing"), 1, "open"),
        (page("half_open", "failing"), 0, "half open"),
        (page(status="failing"), 0, "failing"),
        (page(healthy=False), 1, "unhealthy"),
        (page(), 1, "ok"),  # the two pages are not of the same moment: the health page is the finer one
        (None, 1, "open"),
        (None, 0, "unknown"),
    ],
)
def test_a_server_is_in_one_state(told: dict[str, Any] | None, gauge: float, state: str) -> None:
    """By the health page; by the gauge alone where that could not be had."""
    health = {"upstream": {A: told}} if told else None
    (server,) = frame(opened(**{A: gauge}), health=health).servers
    assert server.state == state


def test_what_a_person_has_opened_is_told_apart() -> None:
    """Nobody need look for a fault of the server then."""
    health = {"upstream": {A: page("open", forced_open=True), B: page("open", forced_open=False)}}
    assert {row.server: row.by_hand for row in frame(opened(**{A: 1, B: 1}), health=health).servers} == {
        A: True,
        B: False,
    }


def test_servers_show_their_attempts_the_worst_server_first() -> None:
    """`failed` are all outcomes but ok."""
    health = {
        "upstream": {A: page(since=990.0), B: page("open", "failing", consecutive_failures=7, last_error="reset")}
    }
    gauges = opened(**{A: 0, B: 1})
    first = gauges | attempts(A, ok=0) | attempts(B, ok=0)
    found = frame(first, gauges | attempts(A, ok=8, reset=2) | attempts(B, reset=3), health=health).servers
    assert [(s.server, s.state, s.rate, s.failed, s.failures, s.last_error) for s in found] == [
        (B, "open", 3, 3, 7, "reset"),
        (A, "ok", 10, 2, 0, ""),
    ]
    assert found[1].since_seconds == 10


def test_addresses_that_are_counted_together_show_no_rate() -> None:
    """A name with two addresses: the figure is of both, and of neither."""
    one, two = "http://a.test:1#10.0.0.1", "http://a.test:1#10.0.0.2"
    gauges = opened(**{one: 0, two: 0, f"{B} (stock)": 0})
    counted = attempts("http://a.test:1", ok=4) | attempts(B, ok=2)
    found = frame(gauges | dict.fromkeys(counted, 0.0), gauges | counted).servers
    assert {s.server: s.rate for s in found} == {one: None, two: None, f"{B} (stock)": 2}


def test_what_is_wrong_is_said_in_words() -> None:
    """Components that fail, a profile that was refused, a gateway that drains, a page that could not be had."""
    health = {
        "status": "degraded",
        "gateway": {"status": "draining"},
        "kafka": {"status": "failing", "detail": "no broker"},
        "redis": {"status": "not_configured"},
        "outbox": "nonsense",
        "replayer": {"status": "failing"},
        "profile": {"status": "failing", "source": "p.yaml", "faults": ["p.yaml:3: upstream: no", "p.yaml:4: x"]},
    }
    found = frame(requests(ok=1), health=health, notes=("/captures: answered 500",)).gateway
    assert found.troubles == (
        "the gateway is draining",
        "kafka: no broker",
        "replayer: failing",
        "the profile's files were refused, the old one holds: p.yaml:3: upstream: no (and 1 more)",
        "/captures: answered 500",
    )
    assert (found.status, found.profile) == ("degraded", "p.yaml")


def outbox(**changes: float) -> dict[str, float]:
    return {
        'holdfast_captures_total{route="users",error="reset"}': 4.0,
        'holdfast_capture_failures_total{reason="outbox_full"}': 2.0,
        'holdfast_outbox_records{state="pending"}': 3.0,
        'holdfast_outbox_records{state="quarantined"}': 1.0,
        "holdfast_outbox_bytes": 500.0,
        "holdfast_outbox_max_bytes": 1000.0,
        "holdfast_outbox_oldest_seconds": 90.0,
        "holdfast_relay_published_total": 7.0,
        "holdfast_relay_errors_total": 1.0,
        **changes,
    }


def test_the_outbox_shows_what_waits_and_what_was_lost() -> None:
    """And the broker's state."""
    kafka = {"kafka": {"status": "failing"}}
    found = frame(outbox(), outbox(holdfast_relay_published_total=9.0), health=kafka).outbox
    assert found
    assert found.published
    assert (found.waiting, found.quarantined, found.bytes, found.max_bytes, found.oldest_seconds) == (
        3,
        1,
        500,
        1000,
        90,
    )
    assert [(each.name, each.total) for each in found.refused] == [("outbox_full", 2)]
    assert (found.published.rate, found.broker, found.captured.total) == (2, "failing", 4)


def test_without_a_broker_nothing_is_published() -> None:
    """`embedded://` publishes nothing, and 0 would look like a fault."""
    found = frame(outbox(), health={"kafka": {"status": "not_configured"}}).outbox
    assert found
    assert (found.published, found.errors, found.broker) == (None, None, "")


def test_the_hit_rate_is_over_what_the_cache_was_asked_for() -> None:
    """Stale answers are answers; what passes by it does not count."""
    results = {"hit": 6, "stale": 2, "miss": 1, "revalidated": 1, "pass": 100}
    samples = {f'holdfast_cache_requests_total{{result="{name}"}}': float(n) for name, n in results.items()}
    found = frame(dict.fromkeys(samples, 0.0), samples | {"holdfast_cache_store_up": 0.0}).cache
    assert found
    assert (found.hit_rate, found.store_up) == (0.8, False)
    assert [each.name for each in found.results] == ["hit", "stale", "miss", "revalidated", "pass"]


REPLAY = {
    'holdfast_replay_open{due="now"}': 5.0,
    'holdfast_replay_open{due="later"}': 2.0,
    "holdfast_replay_lag": 12.0,
    "holdfast_replay_oldest_seconds": 30.0,
    "holdfast_replay_paused": 1.0,
    'holdfast_replay_total{outcome="dead"}': 1.0,
    'holdfast_replay_total{outcome="delivered"}': 9.0,
}


def test_the_replayer_shows_what_is_open_and_what_became_of_the_rest() -> None:
    """Delivered first."""
    found = frame(REPLAY).replay
    assert found
    assert (found.now, found.later, found.lag, found.oldest_seconds, found.paused) == (5, 2, 12, 30, True)
    assert [(each.name, each.total) for each in found.outcomes] == [("delivered", 9), ("dead", 1)]


@pytest.mark.parametrize("name", REPLAY)
def test_a_replayer_may_show_any_part_of_its_figures(name: str) -> None:
    """The others are unknown, not 0."""
    found = frame({name: REPLAY[name]}).replay
    assert found
    assert (found.lag is None) == (name != "holdfast_replay_lag")


def test_a_frame_is_json() -> None:
    """What `--json` prints; control characters are escaped by it."""
    captures = [{"id": "1", "captured": 999.0, "path": "/\x1b[2J", "state": "pending", "status": None, "sent": None}]
    found = frame(requests(ok=1) | outbox() | REPLAY, captures=captures)
    text = msgspec.json.encode(found)
    assert b"\x1b" not in text
    assert msgspec.json.decode(text, type=Frame) == found
