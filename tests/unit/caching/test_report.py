"""report: what is said of the cache's part in an answer, and what clients do not see."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from holdfast.caching.filling import Fill, Served
from holdfast.caching.flow import Asked
from holdfast.caching.report import CacheReport, StoreFigures, put_answer, strip
from holdfast.exchange import exchange_of
from holdfast.policy.caching.model import StoredResponse
from holdfast.policy.caching.reuse import Fresh, Miss, Pass, StaleAllowed, StaleIfError, Validate
from holdfast.stores import Lookup, StoreHealth
from holdfast.testing import FixedClock, make_flow
from tests.unit.caching.rig import HOST, Moody, answer, status_of

NOW = 1_700_000_000.0
ASKED = Asked("GET", "http", HOST, "/a", [], has_body=False)
STORED = StoredResponse(200, ((b"ETag", b'"1"'),), b"one", NOW, NOW, (("accept", "x"),), ("t",))
FRESH, STALE = Fresh(1, 59.9, "max-age"), StaleIfError(70, -10, "grace")


@pytest.fixture
def registry() -> CollectorRegistry:
    """An empty one."""
    return CollectorRegistry()


def counted(registry: CollectorRegistry) -> dict[str, float]:
    (metric,) = [each for each in registry.collect() if each.name == "holdfast_cache_requests"]
    return {each.labels["result"]: each.value for each in metric.samples if each.name.endswith("_total")}


@pytest.mark.parametrize(
    ("decision", "more", "known", "said", "cached"),
    [
        (FRESH, {}, {}, 'hit;ttl=59;key="k"', "hit"),
        (FRESH, {"degraded": "down"}, {}, 'hit;ttl=59;key="k";detail=down', "hit"),
        (FRESH, {"collapsed": True}, {}, 'fwd=miss;ttl=59;collapsed;key="k"', "hit"),
        (StaleAllowed(70, -10, "max-stale"), {}, {}, 'hit;ttl=-10;key="k";detail=max-stale', "stale"),
        (STALE, {"degraded": "down"}, {}, 'hit;ttl=-10;key="k";detail=grace', "stale"),
        (STALE, {"fwd_status": 503}, {}, 'fwd=stale;fwd-status=503;ttl=-10;key="k";detail=grace', "stale"),
        (STALE, {}, {"error": "dns_error"}, 'fwd=stale;ttl=-10;key="k";detail=grace', "stale"),
    ],
)
def test_an_answer_from_what_is_stored_says_how_it_came_to_be(
    registry: CollectorRegistry,
    decision: Served,
    more: dict[str, Any],
    known: dict[str, Any],
    said: str,
    cached: str,
) -> None:
    """RFC 9211, section 2: a hit, another's answer, or what stands for an error."""
    flow = make_flow(exchange={"request_id": "r1", **known})
    CacheReport(registry).serve(flow, ASKED, STORED, decision, "k", NOW, **more)
    assert status_of(flow) == f"holdfast;{said}"
    assert flow.response and (flow.response.content, flow.response.headers["x-request-id"]) == (b"one", "r1")
    exchange = exchange_of(flow)
    assert (exchange["cached"], exchange["cached_because"]) == (cached, decision.because)
    assert counted(registry) == {cached: 1}


def filled(decision: Miss | Validate, *, collapsed: bool | None = None, degraded: str = "") -> Fill:
    return Fill("k", ASKED, Lookup(None, 0, degraded=degraded), decision, "c", NOW, collapsed=collapsed)


MISS, VALIDATE = Miss("nothing-stored", "miss"), Validate("stale", "stale", 70, -10)


