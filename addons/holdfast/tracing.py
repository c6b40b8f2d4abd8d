"""The tracing addon: a span for each request and one for each attempt at the upstream, exported by OTLP over HTTP.

It may stand anywhere in the chain; before `interceptor`, a capture carries the trace context of the request's span, and
after it that of the last attempt's. A request's span ends when the access log ends the exchange, and shows the fate
that log, metric, mark and answer show.
Trace context is W3C's: a client's `traceparent` becomes the parent, and its sampling decision is kept; each attempt
sends the upstream a `traceparent` of its own. Spans leave in the background (`otlp`); what a collector does, or that
there is none, costs no request anything but its spans.

Names follow OpenTelemetry's semantic conventions for HTTP. Queries, header fields other than `User-Agent`, and bodies
are in no span.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
from collections.abc import Callable
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from mitmproxy.http import HTTPFlow
from msgspec import Meta, Struct, field

from holdfast.exchange import Exchange, exchange_of
from holdfast.gateway import Gateway, WouldDo
from holdfast.policy.spans import Span
from holdfast.policy.trace_context import TraceParent, is_sampled, parse_traceparent
from holdfast.profile.hints import without_credentials
from holdfast.profile.values import Share
from holdfast.trace_metrics import SpanCounts
from holdfast.traced import KEY, Noted, name_request_span, noted_of, spans_of

FLUSH = 2.0  # seconds that a stop waits for the collector to take what is left
_SDK = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class TracingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Spans of requests and attempts, for a collector that speaks OTLP over HTTP."""

    endpoint: Annotated[
        str | None,
        Meta(
            description="Base URL of the collector; `/v1/traces` is added where it has no path. `null`: what the "
            "environment's OTEL_EXPORTER_OTLP_ENDPOINT says, else http://127.0.0.1:4318."
        ),
    ] = None
    headers: Annotated[
        dict[str, str],
        Meta(
            description="Header fields for the collector, such as its token, beside those of the environment's "
            "OTEL_EXPORTER_OTLP_HEADERS.",
            extra={"secret": True},
        ),
    ] = field(default_factory=dict)
    service_name: Annotated[
        str | None,
        Meta(description="`service.name` of all spans. `null`: the environment's OTEL_SERVICE_NAME, else `holdfast`."),
    ] = None
    sample: Annotated[
        Share,
        Meta(description="Share of the traces that begin here; a request that brings a `traceparent` has it decided."),
    ] = Share("100%")
    attributes: Annotated[
        dict[str, str],
        Meta(description="More resource attributes, such as `deployment.environment.name: production`."),
    ] = field(default_factory=dict)
    queue: Annotated[
        int, Meta(description="Spans that wait for the collector; at the bound new ones are dropped and counted.", ge=1)
    ] = 4096

    def __post_init__(self) -> None:
        if not has_sdk():
            raise ValueError("needs the OpenTelemetry SDK, which is not installed: pip install 'holdfast[tracing]'")
        if self.endpoint is not None:
            parse_collector(self.endpoint)


