"""The misbehaving origin over HTTP/1.1: what it promises, it does on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from holdfast.testing import Answer, Break, Garbage, MisbehavingOrigin, Stall, oversized, self_signed

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
SOON = 0.3
"""How long silence has to last to be taken for a hang."""


@contextlib.asynccontextmanager
async def connected(
    origin: MisbehavingOrigin, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw connection to the origin."""
    reader, writer = await asyncio.open_connection("127.0.0.1", origin.port, ssl=tls, limit=2**22)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def trusting_anybody() -> ssl.SSLContext:
    """A client context that looks at no certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def outcome(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """All the bytes up to the end, and how it ended: fin, reset or hang."""
    data = b""
    try:
        async with asyncio.timeout(SOON):
            while piece := await reader.read(65536):
                data += piece
    except TimeoutError:
        return data, "hang"
    except ConnectionError:
        return data, "reset"
    return data, "fin"


async def test_a_step_is_repeated_for_every_request_on_a_kept_connection() -> None:
    """One step as a plan is for ever, and an answer keeps the connection."""
    async with MisbehavingOrigin(Answer(201, [("X-A", "b")], b"made")) as origin, httpx.AsyncClient() as client:
        answers = [await client.get(f"{origin.url}/{n}") for n in range(3)]
    assert [(a.status_code, a.headers["x-a"], a.text) for a in answers] == [(201, "b", "made")] * 3
    assert [(r.connection, r.target) for r in origin.requests] == [(1, "/0"), (1, "/1"), (1, "/2")]


async def test_a_list_is_taken_in_order_and_its_last_step_repeats() -> None:
    """A plan of three steps is over with the third, which stays."""
    async with MisbehavingOrigin([Answer(502), Answer(503), Answer(200)]) as origin, httpx.AsyncClient() as client:
        assert [(await client.get(origin.url)).status_code for _ in range(4)] == [502, 503, 200, 200]


async def test_a_plan_can_go_by_path_or_by_a_function() -> None:
    """A mapping looks at the path without its query; a function sees the request."""
    plan = {"/a": [Answer(500), Answer(201)], "*": Answer(404)}
    async with MisbehavingOrigin(plan) as origin, httpx.AsyncClient(base_url=origin.url) as client:
        assert [(await client.get(path)).status_code for path in ("/a?x", "/b", "/a", "/a")] == [500, 404, 201, 201]
        origin.plan = lambda received: Answer(200 if received.header("X-Key") == "k" else 403)
        assert (await client.get("/", headers={"x-key": "k"})).status_code == 200
        assert (await client.get("/")).status_code == 403


def test_a_plan_of_anything_else_is_refused() -> None:
    """A wrong plan is an error where it is written, not in the middle of the test."""
    with pytest.raises(ValueError, match=r"made of Answer, Break, .* and StreamReset"):
        MisbehavingOrigin([Answer(), 503])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"made of Answer, Break, .* and StreamReset"):
        MisbehavingOrigin([])


async def test_the_request_is_recorded_with_its_body_also_when_chunked() -> None:
    """What arrived is there for the test to compare, byte for byte."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"\x00one"
        yield b"two\xff"

    async with MisbehavingOrigin() as origin, httpx.AsyncClient() as client:
        await client.post(origin.url, content=pieces(), headers={"X-K": "v"})
        await client.put(origin.url, content=b"plain")
    chunked, plain = origin.requests
    assert (chunked.method, chunked.body, chunked.complete) == ("POST", b"\x00onetwo\xff", True)
    assert chunked.header("x-k") == "v"
    assert (plain.method, plain.body, plain.complete) == ("PUT", b"plain", True)