@pytest.mark.parametrize(
    ("fill", "more", "said", "result"),
    [
        (filled(MISS), {"stored": True, "ttl": 60}, 'fwd=miss;ttl=60;stored;key="k"', "miss"),
        (
            filled(MISS),
            {"stored": False, "ttl": 60, "detail": "private"},
            'fwd=miss;stored=?0;key="k";detail=private',
            "miss",
        ),
        (filled(MISS, collapsed=False), {"stored": True}, 'fwd=miss;stored;collapsed=?0;key="k"', "miss"),
        (filled(MISS, degraded="down"), {"stored": False}, 'fwd=miss;stored=?0;key="k";detail=down', "miss"),
        (
            filled(MISS, degraded="down"),
            {"stored": False, "detail": "a"},
            'fwd=miss;stored=?0;key="k";detail=a',
            "miss",
        ),
        (
            filled(VALIDATE),
            {"stored": True, "ttl": 9, "fwd_status": 304, "result": "revalidated"},
            'fwd=stale;fwd-status=304;ttl=9;stored;key="k"',
            "revalidated",
        ),
    ],
)
def test_an_answer_of_the_upstreams_says_what_became_of_it(
    registry: CollectorRegistry, fill: Fill, more: dict[str, Any], said: str, result: str
) -> None:
    """RFC 9211, section 2: why it was asked, and whether its answer was stored."""
    flow = make_flow(response=answer())
    CacheReport(registry).forwarded(flow, fill, **more)
    assert status_of(flow) == f"holdfast;{said}"
    assert counted(registry) == {result: 1}


@pytest.mark.parametrize(
    ("decision", "said"), [(Pass("method", "method"), "fwd=method"), (Pass("a", "request"), "fwd=request;detail=a")]
)
def test_what_was_passed_says_so_once_the_answer_is_there(
    registry: CollectorRegistry, decision: Pass, said: str
) -> None:
    """RFC 9211, section 2.2, and only once."""
    flow = make_flow(response=answer(200, b"", ("Surrogate-Control", "max-age=9")))
    CacheReport(registry).passed(flow, decision)
    assert counted(registry) == {"pass": 1}
    strip(flow)
    strip(flow)
    assert status_of(flow) == f"holdfast;{said}"
    assert flow.response and "surrogate-control" not in flow.response.headers


def test_what_the_cache_knows_nothing_of_is_not_spoken_of() -> None:
    """A flow without a response, or one whose connection goes on as another protocol."""
    flow = make_flow(response=answer(101, b"", ("Surrogate-Control", "x")), exchange={"cache_pass": "method:method"})
    strip(flow)
    assert flow.response and "surrogate-control" in flow.response.headers
    assert status_of(flow) == ""
    flow.response = None
    strip(flow)
    unknown = make_flow(response=answer())
    strip(unknown)
    assert status_of(unknown) == ""


def test_an_answer_without_an_id_of_the_request_gets_none() -> None:
    """For a flow that the intake has not seen."""
    flow, response = make_flow(), answer()
    put_answer(flow, response)
    assert flow.response is response and "x-request-id" not in response.headers


# -- for people -------------------------------------------------------------------------------------------------------


# -- figures ----------------------------------------------------------------------------------------------------------


def figures(health: StoreHealth) -> dict[str, float]:
    store, registry = Moody(FixedClock()), CollectorRegistry()
    store.said = health
    registry.register(StoreFigures(store))
    return {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}


@pytest.mark.parametrize("ok", [True, False])
def test_the_figures_of_the_store_are_those_of_the_moment(ok: bool) -> None:
    """Whatever it can say; `up` is 0 while the cache steps aside."""
    said = {"entries": 1, "bytes": 2, "evicted": 3, "outages": 4, "max_bytes": 5}
    assert figures(StoreHealth(ok, "", figures=said)) == {
        "holdfast_cache_store_up": float(ok),
        "holdfast_cache_entries": 1,
        "holdfast_cache_bytes": 2,
        "holdfast_cache_evictions_total": 3,
        "holdfast_cache_store_outages_total": 4,
    }
    assert figures(StoreHealth(ok, "")) == {"holdfast_cache_store_up": float(ok)}
