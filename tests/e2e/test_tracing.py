"""Traces: a real gateway, a real OTLP/HTTP receiver, and what client, origin, log, metric and answer say of it."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.live import change, entry_of, quiet
from tests.services.process import free_port

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = ("traceparent", f"00-{TRACE}-{PARENT}-01")
SERVER, UPSTREAM = trace_pb2.Span.SPAN_KIND_SERVER, trace_pb2.Span.SPAN_KIND_CLIENT
ERROR = trace_pb2.Status.STATUS_CODE_ERROR


@dataclass
class Got:
    """One span as it came over the wire."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What an OTLP/HTTP receiver was sent."""

    url: str
    spans: list[Got] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Got]:
        """The spans of one trace, in the order in which they began."""
        return sorted((span for span in list(self.spans) if span.trace_id == trace_id), key=lambda span: span.start)

    async def trace(self, trace_id: str, spans: int) -> tuple[Got, list[Got]]:
        """The request's span and those of its attempts, once all have come."""
        await until(lambda: len(self.of(trace_id)) >= spans, within=10, what=f"{spans} spans of {trace_id}")
        found = self.of(trace_id)
        assert len(found) == spans
        (request,) = [span for span in found if span.kind == SERVER]
        return request, [span for span in found if span.kind == UPSTREAM]

    def take(self, body: bytes) -> None:
        """Decode one export."""
        self.raw.append(body)
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(values(part.resource.attributes))
            self.spans += [got(span) for scope in part.scope_spans for span in scope.spans]


def values(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}


