"""fast: what was learned from one request answers the others that ask the same, and is forgotten in time."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master
from mitmproxy.options import Options
from prometheus_client import CollectorRegistry

from holdfast.engine.dispatch import dispatch_by_table
from holdfast.exchange import Exchange
from holdfast.lane.fast import FastLane
from holdfast.testing import FixedClock, make_flow
from tests.unit.lane.test_memo import OneHit, response

HEAD = b"GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n"


class Counting:
    """An addon that counts."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def hit_counter(self, flow: HTTPFlow, exchange: Exchange) -> Any:
        """By noting how long each took."""
        return self.seconds.extend


class Rig:
    """A lane in a mitmproxy without other addons."""

    def __init__(self, *, table: bool = True) -> None:
        self.master = Master(Options())
        if table:
            dispatch_by_table(self.master)
        self.clock = FixedClock(1000.0)
        self.counting = Counting()
        log = SimpleNamespace(access=True)
        self.gateway: Any = SimpleNamespace(
            registry=CollectorRegistry(),
            phase="serving",
            wall_clock=self.clock,
            leg=SimpleNamespace(clock=self.clock, shortcuts=True, client=SimpleNamespace(max_header=65536)),
            profile=SimpleNamespace(log=log),
        )
        self.lane = FastLane(self.gateway, [self.counting])
        self.lane.running()
        self.lane.is_open()
        self.clients: list[Any] = []  # the lane holds them weakly

    def learn(
        self, head: bytes = HEAD, hit: Any = None, *, tls: bool = False, body: bytes = b"one", **more: Any
    ) -> Any:
        """A hit that has gone the ordinary way."""
        hit = hit or OneHit()
        flow = self.flow(**more)
        flow.response = response(body)
        client = Client(head, tls)
        self.clients.append(client)
        self.lane.join(flow.client_conn.id, client)  # type: ignore[arg-type]
        self.lane.offer(flow, hit)
        self.lane.response(flow)
        return hit

    def flow(self, version: str = "HTTP/1.1", started: float | None = None) -> HTTPFlow:
        """As the access log leaves it."""
        begun = self.clock() if started is None else started
        known = {"fate": "hit", "reason": "max-age", "route": "r", "attempts": [], "started": begun}
        flow = make_flow(url="http://site.test/a", exchange={**known, "request_id": "first"})
        flow.request.http_version = version
        return flow

    def ask(self, head: bytes = HEAD, *, tls: bool = False) -> bytes | None:
        """What the lane says."""
        found = self.lane.answer(head, tls=tls)
        return None if found is None else b"".join(found)


class Client:
    """A shortcut as the lane sees it."""

    def __init__(self, head: bytes, tls: bool) -> None:
        self.head, self.tls = head, tls


