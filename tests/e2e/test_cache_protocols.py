"""What is no plain HTTP/1.1 exchange, with the cache in the chain: upgrades, gRPC, interim answers, streams, HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, TextMessage

from holdfast.testing import Answer, Break, GrpcAnswer, MisbehavingOrigin
from tests.e2e import sockets
from tests.e2e.cached import FRESH, cached, keep
from tests.e2e.cached_place import Place, place, told
from tests.e2e.frames import FrameClient, headers
from tests.e2e.harness import Gateway, profile
from tests.e2e.legs import client_of
from tests.e2e.raw import RawClient, head
from tests.e2e.test_grpc import channel, failed, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENT = {"upstream__response_timeout": "10s", "upstream__read_timeout": "10s", "upstream__deadline": "20s"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache before an origin of HTTP/1.1."""
    changes = {"limits": {"buffer_body": "64KiB"}, **PATIENT, "upstream__read_timeout": "500ms"}
    async with place(tmp_path_factory.mktemp("one"), max_body="16KiB", changes=changes) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """A cache before an origin of HTTP/2."""
    async with place(tmp_path_factory.mktemp("two"), upstream="h2c", changes=PATIENT) as made:
        yield made


def host(where: Place) -> tuple[str, str]:
    """What clients of this gateway call it."""
    return "Host", f"127.0.0.1:{where.gateway.port}"


# --- what is not for a cache ---


async def test_a_websocket_passes_untouched(tmp_path: Path) -> None:
    """RFC 6455: the handshake has no Cache-Status, and neither it nor what follows is kept or answered for."""
    async with sockets.server() as server, Gateway(tmp_path, made=cached(f"http://127.0.0.1:{server.port}")) as gateway:
        for number in range(2):
            async with sockets.client(gateway.port, "/socket", ("chat",)) as client:
                accepted = await client.next()
                assert isinstance(accepted, AcceptConnection)
                assert accepted.subprotocol == "chat"
                assert b"cache-status" not in {name.lower() for name, _ in accepted.extra_headers}
                for message in (TextMessage(data="hello"), BytesMessage(data=bytes(range(256)) * 4096)):
                    await client.send(message)
                    assert await client.message() == message.data
                await client.send(CloseConnection(code=1000))
                assert isinstance(await client.next(), CloseConnection)
            assert len(server.handshakes) == number + 1
        server.refuse = 403
        async with sockets.client(gateway.port, "/socket") as client:
            refused = await client.next()
            fields = {bytes(name).lower(): bytes(value) for name, value in getattr(refused, "headers", [])}
            assert fields[b"cache-status"] == b"holdfast;fwd=bypass;detail=upgrade"


async def test_grpc_passes_and_is_answered_for_each_time(tmp_path: Path) -> None:
    """Calls are POSTs: messages, metadata and trailers as they came, and the server sees the same call twice."""
    async with serving() as (made, port, _):
        profile_ = cached(f"h2c://127.0.0.1:{port}", default_lifetime="60s")
        async with Gateway(tmp_path, made=profile_) as gateway, channel(gateway) as to:
            for _ in range(2):
                call = to.unary_unary("/t.T/Unary")(b"hello")
                assert await call == b"echo hello"
                assert ("seen", "yes") in list(await call.initial_metadata())
                assert ("cost", "7") in list(await call.trailing_metadata())
                assert [m async for m in to.unary_stream("/t.T/Down")(b"x")] == [b"x 0", b"x 1", b"x 2"]
            assert [name for name, _ in made.calls] == ["Unary", "Down"] * 2
            both = to.stream_stream("/t.T/Both")()
            for number in range(5):  # ping-pong: nothing waits for the end of the stream
                await both.write(b"%d" % number)
                assert await both.read() == b"re: %d" % number
            await both.done_writing()
            assert await both.code() is grpc.StatusCode.OK
            error = await failed(to.unary_unary("/t.T/Unary")(b"fail"))
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert not await gateway.captures()


async def test_what_a_grpc_server_says_of_caching_is_not_for_its_calls(two: Place) -> None:
    """RFC 9110, section 9.3.3: an answer to POST is not kept, whatever it says."""
    answer = GrpcAnswer([b"one"], headers=[FRESH, ("etag", '"1"')])
    path = two.at([answer, GrpcAnswer([b"two"], headers=[FRESH])], path="/shop.Cart/Get")
    async with channel(two.gateway) as to:
        assert [await to.unary_unary(path)(b"?") for _ in range(2)] == [b"one", b"two"]
    assert len(two.asked(path)) == 2


