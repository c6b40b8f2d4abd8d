"""From what was read to what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.policy.fate import FATES, LOST
from holdfast.top.frame import (
    CacheRow,
    CaptureRow,
    Figure,
    Frame,
    GatewayRow,
    Latency,
    OutboxRow,
    ReplayRow,
    Requests,
    RouteRow,
    Seen,
    ServerRow,
)
from holdfast.top.history import Group, History, Rise, quantile
from holdfast.top.scrape import Scrape

COLUMNS = 60  # of a line: one for each second
CACHE_SERVED = ("hit", "stale")
CACHE_ASKED = (*CACHE_SERVED, "miss", "revalidated")  # the others are none of the cache's business
FATE: Group = ("holdfast_requests_total", ("fate",))
ROUTE: Group = ("holdfast_requests_total", ("route", "fate"))
BUCKETS: Group = ("holdfast_request_duration_seconds_bucket", ("le",))
ROUTE_BUCKETS: Group = ("holdfast_request_duration_seconds_bucket", ("route", "le"))
ATTEMPTS: Group = ("holdfast_upstream_attempts_total", ("server", "outcome"))
CAPTURED: Group = ("holdfast_captures_total", ())
REFUSED: Group = ("holdfast_capture_failures_total", ("reason",))
PUBLISHED: Group = ("holdfast_relay_published_total", ())
RELAY_ERRORS: Group = ("holdfast_relay_errors_total", ())
OUTCOMES: Group = ("holdfast_replay_total", ("outcome",))
REPLAY_ATTEMPTS: Group = ("holdfast_replay_attempts_total", ("result",))
CPU: Group = ("process_cpu_seconds_total", ())
CACHE: Group = ("holdfast_cache_requests_total", ("result",))
GROUPS = (
    FATE,
    ROUTE,
    BUCKETS,
    ROUTE_BUCKETS,
    ATTEMPTS,
    CAPTURED,
    REFUSED,
    PUBLISHED,
    RELAY_ERRORS,
    OUTCOMES,
    REPLAY_ATTEMPTS,
    CACHE,
    CPU,
)
WORST_FIRST = ("open", "unhealthy", "half open", "failing", "unknown", "ok")
REPLAY_GAUGES = ("open", "captures", "oldest_seconds", "lag", "paused")
OWN_WORDS = ("gateway", "profile", "upstream")  # parts of the health page that are told of in words of their own


def frame_of(history: History, seen: Seen, *, address: str, at: float, interval: float) -> Frame:
    """One frame. `at` in epoch seconds, `interval` in seconds."""
    scrape = history.latest
    told = _Told(history, here=not seen.away)
    parts: dict[str, Any] = {}
    if scrape:
        parts["requests"] = _requests(told) if scrape.has("holdfast_requests") else None
        parts["outbox"] = _outbox(told, scrape, seen.health or {})
        parts["replay"] = _replay(told, scrape)
        parts["cache"] = _cache(told, scrape, seen.health or {}) if scrape.has("holdfast_cache_requests") else None
        parts["servers"] = _servers(told, scrape, seen.health or {}, at)
    captures = None if seen.captures is None else tuple(map(_capture, seen.captures))
    gateway = _gateway(told, seen, address, at)
    return Frame(at=at, interval=interval, gateway=gateway, captures=captures, **parts)


class _Told:
    """Asks the history for figures; the rate of a gateway that is away is not known."""

    def __init__(self, history: History, *, here: bool) -> None:
        self.history = history
        self.here = here

    def now(self, group: Group) -> Rise | None:
        return self.history.now(group) if self.here else None

    def figure(self, group: Group, name: str, total: float | None, *values: str, line: bool = False) -> Figure:
        """Of the samples whose first labels have these values; `total` is what they show."""
        now, minute = self.now(group), self.history.minute(group)
        return Figure(
            name=name,
            rate=now.rate(*values) if now else None,
            minute=minute.count(*values) if minute else None,
            total=total or 0.0,
            line=self.history.line(group, COLUMNS, *values) if line else (),
        )

    def figures(self, group: Group, *, order: Iterable[str] = (), line: bool = False) -> tuple[Figure, ...]:
        """One for each value of the group's first label: first those of `order`, then the others by name."""
        found = self.history.latest.by(group[0], group[1][0]) if self.history.latest else {}
        names = [name for name in order if name in found] + sorted(set(found) - set(order))
        return tuple(self.figure(group, name, found[name], name, line=line) for name in names)


