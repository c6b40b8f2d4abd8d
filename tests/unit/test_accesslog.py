"""accesslog: the fate is decided once, and log line, mark, comment and metric show the same."""

from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.flow import Error
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.test import tflow
from prometheus_client import CollectorRegistry

from holdfast.accesslog import AccessLog
from holdfast.exchange import Exchange, exchange_of
from holdfast.marks import MARKS
from holdfast.metrics import Metrics, MetricsSettings


class Chain:
    """The access log with the metrics addon as its observer, on a clock that stands at 10.25."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gateway: Any = SimpleNamespace(
            registry=self.registry,
            leg=SimpleNamespace(clock=lambda: 10.25),
            profile=SimpleNamespace(log=SimpleNamespace(access=False)),
        )
        self.log = AccessLog(gateway, [Metrics(MetricsSettings(), gateway).observe])

    def count(self, **labels: str) -> float | None:
        return self.registry.get_sample_value("holdfast_requests_total", labels)


def flow_with(response: int | None, **exchange: object) -> HTTPFlow:
    """A flow that began a quarter of a second ago."""
    flow = tflow.tflow(resp=Response.make(response) if response else False)
    known: Any = {"started": 10.0, "route": "user", "attempts": [], **exchange}
    exchange_of(flow).update(known)
    return flow


ATTEMPT = {"server": "http://a:1", "error": "connection_refused", "status": None, "duration_ms": 1.0}


@pytest.mark.parametrize(
    ("status", "exchange", "fate"),
    [
        (200, {}, "ok"),
        (200, {"attempts": [ATTEMPT, ATTEMPT]}, "retried"),
        (503, {"error": "connection_refused", "capture_id": "x", "attempts": [ATTEMPT]}, "captured"),
        (503, {"error": "connection_refused", "capture_failed": "disk_full"}, "failed"),
    ],
)
def test_metric_mark_and_comment_show_the_same_fate(status: int, exchange: dict[str, object], fate: str) -> None:
    """One place decides."""
    chain, flow = Chain(), flow_with(status, **exchange)
    chain.log.response(flow)
    assert exchange_of(flow)["fate"] == fate
    assert chain.count(route="user", method="GET", status=str(status), fate=fate) == 1
    assert flow.marked == MARKS.get(fate, "")
    assert flow.comment.startswith(fate) or fate == "ok"


def test_the_comment_names_each_attempt_and_the_command_for_the_capture() -> None:
    """What a person in mitmweb wants to know next."""
    chain = Chain()
    flow = flow_with(503, error="connection_refused", detail="refused", capture_id="x", attempts=[ATTEMPT, ATTEMPT])
    chain.log.response(flow)
    assert "attempt 2 http://a:1 connection_refused" in flow.comment
    assert "holdfast.show x" in flow.comment
    assert "holdfast.replay x" in flow.comment


def injected(kind: str, at: str, rule: str = "mine") -> dict[str, str]:
    return {"rule": rule, "kind": kind, "at": at}


@pytest.mark.parametrize(
    ("faults", "sent", "fate", "reason", "status"),
    [
        ([injected("status", "client")], 429, "failed", "fault:mine", "429"),
        ([injected("status", "client")], 204, "ok", "", "204"),
        ([injected("truncate", "client")], None, "failed", "fault:mine", "200"),
        ([injected("latency", "client"), injected("reset", "upstream")], None, "ok", "", "200"),
        ([injected("reset", "upstream"), injected("corrupt", "client", "other")], None, "failed", "fault:other", "200"),
    ],
)
def test_a_fault_that_was_asked_for_is_named(
    faults: list[dict[str, str]], sent: int | None, fate: str, reason: str, status: str
) -> None:
    """The fate is `failed` where the client was shown a failure; metric, comment and mark tell of it in any case."""
    chain, flow = Chain(), flow_with(200, faults=faults, **({"sent_status": sent} if sent else {}))
    chain.log.response(flow)
    assert (exchange_of(flow)["fate"], exchange_of(flow)["reason"]) == (fate, reason)
    assert chain.count(route="user", method="GET", status=status, fate=fate) == 1
    assert all(f"injected: {f['rule']} ({f['kind']} at {f['at']})" in flow.comment for f in faults)
    assert flow.marked


def test_a_request_is_ended_once() -> None:
    """mitmproxy may call `error` after `response`."""
    chain, flow = Chain(), flow_with(200)
    chain.log.response(flow)
    flow.error = Error("Client disconnected.")
    chain.log.error(flow)
    assert chain.count(route="user", method="GET", status="200", fate="ok") == 1


def test_a_client_that_left_is_counted_as_failed_without_a_status() -> None:
    """It got no answer."""
    chain, flow = Chain(), flow_with(None)
    flow.error = Error("Client disconnected.")
    chain.log.error(flow)
    assert chain.count(route="user", method="GET", status="none", fate="failed") == 1
    assert exchange_of(flow)["reason"] == "client_disconnected"


def test_a_refused_body_is_rejected() -> None:
    """mitmproxy's own refusal, by `limits.max_body`."""
    chain, flow = Chain(), flow_with(None)
    flow.error = Error("Request body exceeds mitmproxy's body_size_limit.")
    chain.log.error(flow)
    assert exchange_of(flow)["fate"] == "rejected"


def test_a_persons_own_mark_stays() -> None:
    """The gateway only fills in what is empty."""
    chain, flow = Chain(), flow_with(503, error="http_502", capture_id="x")
    flow.marked, flow.comment = ":star:", "mine"
    chain.log.response(flow)
    assert (flow.marked, flow.comment) == (":star:", "mine")


def test_an_unknown_method_shares_one_label() -> None:
    """Labels are bounded, whatever a client sends."""
    chain, flow = Chain(), flow_with(200)
    flow.request.method = "BREW-4711"
    chain.log.response(flow)
    assert chain.count(route="user", method="OTHER", status="200", fate="ok") == 1


def test_the_query_string_is_not_logged() -> None:
    """It may hold secrets."""
    from holdfast.accesslog import line_of

    flow = flow_with(200, fate="ok", reason="")
    flow.request.path = "/api/users?token=s3cret"
    exchange: Exchange = exchange_of(flow)
    assert "s3cret" not in str(line_of(flow, exchange, 0.1))
