"""What a process says of itself: its versions, memory, processor time, open files, and when it was started."""

from __future__ import annotations

from importlib.metadata import version

from mitmproxy.version import VERSION
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector


def register_process(registry: CollectorRegistry) -> None:
    """`holdfast_build_info`, and prometheus_client's `process_*`."""
    info = Gauge("holdfast_build_info", "Always 1.", ["version", "mitmproxy"], registry=registry)
    info.labels(version("holdfast"), VERSION).set(1)
    ProcessCollector(registry=registry)
