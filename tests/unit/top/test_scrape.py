"""Reading what /metrics says."""

from __future__ import annotations

import pytest

from holdfast.top.scrape import parse_scrape
from tests.unit.top.scrapes import scrape


def test_samples_are_found_by_name_and_labels() -> None:
    """Sums over the labels that are not asked for."""
    found = scrape(1, {'a_total{x="1",y="1"}': 2, 'a_total{x="1",y="2"}': 3, 'a_total{x="2",y="1"}': 4, "b": 9})
    assert (found.total("a_total"), found.total("a_total", x="1"), found.total("a_total", x="3")) == (9, 5, None)
    assert found.by("a_total", "x") == {"1": 5, "2": 4}
    assert found.by("b", "x") == {"": 9}


def test_a_metric_without_a_sample_is_there() -> None:
    """A counter with labels has none before its first count: that is not the same as having no such addon."""
    found = parse_scrape("# HELP a_total x\n# TYPE a_total counter\n", 1)
    assert found.has("a")
    assert not found.has("b")
    assert found.total("a_total") is None


def test_labels_come_unescaped() -> None:
    """As the gateway wrote them: what the view does about control characters is its business."""
    assert scrape(1, {r'a{x="1\n\"2\\"}': 1}).by("a", "x") == {'1\n"2\\': 1}


@pytest.mark.parametrize(
    "page", ["<!DOCTYPE html>\n<p class='x'>hello</p>\n", "", "a{x=1\n", "nonsense\n", "a b c d\n"]
)
def test_what_is_no_metrics_is_refused(page: str) -> None:
    """Somebody else's page on this port."""
    with pytest.raises(ValueError, match="what /metrics says"):
        parse_scrape(page, 1)
