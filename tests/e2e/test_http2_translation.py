"""From HTTP/1.1 to HTTP/2 and back, in each combination of client and server: nothing is lost in translation."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.testing import Answer
from tests.e2e import raw
from tests.e2e.legs import LARGE, LEGS, Client, Upstream, between, client_of, talk
from tests.unit.testing.h2_client import H2Client, trusting_anybody

# --- what is translated ---


async def test_a_request_of_http_2_has_a_framing_in_http_1(tmp_path: Path) -> None:
    """RFC 9112, section 6: a body without a content-length, one without a body, each followed by another request."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two ", b"three"):
            yield piece
            await asyncio.sleep(0.02)

    async with between(tmp_path, "http/1.1", limits={"buffer_body": "8KiB"}) as (gateway, origin):
        async with client_of(gateway, "h2") as client:
            for content, body in ((pieces(), b"one two three"), (b"", b""), (None, b""), (_many(), b"x" * 40_000)):
                origin.forget()
                assert (await client.post("/", content=content)).text == "ok"
                (received,) = origin.requests
                assert (received.body, received.complete) == (body, True)
                framings = [n for n, _ in received.headers if n.lower() in ("content-length", "transfer-encoding")]
                assert len(framings) == (1 if body else len(framings))
        assert origin.connections == 1


async def _many() -> AsyncIterator[bytes]:
    for _ in range(40):
        yield b"x" * 1000


@pytest.mark.parametrize("keep", [False, True])
async def test_host_and_cookies_of_http_2_are_written_as_http_1_does(tmp_path: Path, keep: bool) -> None:
    """RFC 9113, sections 8.2.3 and 8.3.1."""
    changes = {"upstream__keep_host_header": keep}
    async with between(tmp_path, "http/1.1", **changes) as (gateway, origin), talk(gateway) as client:
        stream = await client.ask(
            "/", headers=[("cookie", "a=1"), ("x-one", "1"), ("cookie", "b=2"), ("te", "trailers")]
        )
        assert (await client.answer(stream)).status == 200
        (received,) = origin.requests
        assert [value for name, value in received.headers if name.lower() == "cookie"] == ["a=1; b=2"]
        hosts = [value for name, value in received.headers if name.lower() == "host"]
        assert hosts == ["h.test" if keep else f"127.0.0.1:{origin.port}"]
        assert not received.header("te")


