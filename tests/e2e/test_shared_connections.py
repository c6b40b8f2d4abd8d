"""Connections to servers are shared by all clients: how many there are, and what a client sees of that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, Certificate, MisbehavingOrigin, Received, Step
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.test_http2 import http2_client

pytestmark = [pytest.mark.any_engine, pytest.mark.asyncio(loop_scope="module")]  # each says which it wants
SHARED = {"HOLDFAST_ENGINE": ""}
HOOKS = """
import gc
from mitmproxy.http import Response

def told(event):
    def hook(self, data):
        with open("hooks.txt", "a") as file:
            print(event, data.server.id, data.client.id, file=file)
    return hook

class Hooks:
    server_connect, server_connected, server_disconnected = map(told, ("connect", "connected", "disconnected"))

    gone = 0

    def client_disconnected(self, client):
        self.gone += 1

    def request(self, flow):
        if flow.request.path == "/collect":
            gc.collect()
            flow.response = Response.make(200, str(self.gone))

    def response(self, flow):
        server = flow.server_conn
        flow.response.headers["x-server"] = server.id
        flow.response.headers["x-peer"] = str(server.peername[1])
        before = server.timestamp_start <= server.timestamp_tcp_setup < flow.timestamp_start
        flow.response.headers["x-opened-before"] = str(before)
"""


@pytest_asyncio.fixture(params=["plaintext", "tls"], scope="module", loop_scope="module")
async def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """One gateway for all that follows, with an addon that writes down what it is told of connections."""
    tls, folder = request.param == "tls", tmp_path_factory.mktemp(request.param)
    (folder / "hooks.py").write_text(HOOKS)
    async with MisbehavingOrigin(tls=certificate if tls else None) as origin:
        times = {"upstream__response_timeout": "5s", "upstream__connect_timeout": "5s", "upstream__deadline": "9s"}
        made = profile(origin.url, upstream__ca_file=str(certificate.write(folder)) if tls else None, **times)
        made["addons"].append({"use": "hooks:Hooks"})
        async with Gateway(folder, origin.url, made=made, env=SHARED) as gateway:
            yield gateway, origin


async def ask(gateway: Gateway, target: str = "/api/users", method: str = "GET") -> raw.Answer:
    """A client that comes for one request and leaves."""
    async with raw.RawClient(gateway.port) as client:
        return await client.request(method, target)


def told(gateway: Gateway) -> list[list[str]]:
    """What the addon wrote down: event, server's id, client's id."""
    return [line.split() for line in (gateway.folder / "hooks.txt").read_text().splitlines()]


async def figure(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of these samples of the metrics."""
    wanted = {f"{key}={value}" for key, value in labels.items()}
    samples = await gateway.metrics()
    return sum(value for (sample, *has), value in samples.items() if sample == name and wanted <= set(has))


def echo(received: Received) -> Answer:
    """Says what was asked for."""
    return Answer(body=received.target.encode())


async def test_fifty_clients_one_after_the_other_use_one_connection(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """It outlives the client that it was opened for, and flows say when it was opened and to whom."""
    gateway, origin = shared
    origin.plan = echo
    await ask(gateway)
    before, connections = len(told(gateway)), origin.connections
    answers = [await ask(gateway, f"/{number}") for number in range(50)]
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(50)]
    assert origin.connections == connections
    assert len({answer.header("x-server") for answer in answers}) == 1
    assert {answer.header("x-peer") for answer in answers} == {str(origin.port)}
    assert {answer.header("x-opened-before") for answer in answers} == {"True"}
    assert len(told(gateway)) == before
    assert await figure(gateway, "holdfast_upstream_connections_reused_total") >= 50


