"""otlp: bounded, counted, in the background; what a collector does is never the request's affair."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

from holdfast import otlp
from holdfast.otlp import BATCH, OtlpOutlet, resource_of
from holdfast.policy.spans import Span
from holdfast.trace_metrics import SpanCounts

TRACE, PARENT, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


class FakeCollector(SpanExporter):
    """Takes everything, refuses everything, or waits until it is let go or shut down."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS, hold: bool = False) -> None:
        self.result = result
        self.batches: list[list[ReadableSpan]] = []
        self.free = threading.Event()
        if not hold:
            self.free.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append(list(spans))
        self.free.wait(10)
        return self.result

    def shutdown(self) -> None:
        self.free.set()

    @property
    def spans(self) -> list[ReadableSpan]:
        return [span for batch in self.batches for span in batch]


class Case:
    """An outlet to a fake collector, and its figures."""

    def __init__(self, collector: FakeCollector, queue: int) -> None:
        self.collector, self.registry = collector, CollectorRegistry()
        self.outlet = OtlpOutlet(collector, resource_of(None, {}), queue, SpanCounts(self.registry))

    def dropped(self, reason: str) -> float | None:
        return self.registry.get_sample_value("holdfast_spans_dropped_total", {"reason": reason})

    def exported(self) -> float | None:
        return self.registry.get_sample_value("holdfast_spans_exported_total")


@contextmanager
def case(collector: FakeCollector | None = None, queue: int = 1000) -> Iterator[Case]:
    """Closed at the end, whatever happens."""
    made = Case(collector or FakeCollector(), queue)
    try:
        yield made
    finally:
        made.collector.free.set()
        made.outlet.close(5.0)


def span(**changes: object) -> Span:
    values: dict[str, object] = {
        "name": "GET user",
        "kind": "server",
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_id": PARENT,
        "start": 1_700_000_000.25,
        "end": 1_700_000_000.5,
        "attributes": {"holdfast.fate": "ok"},
    }
    return Span(**(values | changes))  # type: ignore[arg-type]


def until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not question():
        assert time.monotonic() < deadline, "not within 5 s"
        time.sleep(0.005)


def test_a_span_arrives_as_it_was_made() -> None:
    """Ids, times, parent, attributes and status."""
    with case() as made:
        made.outlet.put([span(error="it broke", remote_parent=True, state="vendor=1")])
        made.outlet.close(5.0)
        (got,) = made.collector.spans
    assert got.context and got.parent
    assert (f"{got.context.trace_id:032x}", f"{got.context.span_id:016x}") == (TRACE, SPAN)
    assert (f"{got.parent.span_id:016x}", got.parent.is_remote) == (PARENT, True)
    assert got.context.trace_state.to_header() == "vendor=1"
    assert (got.start_time, got.end_time) == (1_700_000_000_250_000_000, 1_700_000_000_500_000_000)
    assert (got.status.status_code.name, got.status.description) == ("ERROR", "it broke")
    assert dict(got.attributes or {}) == {"holdfast.fate": "ok"}


def test_what_was_put_before_a_stop_is_exported_by_it() -> None:
    """And counted."""
    with case() as made:
        made.outlet.put([span() for _ in range(300)])
        made.outlet.close(5.0)
        assert made.exported() == len(made.collector.spans) == 300
        assert made.dropped("stopped") == 0


def test_at_the_bound_spans_are_dropped_and_counted() -> None:
    """A collector that does not answer costs memory for `queue` spans and one batch, and no request waits."""
    with case(FakeCollector(hold=True), queue=BATCH * 2) as made:
        made.outlet.put([span() for _ in range(BATCH)])
        until(lambda: len(made.collector.batches) == 1)
        for _ in range(1000):
            made.outlet.put([span(), span()])
        assert made.dropped("queue_full") == 2000 - BATCH * 2
        made.collector.free.set()
        made.outlet.close(5.0)
        assert made.exported() == BATCH * 3


def test_a_refused_batch_is_counted_and_told_now_and_then(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning for many failures, with the SDK's own words for why."""
    monkeypatch.setattr(logging.getLogger("holdfast"), "propagate", True)
    with case(FakeCollector(SpanExportResult.FAILURE)) as made:
        logging.getLogger("opentelemetry.exporter").error("Failed to export: %s", "401 at http://u:s3cret@collector/")
        made.outlet.put([span() for _ in range(BATCH * 4)])
        made.outlet.close(5.0)
        assert made.dropped("export_failed") == BATCH * 4
    (told,) = [record for record in caplog.records if record.name == "holdfast.otlp"]
    assert (told.levelname, told.message) == ("WARNING", "spans lost")
    assert vars(told)["detail"] == "Failed to export: 401 at http://***@collector/"


def test_the_sdk_says_nothing_by_itself_while_we_run(caplog: pytest.LogCaptureFixture) -> None:
    """mitmproxy ends at an ERROR during its start; afterwards the logger is as it was."""
    source = logging.getLogger("opentelemetry")
    with case() as made:
        logging.getLogger("opentelemetry.sdk.trace").error("something")
        assert not caplog.records
        made.outlet.close(5.0)
        assert (source.propagate, source.handlers) == (True, [])


def test_a_collector_that_does_not_answer_does_not_keep_a_stop() -> None:
    """What it has not taken is dropped, and counted once."""
    with case(FakeCollector(SpanExportResult.FAILURE, hold=True)) as made:
        made.outlet.put([span() for _ in range(BATCH + 10)])
        until(lambda: bool(made.collector.batches))
        before = time.monotonic()
        made.outlet.close(0.2)
        assert time.monotonic() - before < 2
        until(lambda: made.dropped("export_failed") == BATCH)
        assert made.dropped("stopped") == 10
        made.outlet.put([span()])
        assert made.dropped("stopped") == 11


def test_losses_are_told_once_a_minute_with_what_came_together() -> None:
    """`WARN_EVERY` apart."""
    told: list[int] = []
    now = [0.0]
    losses = otlp._Losses(lambda: "", lambda: now[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp.logger, "warning", lambda *_, extra: told.append(extra["spans"]))
        for moment in (0.0, 1.0, 59.0, 61.0):
            now[0] = moment
            losses.add("queue_full", 10)
    assert told == [10, 30]


def test_the_service_is_named_by_the_profile_then_the_environment_then_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are the SDK's own."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    assert resource_of(None, {}).attributes["service.name"] == "holdfast"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "edge")
    assert resource_of(None, {}).attributes["service.name"] == "edge"
    made = resource_of("mine", {"deployment.environment.name": "test"}).attributes
    assert (made["service.name"], made["deployment.environment.name"]) == ("mine", "test")
