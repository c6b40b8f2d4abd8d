"""tracing: ids and parents, sampling, times and attributes of the spans, with a fixed clock and no collector."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from mitmproxy.flow import Error
from mitmproxy.http import HTTPFlow, Response
from prometheus_client import CollectorRegistry

from holdfast import tracing
from holdfast.accesslog import AccessLog
from holdfast.exchange import exchange_of
from holdfast.policy.spans import Span
from holdfast.profile.hints import MASK
from holdfast.profile.load import load_profile
from holdfast.profile.mask import masked
from holdfast.profile.values import Share
from holdfast.testing import FixedClock, make_flow
from holdfast.tracing import Tracing, TracingSettings, collector_url, parse_collector

TRACE, PARENT, MINTED = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "1111111111111111"
CLIENT = f"00-{TRACE}-{PARENT}-01"
WALL = 1_700_000_000.0


class Collected:
    """An outlet that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.closed_within: float | None = None

    def put(self, spans: list[Span]) -> None:
        self.spans += spans

    def close(self, within: float) -> None:
        self.closed_within = within


class Traced:
    """The addon with the access log behind it; the leg's clock starts at 100, the wall clock at WALL."""

    def __init__(self, **settings: Any) -> None:
        self.clock, self.collected, self.registry = FixedClock(100.0), Collected(), CollectorRegistry()
        self.gateway: Any = SimpleNamespace(
            registry=self.registry,
            leg=SimpleNamespace(clock=self.clock),
            wall_clock=lambda: WALL - 100.0 + self.clock(),
            profile=SimpleNamespace(log=SimpleNamespace(access=False), shutdown_grace=10.0),
        )
        numbers = itertools.count(1)
        self.addon = Tracing(
            TracingSettings(**settings),
            self.gateway,
            lambda settings, counts: self.collected,
            lambda length: f"{next(numbers):0{2 * length}x}",
        )
        self.log = AccessLog(self.gateway, [self.addon.observe])

    def begun(self, traceparent: str = CLIENT, *, minted: bool = False, **request: Any) -> HTTPFlow:
        """A request whose header has arrived, and has passed intake and router."""
        headers = {"traceparent": traceparent, "user-agent": "curl/8", **request.pop("headers", {})}
        flow = make_flow(
            url=request.pop("url", "http://origin.test/api/users/7?token=s3cret"), headers=headers, **request
        )
        exchange = exchange_of(flow)
        exchange.update(
            started=self.clock(), attempts=[], request_id="r-1", route="user", original_host="shop.test:8080"
        )
        if minted:
            exchange["trace_minted"] = True
        self.addon.requestheaders(flow)
        return flow

    def tried(self, flow: HTTPFlow, seconds: float, error: str | None = None, status: int | None = None) -> None:
        """An attempt goes by."""
        self.clock.advance(seconds)
        exchange_of(flow)["attempts"].append(
            {"server": "http://10.0.0.1:3000", "error": error, "status": status, "duration_ms": seconds * 1000}
        )

    def ended(self, flow: HTTPFlow, status: int | None = 200) -> list[Span]:
        """The access log ends it; the spans, that of the request last."""
        if status is not None:
            flow.response = Response.make(status)
        self.log.response(flow)
        return self.collected.spans


async def traced(**settings: Any) -> Traced:
    """Running."""
    made = Traced(**settings)
    await made.addon.running()
    return made


# -- ids and parents ------------------------------------------------------------------------------------------------


async def test_a_clients_span_is_the_parent_and_the_attempt_is_the_upstreams() -> None:
    """W3C Trace Context: client -> request -> attempt -> upstream, in one trace."""
    chain = await traced()
    flow = chain.begun(headers={"tracestate": "vendor=1"})
    sent = flow.request.headers["traceparent"]
    chain.tried(flow, 0.01, status=200)
    attempt, request = chain.ended(flow)
    assert (request.trace_id, request.parent_id, request.remote_parent) == (TRACE, PARENT, True)
    assert (attempt.trace_id, attempt.parent_id, attempt.remote_parent) == (TRACE, request.span_id, False)
    assert sent == f"00-{TRACE}-{attempt.span_id}-01"
    assert request.state == attempt.state == flow.request.headers["tracestate"] == "vendor=1"
    assert (request.kind, attempt.kind) == ("server", "client")