async def test_an_idle_connection_is_no_garbage(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """The event loop refers to tasks and readers weakly: while no client has it, the pool must."""
    gateway, origin = shared
    origin.plan = echo
    async with raw.RawClient(gateway.port) as client:

        async def gone() -> int:
            return int((await client.request("GET", "/collect")).body)

        left = await gone()
        before = await ask(gateway)
        connections = origin.connections
        while await gone() <= left:
            pass  # this client's end has not been noticed
        assert (await ask(gateway)).header("x-server") == before.header("x-server")
        assert origin.connections == connections


async def test_no_client_sees_that_servers_close_connections(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """After a request, or just as the next one arrives, at random; every answer is that of its request."""
    gateway, origin = shared
    dice, seed = random.Random(7), 7
    print(f"seed {seed}")
    served: set[int] = set()

    def close_at_random(received: Received) -> Step:
        kept = received.connection in served
        served.add(received.connection)
        if kept and dice.random() < 0.3:
            return Break("request", dice.choice(["fin", "reset"]))
        return Answer(body=received.target.encode(), hang_up=dice.random() < 0.3, delay=0.002)

    async def client(name: int) -> list[tuple[int, bytes, bytes]]:
        seen = []
        for number in range(4):
            async with raw.RawClient(gateway.port) as connection:
                for again in range(2):
                    target = f"/{name}/{number}/{again}"
                    answer = await connection.request("PUT" if again else "GET", target)
                    seen.append((answer.status, answer.body, target.encode()))
        return seen

    origin.plan = close_at_random
    seen = await asyncio.gather(*(client(name) for name in range(32)))
    assert [each for answers in seen for each in answers if each[0] != 200 or each[1] != each[2]] == []
    origin.plan = echo


async def test_a_client_that_breaks_off_leaves_nothing_to_the_next(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """A response that was read in part never comes to another client."""
    gateway, origin = shared
    origin.plan = Answer(body=b"x" * 3_000_000, pieces=30, pace=0.02)
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("GET", "/large"))
        await origin.wait_for(len(origin.requests) + 1)
    origin.plan = echo
    for number in range(5):
        assert (await ask(gateway, f"/after/{number}")).body == b"/after/%d" % number


async def test_bytes_that_nobody_has_asked_for_are_no_answer(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """A second response behind the first is not kept for the next client."""
    gateway, origin = shared
    origin.plan = Answer(interim=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst", body=b"second")
    assert (await ask(gateway)).body == b"first"
    origin.plan = echo
    assert (await ask(gateway, "/next")).body == b"/next"


async def test_a_connection_on_which_a_client_is_known_is_not_shared(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """NTLM and Negotiate authenticate the connection: another client on it would be taken for that one."""
    gateway, origin = shared
    origin.plan = echo
    async with raw.RawClient(gateway.port) as client:
        known = await client.request("GET", "/1", [("Authorization", "Negotiate YII=")])
        assert (await client.request("GET", "/2")).header("x-server") == known.header("x-server")
        other = await ask(gateway, "/3")
        assert other.header("x-server") != known.header("x-server")
    assert (await ask(gateway, "/4")).header("x-server") == other.header("x-server")


async def test_streams_of_http2_use_kept_connections_side_by_side(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """A second client's twenty at once find those of the first; the server speaks HTTP/1.1."""
    gateway, origin = shared
    origin.plan = lambda received: Answer(body=received.target.encode(), delay=0.05)
    before = origin.connections
    for _ in range(2):
        async with http2_client(gateway) as client:
            answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(20)))
            assert [answer.text for answer in answers] == [f"/{number}" for number in range(20)]
    assert 1 < origin.connections - before <= 20


async def test_each_connection_is_told_of_once(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """Opened for one client and closed long after that has left: still one pair of events, of that client."""
    gateway, origin = shared
    origin.plan = Answer(announce=True)
    while await figure(gateway, "holdfast_upstream_connections", state="idle"):
        await ask(gateway)
    await until(lambda: sum(e[0] == "disconnected" for e in told(gateway)) >= origin.connections, what="the last event")
    events = told(gateway)
    by_server = {
        server: [(event, client) for event, known, client in events if known == server] for _, server, _ in events
    }
    assert len(by_server) == origin.connections
    for server, seen in by_server.items():
        assert [event for event, _ in seen] == ["connect", "connected", "disconnected"], server
        assert len({client for _, client in seen}) == 1


async def test_bounds_hold_and_nothing_is_left_at_the_end(tmp_path: Path) -> None:
    """Three connections in use at once, two idle for half a second, then none; and the gateway ends at once."""
    async with MisbehavingOrigin(Answer(delay=0.1)) as origin:
        bounds = {"connections": 2, "timeout": "500ms", "max_active": 3}
        made = profile(origin.url, upstream__keepalive=bounds, upstream__response_timeout="5s")
        made["upstream"] |= {"connect_timeout": "1s", "deadline": "5s"}
        async with Gateway(tmp_path, made=made, env=SHARED) as gateway:
            answers = await asyncio.gather(*(ask(gateway) for _ in range(9)))
            assert [answer.status for answer in answers] == [200] * 9
            assert origin.connections <= 6  # of three in use one is closed when it becomes idle

            async def none_left() -> bool:
                found = await figure(gateway, "holdfast_upstream_connections", state="idle")
                assert found <= 2
                return not found

            await until(none_left, what="idle connections to be closed")
            assert await figure(gateway, "holdfast_upstream_connections") == 0
            before = origin.connections
            origin.plan = Answer(delay=4.5)
            waiting = [asyncio.create_task(ask(gateway)) for _ in range(3)]
            await origin.wait_for(12)
            refused = await ask(gateway)
            assert (refused.status, bool(refused.capture_id)) == (503, True)
            assert "error=connection_limit_reached" in (refused.header("proxy-status") or "")
            assert origin.connections == before + 3
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            origin.plan = Answer(body=b"well")
            assert (await ask(gateway)).body == b"well"
            assert await gateway.terminate() == 0


async def test_the_plain_engine_gives_each_client_its_own(tmp_path: Path) -> None:
    """`HOLDFAST_ENGINE=plain`: as mitmproxy does, and what a client sees is the same."""
    plain = {"HOLDFAST_ENGINE": "plain"}
    async with MisbehavingOrigin(echo) as origin, Gateway(tmp_path, origin.url, env=plain) as gateway:
        for number in range(3):
            assert (await ask(gateway, f"/{number}")).body == b"/%d" % number
        assert origin.connections == 3
        async with raw.RawClient(gateway.port) as client:
            origin.plan = [Answer(), Break("request", "fin"), Answer(body=b"again")]
            assert [(await client.request("GET", "/")).body for _ in range(2)] == [b"ok", b"again"]
        assert await figure(gateway, "holdfast_upstream_attempts_total") == 5
