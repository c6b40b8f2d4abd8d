"""Two gateways on one Redis: what one stores the other answers, and what is purged at one is gone at the other."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.cached import cached, keep, parameters, status_of
from tests.e2e.harness import Gateway, until
from tests.services.process import free_port
from tests.services.redis import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = {"upstream__response_timeout": "5s", "upstream__deadline": "10s"}
HEARD_WITHIN = 1.0  # seconds after which no gateway trusts a memory level that has not heard of every purge
NOISE = 0.25  # what a busy machine adds to that
COALESCE = 5.0  # the default of `coalesce`


class Side:
    """A gateway as its clients and its operator see it. `host` keeps the tests' entries apart."""

    def __init__(self, gateway: Gateway, host: str) -> None:
        limits = httpx.Limits(max_connections=100)
        self.gateway = gateway
        self.host = host
        self.client = httpx.AsyncClient(base_url=gateway.url, timeout=20, limits=limits, verify=False)
        self.control = httpx.AsyncClient(base_url=gateway.admin_url, timeout=20, verify=False)

    async def get(self, path: str, method: str = "GET", **fields: str) -> httpx.Response:
        """`fields` are header fields, with `_` for the hyphen."""
        headers = {"Host": self.host, **{name.replace("_", "-"): value for name, value in fields.items()}}
        return await self.client.request(method, path, headers=headers)

    async def purge(self, **named: Any) -> float:
        """Returns when it was answered."""
        answer = await self.control.post("/purge", json=named)
        assert answer.status_code == 200, answer.text
        return time.monotonic()

    async def level(self, path: str) -> str:
        """Where the stored response is found: `memory` or `redis`."""
        told = await self.control.get("/explain", params={"url": f"http://{self.host}{path}"})
        return str(told.json()["details"]["cache"]["store"])

    async def __aenter__(self) -> Side:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.control.aclose()


@dataclass
class Pair:
    """Both, and the origin behind them. A test sets the origin's plan."""

    a: Side
    b: Side
    origin: MisbehavingOrigin

    def both_ways(self, rounds: int) -> Iterator[tuple[int, Side, Side]]:
        """Now the one, now the other comes first."""
        for number in range(rounds):
            yield (number, self.a, self.b) if number % 2 else (number, self.b, self.a)


@asynccontextmanager
async def gateways(folder: Path, upstream: str, *stores: str) -> AsyncIterator[list[Gateway]]:
    """One for each store, started at the same time."""
    made = [cached(upstream, store=store, changes=SLOW) for store in stores]
    started = [Gateway(folder / f"gateway-{number}", made=each) for number, each in enumerate(made)]
    try:
        await asyncio.gather(*(each.start() for each in started))
        yield started
    finally:
        for each in started:
            each.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[MisbehavingOrigin, list[Gateway]]]:
    """A Redis of our own that is given time, so that a busy machine is no outage."""
    assert redis_url
    folder = tmp_path_factory.mktemp("two-gateways")
    with RedisServer(folder / "redis", free_port()) as server:
        async with (
            MisbehavingOrigin() as origin,
            gateways(folder, origin.url, *[f"{server.url}?timeout=2s"] * 2) as started,
        ):
            yield origin, started


