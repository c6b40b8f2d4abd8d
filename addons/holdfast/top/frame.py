"""What `holdfast top` shows at one moment, as plain records: the view draws them, `--json` prints them.

Rates are per second over the last interval, None before there are two readings or while the gateway is away. `minute`
counts over the last minute; `line` has the rates of the last minute in equal parts, oldest first, None where nothing
was read. Ages are seconds. A part that the gateway does not have is None.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

type Line = tuple[float | None, ...]


class GatewayRow(Struct, frozen=True, kw_only=True):
    """The gateway itself. `away`: why it cannot be read, and for how long already; empty while it can."""

    address: str
    status: str = "unknown"
    away: str = ""
    away_seconds: float = 0.0
    profile: str = ""
    version: str = ""
    uptime_seconds: float | None = None
    cpu: float | None = None  # the share of one core, 0..1: a gateway uses no more than one
    memory_bytes: float | None = None
    restarts: int = 0  # seen while watching
    troubles: tuple[str, ...] = ()  # what is wrong with its parts, in words


class Figure(Struct, frozen=True, kw_only=True):
    """A counter under one name: a fate, an outcome, a result."""

    name: str
    rate: float | None = None
    minute: float | None = None
    total: float = 0.0
    line: Line = ()


class Latency(Struct, frozen=True, kw_only=True):
    """Quantiles of the last minute's durations, in seconds; None without requests."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class RouteRow(Struct, frozen=True, kw_only=True):
    """A route. `failed` is the share, 0..1, of the last minute's requests that were captured or failed."""

    route: str
    rate: float | None = None
    minute: float | None = None
    failed: float | None = None
    p95: float | None = None


class Requests(Struct, frozen=True, kw_only=True):
    """All requests, by fate and by route."""

    rate: float | None = None
    line: Line = ()
    latency: Latency = Latency()
    fates: tuple[Figure, ...] = ()
    routes: tuple[RouteRow, ...] = ()


class ServerRow(Struct, frozen=True, kw_only=True):
    """An upstream server. `state`: open, half open, unhealthy, failing, ok, unknown; `since` its last up or down.

    `by_hand`: a person holds the circuit open.
    """

    server: str
    state: str
    by_hand: bool = False
    rate: float | None = None
    failed: float | None = None
    failures: int = 0
    last_error: str = ""
    detail: str = ""
    since_seconds: float | None = None


class OutboxRow(Struct, frozen=True, kw_only=True):
    """The outbox and its relay. `refused` are captures that could not be stored, by reason."""

    waiting: float = 0.0
    quarantined: float = 0.0
    bytes: float = 0.0
    oldest_seconds: float = 0.0
    max_records: float | None = None
    max_bytes: float | None = None
    records: float = 0.0
    captured: Figure = Figure(name="captured")
    refused: tuple[Figure, ...] = ()
    published: Figure | None = None
    errors: Figure | None = None
    broker: str = ""  # its state on the health page; empty without one
    detail: str = ""


class ReplayRow(Struct, frozen=True, kw_only=True):
    """The replayer: what is open now and later, the consumer's lag, what became of the captures."""

    paused: bool = False
    now: float | None = None
    later: float | None = None
    oldest_seconds: float | None = None
    lag: float | None = None
    outcomes: tuple[Figure, ...] = ()
    attempts: tuple[Figure, ...] = ()
    states: dict[str, float] = {}


class CacheRow(Struct, frozen=True, kw_only=True):
    """The cache. `hit_rate` is the share, 0..1, of the last minute's answers that came from it, stale ones included."""

    hit_rate: float | None = None
    results: tuple[Figure, ...] = ()
    entries: float | None = None
    bytes: float | None = None
    store_up: bool | None = None
    detail: str = ""


class CaptureRow(Struct, frozen=True, kw_only=True):
    """A captured request; `captured` in epoch seconds. `error` says why, `attempts` how often it was replayed."""

    id: str
    captured: float
    state: str
    route: str
    method: str
    path: str
    error: str
    status: int | None = None  # of the last answer
    attempts: int = 0


class Frame(Struct, frozen=True, kw_only=True):
    """All of it; `at` in epoch seconds, `interval` between two readings in seconds."""

    at: float
    interval: float
    gateway: GatewayRow
    requests: Requests | None = None
    servers: tuple[ServerRow, ...] = ()
    outbox: OutboxRow | None = None
    replay: ReplayRow | None = None
    cache: CacheRow | None = None
    captures: tuple[CaptureRow, ...] | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """What is known of the two pages beside /metrics; None where the page could not be had, or is not there."""

    health: dict[str, Any] | None = None
    captures: list[dict[str, Any]] | None = None
    away: str = ""
    away_seconds: float = 0.0
    notes: tuple[str, ...] = ()  # of pages that could not be had, in words