# -- parts ------------------------------------------------------------------------------------------------------------


def _gateway(told: _Told, seen: Seen, address: str, at: float) -> GatewayRow:
    health, scrape, busy = seen.health or {}, told.history.latest, told.now(CPU)
    started = scrape.started if scrape else None
    version = next((labels.get("version", "") for labels, _ in scrape.of("holdfast_build_info")), "") if scrape else ""
    return GatewayRow(
        address=address,
        status="away" if seen.away else str(health.get("status", "unknown")),
        away=seen.away,
        away_seconds=seen.away_seconds,
        profile=str(_part(health, "profile").get("source", "")),
        version=version,
        cpu=busy.rate() if busy and started is not None else None,
        memory_bytes=scrape.total("process_resident_memory_bytes") if scrape and not seen.away else None,
        uptime_seconds=None if started is None or seen.away else max(0.0, at - started),
        restarts=told.history.restarts,
        troubles=() if seen.away else (*_troubles(health), *seen.notes),
    )


def _troubles(health: Mapping[str, Any]) -> Iterable[str]:
    """What the health page complains of, but for the servers, which have rows of their own."""
    phase = _part(health, "gateway").get("status", "ok")
    if phase != "ok":
        yield f"the gateway is {phase}"
    for name in health:
        part = _part(health, name)
        if name not in OWN_WORDS and part.get("status") == "failing":
            yield f"{name}: {part.get('detail') or 'failing'}"
    faults = _part(health, "profile").get("faults") or []
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        yield f"the profile's files were refused, the old one holds: {faults[0]}{more}"


def _requests(told: _Told) -> Requests:
    now, minute = told.now(FATE), told.history.minute(BUCKETS)
    buckets = {key[0]: rise for key, rise in minute.sums.items()} if minute else {}
    return Requests(
        rate=now.rate() if now else None,
        line=told.history.line(FATE, COLUMNS),
        latency=Latency(p50=quantile(0.5, buckets), p95=quantile(0.95, buckets), p99=quantile(0.99, buckets)),
        fates=told.figures(FATE, order=FATES, line=True),
        routes=_routes(told),
    )


def _routes(told: _Told) -> tuple[RouteRow, ...]:
    """Those with most lost requests first, then the busiest."""
    minute, durations = told.history.minute(ROUTE), told.history.minute(ROUTE_BUCKETS)
    rows = []
    for figure in told.figures(ROUTE):
        lost = sum(minute.count(figure.name, fate) for fate in LOST) if minute else 0.0
        sums = durations.sums.items() if durations else ()
        buckets = {key[1]: rise for key, rise in sums if key[0] == figure.name}
        share = lost / figure.minute if figure.minute else None
        row = RouteRow(
            route=figure.name, rate=figure.rate, minute=figure.minute, failed=share, p95=quantile(0.95, buckets)
        )
        rows.append((-lost, -(figure.minute or 0.0), figure.name, row))
    return tuple(row for *_, row in sorted(rows, key=lambda each: each[:3]))


def _servers(told: _Told, scrape: Scrape, health: Mapping[str, Any], at: float) -> tuple[ServerRow, ...]:
    pages = _part(health, "upstream")
    held_back = scrape.by("holdfast_upstream_open", "server")
    names = list(dict.fromkeys([*pages, *held_back]))
    shared = [_counted_as(name) for name in names]
    rows = []
    for name, label in zip(names, shared, strict=True):
        page = _part(pages, name)
        # The addresses of one name are counted together: that is no one's figure.
        now = told.now(ATTEMPTS) if shared.count(label) == 1 else None
        rate, good = (now.rate(label), now.rate(label, "ok")) if now else (None, None)
        since = page.get("since")
        rows.append(
            ServerRow(
                server=name,
                state=_state(page, held_back=bool(held_back.get(name))),
                by_hand=bool(page.get("forced_open")),
                rate=rate,
                failed=None if rate is None or good is None else max(0.0, rate - good),
                failures=int(page.get("consecutive_failures") or 0),
                last_error=str(page.get("last_error") or ""),
                detail=str(page.get("detail") or ""),
                since_seconds=None if since is None else max(0.0, at - float(since)),
            )
        )
    return tuple(sorted(rows, key=lambda row: WORST_FIRST.index(row.state)))


