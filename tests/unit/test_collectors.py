"""collectors: metrics of addons that come and go are there once, and counters go on counting."""

import pytest
from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from holdfast.collectors import ChainRegistry


def made(registry: ChainRegistry, before: list[Collector] | None = None) -> tuple[Counter, list[Collector]]:
    """What an addon's constructor does."""
    with registry.aside(before or []) as noted:
        counter = Counter("requests", "All of them.", ["route"], registry=registry)
        Histogram("seconds", "Each of them.", registry=registry)
        Gauge("open", "Now.", registry=registry)
    return counter, noted


def text(registry: ChainRegistry) -> str:
    return generate_latest(registry).decode()


def test_what_is_prepared_is_not_registered_before_it_is_adopted() -> None:
    """A constructor may still turn out to belong to a profile that is refused."""
    registry = ChainRegistry()
    _, noted = made(registry)
    assert len(noted) == 3 and text(registry) == ""
    registry.adopt(noted)
    assert "requests" in text(registry)
    registry.drop(noted)
    assert text(registry) == ""


def test_a_successor_goes_on_counting_even_by_a_child_taken_in_its_constructor() -> None:
    """And its predecessor counts to the end, for requests that are still under way."""
    registry = ChainRegistry()
    old, of_old = made(registry)
    registry.adopt(of_old)
    child = old.labels("a")
    child.inc()
    new, of_new = made(registry, of_old)
    fresh = new.labels("a")
    registry.drop(of_old)
    registry.adopt(of_new)
    fresh.inc()
    child.inc()
    assert 'requests_total{route="a"} 3.0' in text(registry)


def test_other_labels_begin_anew() -> None:
    """They are other series."""
    registry = ChainRegistry()
    with registry.aside() as before:
        Counter("requests", "All of them.", ["other"], registry=registry).labels("x").inc()
    _, noted = made(registry, before)
    registry.adopt(noted)
    assert "requests_total{" not in text(registry)


def test_a_taken_name_registers_nothing() -> None:
    """All or nothing."""
    registry = ChainRegistry()
    Gauge("open", "Somebody else's.", registry=registry)
    _, noted = made(registry)
    with pytest.raises(ValueError, match="open"):
        registry.adopt(noted)
    assert "requests" not in text(registry)


def test_a_collector_that_has_withdrawn_itself_can_be_dropped() -> None:
    """Its addon may have done so."""
    registry = ChainRegistry()
    _, noted = made(registry)
    registry.adopt(noted)
    registry.unregister(noted[1])
    registry.drop(noted)
    assert text(registry) == ""