@pytest_asyncio.fixture(loop_scope="module")
async def pair(running: tuple[MisbehavingOrigin, list[Gateway]], request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """For each test with a host of its own."""
    origin, (one, other) = running
    host = f"test-{abs(hash(request.node.name))}.test"
    origin.forget()
    async with Side(one, host) as a, Side(other, host) as b:
        yield Pair(a, b, origin)


@dataclass
class Versions:
    """An origin that answers with the version that a path has when it is asked; each path is its own tag."""

    delay: float = 0.0
    cache_control: str = "max-age=60, stale-if-error=60"
    of: dict[str, int] = field(default_factory=lambda: defaultdict(lambda: 1))
    asked: set[str] = field(default_factory=set)

    def __call__(self, received: Received) -> Answer:
        path, version = received.target, self.of[received.target]
        self.asked.add(path)
        fields = [("Surrogate-Key", path.strip("/")), ("ETag", f'"{version}"'), ("Cache-Control", self.cache_control)]
        if received.header("if-none-match") == f'"{version}"':
            return Answer(304, headers=fields, body=b"", delay=self.delay)
        return Answer(headers=fields, body=b"%d" % version, delay=self.delay)


def naming(kind: str, host: str, path: str) -> dict[str, Any]:
    """The purge of this kind that hits the path."""
    tag = {"tags": [path.strip("/")]}
    kinds = {"tag": tag, "url": {"urls": [f"http://{host}{path}"]}, "all": {"all": True}, "soft": {**tag, "soft": True}}
    return kinds[kind]


async def old_until(side: Side, path: str, since: float) -> float:
    """Ask until the second version comes, and some more: the seconds after `since` in which the first was begun."""
    last, news = 0.0, 0
    while news < 5:
        began = time.monotonic()
        if (await side.get(path)).text == "1":
            last, news = began - since, 0
            assert last < HEARD_WITHIN + NOISE
        else:
            news += 1
    return last


async def test_what_one_stores_the_other_answers(pair: Pair) -> None:
    """RFC 9111, section 4.2.3: the age counts from the origin on; RFC 9211: a hit is a hit."""
    pair.origin.plan = keep(b"0123456789", ("Age", "30"), ("ETag", '"1"'), ("X-Of", "origin"))
    for number, here, there in pair.both_ways(2):
        path = f"/{number}"
        first, second = await here.get(path), await there.get(path)
        assert (status_of(first), status_of(second)) == ("miss", "hit")
        assert (second.status_code, second.content, second.headers["x-of"]) == (200, b"0123456789", "origin")
        age = int(second.headers["age"])
        assert age in (30, 31)
        assert int(parameters(second)[1].removeprefix("ttl=")) in (60 - age, 60 - age - 1)
        assert await there.level(path) == "memory"
        head, part = await there.get(path, "HEAD"), await there.get(path, Range="bytes=2-4")
        condition = await there.get(path, If_None_Match='"1"')
        assert (head.headers["content-length"], part.content, condition.status_code) == ("10", b"234", 304)
        assert {status_of(each) for each in (head, part, condition)} == {"hit"}
    assert len(pair.origin.requests) == 2


async def test_a_variant_is_shared_with_those_who_ask_for_the_same(pair: Pair) -> None:
    """RFC 9111, section 4.1, and section 4.3.2 for a client that has it."""

    def plan(received: Received) -> Answer:
        language = received.header("accept-language")
        return keep(language.encode(), ("Vary", "Accept-Language"), ("ETag", f'"{language}"'))

    pair.origin.plan = plan
    for number, here, there in pair.both_ways(2):
        path = f"/{number}"
        assert status_of(await here.get(path, Accept_Language="de")) == "miss"
        same, other = await there.get(path, Accept_Language="de"), await there.get(path, Accept_Language="fr")
        assert (status_of(same), same.text, status_of(other), other.text) == ("hit", "de", "miss", "fr")
        has = await there.get(path, Accept_Language="de", If_None_Match='"de"')
        assert (has.status_code, status_of(has)) == (304, "hit")
        back = await here.get(path, Accept_Language="fr")
        assert (status_of(back), back.text) == ("hit", "fr")
    assert len(pair.origin.requests) == 4


@pytest.mark.parametrize("kind", ["tag", "url", "all", "soft"])
async def test_a_purge_at_one_is_seen_by_the_memory_of_the_other(
    pair: Pair, kind: str, record_property: pytest.RecordProperty
) -> None:
    """Promise 4: at once where it was answered; elsewhere when the channel tells, and within a second in any case."""
    pair.origin.plan = versions = Versions()
    took = []
    for number, here, there in pair.both_ways(10):
        path = f"/{kind}-{number}"
        await here.get(path)
        for side in (here, there):
            assert status_of(await side.get(path)) == "hit"
            assert await side.level(path) == "memory"
        versions.of[path] = 2
        purged = await here.purge(**naming(kind, here.host, path))
        elsewhere, here_too = await asyncio.gather(old_until(there, path, purged), old_until(here, path, purged))
        assert here_too == 0
        took.append(elsewhere)
    record_property("slowest", f"{max(took):.4f}")
    record_property("old answers elsewhere", sum(each > 0 for each in took))


async def test_a_purge_at_one_during_a_fill_at_the_other_is_not_undone(
    pair: Pair, record_property: pytest.RecordProperty
) -> None:
    """Promise 4: what was asked of the origin before the purge is not used after it, whenever it arrives."""
    pair.origin.plan = versions = Versions(delay=0.25)

    async def one(number: int, filler: Side, purger: Side, kind: str) -> float:
        path = f"/{kind}-{number}"
        filling = asyncio.create_task(filler.get(path))
        await until(lambda: path in versions.asked)
        await asyncio.sleep(number * 0.025)
        versions.of[path] = 2
        purged = await purger.purge(**naming(kind, purger.host, path))
        assert (await purger.get(path)).text == "2"
        assert (await filling).text in ("1", "2")
        return await old_until(filler, path, purged)

    took = []
    for _ in range(1):
        rounds = [(*each, kind) for each in pair.both_ways(14) for kind in ("tag", "url")]
        took += await asyncio.gather(*(one(*each) for each in rounds))
    record_property("slowest", f"{max(took):.4f}")


@pytest.mark.parametrize("outcome", ["no-store", "an error", "purged"])
async def test_nobody_waits_for_what_the_other_gateway_did_not_bring(pair: Pair, outcome: str) -> None:
    """`coalesce` is for as long as somebody fetches: what turns out to be of no use to others is not waited for."""
    answers = {
        "no-store": Answer(headers=[("Cache-Control", "no-store")], delay=0.5),
        "an error": Answer(500, delay=0.5),
        "purged": keep(b"old", delay=0.5),
    }
    for number, here, there in pair.both_ways(2):
        path = f"/{number}"
        pair.origin.plan = [answers[outcome], keep(b"new")]
        pair.origin.forget()
        leader = asyncio.create_task(here.get(path))
        await pair.origin.wait_for(1)
        if outcome == "purged":
            await there.purge(urls=[f"http://{there.host}{path}"])
        began = time.monotonic()
        answer = await there.get(path)
        assert answer.text == "new"
        assert time.monotonic() - began < COALESCE / 2
        assert (await leader).text != "new"


async def test_clients_of_both_ask_once_for_a_cold_key(pair: Pair) -> None:
    """RFC 9211, section 2.6: forwarding is collapsed across gateways too."""
    pair.origin.plan = keep(b"hello", delay=0.4)
    for number in range(3):
        pair.origin.forget()
        answers = await asyncio.gather(*(side.get(f"/{number}") for side in (pair.a, pair.b) for _ in range(40)))
        assert {(each.status_code, each.content) for each in answers} == {(200, b"hello")}
        assert len(pair.origin.requests) == 1
        assert sum("stored" in parameters(each) for each in answers) == 1


async def test_what_is_stale_is_fetched_anew_once_for_both(pair: Pair) -> None:
    """RFC 5861, section 3: all are answered at once, and one request of one gateway reaches the origin."""
    stale = keep(b"1", cache_control="max-age=0, stale-while-revalidate=60")
    for number in range(3):
        path = f"/{number}"
        pair.origin.plan = [stale, keep(b"2", delay=0.5)]
        pair.origin.forget()
        await pair.a.get(path)
        answers = await asyncio.gather(*(side.get(path) for side in (pair.a, pair.b) for _ in range(30)))
        assert {(each.text, status_of(each)) for each in answers} == {("1", "hit")}

        async def anew(side: Side, path: str = path) -> bool:
            return (await side.get(path)).text == "2"

        for side in (pair.a, pair.b):
            await until(lambda side=side: anew(side), what="the new one")  # type: ignore[misc]
        assert len(pair.origin.requests) == 2


@dataclass
class Hammer:
    """Writers that bump versions and purge, readers that must not see what was purged before they asked."""

    pair: Pair
    versions: Versions
    rng: random.Random
    stop_at: float
    purges: dict[tuple[int, str], list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    reads: int = 0
    hits: int = 0
    slowest: float = 0.0

    def path(self, writer: int) -> str:
        """One of this writer's: of the few that change all the time, or of the many that seldom do."""
        busy = self.rng.random() < 0.5
        return f"/busy-{writer}-{self.rng.randrange(3)}" if busy else f"/calm-{writer}-{self.rng.randrange(20)}"

    async def write(self, writer: int) -> None:
        """By tag, now here, now there."""
        turn = 0
        while time.monotonic() < self.stop_at:
            path, turn = self.path(writer), 1 - turn
            self.versions.of[path] += 1
            version = self.versions.of[path]
            answered = await (self.pair.a, self.pair.b)[turn].purge(tags=[path.strip("/")])
            self.purges[turn, path].append((answered, version))
            await asyncio.sleep(self.rng.uniform(0, 0.1))

    async def read(self, number: int) -> None:
        """At one of the two."""
        side = (self.pair.a, self.pair.b)[number]
        while time.monotonic() < self.stop_at:
            path, began = self.path(self.rng.randrange(2)), time.monotonic()
            here = self._purged(number, path, before=began)
            elsewhere = self._purged(1 - number, path, before=began - HEARD_WITHIN - NOISE)
            answer = await side.get(path)
            assert answer.status_code == 200
            seen = int(answer.text)
            assert seen >= here, f"{path}: {seen} although {here} was purged here before"
            assert seen >= elsewhere, f"{path}: {seen} although {elsewhere} was purged elsewhere long before"
            late = [began - at for at, version in self.purges[1 - number, path] if version > seen and at < began]
            self.slowest = max([self.slowest, *late])
            self.reads += 1
            self.hits += status_of(answer) == "hit"

    def _purged(self, number: int, path: str, before: float) -> int:
        """The lowest version that may be seen of a purge that was answered there before that moment."""
        return max([1, *(version for at, version in self.purges[number, path] if at < before)])


async def test_no_purged_version_is_seen_again_while_all_are_at_it(
    pair: Pair, seed: int, record_property: pytest.RecordProperty
) -> None:
    """Promise 4: nothing that was purged is in an answer to what was asked after that."""
    rng = random.Random(seed)
    pair.origin.plan = versions = Versions()

    def plan(received: Received) -> Answer:
        versions.delay = rng.choice((0, 0, 0.01, 0.05, 0.1))
        versions.cache_control = rng.choice(("max-age=60", "max-age=60", "max-age=1", "max-age=0"))
        return versions(received)

    pair.origin.plan = plan
    hammer = Hammer(pair, versions, rng, time.monotonic() + 5)
    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(hammer.write(number))
        for number in range(12):
            group.create_task(hammer.read(number % 2))
    record_property("old elsewhere for", f"{hammer.slowest:.4f}")
    record_property("reads, hits, purges", f"{hammer.reads} {hammer.hits} {sum(map(len, hammer.purges.values()))}")
    assert sum(map(len, hammer.purges.values())) > 30
    assert hammer.reads > 200
    assert hammer.hits > 20