async def test_interim_answers_pass_and_are_not_stored(one: Place) -> None:
    """RFC 9110, section 15.2: hints go to whoever caused them; a hit is the final answer alone."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    path = one.at(keep(b"final", interim=hints * 2))
    async with RawClient(one.gateway.port) as client:
        await client.send(head("GET", path, [host(one)]))
        early = [await client.answer_head() for _ in range(2)]
        assert [(each.status, each.header("link")) for each in early] == [(103, "</a.css>; rel=preload")] * 2
        assert (await client.answer()).body == b"final"
        await client.send(head("GET", path, [host(one)]))
        hit = await client.answer_head()
        assert (hit.status, hit.header("link")) == (200, None)
    assert len(one.asked(path)) == 1


async def test_a_client_that_expects_100_continue_gets_it(one: Place) -> None:
    """RFC 9110, section 10.1.1: for a POST, which passes by, and for a GET with a body, which must not be stored."""
    path = one.at(keep(b"done"))
    async with RawClient(one.gateway.port) as client:
        for method in ("POST", "GET"):
            await client.send(head(method, path, [host(one), ("Expect", "100-continue")], 4))
            assert (await client.answer_head()).status == 100
            await client.send(b"body")
            assert (await client.answer()).body == b"done"
    assert [(each.method, each.body) for each in one.asked(path)] == [("POST", b"body"), ("GET", b"body")]
    assert told(await one.get(path))["fwd"] == "miss"


@pytest.mark.parametrize("ending", ["HTTP/1.1", "HTTP/1.0"])
async def test_many_conditional_requests_in_one_piece_are_all_answered(one: Place, ending: str) -> None:
    """One after the other, however many; of 304 there is no length to see where it ends."""
    path = one.at([keep(b"first", ("ETag", '"1"'))])
    kept = [] if ending == "HTTP/1.1" else [("Connection", "keep-alive")]
    fields = [("If-None-Match", '"1"'), *kept]
    async with RawClient(one.gateway.port) as client:
        assert (await client.request("GET", path)).body == b"first"
        each = (head("GET", path, [*fields, ("Accept", f"x/{number}")]) for number in range(600))
        await client.send(b"".join(each).replace(b" HTTP/1.1\r\n", f" {ending}\r\n".encode()))
        assert {(await client.answer()).status for _ in range(600)} == {304}
        assert await client.is_kept()
    assert len(one.asked(path)) == 1


async def test_connect_and_its_like_are_as_without_a_cache(tmp_path: Path, one: Place) -> None:
    """RFC 9110, section 9.3.6: nobody is tunnelled; the same refusals, byte for byte but for date and id."""
    sent = {
        "CONNECT": b"CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test:443\r\n\r\n",
        "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: h.test\r\n\r\n",
        "TRACE": b"TRACE / HTTP/1.1\r\nHost: h.test\r\n\r\n",
        "no method": b"BREW /case HTTP/1.1\r\nHost: h.test\r\n\r\n",
        "elsewhere": b"GET http://elsewhere.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n",
    }

    async def answers(gateway: Gateway) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, each in sent.items():
            async with RawClient(gateway.port) as client:
                await client.send(each)
                answer = await client.answer()
                dropped = {"date", "x-request-id", "cache-status"}
                found[name] = (
                    answer.status,
                    answer.body,
                    sorted(h for h in answer.headers if h[0].lower() not in dropped),
                )
        async with FrameClient(gateway.port) as frames:
            await frames.begin()
            await frames.send(headers([(":method", "CONNECT"), (":authority", "h.test:443")]))
            heard = await frames.until(1)
            found["HTTP/2"] = heard.statuses.get(1), heard.resets.get(1)
        return found

    async with MisbehavingOrigin(Answer(404)) as origin, Gateway(tmp_path, made=profile(origin.url)) as plain:
        without = await answers(plain)
    assert await answers(one.gateway) == without
    assert without["CONNECT"][0] >= 400


# --- streams ---


class HeldBack:
    """An origin of HTTP/1.1 that says the rest of a body only when it is told to `go`."""

    def __init__(self, fields: str, first: bytes, rest: bytes) -> None:
        self.head = f"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{fields}\r\n\r\n".encode()
        self.first, self.rest = first, rest
        self.go = asyncio.Event()
        self.asked, self.port = 0, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                writer.write(self.head + self.first)
                await self.go.wait()
                writer.write(self.rest)
        writer.close()


def chunk(piece: bytes) -> bytes:
    """RFC 9112, section 7.1."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


EVENT, LARGE = b"data: 1\n\n", b"x" * 200_000
EVENTS = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked"
ENDLESS = {
    "events": (EVENTS, chunk(EVENT), chunk(EVENT) + b"0\r\n\r\n", EVENT * 2),
    "chunks": ("Transfer-Encoding: chunked", chunk(LARGE), chunk(EVENT) + b"0\r\n\r\n", LARGE + EVENT),
    "a length": (f"Content-Length: {len(LARGE) * 2}", LARGE, LARGE, LARGE * 2),
}


