"""HTTP/1.1 on the wire: what is unusual but allowed passes unharmed, also through retries and failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, Garbage, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")
BUFFER = 256 * 1024
LARGE = bytes(range(256)) * 4096
"""A mebibyte: four times what is held, so that it is streamed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """One gateway with a small buffer before one origin."""
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url, limits={"buffer_body": str(BUFFER)})
        async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as gateway:
            yield gateway, origin


@pytest.fixture
def gateway(running: tuple[Gateway, MisbehavingOrigin]) -> Gateway:
    """The gateway."""
    return running[0]


@pytest.fixture
def origin(running: tuple[Gateway, MisbehavingOrigin]) -> MisbehavingOrigin:
    """The origin, well and with nothing received."""
    running[1].forget()
    running[1].plan = Answer()
    return running[1]


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Gateway) -> AsyncIterator[raw.RawClient]:
    """A connection that has to be in step at the end."""
    async with raw.RawClient(gateway.port) as connected:
        yield connected


async def in_step(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """The connection is kept, holds nothing nobody asked for, and the next answer is that of the next request."""
    assert await client.is_kept()
    origin.plan = Answer(body=b"in step")
    assert (await client.request("GET", "/step")).body == b"in step"


async def test_a_chunked_request_goes_again_whole(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """Repeated from what was held: the same bytes, in whatever chunks."""
    origin.plan = [Break("request", "reset"), Answer(body=b"done")]
    chunks = b"3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\n\r\n"
    await client.send(raw.head("PUT", "/", [("Transfer-Encoding", "chunked")]) + chunks)
    assert (await client.answer()).body == b"done"
    assert [(received.method, received.body) for received in origin.requests] == [("PUT", b"abcdefgh")] * 2
    await in_step(client, origin)


async def test_a_chunked_request_is_captured_whole(
    client: raw.RawClient, origin: MisbehavingOrigin, gateway: Gateway
) -> None:
    """Without its framing."""
    origin.plan = Break("request", "fin")
    await client.send(raw.head("POST", "/", [("Transfer-Encoding", "chunked")]) + b"3\r\n\x00\xff\x01\r\n0\r\n\r\n")
    answer = await client.answer()
    envelope = (await gateway.admin(f"/captures/{answer.capture_id}")).json()["request"]
    assert raw.body_of(envelope) == b"\x00\xff\x01"
    await in_step(client, origin)


@pytest.mark.parametrize("break_", [Break("request", "fin"), Break("body", "reset"), Answer(503, body=b"no")])
async def test_head_is_answered_without_a_body_whatever_happens(
    client: raw.RawClient, origin: MisbehavingOrigin, break_: Answer | Break
) -> None:
    """Of a failure too: its problem document may not be sent."""
    origin.plan = break_
    answer = await client.request("HEAD", "/")
    if isinstance(break_, Break) and break_.when == "body":
        assert answer.status in (200, 503)  # the header is all there is of an answer to HEAD
    else:
        assert answer.status == 503
        assert answer.header("holdfast-capture-id")
    await in_step(client, origin)


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_pass(client: raw.RawClient, origin: MisbehavingOrigin, status: int) -> None:
    """And do not hold the connection up."""
    origin.plan = Answer(status, [("ETag", '"e"')], b"")
    answer = await client.request("GET", "/")
    assert (answer.status, answer.header("etag")) == (status, '"e"')
    await in_step(client, origin)


async def test_repeated_and_odd_header_fields_pass(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """Set-Cookie twice, an empty value, bytes beyond ASCII: none joined, dropped or changed, in either direction."""
    fields = [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("X-Empty", ""), ("X-Latin", "caf\xe9")]
    origin.plan = Answer(headers=fields)
    answer = await client.request(
        "GET", "/?a=b&a=c&d=%2F", [("X-Twice", "1"), ("X-Twice", "2"), ("X-Latin", "caf\xe9")]
    )
    assert [answer.all(name) for name in ("set-cookie", "x-empty", "x-latin")] == [
        ["a=1; Path=/", "b=2"],
        [""],
        ["caf\xe9"],
    ]
    (received,) = origin.requests
    assert received.target == "/?a=b&a=c&d=%2F"
    assert [value for name, value in received.headers if name.lower() == "x-twice"] == ["1", "2"]
    assert received.header("x-latin") == "caf\xe9"


async def test_interim_answers_do_not_take_the_place_of_the_final_one(
    client: raw.RawClient, origin: MisbehavingOrigin
) -> None:
    """RFC 9110 section 15.2: any number of 1xx may come first."""
    for interim in (b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 2):
        origin.plan = Answer(body=b"final", interim=interim)
        answer = await client.request("POST", "/", body=b"x")
        assert (answer.status, answer.body) == (200, b"final")
        await in_step(client, origin)


@pytest.mark.parametrize("size", [10, len(LARGE)], ids=["held", "streamed"])
async def test_a_client_that_expects_100_continue_is_told_to(
    client: raw.RawClient, origin: MisbehavingOrigin, size: int
) -> None:
    """It sends its body only then; what arrives is the whole."""
    await client.send(raw.head("POST", "/", [("Expect", "100-continue")], size))
    first = await asyncio.wait_for(client.answer_head(), 5)
    assert first.status == 100
    await client.send(LARGE[:size])
    assert (await client.answer()).status == 200
    assert origin.requests[0].body == LARGE[:size]
    await in_step(client, origin)


async def test_an_early_answer_to_a_large_upload_gets_through(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """The origin says 413 after the header; the client, which sends on, sees that and nothing else."""
    origin.plan = Answer(413, body=b"too much", early=True)
    await client.send(raw.head("POST", "/", length=len(LARGE)) + LARGE)
    answer = await client.answer()
    assert (answer.status, answer.body) == (413, b"too much")
    assert len(origin.requests) == 1
    await in_step(client, origin)


@pytest.mark.parametrize("break_", [Break("request", "reset"), Break("request", "hang"), Answer(503), Garbage()])
async def test_a_large_upload_that_fails_is_answered_once_and_not_repeated(
    client: raw.RawClient, origin: MisbehavingOrigin, break_: Answer | Break | Garbage
) -> None:
    """It was not held, so it can be neither repeated nor stored, even where the method would allow it."""
    origin.plan = break_
    await client.send(raw.head("PUT", "/", length=len(LARGE)) + LARGE)
    answer = await client.answer()
    assert answer.status == 503
    assert answer.header("holdfast-capture") == "failed; reason=too_large"
    assert len(origin.requests) == 1
    await in_step(client, origin)


@pytest.mark.parametrize("how", ["reset", "fin", "hang"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_answer_that_breaks_off_is_not_passed_on_as_whole(
    client: raw.RawClient, origin: MisbehavingOrigin, how: str, chunked: bool
) -> None:
    """The client has seen a part of it: its connection ends in the middle, and what it got is not repeated."""
    origin.plan = Break("body", how, Answer(body=LARGE, chunked=chunked))  # type: ignore[arg-type]
    await client.send(raw.head("GET", "/"))
    got = await client.ends(within=5)
    assert got.startswith(b"HTTP/1.1 200")
    body = got.partition(b"\r\n\r\n")[2]
    assert len(body) < len(LARGE)
    assert not got.endswith(b"0\r\n\r\n")
    assert len(origin.requests) == 1


async def test_a_body_that_ends_with_the_connection_passes(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """Neither length nor chunks: the end of the connection is the end of the body (RFC 9112 section 6.3)."""
    origin.plan = Garbage(b"HTTP/1.1 200 OK\r\nX-Old: yes\r\n\r\nto the end")
    answer = await client.request("GET", "/")
    assert (answer.status, answer.body, answer.header("x-old")) == (200, b"to the end", "yes")


async def test_answers_whose_framing_makes_no_sense_are_failures(
    client: raw.RawClient, origin: MisbehavingOrigin
) -> None:
    """None of them can be passed on; each is an `http_protocol_error`, and the connection stays in step."""
    for nonsense in (
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nNonsense without a colon\r\n\r\n",
        b"HTTP/1.1 OK 200\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
    ):
        origin.plan = Garbage(nonsense)
        answer = await client.request("GET", "/")
        assert answer.status == 503, nonsense
        assert "error=http_protocol_error" in (answer.header("proxy-status") or ""), nonsense
        await in_step(client, origin)


async def test_more_than_was_announced_does_not_reach_the_next_request(
    client: raw.RawClient, origin: MisbehavingOrigin
) -> None:
    """Bytes behind an answer's end are not taken for the next answer."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    origin.plan = Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + evil)
    assert (await client.request("GET", "/")).body == b"ok"
    await in_step(client, origin)


async def test_events_are_passed_on_as_they_come(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """A stream of events is not held back until it ends, and may be silent for longer than read_timeout."""
    events = b"data: 1\n\ndata: 2\n\n"
    stream = Answer(headers=[("Content-Type", "text/event-stream")], body=events, chunked=True, pieces=2, pace=0.7)
    origin.plan = stream
    await client.send(raw.head("GET", "/events"))
    assert (await client.answer_head()).status == 200
    loop = asyncio.get_running_loop()
    await client.reader.readuntil(b"data: 1\n\n")
    between = loop.time()
    await client.reader.readuntil(b"data: 2\n\n")
    assert loop.time() - between > 0.4
    await client.reader.readuntil(b"0\r\n\r\n")
    await in_step(client, origin)


async def test_an_upgrade_passes(client: raw.RawClient, origin: MisbehavingOrigin) -> None:
    """A WebSocket is opened through the gateway and carries frames from the upstream."""
    accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
    fields = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
    switch = "\r\n".join(["HTTP/1.1 101 Switching Protocols", *fields, "", ""])
    origin.plan = Garbage(switch.encode() + b"\x81\x05hello")
    wanted = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    await client.send(raw.head("GET", "/socket", wanted))
    answer = await client.answer_head()
    assert (answer.status, answer.header("sec-websocket-accept")) == (101, accept)
    assert await asyncio.wait_for(client.reader.readexactly(7), 5) == b"\x81\x05hello"


async def test_http_1_0_and_connection_close_are_honoured(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """The gateway closes after its answer, a failure's included, and the upstream's connection is its own affair."""
    for failing in (False, True):
        origin.plan = Break("request", "fin") if failing else Answer(body=b"fine")
        for request in (
            b"GET / HTTP/1.0\r\nHost: h\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        ):
            async with raw.RawClient(gateway.port) as client:
                await client.send(request)
                answer = await client.answer()
                assert answer.status == (503 if failing else 200)
                assert await client.ends(5) == b""


async def test_pipelined_requests_are_answered_in_order_although_some_fail(
    client: raw.RawClient, origin: MisbehavingOrigin
) -> None:
    """Retried, captured and passed, all in one packet."""
    origin.plan = {
        "/retried": [Break("request", "reset"), Answer(body=b"retried")],
        "/lost": Break("request", "fin"),
        "/slow": Answer(body=b"slow", delay=0.1),
        "*": Answer(body=b"passed"),
    }
    paths = ["/passed", "/retried", "/lost", "/slow", "/passed", "/lost", "/passed"]
    await client.send(b"".join(raw.head("GET", path) for path in paths))
    answers = [await client.answer() for _ in paths]
    assert [answer.status for answer in answers] == [200, 200, 503, 200, 200, 503, 200]
    assert [a.body for a in answers if a.status == 200] == [b"passed", b"retried", b"slow", b"passed", b"passed"]
    await in_step(client, origin)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_trailers_of_either_side_are_dropped_and_end_nothing(tmp_path: Path, method: str) -> None:
    """RFC 9110, section 6.5.1: a recipient may drop them. Stock's reader ends with an exception."""
    chunked = Garbage(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    async with (
        MisbehavingOrigin(chunked) as origin,
        Gateway(tmp_path, origin.url) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        answer = await client.request(method, "/api/users")
        assert (answer.status, answer.body) == (200, b"abc")
        origin.plan = Answer()
        head = raw.head("POST", "/api/users", [("Transfer-Encoding", "chunked")])
        await client.send(head + b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")
        assert (await client.answer()).status == 200
        assert origin.requests[-1].body == b"abc"
        assert await gateway.captures() == []
