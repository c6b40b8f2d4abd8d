"""What a gateway says on /metrics, made up."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.top.scrape import Scrape, parse_scrape

TYPES = {"_total": "counter", "_bucket": "histogram"}


def metrics(samples: Mapping[str, float]) -> str:
    """The text of a page with these samples, written as Prometheus writes them."""
    lines = []
    for sample, value in samples.items():
        name = sample.partition("{")[0]
        kind = next((kind for ending, kind in TYPES.items() if name.endswith(ending)), "gauge")
        family = name.removesuffix("_bucket") if kind == "histogram" else name
        lines += [f"# HELP {family} x", f"# TYPE {family} {kind}", f"{sample} {value}"]
    return "\n".join(lines) + "\n"


def scrape(when: float, samples: Mapping[str, float]) -> Scrape:
    """The same, read at that time."""
    return parse_scrape(metrics(samples), when)


def requests(**fates: float) -> dict[str, float]:
    """`holdfast_requests_total` of the route `users`, by fate."""
    return {
        f'holdfast_requests_total{{route="users",method="GET",status="200",fate="{f}"}}': n for f, n in fates.items()
    }
