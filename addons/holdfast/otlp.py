"""Spans on their way to a collector by OTLP over HTTP: in batches, in the background, bounded and counted.

The OpenTelemetry SDK does the sending (`pip install holdfast[tracing]`); this module is imported only where a profile
has `tracing`. Spans are made with the ids, the times and the sampling that the addon has decided on, so the SDK's
tracer has no part in it: a finished span costs a few microseconds, a tenth of one that goes through a tracer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from holdfast.policy.spans import Span
from holdfast.profile.hints import without_credentials

if TYPE_CHECKING:
    from holdfast.trace_metrics import SpanCounts

logger = logging.getLogger(__name__)
BATCH = 128  # spans; encoding one takes tens of microseconds in which the event loop shares the interpreter
EVERY = 1.0  # seconds between two batches that are not full
WARN_EVERY = 60.0  # seconds between two warnings of lost spans
_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OtlpOutlet:
    """The SDK's batch processor behind a bound of our own, because its own drops without telling how many."""

    def __init__(self, exporter: SpanExporter, resource: Resource, queue: int, counts: SpanCounts) -> None:
        self._resource = resource
        self._bound = queue
        self._counts = counts
        self._put = self._taken = 0
        self._closed = False
        self._scope = InstrumentationScope("holdfast", version("holdfast"))
        self._said = _LastWords()
        self._lost = _Losses(lambda: self._said.text)
        self._exporter = _Counted(exporter, self._ended)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=queue,
            schedule_delay_millis=EVERY * 1000,
            max_export_batch_size=min(BATCH, queue),
        )

    def put(self, spans: list[Span]) -> None:
        """On the event loop only."""
        if self._closed or self._put - self._taken + len(spans) > self._bound:
            self._drop("stopped" if self._closed else "queue_full", len(spans))
            return
        self._put += len(spans)
        for span in spans:
            self._processor.on_end(self._readable(span))

    def close(self, within: float) -> None:
        """What is not exported by then is dropped; a collector that keeps us waiting does not keep the process."""
        self._closed = True
        ending = threading.Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(within)
        if ending.is_alive():
            self._drop("stopped", self._put - self._taken)
            self._exporter.shutdown()
        self._said.leave()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _ended(self, spans: int, result: SpanExportResult | None) -> None:
        """On the processor's thread: None before an export, its result after it."""
        if result is None:
            self._taken += spans
        elif result is SpanExportResult.SUCCESS:
            self._counts.exported.inc(spans)
        else:
            self._drop("export_failed", spans)

    def _drop(self, reason: str, spans: int) -> None:
        if spans:
            self._counts.dropped.labels(reason).inc(spans)
            self._lost.add(reason, spans)

    def _readable(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        trace_id = int(span.trace_id, 16)
        parent = None
        if span.parent_id:
            parent = SpanContext(trace_id, int(span.parent_id, 16), span.remote_parent, _SAMPLED, state)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, _SAMPLED, state),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status() if span.error is None else Status(StatusCode.ERROR, span.error or None),
            start_time=_nanoseconds(span.start),
            end_time=_nanoseconds(span.end),
            instrumentation_scope=self._scope,
        )


def _nanoseconds(seconds: float) -> int:
    """To the microsecond: a float of this size knows no more."""
    return round(seconds * 1e6) * 1000


def otlp_exporter(url: str | None, headers: Mapping[str, str]) -> SpanExporter:
    """Posts to this URL; None: to the one that the environment names."""
    return OTLPSpanExporter(endpoint=url, headers=headers)


def resource_of(service_name: str | None, attributes: Mapping[str, str]) -> Resource:
    """Who the spans are from: the profile, over OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, over our own name."""
    named = {SERVICE_NAME: service_name} if service_name else {}
    made = Resource.create({"service.version": version("holdfast"), **attributes, **named})
    unnamed = str(made.attributes[SERVICE_NAME]).startswith("unknown_service")
    return made.merge(Resource({SERVICE_NAME: "holdfast"})) if unnamed else made


class _Counted(SpanExporter):
    """An exporter that tells how each batch ended."""

    def __init__(self, inner: SpanExporter, told: Callable[[int, SpanExportResult | None], None]) -> None:
        self._inner = inner
        self._told = told
        self._closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._closed:
            return SpanExportResult.FAILURE  # they have been counted
        self._told(len(spans), None)
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self._told(len(spans), result)
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._inner.shutdown()


class _Losses:
    """One warning now and then of how many spans were lost, and why."""

    def __init__(self, detail: Callable[[], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._detail = detail
        self._clock = clock
        self._lost = 0
        self._quiet_until = float("-inf")
        self._lock = threading.Lock()

    def add(self, reason: str, spans: int) -> None:
        """Callable on any thread."""
        with self._lock:
            self._lost += spans
            if self._clock() < self._quiet_until:
                return
            lost, self._lost, self._quiet_until = self._lost, 0, self._clock() + WARN_EVERY
        logger.warning("spans lost", extra={"reason": reason, "spans": lost, "detail": self._detail()})


class _LastWords(logging.Handler):
    """Takes the SDK's log lines: each failed batch has one, and as errors they would end mitmproxy's start."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self._source = logging.getLogger("opentelemetry")
        self._propagated = self._source.propagate
        self._source.propagate = False
        self._source.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.text = without_credentials(record.getMessage())[:300]

    def leave(self) -> None:
        """The logger is as it was."""
        self._source.removeHandler(self)
        self._source.propagate = self._propagated