async def test_what_intake_has_minted_is_this_span_and_no_phantom_parent() -> None:
    """A trace that begins here has a root; a `tracestate` without a `traceparent` is nobody's."""
    chain = await traced()
    flow = chain.begun(f"00-{TRACE}-{MINTED}-01", minted=True, headers={"tracestate": "vendor=1"})
    chain.tried(flow, 0.01, status=200)
    attempt, request = chain.ended(flow)
    assert (request.trace_id, request.span_id, request.parent_id) == (TRACE, MINTED, None)
    assert attempt.parent_id == MINTED
    assert "tracestate" not in flow.request.headers


async def test_each_attempt_has_an_id_of_its_own() -> None:
    """The upstream's spans lie under the attempt that reached it."""
    chain = await traced()
    flow = chain.begun()
    sent = [flow.request.headers["traceparent"]]
    chain.addon.request(flow)
    chain.tried(flow, 0.1, error="http_503", status=503)
    chain.clock.advance(0.05)  # the backoff
    chain.addon.upstream_retry(flow)
    sent.append(flow.request.headers["traceparent"])
    chain.tried(flow, 0.2, status=200)
    first, second, request = chain.ended(flow)
    assert [f"00-{TRACE}-{span.span_id}-01" for span in (first, second)] == sent
    assert [span.attributes["holdfast.attempt"] for span in (first, second)] == [1, 2]
    assert request.attributes["holdfast.fate"] == "retried"


async def test_a_capture_continues_the_request_and_not_its_last_attempt() -> None:
    """What `failure_sink` stores as `traceparent` is what a replay links to."""
    chain = await traced()
    flow = chain.begun()
    chain.tried(flow, 0.1, error="connection_refused")
    exchange_of(flow).update(error="connection_refused", detail="refused", not_retried="attempts")
    chain.addon.upstream_failed(flow)
    captured = flow.request.headers["traceparent"]
    exchange_of(flow)["capture_id"] = "c-1"
    _, request = chain.ended(flow, 503)
    assert captured == f"00-{TRACE}-{request.span_id}-01"


# -- sampling -------------------------------------------------------------------------------------------------------


async def test_a_client_that_does_not_sample_is_passed_through_untouched() -> None:
    """Parent-based: no spans, and the upstream sees the client's own field."""
    chain = await traced()
    flow = chain.begun(f"00-{TRACE}-{PARENT}-00")
    chain.addon.request(flow)
    chain.addon.upstream_retry(flow)
    chain.addon.upstream_failed(flow)
    assert chain.ended(flow) == []
    assert flow.request.headers["traceparent"] == f"00-{TRACE}-{PARENT}-00"


@pytest.mark.parametrize(("share", "spans", "flags"), [("0%", 0, "00"), ("100%", 1, "01")])
async def test_the_share_decides_where_nobody_has(share: str, spans: int, flags: str) -> None:
    """And the decision is passed on."""
    chain = await traced(sample=Share(share))
    flow = chain.begun(f"00-{TRACE}-{MINTED}-01", minted=True)
    assert flow.request.headers["traceparent"].endswith(f"-{flags}")
    assert len(chain.ended(flow)) == spans


async def test_a_clients_decision_holds_over_the_share() -> None:
    """Half a trace is of no use to anybody."""
    chain = await traced(sample=Share("0%"))
    assert len(chain.ended(chain.begun())) == 1


async def test_a_field_that_cannot_be_read_begins_a_new_trace() -> None:
    """Version ff is invalid, and intake lets it pass."""
    chain = await traced()
    flow = chain.begun(f"ff-{TRACE}-{PARENT}-01")
    (request,) = chain.ended(flow)
    assert (request.parent_id, request.trace_id != TRACE) == (None, True)


# -- times ----------------------------------------------------------------------------------------------------------