def with_lines(*lines: bytes) -> bytes:
    """The header with these fields more."""
    return HEAD[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.fixture
async def rig() -> Rig:
    """Open."""
    made = Rig()
    assert made.lane.is_open()
    return made


async def test_the_same_header_gets_the_same_answer(rig: Rig) -> None:
    """With an id of its own; counted, told to the hit, and logged."""
    assert rig.ask() is None
    hit = rig.learn()
    first, second = rig.ask(), rig.ask()
    assert first and second and first != second
    assert first.endswith(b"\r\n\r\none") and first[:40] == second[:40]
    assert not hit.told
    await asyncio.sleep(0)  # counted are all of one turn together
    assert hit.told == ["again"] * 2 and len(rig.counting.seconds) == 2
    assert rig.gateway.registry.get_sample_value("holdfast_fast_lane_hits_total") == 2
    assert rig.gateway.registry.get_sample_value("holdfast_fast_lane_open") == 1


async def test_the_line_in_the_access_log_is_that_of_the_first_with_its_own_id(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """And its own duration."""
    logger = logging.getLogger("holdfast.access")
    caplog.set_level(logging.INFO, "holdfast")
    logger.addHandler(caplog.handler)
    try:
        rig.learn()
        rig.ask(with_lines(b"X-Request-ID: mine"))
    finally:
        logger.removeHandler(caplog.handler)
    told = [vars(each) for each in caplog.records if each.name == "holdfast.access"]
    assert {(each["request_id"], each["fate"], each["path"], each["route"]) for each in told} == {
        ("mine", "hit", "/a", "r")
    }


async def test_a_client_of_another_scheme_host_or_method_gets_nothing(rig: Rig) -> None:
    """Nor one that writes anything else that is not known to mean nothing."""
    rig.learn()
    assert rig.ask(tls=True) is None
    for other in (
        HEAD.replace(b"site", b"evil"),
        HEAD.replace(b"GET", b"HEAD"),
        HEAD.replace(b"GET", b"get"),
        HEAD.replace(b"/a", b"/a?"),
        HEAD.replace(b"1.1", b"1.0"),
        with_lines(b"If-None-Match: *"),
        with_lines(b"X-Forwarded-Host: evil.test"),
        with_lines(b"Host: evil.test"),
        with_lines(b"X-Request-ID: a", b"X-Request-ID: b"),
        with_lines(b"Cookie: a\x00"),
        HEAD.replace(b"\r\n\r\n", b"\n\n"),
        b"\r\n" + HEAD,
    ):
        assert rig.ask(other) is None
    assert rig.ask(with_lines(b"Cookie: a=1", b"User-Agent: x")) is not None


@pytest.mark.parametrize("name", ["cookie", "user-agent", "user_agent", "x-forwarded-for", "x_real_ip", "accept"])
async def test_what_vary_names_selects(rig: Rig, name: str) -> None:
    """However it is written there: CGI does not tell `User_Agent` from `User-Agent`."""
    field = name.replace("_", "-").encode()
    rig.learn(with_lines(field + b": one"), OneHit(selecting=((name, "one"),)))
    assert rig.ask(with_lines(field + b": one"))
    assert rig.ask(with_lines(field + b": two")) is None and rig.ask() is None


async def test_an_id_of_the_clients_own_is_kept(rig: Rig) -> None:
    """In the answer; and a header with one is not learned by heart."""
    rig.learn(with_lines(b"X-Request-ID: first"))
    answer = rig.ask(with_lines(b"X-Request-ID: mine-2"))
    assert answer and b"X-Request-ID: mine-2\r\n" in answer
    assert rig.lane._exact[0].size == 0


@pytest.mark.parametrize(
    "line",
    [b"Connection: close", b"Expect: 100-continue", b"Content-Length: 0", b"Cache-Control: max-age=9", b"Upgrade: h2c"],
)
async def test_what_has_a_meaning_for_one_request_alone_is_not_learned(rig: Rig, line: bytes) -> None:
    """Whatever the gateway has taken off the request by the time of its answer."""
    rig.learn(with_lines(line))
    assert rig.ask(with_lines(line)) is None


async def test_other_versions_of_http_are_not_learned(rig: Rig) -> None:
    """They have other answers."""
    rig.learn(version="HTTP/1.0")
    rig.learn(version="HTTP/2.0", head=b"")
    assert rig.ask() is None and rig.ask(b"") is None


async def test_a_hit_that_does_not_hold_is_not_given(rig: Rig) -> None:
    """And a better one takes its place."""

    class Ending(OneHit):
        def holds(self, now: float) -> bool:
            return now < 1005

    rig.learn(hit=Ending())
    rig.ask()
    rig.clock.advance(5)
    assert rig.ask() is None and rig.lane._exact[0].size == 0
    rig.learn()
    assert rig.ask()


async def test_changed_options_and_profiles_are_forgotten_by(rig: Rig) -> None:
    """Also what had begun before, and is answered after."""
    rig.learn()
    rig.lane.forget()
    assert rig.ask() is None
    rig.learn()
    rig.master.options.update(http2=False)
    assert rig.ask() is None
    rig.clock.advance(1)
    began = rig.clock()
    rig.clock.advance(1)
    rig.lane.forget()
    rig.learn(started=began)
    assert rig.ask() is None
    rig.learn()
    assert rig.ask()


async def test_it_is_closed_for_an_onlooker_and_while_the_gateway_drains(rig: Rig) -> None:
    """And open again once nobody needs to see hits."""

    class Own:
        def response(self, flow: HTTPFlow) -> None:
            """Looks."""

    own = Own()
    rig.learn()
    rig.master.addons.add(own)
    assert rig.ask() is None and not rig.lane.is_open()
    rig.learn()
    rig.master.addons.remove(own)
    assert rig.ask() is None and rig.lane.is_open()
    rig.learn()
    assert rig.ask()
    rig.gateway.phase = "draining"
    assert rig.ask() is None and rig.lane.figures()[1] is False


async def test_without_events_by_a_table_nobody_tells_of_changes() -> None:
    """HOLDFAST_ENGINE=plain: there is no fast lane."""
    rig = Rig(table=False)
    rig.learn()
    assert rig.ask() is None and not rig.lane.is_open()


async def test_a_header_beyond_the_limit_is_refused_by_the_ordinary_way(rig: Rig) -> None:
    """`limits.max_header` may be less than what the lane looks at."""
    rig.learn()
    long = with_lines(b"Cookie: " + b"x" * 1000)
    assert rig.ask(long)
    rig.lane.forget()
    rig.gateway.leg.client.max_header = 500
    rig.learn()
    assert rig.ask() and rig.ask(long) is None
    rig.gateway.leg.client.max_header = 1 << 20
    assert rig.ask(with_lines(b"Cookie: " + b"x" * 9000)) is None


async def test_ever_new_headers_do_not_fill_the_memory(rig: Rig) -> None:
    """A flood of them has bounds, and what is asked often is found again by its essence."""
    rig.learn()
    for number in range(6000):
        assert rig.ask(with_lines(b"Cookie: %d%s" % (number, b"x" * 4000)))
    assert 1_000_000 < rig.lane._exact[0].size <= 8 * 1024 * 1024


async def test_a_flow_that_ends_otherwise_leaves_nothing(rig: Rig) -> None:
    """Nor one whose client is gone."""
    flow = rig.flow()
    rig.lane.offer(flow, OneHit())
    rig.lane.error(flow)
    rig.lane.offer(flow, OneHit())
    flow.response = response()
    rig.lane.response(flow)
    assert rig.lane._offered == {} and rig.ask() is None
