"""The registry of metrics of a chain whose addons come and go: names are taken once, and counters go on counting.

An addon registers its metrics in its constructor, and may be made while another of the same name still serves. So what
is registered within `aside` is only noted, and changes places with the other's in one step, if it comes to that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.registry import Collector

_STATE = ("_lock", "_metrics", "_value", "_count", "_sum", "_buckets", "_created")


class ChainRegistry(CollectorRegistry):
    """A registry in which collectors can be prepared without being registered."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[Collector] | None = None
        self._before: Sequence[Collector] = ()

    @contextlib.contextmanager
    def aside(self, before: Sequence[Collector] = ()) -> Iterator[list[Collector]]:
        """Collectors that are registered in here are noted in the list, until `adopt` takes them.

        A counter, histogram or summary that is also in `before` shares its figures and goes on where it is.
        """
        self._noted, self._before = [], before
        try:
            yield self._noted
        finally:
            self._noted = None

    def register(self, collector: Collector) -> None:
        """As stock, but for what is registered within `aside`."""
        if self._noted is None:
            super().register(collector)
            return
        _go_on(collector, self._before)
        self._noted.append(collector)

    def adopt(self, collectors: Sequence[Collector]) -> None:
        """Register all of them. ValueError, and none is, if a name is taken."""
        for number, collector in enumerate(collectors):
            try:
                super().register(collector)
            except ValueError:
                self.drop(collectors[:number])
                raise

    def drop(self, collectors: Sequence[Collector]) -> None:
        """Forget them; one that its addon has withdrawn itself is gone already."""
        for collector in collectors:
            with contextlib.suppress(KeyError):
                self.unregister(collector)


def _go_on(fresh: Collector, before: Sequence[Collector]) -> None:
    """Have a metric share the figures of its predecessor. A gauge shows what is, so it has nothing to go on from."""
    if not isinstance(fresh, Counter | Histogram | Summary):
        return
    for old in before:
        if type(old) is type(fresh) and _shape(old) == _shape(fresh):
            vars(fresh).update({name: value for name, value in vars(old).items() if name in _STATE})


def _shape(metric: Collector) -> tuple[object, ...]:
    return tuple(getattr(metric, name, None) for name in ("_name", "_labelnames", "_upper_bounds"))
