"""The misbehaving origin over HTTP/2: how it is reached, what it notes of requests, and whole answers."""

from __future__ import annotations

import asyncio
import shutil

import httpx
import pytest
from h2.settings import SettingCodes

from holdfast.testing import Answer, ErrorCodes, MisbehavingOrigin, Received, Step, oversized, self_signed
from tests.unit.testing.h2_client import SOON, h2_client, trusting_anybody

BIG = bytes(range(256)) * 32768
"""8 MiB: many times the windows that HTTP/2 begins with."""


def http2(**options: object) -> httpx.AsyncClient:
    """A client that begins with HTTP/2 also where nothing was negotiated."""
    return httpx.AsyncClient(http1=False, http2=True, **options)  # type: ignore[arg-type]


# --- how it is reached ---


async def test_plaintext_is_spoken_by_prior_knowledge() -> None:
    """RFC 9113 section 3.3; a step means what it means over HTTP/1.1, and the connection is kept."""
    async with MisbehavingOrigin(Answer(201, [("X-A", "b")], b"made"), protocol="h2") as origin, http2() as client:
        answers = [await client.post(f"{origin.url}/{n}?q", content=b"\x00\xff", headers={"X-K": "v"}) for n in (0, 1)]
    assert [(a.http_version, a.status_code, a.headers["x-a"], a.text) for a in answers] == [
        ("HTTP/2", 201, "b", "made")
    ] * 2
    assert (origin.connections, origin.protocols) == (1, {1: "HTTP/2"})
    first, second = origin.requests
    assert (first.protocol, first.stream, second.stream) == ("HTTP/2", 1, 3)
    assert (first.method, first.target, first.body, first.complete) == ("POST", "/0?q", b"\x00\xff", True)
    assert first.headers[0] == ("host", f"127.0.0.1:{origin.port}")
    assert first.header("X-K") == "v"