@contextlib.asynccontextmanager
async def holding(folder: Path, kind: str) -> AsyncIterator[tuple[HeldBack, Gateway]]:
    """Such an origin behind a gateway whose cache lets requests wait longer than the tests do."""
    origin = HeldBack(*ENDLESS[kind][:3])
    async with await asyncio.start_server(origin.serve, "127.0.0.1", 0) as listening:
        origin.port = listening.sockets[0].getsockname()[1]
        changes = {"limits": {"buffer_body": "64KiB"}, **PATIENT}
        made = cached(f"http://127.0.0.1:{origin.port}", changes=changes, coalesce="30s")
        try:
            async with Gateway(folder, made=made) as gateway:
                yield origin, gateway
        finally:
            origin.go.set()


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_stream_is_passed_on_as_it_comes_and_not_stored(tmp_path: Path, kind: str) -> None:
    """`limits.buffer_body`: what has come is with the client before there is more, and nobody else gets it."""
    async with (
        holding(tmp_path, kind) as (origin, gateway),
        httpx.AsyncClient(base_url=gateway.url, timeout=5) as client,
    ):
        async with client.stream("GET", "/stream") as answer:
            pieces = answer.aiter_bytes()
            body = await anext(pieces)  # the origin has not said the rest
            origin.go.set()
            body += b"".join([piece async for piece in pieces])
        assert body == ENDLESS[kind][3]
        assert (await client.get("/stream")).content == ENDLESS[kind][3]
        assert origin.asked == 2


@pytest.mark.parametrize("kind", ENDLESS)
async def test_nobody_waits_for_a_stream_to_end(tmp_path: Path, kind: str) -> None:
    """What turns out not to be storable is not waited for: neither by those who came before that nor by the next."""
    async with holding(tmp_path, kind) as (origin, gateway), contextlib.AsyncExitStack() as stack:
        for number in range(3):
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=5))
            answer = await stack.enter_async_context(client.stream("GET", "/stream"))
            assert await anext(answer.aiter_bytes())
            assert origin.asked == number + 1
            assert told(answer)["stored"] is False


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [20_000, 100_000], ids=["max_body", "buffer_body"])
async def test_a_body_beyond_the_bounds_passes_whole(one: Place, size: int, chunked: bool) -> None:
    """Whether that shows at once or in mid-stream: byte for byte, not stored, and Cache-Status says so."""
    body = bytes(range(256)) * (size // 256)
    path = one.at(keep(body, chunked=chunked, pieces=5))
    answers = [await one.get(path) for _ in range(2)]
    assert [a.content for a in answers] == [body] * 2
    assert len(one.asked(path)) == 2
    assert [told(a)["stored"] for a in answers] == [False] * 2


# --- what is not whole ---


@pytest.mark.parametrize("how", ["fin", "reset", "hang"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1000, 200_000], ids=["held", "streamed"])
async def test_a_response_that_was_cut_short_is_never_stored(one: Place, how: Any, chunked: bool, size: int) -> None:
    """RFC 9111, section 3.3: the client that caused it sees it fail, and the next one gets the whole."""
    broken, whole = Break("body", how, keep(b"x" * size, chunked=chunked)), keep(b"y" * size)
    path = one.at([broken] * 3 + [whole] if size < 16_000 else [broken, whole], path=f"/api/users/{how}{chunked}{size}")
    if size < 16_000:
        assert (await one.get(path)).status_code == 503
    else:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await one.get(path)
    answer = await one.get(path, Cache_Control="max-stale, stale-if-error=1000")
    assert (answer.content, told(answer)["fwd"]) == (b"y" * size, "miss")


async def test_a_failed_attempt_leaves_nothing_of_its_answer(one: Place) -> None:
    """RFC 9111, section 3.3: what is stored is the retry's answer, of which the first one's part is none."""
    path = one.at([Break("body", "fin", keep(b"x" * 1000)), keep(b"whole")])
    assert [(await one.get(path)).content for _ in range(2)] == [b"whole"] * 2
    assert len(one.asked(path)) == 2


@pytest.mark.parametrize("upstream", ["one", "two"])
async def test_trailers_are_not_part_of_what_is_stored(one: Place, two: Place, upstream: str) -> None:
    """RFC 9110, section 6.5: they are not merged into the header; the body is whole, and connections stay in step."""
    where = one if upstream == "one" else two
    path = where.at(keep(b"trailed", trailers=[("x-end", "1"), ("set-cookie", "late=1")]))
    async with RawClient(where.gateway.port) as client, client_of(where.gateway, "h2c") as other:
        for _ in range(3):
            answer = await client.request("GET", path, [host(where)])
            assert (answer.status, answer.body, answer.header("x-end")) == (200, b"trailed", None)
            assert not answer.all("set-cookie")
        same = await other.get(path)
        assert (same.content, "x-end" in same.headers, told(same)["hit"]) == (b"trailed", False, True)
    assert len(where.asked(path)) == 1
