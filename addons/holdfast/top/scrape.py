"""One answer of /metrics: its figures by name and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

type Labels = tuple[tuple[str, str], ...]  # in alphabetical order


@dataclass(frozen=True, slots=True)
class Scrape:
    """`when` in seconds of a monotonic clock; `values` by the sample's name and labels.

    `kinds` has every metric's type, also of those without a sample yet.
    """

    when: float
    values: Mapping[str, Mapping[Labels, float]]
    kinds: Mapping[str, str]

    @property
    def started(self) -> float | None:
        """When the gateway started, in epoch seconds, if it says so."""
        return self.values.get("process_start_time_seconds", {}).get(())

    def has(self, name: str) -> bool:
        """Whether there is such a metric; a counter's name is without `_total`."""
        return name in self.kinds

    def of(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """(labels, value) of each sample of this name."""
        return ((dict(labels), value) for labels, value in self.values.get(name, {}).items())

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of the samples that have these labels, None if there is none."""
        found = [value for own, value in self.of(name) if own.items() >= labels.items()]
        return sum(found) if found else None

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sums of the samples by one of their labels."""
        sums: dict[str, float] = {}
        for own, value in self.of(name):
            sums[own.get(label, "")] = sums.get(own.get(label, ""), 0.0) + value
        return sums


def parse_scrape(text: str, when: float) -> Scrape:
    """ValueError for what is not Prometheus' text format."""
    values: dict[str, dict[Labels, float]] = {}
    kinds: dict[str, str] = {}
    try:
        for family in text_string_to_metric_families(text):
            kinds[family.name] = family.type
            for sample in family.samples:
                values.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    except (ValueError, KeyError, IndexError) as e:  # what the parser raises for a page of HTML, say
        raise ValueError(f"what /metrics says cannot be read: {e}") from e
    if not kinds:
        raise ValueError("what /metrics says has no figures")
    return Scrape(when, values, kinds)
