"""The pages of the control surface, each a thin translation between HTTP and the part that knows the answer."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from holdfast.admin.captures import capture_pages
from holdfast.admin.dashboard.routes import dashboard_pages
from holdfast.admin.faults import FaultsPage
from holdfast.admin.health import health_document
from holdfast.admin.page import Guarded, Page
from holdfast.errors import StoreUnavailable
from holdfast.gateway import Gateway
from holdfast.profile.describe import masked
from holdfast.stores import why_not_purged
from holdfast.workers.whole import figures

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class NotFound(Guarded):
    """Everything else."""

    def prepare(self) -> None:
        """Any method."""
        super().prepare()
        if not self._finished:
            self.send_problem(
                404,
                "Not found",
                "to look at there is /; for programs there are "
                "/health /metrics /purge /explain /captures /captures/{id} /captures/{id}/replay /faults /config",
            )


class Healthz(Page):
    """Alive: the event loop answers."""

    def get(self) -> None:
        """Always 200."""
        self.send_json({"status": "ok"})


class Readyz(Page):
    """Ready: the chain is loaded, the socket listens, and no stop has been asked for."""

    def get(self) -> None:
        """200 or 503."""
        phase = self.gateway.phase
        self.send_json({"status": "ok" if phase == "serving" else phase}, 200 if phase == "serving" else 503)


class HealthReport(Guarded):
    """Every component, as it is now."""

    async def get(self) -> None:
        """See `admin.health`."""
        status, document = await health_document(self.gateway, with_addresses=True)
        self.send_json(document, status)


class MetricsPage(Guarded):
    """The metrics of all workers in Prometheus' text format."""

    async def get(self) -> None:
        """All metrics."""
        try:
            text, _ = await figures(self.gateway)
        except StoreUnavailable as e:
            self.send_problem(503, "Not known now", str(e))
            return
        self.set_header("Content-Type", METRICS_TYPE)
        self.finish(text)


class Config(Guarded):
    """The resolved profile, secrets masked."""

    def get(self) -> None:
        """As `holdfast check` prints it."""
        self.send_json(masked(self.gateway.profile))


class Purge(Guarded):
    """`{"tags": [...]}`, `{"urls": [...]}` or `{"all": true}`, each with `"soft": true` if stale is enough."""

    async def post(self) -> None:
        """Answered once it holds everywhere."""
        cache = self.gateway.cache
        if cache is None:
            self.send_problem(404, "No cache", "the profile has no cache")
            return
        try:
            wanted = msgspec.json.decode(self.request.body, type=PurgeRequest)
            purged = await cache.purge(tags=wanted.tags, urls=wanted.urls, everything=wanted.all, soft=wanted.soft)
        except ValueError as e:  # msgspec's errors are
            self.send_problem(400, "Bad purge", str(e))
            return
        except StoreUnavailable as e:
            self.send_problem(503, "Not purged", why_not_purged(e))
            return
        named = {"tags": wanted.tags, "urls": wanted.urls, "all": wanted.all}
        self.send_json({"purged": purged.keys, "soft": purged.soft} | {k: v for k, v in named.items() if v})


class Explain(Guarded):
    """What would become of a request: `?url=&method=&header=Name: value`."""

    async def get(self) -> None:
        """Nothing is sent upstream."""
        pairs = [each.partition(":") for each in self.get_query_arguments("header")]
        fields = [(name.strip().encode(), value.strip().encode()) for name, _, value in pairs]
        method, url = self.get_query_argument("method", "GET"), self.get_query_argument("url", "")
        try:
            self.send_json(await self.gateway.explain(method, url, fields))
        except ValueError as e:
            self.send_problem(400, "No request", str(e))
        except StoreUnavailable as e:
            self.send_problem(503, "Not known now", str(e))


class PurgeRequest(Struct, forbid_unknown_fields=True):
    """The body of a purge."""

    tags: list[str] = []
    urls: list[str] = []
    all: bool = False
    soft: bool = False

    def __post_init__(self) -> None:
        if not (self.tags or self.urls or self.all):
            raise ValueError('name what to purge: {"tags": [...]}, {"urls": [...]} or {"all": true}')


def routes(gateway: Gateway) -> list[Any]:
    """tornado's routing table."""
    table: list[tuple[str, type[Page]]] = [
        (r"/healthz", Healthz),
        (r"/readyz", Readyz),
        (r"/health", HealthReport),
        (r"/metrics", MetricsPage),
        (r"/config", Config),
        (r"/purge", Purge),
        (r"/explain", Explain),
        (r"/faults", FaultsPage),
        *capture_pages(),
    ]
    known = [(pattern, page, {"gateway": gateway}) for pattern, page in table]
    return [*known, *dashboard_pages(gateway), (r".*", NotFound, {"gateway": gateway})]
