"""HTTP/2 on the way to the server: which connections there are, whose streams they carry, and how they end."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from holdfast.testing import (
    Answer,
    Break,
    ErrorCodes,
    Garbage,
    GoAway,
    MisbehavingOrigin,
    Received,
    Step,
    StreamReset,
    self_signed,
)
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.legs import LARGE, NO_LIMIT, Client, Upstream, between, client_of, talk, trusting
from tests.unit.testing.h2_client import H2Client

# --- which protocol, and how many connections ---


async def test_the_client_decides_what_is_agreed_on_with_a_server_that_speaks_both(tmp_path: Path) -> None:
    """ALPN: HTTP/2 for clients of HTTP/2; those of HTTP/1.1 would only lose upgrades by it."""
    tls = self_signed()
    async with MisbehavingOrigin(tls=tls, protocol="any") as origin:
        made = profile(origin.url, **NO_LIMIT, **trusting(tls, tmp_path))
        async with Gateway(tmp_path, made=made) as gateway:
            for speaks, expected in (("h2", "HTTP/2"), ("http/1.1", "HTTP/1.1"), ("h2c", "HTTP/2")):
                async with client_of(gateway, speaks) as client:  # type: ignore[arg-type]
                    answer = await client.post("/", content=b"x")
                    assert (answer.status_code, answer.http_version) == (200, expected)
                    assert origin.requests[-1].protocol == expected


async def test_streams_take_turns_on_connections_of_http_1(tmp_path: Path) -> None:
    """Stock opens one for each request of an HTTP/2 client. One after the other they share one; 32 are kept."""
    async with between(tmp_path, "http/1.1") as (gateway, origin), client_of(gateway, "h2") as client:
        for _ in range(100):
            assert (await client.get("/")).text == "ok"
        assert origin.connections == 1
        origin.plan = Answer(delay=0.2)
        for again in range(3):
            answers = await asyncio.gather(*(client.get("/") for _ in range(50)))
            assert {answer.status_code for answer in answers} == {200}
            assert origin.connections <= 50 + again * (50 - 32)


@pytest.mark.parametrize("upstream", ["h2", "h2c"])
async def test_streams_share_one_connection_of_http_2(tmp_path: Path, upstream: Upstream) -> None:
    """From the first moment on, when nobody knows yet how many streams the server takes."""
    async with between(tmp_path, upstream, Answer(delay=0.1)) as (gateway, origin), client_of(gateway, "h2") as client:
        for _ in range(3):
            await asyncio.gather(*(client.get("/") for _ in range(50)))
        assert (origin.connections, len(origin.requests)) == (1, 150)


@pytest.mark.parametrize("most", [1, 3])
async def test_a_server_that_takes_few_streams_is_not_asked_for_more(tmp_path: Path, most: int) -> None:
    """SETTINGS_MAX_CONCURRENT_STREAMS: the rest goes on other connections, and every POST is answered."""
    async with between(tmp_path, "h2c", Answer(delay=0.05), max_streams=most) as (gateway, origin):
        async with client_of(gateway, "h2") as client:
            for _ in range(2):
                answers = await asyncio.gather(*(client.post("/", content=b"x") for _ in range(20)))
                assert [answer.status_code for answer in answers] == [200] * 20
        served = [received for received in origin.requests if not received.refused]
        assert len(served) == 40


# --- streams ---


async def test_two_hundred_streams_each_get_their_own_answer(tmp_path: Path) -> None:
    """Healthy ones between refused, reset and failing ones, on one connection; retries have numbers of their own."""
    asked: dict[str, int] = {}

    def plan(received: Received) -> Step:
        asked[received.target] = asked.get(received.target, 0) + 1
        first = asked[received.target] == 1
        steps: dict[int, Step] = {
            0: StreamReset(ErrorCodes.REFUSED_STREAM) if first else Answer(body=received.target.encode()),
            1: StreamReset(ErrorCodes.INTERNAL_ERROR, "body") if first else Answer(body=received.target.encode()),
            2: StreamReset(ErrorCodes.INTERNAL_ERROR),
            3: Answer(503),
        }
        return steps.get(int(received.target[1:]) % 8, Answer(body=received.target.encode(), delay=0.02))

    async with between(tmp_path, "h2c", plan) as (gateway, origin), client_of(gateway, "h2") as client:

        async def ask(number: int) -> None:
            answer = await client.get(f"/{number}")
            if number % 8 in (2, 3):
                token = "error=connection_terminated" if number % 8 == 2 else "received-status=503"
                assert token in answer.headers["proxy-status"], number
            else:
                assert (answer.status_code, answer.text) == (200, f"/{number}")

        await asyncio.gather(*(ask(number) for number in range(200)))
        assert origin.connections == 1
        assert len(await gateway.captures()) == 50


async def test_a_retry_on_the_same_connection_is_not_mixed_up_with_what_came_before(tmp_path: Path) -> None:
    """The first attempt had sent half an answer: nothing of it is in the second."""
    steps = [StreamReset(ErrorCodes.INTERNAL_ERROR, "body", Answer(body=b"wrong" * 200)), Answer(body=b"right")]
    async with between(tmp_path, "h2c") as (gateway, origin), talk(gateway) as client:
        for _ in range(5):
            origin.plan = steps
            assert (await client.answer(await client.ask("/"))).body == b"right"
        assert [received.stream for received in origin.requests] == list(range(1, 20, 2))
        assert origin.connections == 1


async def test_a_stream_that_the_client_resets_is_reset_upstream(tmp_path: Path) -> None:
    """The server is told, and nobody else: the connections of both sides stay."""
    async with between(tmp_path, "h2c", {"/slow": Answer(delay=30)}) as (gateway, origin), talk(gateway) as client:
        neighbour = await client.ask("/slow")
        for _ in range(3):
            stream = await client.ask("/slow", method="POST", body=b"x")
            number = len(origin.requests)
            await origin.wait_for(number + 1)
            client.core.reset_stream(stream, ErrorCodes.CANCEL)
            client.flush()
            await until(lambda: origin.requests[-1].reset == ErrorCodes.CANCEL, what="the stream upstream to be reset")
        assert (await client.answer(await client.ask("/well"))).body == b"ok"
        assert origin.requests[0].reset is None
        assert not client.streams[neighbour].ended
        assert origin.connections == 1
        assert not await gateway.captures()


# --- connections that end, or never were what they seemed ---


@pytest.mark.parametrize("ends", [Answer(announce=True), Answer(hang_up=True)], ids=["GOAWAY", "FIN"])
@pytest.mark.parametrize("speaks", ["http/1.1", "h2"])
async def test_an_idle_connection_that_the_server_closed_is_not_the_clients_problem(
    tmp_path: Path, speaks: Client, ends: Answer
) -> None:
    """A POST simply goes on a new one, and once."""
    async with between(tmp_path, "h2c", ends) as (gateway, origin), client_of(gateway, speaks) as client:
        for number in range(8):
            assert (await client.post(f"/{number}", content=b"x")).status_code == 200
            await asyncio.sleep(0.05)
        assert [received.target for received in origin.requests] == [f"/{number}" for number in range(8)]
        assert origin.connections == 8
        assert not await gateway.captures()


async def test_a_server_that_says_nothing_at_all_never_had_the_request(tmp_path: Path) -> None:
    """No SETTINGS, no request: a POST goes to the other server, as if the first had refused the connection."""
    async with MisbehavingOrigin(protocol="h2") as frozen, MisbehavingOrigin(protocol="h2") as well:
        servers = [f"h2c://127.0.0.1:{frozen.port}", f"h2c://127.0.0.1:{well.port}"]
        made = profile("", **{**NO_LIMIT, "upstream__servers": servers, "upstream__connect_timeout": "300ms"})
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway, "h2") as client:
            frozen.plan = [Break("accept", "hang")]
            for _ in range(4):
                assert (await client.post("/", content=b"x")).status_code == 200
            assert not frozen.requests
            assert len(well.requests) == 4


async def test_a_server_that_speaks_http_1_only_is_told_from_one_that_is_down(tmp_path: Path) -> None:
    """`h2c://` in the profile where it should be `http://`: the answer says so."""
    async with MisbehavingOrigin(Answer(400)) as origin:
        made = profile(f"h2c://127.0.0.1:{origin.port}", **NO_LIMIT)
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answer = await client.request("POST", "/", body=b"x")
            assert answer.capture_id
            assert "does not speak HTTP/2" in (answer.header("proxy-status") or "")
            assert {received.method for received in origin.requests} == {"PRI"}


@pytest.mark.parametrize(
    "end", [Break("request"), Break("request", "fin"), GoAway(), Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n")], ids=str
)
async def test_every_stream_of_a_connection_that_ends_is_told(tmp_path: Path, end: Step) -> None:
    """None of them waits for a timeout: what may be tried again is, on a new connection, and the rest is captured."""
    asked: Counter[str] = Counter()

    def plan(received: Received) -> Step:
        asked[received.target] += 1
        if received.target == "/end":
            return end if asked["/end"] == 1 else Answer()
        return Answer(delay=300) if asked[received.target] == 1 else Answer(body=b"again")

    async with between(tmp_path, "h2c", plan) as (gateway, origin), client_of(gateway, "h2") as client:
        waiting = [asyncio.create_task(client.get(f"/get/{number}")) for number in range(10)]
        waiting += [asyncio.create_task(client.post(f"/post/{number}", content=b"x")) for number in range(10)]
        await origin.wait_for(20)
        assert origin.connections == 1
        assert (await client.get("/end")).text == "ok"
        answers = await asyncio.gather(*waiting)
        assert [answer.text for answer in answers[:10]] == ["again"] * 10
        assert len({answer.headers["holdfast-capture-id"] for answer in answers[10:]}) == 10
        assert {count for target, count in asked.items() if target.startswith("/post")} == {1}
        assert origin.connections == 2


# --- the gateway as a server of HTTP/2 without TLS ---


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("speaks", "upstream"), [("h2c", "http/1.1"), ("h2c", "h2c"), ("h2", "h2c")])
async def test_curl_is_served_over_http_2(tmp_path: Path, speaks: Client, upstream: Upstream) -> None:
    """Another implementation than the one we are built on, with prior knowledge and with TLS."""
    async with between(tmp_path, upstream, Answer(headers=[("x-from", "origin")], body=b"hello")) as (gateway, origin):
        url = gateway.url if speaks == "h2c" else gateway.url.replace("http:", "https:")
        how = ["--http2-prior-knowledge"] if speaks == "h2c" else ["--http2", "--insecure"]
        command = ["curl", "-sS", "-i", *how, "--data-binary", "@-", url]
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said, _ = await process.communicate(LARGE[: 2**20])
        if process.returncode == 2:
            pytest.skip("this curl cannot speak HTTP/2")
        assert process.returncode == 0
        assert said.startswith(b"HTTP/2 200")
        assert b"x-from: origin" in said and said.endswith(b"hello")
        assert origin.requests[0].body == LARGE[: 2**20]


@pytest.mark.parametrize("cuts", [(1,), (3, 16), tuple(range(1, 40))], ids=["first byte", "three", "byte by byte"])
async def test_a_preface_may_come_in_pieces(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    """As may the first bytes of HTTP/1.1, which begin with the same letter."""
    async with between(tmp_path, "http/1.1") as (gateway, origin):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        client = Held(reader, writer)
        stream = await client.ask("/two")
        await _in_pieces(writer, client.let_go(), cuts)
        assert (await client.answer(stream)).body == b"ok"
        writer.transport.abort()
        async with raw.RawClient(gateway.port) as client_1:
            await _in_pieces(client_1.writer, raw.head("PRIVATE", "/one", [("X-Long", "x" * 40)]), cuts)
            assert (await client_1.answer()).body == b"ok"
        assert [received.target for received in origin.requests] == ["/two", "/one"]


class Held(H2Client):
    """Keeps what it has to say until it is let go."""

    holding = True

    def flush(self) -> None:
        if not self.holding:
            super().flush()

    def let_go(self) -> bytes:
        """All of it so far."""
        self.holding = False
        return self.core.data_to_send()


async def _in_pieces(writer: asyncio.StreamWriter, data: bytes, cuts: tuple[int, ...]) -> None:
    for start, end in itertools.pairwise((0, *cuts, len(data))):
        writer.write(data[start:end])
        await asyncio.sleep(0.01)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("speaks", "upstream", "number"), [("h2c", "h2c", 5000), ("h2c", "http/1.1", 2500), ("http/1.1", "h2c", 2500)]
)
async def test_memory_does_not_grow_with_the_requests_of_a_connection(
    tmp_path: Path, speaks: Client, upstream: Upstream, number: int, seed: int
) -> None:
    """Thousands on one connection, a part of them refused by the server and tried again."""
    dice = random.Random(seed)

    def plan(received: Received) -> Step:
        again = upstream == "h2c" and dice.random() < 0.05
        return StreamReset(ErrorCodes.REFUSED_STREAM) if again else Answer(body=b"x" * 2000)

    changes = {"upstream__retry__attempts": 20, "log__access": False}
    async with between(tmp_path, upstream, plan, **changes) as (gateway, origin), client_of(gateway, speaks) as client:
        workers = 1 if speaks == "http/1.1" else 10

        async def ask(times: int) -> None:
            for _ in range(times // workers):
                assert (await client.post("/", content=b"y" * 2000)).status_code == 200
            origin.forget()

        await asyncio.gather(*(ask(1000) for _ in range(workers)))
        before = gateway.memory()
        await asyncio.gather(*(ask(number - 1000) for _ in range(workers)))
        assert gateway.memory() - before < 16 * 2**20
