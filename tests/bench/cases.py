"""Every case of the bench: what is asked of whom, and what it should come to."""

from __future__ import annotations

from dataclasses import replace

from tests.bench import peers
from tests.bench.case import Case, Contender, Target, under_load
from tests.bench.idling import holds, starts, weighs
from tests.bench.load import MIXED, POST, Ask
from tests.bench.peers import World
from tests.bench.relaying import relays
from tests.bench.running import Running
from tests.bench.soaking import soak

BARE, LOOKUP = "bare mitmdump", "nginx + Lua + Redis"
MISS = Ask("/api/data")
HIT = Ask("/api/users/1", having=b"cache-status: holdfast;hit")
LOOKUP_HIT = Ask("/api/users/1", having=b"x-cache: hit")
VARNISH_HIT = Ask("/api/users/1", having=b"x-varnish:")
STALE = Ask("/stale/1", having=b"cache-status: holdfast;hit")
MIX = Ask("/api/users/1", script=MIXED)
ORDER = b'{"name": "Ann", "note": "%s"}' % (b"n" * 200)
SENT = Ask("/api/data", method="POST", body=ORDER, script=POST)
FAILING = Ask("/failing", 503, b"holdfast-capture-id: ", method="POST", body=ORDER, script=POST)


def gateway(world: World) -> Running:
    return peers.holdfast(world, "gateway")


def shared_gateway(world: World) -> Running:
    """With Redis behind its first level."""
    return peers.holdfast(world, "gateway", shared=True)


def minimal(world: World) -> Running:
    return peers.holdfast(world, "minimal")


def minimal_tls(world: World) -> Running:
    return peers.holdfast_tls(world, "minimal")


def bare_tls(world: World) -> Running:
    return peers.bare(world, tls=True)


class OnOne:
    """Two contenders on one server: the first who asks makes it, the other gets the same, for each case anew."""

    def __init__(self, made: object) -> None:
        self._made = made
        self._running: Running | None = None

    def __call__(self, world: World) -> Running:
        if self._running is None or self._running.is_down():
            self._running = self._made(world)  # type: ignore[operator]
        return self._running


_ours = OnOne(gateway)
_bare = Contender(BARE, peers.bare, MISS)
_lookup = Contender(LOOKUP, peers.nginx_lookup, LOOKUP_HIT, hits=True)
_hits = Contender("holdfast gateway", shared_gateway, HIT, hits=True, optional=False)


def one_connection(contender: Contender) -> Contender:
    return replace(contender, ask=replace(contender.ask, connections=1))


def workers(count: int) -> Contender:
    def start(world: World) -> Running:
        # Named, for what is started here has its core from the bench, and that is the load's.
        everywhere = replace(world, cores=replace(world.cores, server=world.cores.every))
        return peers.holdfast(everywhere, "minimal", more=("--workers", str(count)))

    name = "holdfast, 2 workers" if count == 2 else "holdfast, 1 worker"
    return Contender(name, start, replace(MISS, connections=64), optional=False)