async def test_spans_lie_where_things_happened() -> None:
    """The request from its header on; each attempt from where it was made, the backoff between them."""
    chain = await traced()
    flow = chain.begun()
    chain.clock.advance(1.0)  # the body is slow
    chain.addon.request(flow)
    chain.tried(flow, 0.1, error="connection_terminated")
    chain.clock.advance(0.5)
    chain.addon.upstream_retry(flow)
    chain.tried(flow, 0.2, status=200)
    chain.clock.advance(0.3)  # the answer's body
    spans = chain.ended(flow)
    assert [(round(s.start - WALL, 6), round(s.end - WALL, 6)) for s in spans] == [(1.0, 1.1), (1.6, 1.8), (0.0, 2.1)]


async def test_an_attempt_that_began_while_the_body_arrived_stays_where_it_began() -> None:
    """A streamed request reaches the upstream before mitmproxy has all of it."""
    chain = await traced()
    flow = chain.begun()
    exchange_of(flow)["request_streamed"] = True
    chain.clock.advance(1.0)
    chain.addon.request(flow)
    exchange_of(flow)["attempts"].append(
        {"server": "http://10.0.0.1:3000", "error": None, "status": 200, "duration_ms": 1000.0}
    )
    attempt, _ = chain.ended(flow)
    assert (attempt.start, attempt.end) == (WALL, WALL + 1.0)


async def test_an_attempt_that_the_client_has_left_has_a_span_too() -> None:
    """The upstream has seen its id, and may have spans below it."""
    chain = await traced()
    flow = chain.begun()
    flow.server_conn.timestamp_tcp_setup = 1.0
    flow.request.host, flow.request.port = "10.0.0.1", 3000
    chain.clock.advance(0.4)
    flow.error = Error("Client disconnected.")
    attempt, request = chain.ended(flow, None)
    assert attempt.attributes["error.type"] == request.attributes["error.type"] == "client_disconnected"
    assert (attempt.attributes["server.address"], attempt.attributes["server.port"]) == ("10.0.0.1", 3000)
    assert round(attempt.end - attempt.start, 6) == 0.4
    assert "http.response.status_code" not in request.attributes


async def test_a_request_that_no_attempt_was_made_for_has_one_span() -> None:
    """Answered by an addon, or by the health page."""
    chain = await traced()
    flow = chain.begun()
    flow.server_conn.timestamp_tcp_setup = None
    assert [span.kind for span in chain.ended(flow)] == ["server"]


# -- attributes -----------------------------------------------------------------------------------------------------


async def test_a_request_in_the_words_of_the_semantic_conventions() -> None:
    """OpenTelemetry's stable names for HTTP servers, and the fate."""
    chain = await traced()
    flow = chain.begun()
    chain.tried(flow, 0.1, status=200)
    attempt, request = chain.ended(flow)
    assert (request.name, attempt.name) == ("GET user", "GET")
    assert request.error is None
    assert request.attributes == {
        "http.request.method": "GET",
        "http.route": "user",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/api/users/7",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "user_agent.original": "curl/8",
        "server.address": "shop.test",
        "server.port": 8080,
        "holdfast.fate": "ok",
        "holdfast.attempts": 1,
        "holdfast.request_id": "r-1",
    }


async def test_a_captured_request_shows_why_and_where() -> None:
    """The same words as in the log line, the answer and the mark."""
    chain = await traced()
    flow = chain.begun()
    chain.tried(flow, 0.1, error="connection_refused")
    exchange_of(flow).update(
        error="connection_refused", detail="nobody listens", not_retried="attempts", capture_id="c-1"
    )
    attempt, request = chain.ended(flow, 503)
    assert request.error == "nobody listens"
    assert attempt.error == ""
    shown = {
        name: value for name, value in request.attributes.items() if name.startswith(("holdfast", "error", "http.re"))
    }
    assert shown == {
        "http.request.method": "GET",
        "http.response.status_code": 503,
        "error.type": "connection_refused",
        "holdfast.fate": "captured",
        "holdfast.reason": "connection_refused",
        "holdfast.not_retried": "attempts",
        "holdfast.capture_id": "c-1",
        "holdfast.attempts": 1,
        "holdfast.request_id": "r-1",
    }