def _counted_as(server: str) -> str:
    """The label of its attempts: without the route that it belongs to, and without one of several addresses."""
    return server.partition(" (")[0].partition("#")[0]


def _state(page: Mapping[str, Any], *, held_back: bool) -> str:
    """What the health page says goes first: it is the finer of the two."""
    if page.get("circuit") == "open" or (held_back and not page):
        return "open"
    if page.get("healthy") is False:
        return "unhealthy"
    if page.get("circuit") == "half_open":
        return "half open"
    return str(page["status"]) if page.get("status") in ("ok", "failing") else "unknown"


def _outbox(told: _Told, scrape: Scrape, health: Mapping[str, Any]) -> OutboxRow | None:
    if not scrape.has("holdfast_captures"):
        return None
    states = scrape.by("holdfast_outbox_records", "state")
    broker = _part(health, "kafka").get("status", "")
    relayed = scrape.has("holdfast_relay_published") and broker != "not_configured"
    return OutboxRow(
        waiting=states.get("pending", 0.0),
        quarantined=states.get("quarantined", 0.0),
        records=sum(states.values()),
        bytes=scrape.total("holdfast_outbox_bytes") or 0.0,
        oldest_seconds=scrape.total("holdfast_outbox_oldest_seconds") or 0.0,
        max_records=scrape.total("holdfast_outbox_max_records"),
        max_bytes=scrape.total("holdfast_outbox_max_bytes"),
        captured=told.figure(CAPTURED, "captured", scrape.total(CAPTURED[0])),
        refused=told.figures(REFUSED),
        published=told.figure(PUBLISHED, "published", scrape.total(PUBLISHED[0])) if relayed else None,
        errors=told.figure(RELAY_ERRORS, "errors", scrape.total(RELAY_ERRORS[0])) if relayed else None,
        broker="" if broker == "not_configured" else str(broker),
        detail=str(_part(health, "outbox").get("detail") or ""),
    )


def _replay(told: _Told, scrape: Scrape) -> ReplayRow | None:
    """A replayer may show only some of its figures."""
    if not (scrape.has("holdfast_replay") or any(scrape.has(f"holdfast_replay_{name}") for name in REPLAY_GAUGES)):
        return None
    due = scrape.by("holdfast_replay_open", "due")
    return ReplayRow(
        paused=bool(scrape.total("holdfast_replay_paused")),
        now=due.get("now"),
        later=due.get("later"),
        oldest_seconds=scrape.total("holdfast_replay_oldest_seconds"),
        lag=scrape.total("holdfast_replay_lag"),
        outcomes=told.figures(OUTCOMES, order=("delivered", "dead", "parked", "discarded", "duplicate", "poison")),
        attempts=told.figures(REPLAY_ATTEMPTS),
        states=scrape.by("holdfast_replay_captures", "state"),
    )


def _cache(told: _Told, scrape: Scrape, health: Mapping[str, Any]) -> CacheRow:
    minute = told.history.minute(CACHE)
    asked = sum(minute.count(result) for result in CACHE_ASKED) if minute else 0.0
    served = sum(minute.count(result) for result in CACHE_SERVED) if minute else 0.0
    up = scrape.total("holdfast_cache_store_up")
    return CacheRow(
        hit_rate=served / asked if asked else None,
        results=told.figures(CACHE, order=(*CACHE_ASKED, "pass")),
        entries=scrape.total("holdfast_cache_entries"),
        bytes=scrape.total("holdfast_cache_bytes"),
        store_up=None if up is None else bool(up),
        detail=str(_part(health, "redis").get("detail") or ""),
    )


def _capture(page: Mapping[str, Any]) -> CaptureRow:
    texts = {name: str(page.get(name, "")) for name in ("id", "state", "route", "method", "path", "error")}
    captured, attempts = float(page.get("captured") or 0.0), int(page.get("attempts") or 0)
    return CaptureRow(captured=captured, status=page.get("status"), attempts=attempts, **texts)


def _part(page: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a JSON document that should be an object."""
    found = page.get(name)
    return found if isinstance(found, Mapping) else {}