@pytest.mark.parametrize("sent", [b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf", b"GET /cut HT"])
async def test_a_request_that_breaks_off_is_recorded_as_incomplete(sent: bytes) -> None:
    """In its body or in its header: both have reached the origin in part."""
    async with MisbehavingOrigin() as origin:
        async with connected(origin) as (_, writer):
            writer.write(sent)
            writer.write_eof()
            received = (await origin.wait_for(1))[0]
            async with asyncio.timeout(2):
                while not received.body:
                    await asyncio.sleep(0.01)
        assert not received.complete
        assert sent.endswith(received.body)


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize("how", ["reset", "fin", "hang"])
@pytest.mark.parametrize(
    ("when", "arrives"),
    [("request", b""), ("half-header", b"HTTP/1.1 200 "), ("header", b"\r\n\r\n"), ("body", b"x" * 500)],
)
async def test_an_exchange_breaks_where_and_how_it_was_told(when: str, arrives: bytes, how: str, tls: bool) -> None:
    """All points of an exchange by all kinds of end, as the client of it sees them."""
    context = trusting_anybody() if tls else None
    step = Break(when, how)  # type: ignore[arg-type]
    origin = MisbehavingOrigin(step, tls=self_signed() if tls else None)
    async with origin, connected(origin, context) as (reader, writer):
        writer.write(POST)
        data, ended = await outcome(reader)
    assert ended == how
    assert arrives in data
    assert bool(data) == (when != "request")
    assert b"x" * 501 not in data
    assert [(r.body, r.complete) for r in origin.requests] == [(b"body", True)]


@pytest.mark.parametrize("how", ["reset", "fin", "hang"])
async def test_a_connection_can_be_broken_before_anything_is_read(how: str) -> None:
    """The accept stage takes its step from the plan, and the next connection is served."""
    async with MisbehavingOrigin([Break("accept", how), Answer()]) as origin:  # type: ignore[arg-type]
        async with connected(origin) as (reader, _):
            assert await outcome(reader) == (b"", how)
        assert not origin.requests
        async with httpx.AsyncClient() as client:
            assert (await client.get(origin.url)).status_code == 200
    assert origin.connections == 2


async def test_a_tls_handshake_can_hang() -> None:
    """The connection is accepted and the ClientHello never answered."""
    async with MisbehavingOrigin(Break("accept", "hang"), tls=self_signed()) as origin:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON), connected(origin, trusting_anybody()):
                pytest.fail("no handshake should have come about")
    assert origin.connections == 1


async def test_a_certificate_is_trusted_by_who_trusts_it_and_only_for_its_names(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Self-signed means: its own anchor, and nobody else's."""
    good, wrong = self_signed(), self_signed("other.example")
    async with MisbehavingOrigin(tls=good) as origin, MisbehavingOrigin(tls=wrong) as other:
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=good.write(tmp_path))) as client:
            assert (await client.get(origin.url)).status_code == 200
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(other.url)
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=wrong.write(tmp_path))) as client:
            with pytest.raises(httpx.ConnectError, match="mismatch"):
                await client.get(other.url)
        assert len(origin.requests) == 1
        assert not other.requests


async def test_refusing_closes_the_port_and_reopens_the_same_one() -> None:
    """A restart of the upstream: connections are refused in between, and idle ones are gone."""
    async with MisbehavingOrigin() as origin, httpx.AsyncClient() as client:
        port = origin.port
        assert (await client.get(origin.url)).status_code == 200
        async with origin.refusing():
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
        assert origin.port == port
        assert (await client.get(origin.url)).status_code == 200


async def test_refusing_from_now_on_leaves_open_connections_alone() -> None:
    """At once, without a wait, so that a step may do it; `start` listens again on the same port."""
    async with MisbehavingOrigin() as origin, connected(origin) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"ok")
        origin.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", origin.port)
        writer.write(GET)
        await reader.readuntil(b"ok")
        await origin.start()
        async with connected(origin) as (other_reader, other_writer):
            other_writer.write(GET)
            await other_reader.readuntil(b"ok")


async def test_a_full_backlog_lets_nobody_in_and_ends() -> None:
    """Connecting neither succeeds nor fails while the block runs."""
    async with MisbehavingOrigin() as origin:
        async with origin.full_backlog():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SOON):
                    await asyncio.open_connection("127.0.0.1", origin.port)
        async with httpx.AsyncClient() as client:
            assert (await client.get(origin.url)).status_code == 200