async def test_no_secret_of_the_request_is_in_a_span() -> None:
    """Neither its query nor its credentials."""
    chain = await traced()
    flow = chain.begun(headers={"authorization": "Bearer s3cret", "cookie": "s3cret", "referer": "http://x/?s3cret"})
    chain.tried(flow, 0.1, error="http_503", status=503)
    assert "s3cret" not in repr(chain.ended(flow, 503))


async def test_bytes_that_are_no_text_can_be_exported() -> None:
    """mitmproxy keeps stray bytes as surrogates, which UTF-8 has no place for."""
    chain = await traced()
    flow = chain.begun(headers={"user-agent": "caf\udce9"})
    flow.request.path = "/caf\udce9?q"
    exchange_of(flow)["original_host"] = "caf\udce9:80"
    (request,) = chain.ended(flow)
    for value in request.attributes.values():
        str(value).encode("utf-8")


async def test_a_request_refused_for_its_header_has_a_span() -> None:
    """It passed no hook but the last one; the client's trace is taken from the header."""
    chain = await traced()
    flow = make_flow(headers={"traceparent": CLIENT}, error="invalid HTTP request from client")
    (request,) = chain.ended(flow, None)
    assert (request.trace_id, request.parent_id) == (TRACE, PARENT)
    assert (request.attributes["holdfast.fate"], request.name, request.error) == ("rejected", "GET", None)


# -- life -----------------------------------------------------------------------------------------------------------


async def test_spans_of_before_and_after_its_life_are_counted() -> None:
    """Nothing is lost in silence."""
    chain = Traced()
    chain.ended(chain.begun())
    await chain.addon.done()
    assert chain.registry.get_sample_value("holdfast_spans_dropped_total", {"reason": "not_open"}) == 1


async def test_a_stop_waits_two_seconds_at_most_and_no_longer_than_its_grace() -> None:
    """The rest of the grace is for the requests."""
    chain = await traced()
    await chain.addon.done()
    assert chain.collected.closed_within == 2.0
    chain.gateway.profile.shutdown_grace = 0.5
    await chain.addon.done()
    assert chain.collected.closed_within == 0.5


# -- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://otlp.example/custom/path", "https://otlp.example/custom/path"),
    ],
)
def test_a_base_url_gets_the_path_of_otlp(given: str, url: str) -> None:
    """As OTEL_EXPORTER_OTLP_ENDPOINT does; a path that is there stays."""
    assert parse_collector(given) == collector_url(TracingSettings(endpoint=given)) == url


@pytest.mark.parametrize("given", ["collector:4318", "grpc://collector:4317", "http://", ""])
def test_what_is_no_url_of_a_collector_is_refused(given: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:4318"):
        TracingSettings(endpoint=given)


def test_the_environment_names_the_collector_where_the_profile_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile wins, then OpenTelemetry's variables, then the usual port here."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert collector_url(TracingSettings()) == "http://127.0.0.1:4318/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere:1")
    assert collector_url(TracingSettings()) is None
    assert collector_url(TracingSettings(endpoint="http://here:1")) == "http://here:1/v1/traces"


def test_without_the_library_the_profile_says_what_to_install(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault with its line, at `holdfast check`."""
    monkeypatch.setattr(tracing, "_SDK", ("no_such_package", "no_such_package.sdk"))
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\naddons:\n  - tracing\n")
    with pytest.raises(Exception, match=r"p\.yaml:3: .*pip install 'holdfast\[tracing\]'"):
        load_profile(str(file))


def test_what_the_collector_is_told_of_us_is_a_secret(tmp_path: Any) -> None:
    """`GET /config` and `holdfast check` show no token."""
    file = tmp_path / "p.yaml"
    file.write_text("version: 1\naddons:\n  - tracing: {headers: {x-team: s3cret}, endpoint: 'http://u:s3cret@c:1'}\n")
    shown = masked(load_profile(str(file)))["addons"][0]["with"]
    assert shown["headers"] == {"x-team": MASK}
    assert "s3cret" not in str(msgspec.to_builtins(shown))