def got(span: trace_pb2.Span) -> Got:
    return Got(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == ERROR,
        values(span.attributes),
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A server on a thread of its own."""

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            made.headers.append({name.lower(): value for name, value in self.headers.items()})
            made.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.daemon_threads = True
    made = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def tracing(upstream: str, endpoint: str, **settings: Any) -> dict[str, Any]:
    """The harness's profile with tracing after the router, and a JSON log."""
    made = profile(upstream, log={"format": "json"})
    made["addons"].insert(1, {"tracing": {"endpoint": endpoint, **settings}})
    return made


def log_line(gateway: Gateway, request_id: str) -> dict[str, Any]:
    """The access log's line of a request."""
    for line in gateway.log_file.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("request_id") == request_id and entry.get("message") == "request":
                return entry
    raise AssertionError(f"no line of {request_id}")


async def agree(gateway: Gateway, request: Got, answer: raw.Answer, fate: str) -> None:
    """Span, log line, metric and answer tell the same story."""
    span = request.attributes
    line = log_line(gateway, answer.header("x-request-id") or "")
    shared = ("fate", "reason", "not_retried", "capture_id", "capture_failed", "attempts", "request_id")
    told = {name: line[name] for name in shared if name in line}
    assert {name: span[f"holdfast.{name}"] for name in shared if f"holdfast.{name}" in span} == told
    assert told["fate"] == fate
    assert (span["http.response.status_code"], line["status"]) == (answer.status, answer.status)
    assert (span["http.request.method"], span["url.path"]) == (line["method"], line["path"])
    labels = [f"fate={fate}", f"method={line['method']}", f"route={line['route']}", f"status={answer.status}"]
    assert (await gateway.metrics())["holdfast_requests_total", *labels] == 1
    assert answer.header("holdfast-capture-id") == span.get("holdfast.capture_id")
    proxy_status = ", ".join(answer.all("proxy-status"))
    assert re.findall(r"holdfast-fate=([a-z]+)", proxy_status) == ([] if fate == "ok" else [fate])
    said = re.search(r"error=([a-z_]+)", proxy_status)
    if said and fate == "captured":
        assert span["error.type"] == span["holdfast.reason"] == said[1]


async def test_a_request_that_succeeds(tmp_path: Path, collector: Collector) -> None:
    """Client, gateway and origin are in one trace; nothing of the query or of a credential is in it."""
    async with (
        MisbehavingOrigin(Answer(200)) as origin,
        Gateway(tmp_path, made=tracing(origin.url, collector.url, headers={"x-token": "for-the-collector"})) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        fields = [CLIENT, ("tracestate", "vendor=1"), ("authorization", "Bearer s3cret"), ("host", "shop.test:81")]
        answer = await client.request("GET", "/api/users/7?token=s3cret", fields)
        request, (attempt,) = await collector.trace(TRACE, 2)
        await agree(gateway, request, answer, "ok")
        seen = origin.requests[0]
    assert (request.name, request.parent_id, request.failed) == ("GET user", PARENT, False)
    assert (attempt.name, attempt.parent_id, attempt.failed) == ("GET", request.span_id, False)
    assert seen.header("traceparent") == f"00-{TRACE}-{attempt.span_id}-01"
    assert seen.header("tracestate") == "vendor=1"
    assert request.start <= attempt.start <= attempt.end <= request.end
    assert (request.attributes["http.route"], request.attributes["url.path"]) == ("user", "/api/users/7")
    assert (request.attributes["server.address"], request.attributes["server.port"]) == ("shop.test", 81)
    assert attempt.attributes["server.port"] == origin.port
    assert collector.resources[0]["service.name"] == "holdfast"
    assert collector.headers[0]["x-token"] == "for-the-collector"
    assert not any(b"s3cret" in body for body in collector.raw)


async def test_a_request_that_is_retried(tmp_path: Path, collector: Collector) -> None:
    """A span for each attempt, one after the other, and each is the parent of what the origin did."""
    async with (
        MisbehavingOrigin([Break("request"), Answer(503), Answer(200)]) as origin,
        Gateway(tmp_path, made=tracing(origin.url, collector.url)) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        answer = await client.request("GET", "/api/users", [CLIENT])
        request, attempts = await collector.trace(TRACE, 4)
        await agree(gateway, request, answer, "retried")
        parents = [seen.header("traceparent") for seen in origin.requests]
    assert not request.failed
    assert [each.attributes.get("error.type") for each in attempts] == ["connection_terminated", "http_503", None]
    assert [each.failed for each in attempts] == [True, True, False]
    assert [each.attributes["holdfast.attempt"] for each in attempts] == [1, 2, 3]
    assert parents == [f"00-{TRACE}-{each.span_id}-01" for each in attempts]
    ends = [request.start, *(moment for each in attempts for moment in (each.start, each.end)), request.end]
    assert ends == sorted(ends)


async def test_a_request_that_is_captured(tmp_path: Path, collector: Collector) -> None:
    """The span names the capture, and the capture the span: a replay links to it."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=tracing(origin.url, collector.url)) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        async with origin.refusing():
            answer = await client.request("POST", "/api/users", [CLIENT], b"{}")
        request, attempts = await collector.trace(TRACE, 4)
        await agree(gateway, request, answer, "captured")
        envelope = (await gateway.exported())[answer.capture_id or ""]
    assert request.failed
    assert {each.attributes["error.type"] for each in attempts} == {"connection_refused"}
    assert envelope["headers"]["traceparent"] == f"00-{TRACE}-{request.span_id}-01"


async def test_a_request_that_is_rejected(tmp_path: Path, collector: Collector) -> None:
    """It is the client's error, and no attempt was made."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=tracing(origin.url, collector.url) | {"limits": {"max_body": "1KiB"}}) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        answer = await client.request("POST", "/api/users", [CLIENT], b"x" * 5000)
        request, attempts = await collector.trace(TRACE, 1)
        await agree(gateway, request, answer, "rejected")
    assert (answer.status, request.failed, attempts) == (413, False, [])
    assert request.attributes["holdfast.reason"] == "body_too_large"


async def test_a_trace_begins_at_the_gateway_where_the_client_has_none(tmp_path: Path, collector: Collector) -> None:
    """The request's span is its root; the origin is told the attempt's."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=tracing(origin.url, collector.url)) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        await client.request("GET", "/api/users")
        _, trace_id, span_id, flags = (origin.requests[0].header("traceparent") or "").split("-")
        request, (attempt,) = await collector.trace(trace_id, 2)
    assert (request.parent_id, attempt.parent_id, flags) == ("", request.span_id, "01")
    assert attempt.span_id == span_id


async def test_what_is_not_sampled_is_not_exported(tmp_path: Path, collector: Collector) -> None:
    """The client's flag is kept in both directions, whatever the profile's share; its field passes as it is."""
    unsampled = f"00-{'1' * 32}-{PARENT}-00"
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=tracing(origin.url, collector.url, sample="0%")) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        await client.request("GET", "/api/users", [("traceparent", unsampled)])
        await client.request("GET", "/api/users")
        await client.request("GET", "/api/users", [CLIENT])
        await collector.trace(TRACE, 2)
        passed = [seen.header("traceparent") or "" for seen in origin.requests]
    assert passed[0] == unsampled
    assert passed[1].endswith("-00")
    assert {span.trace_id for span in collector.spans} == {TRACE}


async def test_spans_on_their_way_are_delivered_by_a_stop(tmp_path: Path, collector: Collector) -> None:
    """SIGTERM right after the answer."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=tracing(origin.url, collector.url)) as gateway:
        async with raw.RawClient(gateway.port) as client:
            await client.request("GET", "/api/users", [CLIENT])
        assert await gateway.terminate() == 0
    assert len(collector.of(TRACE)) == 2


async def test_without_a_collector_requests_go_on_and_losses_are_counted(tmp_path: Path) -> None:
    """Nobody listens: every answer is there, memory is bounded, one warning, and a stop is no slower for it."""
    async with MisbehavingOrigin() as origin:
        made = tracing(origin.url, f"http://127.0.0.1:{free_port()}", queue=200)
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            for _ in range(300):
                assert (await client.request("GET", "/api/users")).status == 200
            lost = ("holdfast_spans_dropped_total", "reason=queue_full")
            before, figures = gateway.memory(), await gateway.metrics()
            assert figures[lost] > 0
            for _ in range(700):
                assert (await client.request("GET", "/api/users")).status == 200
            assert gateway.memory() - before < 8 * 1024 * 1024
            assert (await gateway.metrics())[lost] > figures[lost]
            assert await gateway.terminate(within=8) == 0
        assert sum('"spans lost"' in line for line in gateway.log_file.read_text().splitlines()) == 1
        assert "opentelemetry" not in gateway.log_file.read_text()


async def test_a_silent_collector_does_not_keep_a_stop(tmp_path: Path) -> None:
    """It accepts and never answers: two seconds, and the process ends."""
    async with (
        MisbehavingOrigin() as origin,
        MisbehavingOrigin(Break("request", "hang")) as silent,
        Gateway(tmp_path, made=tracing(origin.url, silent.url)) as gateway,
    ):
        async with raw.RawClient(gateway.port) as client:
            assert (await client.request("GET", "/api/users")).status == 200
        await until(lambda: bool(silent.requests), within=5, what="the export to begin")
        assert await gateway.terminate(within=5) == 0


async def test_a_changed_profile_sends_spans_elsewhere(tmp_path: Path, collector: Collector) -> None:
    """While the gateway runs; what was counted before counts on."""
    async with MisbehavingOrigin() as origin:
        made = quiet(tracing(origin.url, f"http://127.0.0.1:{free_port()}"))
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.request("GET", "/api/users")
            await change(gateway, lambda made: entry_of(made, "tracing").update(endpoint=collector.url))
            await until(lambda: _dropped(gateway), within=10, what="what the old collector did not get to be counted")
            await client.request("GET", "/api/users", [CLIENT])
            await collector.trace(TRACE, 2)
            assert await _dropped(gateway) == 2


async def _dropped(gateway: Gateway) -> float:
    figures = await gateway.metrics()
    return sum(value for key, value in figures.items() if key[0] == "holdfast_spans_dropped_total")