async def test_garbage_is_sent_as_it_is() -> None:
    """Bytes that are no HTTP, and then the end."""
    async with MisbehavingOrigin(Garbage(b"\x01\x02")) as origin, connected(origin) as (reader, writer):
        writer.write(GET)
        assert await outcome(reader) == (b"\x01\x02", "fin")


@pytest.mark.parametrize(("field", "announced"), [("hang_up", False), ("announce", True)])
async def test_a_connection_can_be_closed_after_its_answer(field: str, announced: bool) -> None:
    """Announced it is orderly; otherwise it leaves a stale connection behind."""
    async with MisbehavingOrigin(Answer(**{field: True})) as origin, connected(origin) as (reader, writer):  # type: ignore[arg-type]
        writer.write(GET)
        data, ended = await outcome(reader)
    assert (b"Connection: close" in data, ended) == (announced, "fin")
    assert data.endswith(b"ok")


async def test_a_body_can_be_slow_and_chunked() -> None:
    """Four pieces with a pause before each, framed as chunks."""
    loop = asyncio.get_running_loop()
    plan = Answer(body=b"abcdefgh", chunked=True, pieces=4, pace=0.03)
    async with MisbehavingOrigin(plan) as origin, httpx.AsyncClient() as client:
        began = loop.time()
        async with client.stream("GET", origin.url) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    assert b"".join(pieces) == b"abcdefgh"
    assert len(pieces) == 4
    assert loop.time() - began >= 0.12


async def test_an_early_answer_does_not_wait_for_the_body() -> None:
    """The answer comes although the request is never finished."""
    async with MisbehavingOrigin(Answer(413, early=True)) as origin, connected(origin) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        assert not origin.requests[0].complete


async def test_an_oversized_header_is_as_large_as_said() -> None:
    """One field of a million bytes."""
    async with MisbehavingOrigin(oversized(1_000_000)) as origin, connected(origin) as (reader, writer):
        writer.write(GET)
        assert len(await reader.readuntil(b"\r\n\r\n")) > 1_000_000


async def test_waiting_for_a_request_that_does_not_come_times_out() -> None:
    """Bounded, so that a test fails and does not hang."""
    async with MisbehavingOrigin() as origin:
        with pytest.raises(TimeoutError):
            await origin.wait_for(1, within=0.05)


async def test_expect_100_continue_is_answered_before_the_body_is_read() -> None:
    """RFC 9110 section 10.1.1."""
    async with MisbehavingOrigin() as origin, connected(origin) as (reader, writer):
        writer.write(b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert origin.requests[0].body == b"hi"


async def test_trailers_follow_the_body_in_both_directions() -> None:
    """RFC 9112 section 7.1.2: they come after the last chunk."""
    plan = Answer(trailers=[("X-Sum", "1"), ("X-B", "2")])
    async with MisbehavingOrigin(plan) as origin, connected(origin) as (reader, writer):
        for _ in range(2):
            writer.write(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nA: 1\r\nB: 2\r\n\r\n")
            assert b"Transfer-Encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"2\r\nok\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n"
    assert [(r.body, r.trailers) for r in origin.requests] == [(b"hi", [("A", "1"), ("B", "2")])] * 2


async def test_an_answer_that_has_no_body_by_its_status_has_none() -> None:
    """RFC 9110 section 6.4.1: or the client would take it for the next answer."""
    async with MisbehavingOrigin(Answer(204)) as origin, connected(origin) as (reader, writer):
        writer.write(GET)
        data, ended = await outcome(reader)
    assert data.endswith(b"\r\n\r\n")
    assert ended == "hang"


async def test_a_stalled_connection_neither_reads_nor_answers() -> None:
    """The client's body stays in the buffers of the kernel, and no end comes."""
    async with MisbehavingOrigin(Stall("body", early=True)) as origin, connected(origin) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 50_000_000)
        data, ended = await outcome(reader)
        assert (data.count(b"x"), ended) == (500, "hang")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), SOON)
    assert not origin.requests[0].complete