@pytest.mark.parametrize("keep", [False, True])
async def test_a_request_of_http_1_is_one_of_http_2_upstream(tmp_path: Path, keep: bool) -> None:
    """Fields of the connection may not be sent over HTTP/2 (RFC 9113, section 8.2.2); names are in lower case."""
    hop = [("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("TE", "trailers, gzip")]
    more = [("Upgrade", "h2c"), ("Proxy-Connection", "keep-alive"), ("X-Twice", "1"), ("X-Twice", "2")]
    changes = {"upstream__keep_host_header": keep}
    async with between(tmp_path, "h2c", **changes) as (gateway, origin), raw.RawClient(gateway.port) as client:
        await client.send(raw.head("POST", "/a?b=%20", [*hop, *more, ("Transfer-Encoding", "chunked")]))
        await client.send(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert (await client.answer()).body == b"ok"
        (received,) = origin.requests
        assert (received.method, received.target, received.body) == ("POST", "/a?b=%20", b"abcde")
        assert received.header("host") == ("gateway.test" if keep else f"127.0.0.1:{origin.port}")
        names = [name for name, _ in received.headers]
        assert not {"connection", "x-hop", "keep-alive", "upgrade", "proxy-connection", "transfer-encoding"} & {*names}
        assert received.header("te") in ("", "trailers")
        assert [value for name, value in received.headers if name == "x-twice"] == ["1", "2"]
        assert await client.is_kept()


async def test_answers_of_http_2_have_a_framing_in_http_1(tmp_path: Path) -> None:
    """With a length and without, with trailers, which end here; without a body whatever the header says."""
    plan = {
        "/length": Answer(body=b"known"),
        "/none": Answer(body=b"unknown", chunked=True, pieces=3, pace=0.02),
        "/trailers": Answer(body=b"trailed", trailers=[("x-end", "1")]),
        "/empty": Answer(body=b"", chunked=True),
        "/204": Answer(204),
        "/304": Answer(304, [("etag", '"e"')]),
    }
    bodies = {"/length": b"known", "/none": b"unknown", "/trailers": b"trailed"}
    async with between(tmp_path, "h2c", plan) as (gateway, _), raw.RawClient(gateway.port) as client:
        for target, step in plan.items():
            answer = await client.request("GET", target)
            assert (answer.status, answer.body) == (step.status, bodies.get(target, b"")), target
            assert await client.is_kept(), target
        head = await client.request("HEAD", "/length")
        assert (head.status, head.header("content-length"), head.body) == (200, "5", b"")
        assert await client.is_kept()
        assert (await client.request("GET", "/length")).body == b"known"


@pytest.mark.parametrize(("speaks", "upstream"), LEGS)
async def test_early_hints_arrive_before_the_answer(tmp_path: Path, speaks: Client, upstream: Upstream) -> None:
    """103 (RFC 8297), on every way."""
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
    async with between(tmp_path, upstream, Answer(interim=hints * 2, delay=0.05)) as (gateway, _):
        if speaks == "http/1.1":
            async with raw.RawClient(gateway.port) as client:
                await client.send(raw.head("GET", "/"))
                heads = [await client.answer_head() for _ in range(2)]
                assert [(h.status, h.header("link")) for h in heads] == [(103, "</a.css>; rel=preload")] * 2
                assert (await client.answer()).body == b"ok"
        else:
            context = trusting_anybody("h2") if speaks == "h2" else None
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context)
            talking = H2Client(reader, writer)
            seen = await talking.answer(await talking.ask("/"))
            assert [h[":status"] for h in seen.interim] == ["103", "103"]
            assert (seen.status, seen.body) == (200, b"ok")
            writer.transport.abort()


@pytest.mark.parametrize("upstream", ["http/1.1", "h2c"])
async def test_a_client_that_waits_for_100_continue_gets_it_once(tmp_path: Path, upstream: Upstream) -> None:
    """From the gateway, which does not ask the server."""
    async with between(tmp_path, upstream) as (gateway, origin), raw.RawClient(gateway.port) as client:
        await client.send(raw.head("POST", "/", [("Expect", "100-continue")], 4))
        assert (await client.answer_head()).status == 100
        await client.send(b"body")
        assert (await client.answer()).body == b"ok"
        assert (origin.requests[0].body, origin.requests[0].header("expect")) == (b"body", "")
        assert await client.is_kept()


# --- bodies ---


@pytest.mark.timeout(240)
@pytest.mark.parametrize("held", [False, True], ids=["streamed", "held"])
@pytest.mark.parametrize(("speaks", "upstream"), LEGS)
async def test_twenty_mebibytes_pass_in_both_directions(
    tmp_path: Path, speaks: Client, upstream: Upstream, held: bool
) -> None:
    """Byte for byte, and one connection upstream is enough."""
    limits = {"buffer_body": "32MiB" if held else "256KiB"}
    wanted = hashlib.sha256(LARGE).hexdigest()
    async with between(tmp_path, upstream, limits=limits) as (gateway, origin), client_of(gateway, speaks) as client:
        assert (await client.put("/up", content=LARGE)).text == "ok"
        (received,) = origin.requests
        assert (len(received.body), hashlib.sha256(received.body).hexdigest()) == (len(LARGE), wanted)
        for chunked in (False, True):
            origin.plan = Answer(body=LARGE, chunked=chunked)
            body = (await client.get("/down")).content
            assert (len(body), hashlib.sha256(body).hexdigest()) == (len(LARGE), wanted)
        assert origin.connections == 1