def has_sdk() -> bool:
    """Whether the optional libraries are installed; nothing of them is imported."""
    return all(_is_there(name) for name in _SDK)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def parse_collector(text: str) -> str:
    """The URL that spans are posted to. ValueError, saying what to write, for anything but a http or https URL."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = without_credentials(text)
        raise ValueError(f"{shown!r} is no collector: write its OTLP/HTTP address, such as http://127.0.0.1:4318")
    return text if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1/traces"


def collector_url(settings: TracingSettings) -> str | None:
    """The URL of the profile; None where the environment is to name it, with what else it says of exporters."""
    if settings.endpoint is not None:
        return parse_collector(settings.endpoint)
    named = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return None if named else "http://127.0.0.1:4318/v1/traces"


class Outlet(Protocol):
    """Where spans go."""

    def put(self, spans: list[Span]) -> None:
        """Have them exported, or count them as dropped; returns at once."""

    def close(self, within: float) -> None:
        """Export what is left, for at most so many seconds. Blocks."""


type OpenOutlet = Callable[[TracingSettings, SpanCounts], Outlet]


def open_otlp(settings: TracingSettings, counts: SpanCounts) -> Outlet:
    """The real one. It imports the SDK, which takes a moment."""
    from holdfast.otlp import OtlpOutlet, otlp_exporter, resource_of

    exporter = otlp_exporter(collector_url(settings), settings.headers)
    return OtlpOutlet(exporter, resource_of(settings.service_name, settings.attributes), settings.queue, counts)


class Tracing:
    """Keeps the trace context of each request, and makes its spans when it has ended."""

    Settings = TracingSettings

    def __init__(
        self,
        settings: TracingSettings,
        gateway: Gateway,
        open_outlet: OpenOutlet = open_otlp,
        random_hex: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._open_outlet = open_outlet
        self._random_hex = random_hex
        self._counts = SpanCounts(gateway.registry)
        self._outlet: Outlet | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    async def running(self) -> None:
        self._outlet = await asyncio.to_thread(self._open_outlet, self._settings, self._counts)

    async def done(self) -> None:
        """Give the collector a moment to take what is left."""
        if self._outlet:
            within = min(FLUSH, float(self._gateway.profile.shutdown_grace))
            await asyncio.to_thread(self._outlet.close, within)

    # -- traffic ----------------------------------------------------------------------------------------------------

    def requestheaders(self, flow: HTTPFlow) -> None:
        noted = self._begin(flow)
        if noted["flags"] & 1:
            self._next_attempt(flow, noted)

    def request(self, flow: HTTPFlow) -> None:
        """The whole request is here: the first attempt begins now, unless it began while the body was arriving."""
        noted = noted_of(flow)
        if noted and noted["begun"] and not exchange_of(flow).get("request_streamed"):
            noted["begun"][0] = self._gateway.leg.clock()

    def upstream_retry(self, flow: HTTPFlow) -> None:
        noted = noted_of(flow)
        if noted and noted["flags"] & 1:
            self._next_attempt(flow, noted)

    def upstream_failed(self, flow: HTTPFlow) -> None:
        """No further attempt: what is captured now, and replayed later, continues the request's span."""
        name_request_span(flow)

    # -- what the access log calls ----------------------------------------------------------------------------------

    def observe(self, flow: HTTPFlow, exchange: Exchange, seconds: float) -> None:
        """Once a request, when it has ended and its fate is decided."""
        # A request that was refused for its header has seen no hook before this one.
        noted = noted_of(flow) or self._begin(flow)
        if not noted["flags"] & 1:
            return
        spans = spans_of(flow, exchange, noted, self._gateway.leg.clock(), seconds)
        if self._outlet:
            self._outlet.put(spans)
        else:
            self._counts.dropped.labels("not_open").inc(len(spans))

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """Its spans."""
        if "traceparent" in flow.request.headers:
            return WouldDo(True, "makes its spans if its `traceparent` is sampled")
        return WouldDo(True, f"makes its spans, as of {self._settings.sample} of the traces that begin here")

    # -- parts ------------------------------------------------------------------------------------------------------

    def _begin(self, flow: HTTPFlow) -> Noted:
        """Who the parent is and whether this trace is sampled; a trace that begins here takes the ids of intake."""
        exchange, headers = exchange_of(flow), flow.request.headers
        carried = parse_traceparent(headers.get("traceparent", ""))
        parent = None if exchange.get("trace_minted") else carried
        own = parent or carried or TraceParent(self._random_hex(16), self._random_hex(8))
        if parent is None:
            own = own.with_sampled(is_sampled(own.trace_id, self._settings.sample))
            headers["traceparent"] = str(own)
            headers.pop("tracestate", None)  # it belongs to a parent (section 3.3)
        noted = Noted(
            trace_id=own.trace_id,
            span_id=self._random_hex(8) if parent else own.span_id,
            parent_id=parent.span_id if parent else None,
            flags=own.flags,
            state=headers.get("tracestate", ""),
            clock_offset=self._gateway.wall_clock() - self._gateway.leg.clock(),
            attempts=[],
            begun=[],
        )
        flow.metadata[KEY] = noted
        return noted

    def _next_attempt(self, flow: HTTPFlow, noted: Noted) -> None:
        """The upstream's spans belong under the attempt that reached it."""
        span_id = self._random_hex(8)
        noted["attempts"].append(span_id)
        noted["begun"].append(self._gateway.leg.clock())
        flow.request.headers["traceparent"] = str(TraceParent(noted["trace_id"], span_id, noted["flags"]))