async def test_curl_finds_it_in_order() -> None:
    """A client with another implementation of the protocol (nghttp2)."""
    if (curl := shutil.which("curl")) is None:
        pytest.skip("curl is not installed")
    plan = Answer(interim=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", trailers=[("x-sum", "1")])
    async with MisbehavingOrigin(plan, protocol="h2") as origin:
        arguments = ["-sS", "-i", "--http2-prior-knowledge", "--data-binary", "@-", origin.url]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(curl, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = await asyncio.wait_for(process.communicate(BIG), 10)
        if b"option --http2-prior-knowledge" in err:
            pytest.skip("this curl does not speak HTTP/2")
    assert process.returncode == 0, err
    assert out.split(b"\r\n")[0] == b"HTTP/2 103 "
    assert b"HTTP/2 200" in out and b"ok" in out and b"x-sum: 1" in out
    assert origin.requests[0].body == BIG
    assert origin.violations == []


@pytest.mark.parametrize(
    ("protocol", "offered", "spoken"),
    [
        ("h2", ("h2",), "HTTP/2"),
        ("h2", ("h2", "http/1.1"), "HTTP/2"),
        ("any", ("http/1.1", "h2"), "HTTP/2"),
        ("any", ("http/1.1",), "HTTP/1.1"),
        ("any", (), "HTTP/1.1"),
        ("http/1.1", ("h2", "http/1.1"), "HTTP/1.1"),
    ],
)
async def test_over_tls_alpn_decides(protocol: str, offered: tuple[str, ...], spoken: str) -> None:
    """RFC 9113 section 3.2: and an origin that speaks both prefers HTTP/2."""
    async with MisbehavingOrigin(tls=self_signed(), protocol=protocol) as origin:  # type: ignore[arg-type]
        assert origin.url.startswith("https://")
        if spoken == "HTTP/2":
            async with h2_client(origin, trusting_anybody(*offered)) as client:
                assert (await client.answer(await client.ask())).status == 200
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", origin.port, ssl=trusting_anybody(*offered))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.transport.abort()
    assert origin.protocols == {1: spoken}
    assert origin.requests[0].protocol == spoken


async def test_in_plaintext_the_first_bytes_decide() -> None:
    """Both on one port; the preface may come in pieces, and a client that says nothing is waited for."""
    async with MisbehavingOrigin(protocol="any") as origin, http2() as new, httpx.AsyncClient() as old:
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        await asyncio.sleep(0.05)
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        writer.write(b"\0\0\0\4\0\0\0\0\0")  # empty SETTINGS
        assert (await reader.readexactly(9))[3] == 4  # SETTINGS
        writer.transport.abort()
        assert (await new.get(origin.url)).http_version == "HTTP/2"
        assert (await old.get(origin.url)).http_version == "HTTP/1.1"
        silent = await asyncio.open_connection("127.0.0.1", origin.port)
        await asyncio.sleep(0.05)
    silent[1].transport.abort()
    assert origin.protocols == {1: "HTTP/2", 2: "HTTP/2", 3: "HTTP/1.1"}


async def test_a_client_that_does_not_speak_http2_is_sent_away() -> None:
    """RFC 9113 section 3.4: a connection error of type PROTOCOL_ERROR; the test can see whose fault it was."""
    async with MisbehavingOrigin(protocol="h2") as origin:
        reader, writer = await asyncio.open_connection("127.0.0.1", origin.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        data = await asyncio.wait_for(reader.read(), 2)
        writer.transport.abort()
    assert data[-17 + 3] == 7  # a GOAWAY
    assert data.endswith(b"\0\0\0\1")
    assert not origin.requests
    assert len(origin.violations) == 1


# --- what it notes ---


async def test_trailers_go_both_ways() -> None:
    """RFC 9113 section 8.1: a block of fields after the body, and the end of the stream."""
    plan = Answer(trailers=[("X-Sum", "1")])
    async with MisbehavingOrigin(plan, protocol="h2") as origin, h2_client(origin) as client:
        seen = await client.answer(await client.ask(method="POST", body=b"hi", trailers=[("x-t", "2")]))
    assert (seen.body, seen.trailers) == (b"ok", [("x-sum", "1")])
    assert "content-length" not in seen.headers
    assert origin.requests[0].trailers == [("x-t", "2")]


async def test_a_request_that_its_client_takes_back_is_noted_so() -> None:
    """With the code of its RST_STREAM, and the part of the body that had come; the connection is fine."""
    async with MisbehavingOrigin(protocol="h2") as origin, h2_client(origin) as client:
        stream = await client.ask(method="POST", body=b"half", end=False)
        received = (await origin.wait_for(1))[0]
        client.core.reset_stream(stream, ErrorCodes.CANCEL)
        assert (await client.answer(await client.ask())).status == 200
    assert (received.reset, received.body, received.complete) == (ErrorCodes.CANCEL, b"half", False)


async def test_a_request_that_breaks_off_is_noted_with_what_there_was() -> None:
    """The client's connection ended in the middle of the body."""
    async with MisbehavingOrigin(protocol="h2") as origin:
        async with h2_client(origin) as client:
            await client.ask(method="POST", body=b"half", end=False)
            received = (await origin.wait_for(1))[0]
        await asyncio.sleep(0.05)
        assert (received.body, received.complete) == (b"half", False)


async def test_a_client_that_says_goodbye_still_gets_its_answer() -> None:
    """RFC 9113 section 6.8: a GOAWAY does not end the streams that there are."""
    async with MisbehavingOrigin(Answer(delay=0.1), protocol="h2") as origin, h2_client(origin) as client:
        stream = await client.ask()
        client.writer.write(bytes.fromhex("000008 07 00 00000000 00000000 00000000"))
        assert (await client.answer(stream)).body == b"ok"


# --- whole answers ---


async def test_large_bodies_pass_both_ways_through_the_windows_of_the_protocol() -> None:
    """RFC 9113 section 5.2: 65,535 bytes at first, for each stream and for the connection; two streams at once."""
    async with MisbehavingOrigin(Answer(body=BIG), protocol="h2") as origin, h2_client(origin) as client:
        streams = [await client.ask(method="POST", body=BIG) for _ in range(2)]
        answers = [await client.answer(stream, 20) for stream in streams]
    assert all(answer.body == BIG for answer in answers)
    assert [received.body == BIG for received in origin.requests] == [True, True]


async def test_an_answer_waits_for_a_window_that_is_closed() -> None:
    """And goes on when it opens, by SETTINGS as much as by WINDOW_UPDATE (RFC 9113 section 6.9.2)."""
    async with MisbehavingOrigin(Answer(body=b"x" * 10), protocol="h2") as origin, h2_client(origin) as client:
        client.opens_windows = False
        client.core.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 4})
        stream = await client.ask()
        with pytest.raises(TimeoutError):
            await client.answer(stream, SOON)
        assert len(client.streams[stream].body) == 4
        client.core.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        client.flush()
        assert (await client.answer(stream)).body == b"x" * 10


async def test_an_answer_can_be_slow_and_in_pieces() -> None:
    """Four pieces with a pause before each."""
    loop = asyncio.get_running_loop()
    plan = Answer(body=b"abcdefgh", pieces=4, pace=0.03, delay=0.05)
    async with MisbehavingOrigin(plan, protocol="h2") as origin, http2() as client:
        began = loop.time()
        async with client.stream("GET", origin.url) as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    assert pieces == [b"ab", b"cd", b"ef", b"gh"]
    assert loop.time() - began >= 0.17


@pytest.mark.parametrize(("method", "plan"), [("HEAD", Answer()), ("GET", Answer(204)), ("GET", Answer(304))])
async def test_an_answer_without_a_body_ends_with_its_header(method: str, plan: Answer) -> None:
    """RFC 9110 section 6.4.1."""
    async with MisbehavingOrigin(plan, protocol="h2") as origin, h2_client(origin) as client:
        seen = await client.answer(await client.ask(method=method))
    assert (seen.body, seen.status) == (b"", plan.status)
    assert seen.headers.get("content-length") == ("2" if method == "HEAD" else None)


async def test_interim_answers_come_first() -> None:
    """As HTTP/1.1 writes them in the plan, as HTTP/2 sends them (RFC 9113 section 8.1)."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nLink2: b\r\n\r\n"
    async with MisbehavingOrigin(Answer(interim=interim), protocol="h2") as origin, h2_client(origin) as client:
        seen = await client.answer(await client.ask())
    assert seen.interim == [{":status": "100"}, {":status": "103", "link": "</a.css>", "link2": "b"}]
    assert (seen.status, seen.body) == (200, b"ok")


async def test_expect_100_continue_is_answered_before_the_body_is_there() -> None:
    """RFC 9110 section 10.1.1."""
    async with MisbehavingOrigin(protocol="h2") as origin, h2_client(origin) as client:
        stream = await client.ask(method="PUT", headers=[("expect", "100-continue")], end=False)
        await client.until(lambda: bool(client.streams[stream].interim))
        await client.upload(stream, b"hi")
        assert (await client.answer(stream)).status == 200
    assert origin.requests[0].body == b"hi"


async def test_an_early_answer_does_not_wait_for_the_body_and_reads_it_afterwards() -> None:
    """RFC 9113 section 8.1: a whole answer before the whole request."""
    async with MisbehavingOrigin(Answer(413, early=True), protocol="h2") as origin, h2_client(origin) as client:
        stream = await client.ask(method="POST", end=False)
        assert (await client.answer(stream)).status == 413
        assert not origin.requests[0].complete
        await client.upload(stream, BIG)
        assert await client.answers_pings()
        assert origin.requests[0].body == BIG


async def test_an_oversized_header_is_as_large_as_said() -> None:
    """One field of 50,000 bytes: CONTINUATION frames (RFC 9113 section 6.10)."""
    async with MisbehavingOrigin(oversized(50_000), protocol="h2") as origin, h2_client(origin) as client:
        seen = await client.answer(await client.ask())
    assert len(seen.headers["x-oversized"]) == 50_000


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
async def test_hanging_up_leaves_no_word(tls: bool) -> None:
    """The whole answer, then the end of the connection without a GOAWAY."""
    plan = Answer(body=BIG[: 2**20], hang_up=True)
    origin = MisbehavingOrigin(plan, tls=self_signed() if tls else None, protocol="h2")
    async with origin, h2_client(origin, trusting_anybody("h2") if tls else None) as client:
        seen = await client.answer(await client.ask())
        assert await client.outcome() == "fin"
    assert (seen.body, seen.ended, client.goaways()) == (plan.body, True, [])


async def test_an_announced_end_lets_the_others_finish() -> None:
    """RFC 9113 section 6.8: GOAWAY, the answers to what was under way, the end."""
    plan = {"/last": Answer(announce=True), "*": Answer(delay=0.1)}
    async with MisbehavingOrigin(plan, protocol="h2") as origin, h2_client(origin) as client:
        slow, last = await client.ask(), await client.ask("/last")
        assert (await client.answer(last)).ended
        assert client.goaways() == [(last, 0, b"")]
        assert (await client.answer(slow)).ended
        assert await client.outcome() == "fin"


# --- side by side ---


async def test_streams_are_served_side_by_side() -> None:
    """The later one is answered first, and each has its own step."""

    def plan(received: Received) -> Step:
        return Answer(body=received.target.encode(), delay=0.2 if received.target == "/slow" else 0.0)

    async with MisbehavingOrigin(plan, protocol="h2") as origin, h2_client(origin) as client:
        slow, quick = await client.ask("/slow"), await client.ask("/quick")
        assert (await client.answer(quick)).body == b"/quick"
        assert not client.streams[slow].headers
        assert (await client.answer(slow)).body == b"/slow"


async def test_a_hundred_streams_at_once_are_all_answered() -> None:
    """One connection; no limit was asked for."""
    async with MisbehavingOrigin(Answer(delay=0.05), protocol="h2") as origin, h2_client(origin) as client:
        streams = [await client.ask(f"/{number}") for number in range(150)]
        assert {(await client.answer(stream)).status for stream in streams} == {200}
    assert [received.target for received in origin.requests] == [f"/{number}" for number in range(150)]


async def test_streams_beyond_the_limit_are_refused_and_those_within_it_served() -> None:
    """RFC 9113 section 5.1.2; and a client that reads SETTINGS keeps to it."""
    origin = MisbehavingOrigin(Answer(delay=0.1), protocol="h2", max_streams=1)
    async with origin, h2_client(origin) as client, http2() as obedient:
        first, second = await client.ask("/1"), await client.ask("/2")
        assert (await client.answer(second)).reset == ErrorCodes.REFUSED_STREAM
        assert (await client.answer(first)).status == 200
        assert client.core.remote_settings.max_concurrent_streams == 1
        assert (await client.answer(await client.ask("/3"))).status == 200
        assert [(r.target, r.refused) for r in origin.requests] == [("/1", False), ("/2", True), ("/3", False)]
        await obedient.get(origin.url)
        origin.forget()
        assert {a.status_code for a in await asyncio.gather(*(obedient.get(origin.url) for _ in range(5)))} == {200}
        assert [received.refused for received in origin.requests] == [False] * 5
