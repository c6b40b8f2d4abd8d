"""The pages of the control surface, each a thin translation between HTTP and the part that knows the answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client import generate_latest
from tornado.web import RequestHandler

from holdfast.admin.access import refusal
from holdfast.admin.health import health_document
from holdfast.errors import StoreUnavailable
from holdfast.gateway import Gateway
from holdfast.outbox.record import STATES, OutboxRecord
from holdfast.policy.since import parse_since
from holdfast.profile.describe import masked

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_CAPTURES = 1000


class Page(RequestHandler):
    """What all pages share: the gateway, JSON out, and problem documents for errors."""

    gateway: Gateway

    def initialize(self, gateway: Gateway) -> None:
        """Called by tornado for each request."""
        self.gateway = gateway

    def set_default_headers(self) -> None:
        """No product names, no caching, nothing for a browser to guess."""
        self.set_header("Server", "holdfast")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def send_json(self, document: Any, status: int = 200) -> None:
        """Finish with this document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document, ensure_ascii=False) + "\n")

    def send_problem(self, status: int, title: str, detail: str) -> None:
        """Finish with an RFC 9457 document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}) + "\n")

    def head(self, *args: str) -> Any:
        """As GET; tornado leaves the body out."""
        return self.get(*args)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors raised by tornado or by a page: no trace to the caller."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._methods()))
        self.send_problem(status_code, self._reason, "see the gateway's log" if status_code >= 500 else self._reason)

    def _methods(self) -> list[str]:
        """Those that this page has (RFC 9110, section 15.5.6)."""
        known = [m for m in self.SUPPORTED_METHODS if m != "HEAD"]
        own = [m for m in known if getattr(type(self), m.lower()) is not getattr(RequestHandler, m.lower())]
        return [*own, "HEAD"] if "GET" in own else own


class Guarded(Page):
    """A page that wants the token where one is set."""

    def prepare(self) -> None:
        """Called by tornado before the method."""
        refused = refusal(self.gateway.profile.admin.token, self.request.method or "", self.request.headers)
        if refused:
            status, what_to_do = refused
            if status == 401:
                self.set_header("WWW-Authenticate", 'Bearer realm="holdfast"')
            self.send_problem(status, "Not allowed", what_to_do)


class NotFound(Guarded):
    """Everything else."""

    def prepare(self) -> None:
        """Any method."""
        super().prepare()
        if not self._finished:
            self.send_problem(
                404, "Not found", "the pages are /health /metrics /purge /explain /captures /captures/{id} /config"
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
    """The registry in Prometheus' text format."""

    def get(self) -> None:
        """All metrics."""
        self.set_header("Content-Type", METRICS_TYPE)
        self.finish(generate_latest(self.gateway.registry))


class Config(Guarded):
    """The resolved profile, secrets masked."""

    def get(self) -> None:
        """As `holdfast check` prints it."""
        self.send_json(masked(self.gateway.profile))


class Captures(Guarded):
    """The records of the outbox, newest first."""

    async def get(self) -> None:
        """Filters: route, status, error, state, since, limit."""
        outbox = self.gateway.sink.outbox if self.gateway.sink else None
        if outbox is None:
            self.send_problem(404, "No outbox", "the profile has no failure_sink, or its outbox is not open")
            return
        try:
            filters = self._filters()
        except ValueError as e:
            self.send_problem(400, "Bad filter", str(e))
            return
        records = await asyncio.to_thread(outbox.list, **filters)
        self.send_json({"captures": [summary(record) for record in records]})

    def _filters(self) -> dict[str, Any]:
        filters: dict[str, Any] = {n: self.get_query_argument(n, None) for n in ("route", "error", "state")}
        if filters["state"] not in (None, *STATES):
            raise ValueError(f"state is one of {', '.join(STATES)}")
        status, since = self.get_query_argument("status", None), self.get_query_argument("since", None)
        filters["status"] = _whole("status", status) if status else None
        filters["since"] = parse_since(since, self.gateway.wall_clock()) if since else None
        filters["limit"] = min(_whole("limit", self.get_query_argument("limit", "100")), MOST_CAPTURES)
        return filters


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{name} is a whole number, not {text!r}")
    return int(text)


class Capture(Guarded):
    """One record, whole."""

    async def get(self, capture_id: str) -> None:
        """The envelope as it is published, and what became of it."""
        outbox = self.gateway.sink.outbox if self.gateway.sink else None
        record = await asyncio.to_thread(outbox.get, capture_id) if outbox else None
        if record is None:
            self.send_problem(404, "No such capture", "there is no capture of this id here")
        else:
            self.send_json(summary(record) | {"request": json.loads(record.value)})


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
            self.send_problem(503, "Not purged", f"nothing was purged: {e}")
            return
        named = {"tags": wanted.tags, "urls": wanted.urls, "all": wanted.all}
        self.send_json({"purged": purged.keys, "soft": purged.soft} | {k: v for k, v in named.items() if v})


class Explain(Guarded):
    """What would become of a request: `?url=&method=&header=Name: value`."""

    async def get(self) -> None:
        """Nothing is sent upstream."""
        cache, url = self.gateway.cache, self.get_query_argument("url", "")
        if cache is None:
            self.send_problem(404, "No cache", "the profile has no cache")
            return
        if not url.startswith(("http://", "https://")):
            self.send_problem(400, "No URL", "name it with ?url=http://host/path")
            return
        pairs = [each.partition(":") for each in self.get_query_arguments("header")]
        fields = [(name.strip().encode(), value.strip().encode()) for name, _, value in pairs]
        self.send_json(await cache.explain(self.get_query_argument("method", "GET"), url, fields))


class PurgeRequest(Struct, forbid_unknown_fields=True):
    """The body of a purge."""

    tags: list[str] = []
    urls: list[str] = []
    all: bool = False
    soft: bool = False

    def __post_init__(self) -> None:
        if not (self.tags or self.urls or self.all):
            raise ValueError('name what to purge: {"tags": [...]}, {"urls": [...]} or {"all": true}')


def summary(record: OutboxRecord) -> dict[str, Any]:
    """What a list shows of a record."""
    return {
        "id": record.id,
        "created": record.created,
        "state": record.state,
        "route": record.route,
        "method": record.method,
        "path": record.path,
        "error": record.error,
        "status": record.status,
        "sent": record.sent,
    }


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
        (r"/captures", Captures),
        (r"/captures/([^/]+)", Capture),
        (r".*", NotFound),
    ]
    return [(pattern, page, {"gateway": gateway}) for pattern, page in table]