LOADED = (
    Case(
        "passthrough-gateway",
        "The profile gateway, every answer uncacheable, 32 connections.",
        under_load,
        [Target("rate", 2.5, BARE)],
        [
            Contender("holdfast gateway", gateway, MISS, optional=False),
            _bare,
            Contender("nginx proxy", peers.nginx_proxy, MISS),
        ],
    ),
    Case(
        "passthrough-minimal",
        "The profile minimal, 32 connections.",
        under_load,
        [Target("rate", 3.0, BARE)],
        [Contender("holdfast minimal", minimal, MISS, optional=False), _bare],
    ),
    Case(
        "hits",
        "Hits of the profile gateway, Redis store with a warm first level, 32 connections.",
        under_load,
        [Target("rate", 1.0, LOOKUP), Target("rate", 30.0, BARE)],
        [_hits, _lookup, replace(_bare, ask=Ask("/api/users/1")), Contender("Varnish", peers.varnish, VARNISH_HIT)],
    ),
    Case(
        "hits-latency",
        "The same on one connection.",
        under_load,
        [Target("p50", 1.0, LOOKUP, most=True), Target("p99", 1.0, most=True, unit="ms")],
        [one_connection(_hits), one_connection(_lookup)],
    ),
    Case(
        "mixed",
        "Nine hits and one miss that is stored, again and again, 32 connections.",
        under_load,
        [Target("rate", 10.0, BARE)],
        [Contender("holdfast gateway", shared_gateway, MIX, optional=False), replace(_bare, ask=MIX)],
    ),
    Case(
        "stale",
        "Stale answers while a slow origin is asked anew, beside hits of the same gateway.",
        under_load,
        [Target("rate", 0.8, "hits of the same")],
        [
            Contender("holdfast gateway, stale", _ours, STALE, hits=True, optional=False),
            Contender("hits of the same", _ours, HIT, hits=True, optional=False),
        ],
    ),
    Case(
        "captures",
        "Every request fails upstream and is captured durably, beside pass-through; none is spared the attempt.",
        under_load,
        [Target("rate", 0.7, "pass-through")],
        [
            Contender("holdfast gateway, capturing", peers.holdfast_trying, FAILING, optional=False),
            Contender("pass-through", gateway, SENT, optional=False),
        ],
    ),
    Case(
        "captures-circuit",
        "The same as the profile has it: the circuit opens, and what comes then is captured without an attempt.",
        under_load,
        [Target("rate", 0.7, "pass-through")],
        [
            Contender("holdfast gateway, capturing", gateway, FAILING, optional=False),
            Contender("pass-through", gateway, SENT, optional=False),
        ],
    ),
    Case(
        "http2",
        "HTTP/2 over TLS, 8 connections with 4 streams at once.",
        under_load,
        [Target("rate", 2.0, BARE)],
        [
            Contender("holdfast minimal", minimal_tls, replace(MISS, connections=8), streams=4, optional=False),
            Contender(BARE, bare_tls, replace(MISS, connections=8), streams=4),
        ],
    ),
    Case(
        "tls",
        "TLS to the client, 32 connections that are kept.",
        under_load,
        [Target("rate", 2.5, BARE)],
        [Contender("holdfast minimal", minimal_tls, MISS, optional=False), Contender(BARE, bare_tls, MISS)],
    ),
    Case(
        "workers",
        "Two workers beside one, the profile minimal, 64 connections, on all cores.",
        under_load,
        [Target("rate", 1.7, "holdfast, 1 worker")],
        [workers(2), workers(1)],
    ),
)
IDLE = (
    Case(
        "relay",
        "A backlog of records of 1 KiB to a real Kafka, and the share of the proxy's rate that is left meanwhile.",
        relays,
        [Target("records", 20_000, unit="/s"), Target("during", 0.9, unit="of the rate without")],
        [Contender("holdfast gateway", gateway, MISS)],
    ),
    Case(
        "start",
        "From the start of the process to the first answer, one after the other.",
        starts,
        [Target("start", 1.2, BARE, most=True)],
        [Contender("holdfast gateway", gateway, MISS), _bare],
    ),
    Case(
        "memory",
        "One second after the first answer.",
        weighs,
        [Target("rss", 30.0, BARE, most=True, by="difference", unit="MiB")],
        [Contender("holdfast gateway", gateway, MISS), _bare],
    ),
    Case(
        "idle-connections",
        "10,000 connections that have asked once; hits on 8 others meanwhile.",
        holds,
        [Target("kib", 1.0, BARE, most=True), Target("p99", 20.0, most=True, unit="ms")],
        [Contender("holdfast gateway", gateway, HIT, hits=True), replace(_bare, ask=Ask("/api/users/1"))],
    ),
    Case(
        "soak",
        "Half of the load that it can carry, ten minutes of it; growth from the second quarter to the last.",
        soak,
        [Target("growth", 5.0, most=True, unit="MiB"), Target("files", 5.0, most=True, unit="files")],
        [Contender("holdfast gateway", shared_gateway, HIT)],
    ),
)
CASES: dict[str, Case] = {case.name: case for case in (*LOADED, *IDLE)}
