"""The misbehaving origin over HTTP/2: streams and connections that end as they should not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from holdfast.testing import (
    Answer,
    Break,
    ErrorCodes,
    Garbage,
    GoAway,
    MisbehavingOrigin,
    Plan,
    Stall,
    StreamReset,
    self_signed,
)
from tests.unit.testing.h2_client import SOON, H2Client, Seen, h2_client, trusting_anybody

MAX = 2**31 - 1
HALF = b"x" * 500
"""What gets through of the answer that a step breaks off, which has a thousand of them."""


def http2(plan: Plan, *, tls: bool = False) -> MisbehavingOrigin:
    return MisbehavingOrigin(plan, tls=self_signed() if tls else None, protocol="h2")


# --- the whole connection, or silence ---


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize("how", ["reset", "fin", "hang"])
@pytest.mark.parametrize("when", ["request", "half-header", "header", "body"])
async def test_an_exchange_breaks_where_and_how_it_was_told(when: str, how: str, tls: bool) -> None:
    """All points of an exchange by all kinds of end, as the client of it sees them; nothing is announced."""
    step = Break(when, how)  # type: ignore[arg-type]
    async with http2(step, tls=tls) as origin, h2_client(origin, trusting_anybody("h2") if tls else None) as client:
        stream = await client.ask(method="POST", body=b"body")
        assert await client.outcome() == how
    seen = client.streams[stream]
    assert (seen.status, seen.body) == (200 if when in {"header", "body"} else 0, HALF if when == "body" else b"")
    assert (seen.ended, seen.reset, client.goaways()) == (False, None, [])
    assert [(r.body, r.complete) for r in origin.requests] == [(b"body", True)]


async def test_half_a_header_is_there_in_bytes() -> None:
    """Half of the HEADERS frame; after it nothing can be said on any stream."""
    plan = {"/half": Break("half-header", "hang", Answer(headers=[("x", "y" * 99)])), "*": Answer(delay=0.1)}
    async with http2(plan) as origin, h2_client(origin) as client:
        await client.answer(await client.ask())
        other, half = await client.ask(), await client.ask("/half")
        assert await client.outcome() == "hang"
        frame = client.tail[client.tail.rindex(b"\1\4" + half.to_bytes(4)) - 3 :]
        assert 9 < len(frame) < 9 + int.from_bytes(frame[:3])
        assert not client.streams[other].headers
        assert not await client.answers_pings()


@pytest.mark.parametrize("how", ["reset", "fin", "hang"])
async def test_a_connection_can_be_broken_before_anything_is_read(how: str) -> None:
    """Not even SETTINGS come; the next connection is served."""
    async with http2([Break("accept", how), Answer()]) as origin:  # type: ignore[arg-type]
        async with h2_client(origin) as client:
            assert await client.outcome() == how
            assert client.events == []
        async with h2_client(origin) as client:
            assert (await client.answer(await client.ask())).status == 200


@pytest.mark.parametrize("when", ["request", "header", "body"])
async def test_a_stream_that_hangs_leaves_its_connection_and_its_neighbours_alone(when: str) -> None:
    """Pings are answered, other streams served, before and after."""
    plan = {"/hangs": Break(when, "hang"), "*": Answer()}  # type: ignore[arg-type]
    async with http2(plan) as origin, h2_client(origin) as client:
        hangs, other = await client.ask("/hangs"), await client.ask()
        assert (await client.answer(other)).body == b"ok"
        with pytest.raises(TimeoutError):
            await client.answer(hangs, SOON)
        assert await client.answers_pings()
        assert (await client.answer(await client.ask())).body == b"ok"
        client.core.reset_stream(hangs, ErrorCodes.CANCEL)
        assert await client.answers_pings()
        assert origin.requests[0].reset == ErrorCodes.CANCEL
    assert origin.connections == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize(("when", "body"), [("request", b""), ("header", b""), ("body", HALF)])
async def test_a_stalled_connection_is_silent_to_everybody(when: str, body: bytes, tls: bool) -> None:
    """No answer to a ping, none on other streams, and no end."""
    plan = {"/stall": Stall(when), "*": Answer(delay=0.1)}  # type: ignore[arg-type]
    async with http2(plan, tls=tls) as origin, h2_client(origin, trusting_anybody("h2") if tls else None) as client:
        other, stalls = await client.ask(), await client.ask("/stall")
        assert await client.outcome() == "hang"
        assert client.streams[stalls].body == body
        assert not client.streams[other].headers
        assert not await client.answers_pings()
        await client.ask("/later")
        await asyncio.sleep(0.05)
    assert [received.target for received in origin.requests] == ["/", "/stall"]


async def test_a_stalled_connection_opens_no_window() -> None:
    """The client's body gets stuck; RFC 9113 section 5.2."""
    async with http2(Stall(early=True)) as origin, h2_client(origin) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(method="POST", body=b"x" * 200_000), SOON)
        assert client.core.outbound_flow_control_window == 0
    assert not origin.requests[0].complete


async def test_garbage_is_sent_as_it_is() -> None:
    """Bytes that are no HTTP/2, and then the end."""
    garbage = Garbage(b"\x00\x00\x01\x00 not a frame")
    async with http2(garbage) as origin, h2_client(origin) as client:
        await client.ask()
        data = await asyncio.wait_for(client.reader.read(), 2)
    assert data.endswith(garbage.data)


# --- one stream ---


@pytest.mark.parametrize("code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.HTTP_1_1_REQUIRED, 0xFA11])
@pytest.mark.parametrize(
    ("when", "status", "body"), [("request", 0, b""), ("header", 200, b""), ("body", 200, HALF), ("end", 200, HALF * 2)]
)
async def test_a_stream_is_reset_and_its_neighbours_are_not(when: str, status: int, body: bytes, code: int) -> None:
    """RFC 9113 section 6.4; an answer that is whole needs no reset, and gets none."""
    plan = {"/reset": StreamReset(code, when), "*": Answer()}  # type: ignore[arg-type]
    async with http2(plan) as origin, h2_client(origin) as client:
        reset, other = await client.ask("/reset"), await client.ask()
        seen = await client.answer(reset)
        assert (seen.status, seen.body, seen.ended) == (status, body, when == "end")
        assert when == "end" or seen.reset == code
        assert (await client.answer(other)).body == b"ok"
        assert await client.answers_pings()
    assert origin.connections == 1


async def test_a_stream_is_refused_before_its_body_is_read() -> None:
    """What the client still sends of it is no error, and takes no room from others (RFC 9113 section 5.4.2)."""
    plan = {"/refused": StreamReset(ErrorCodes.REFUSED_STREAM, early=True), "*": Answer()}
    async with http2(plan) as origin, h2_client(origin) as client:
        refused = await client.ask("/refused", method="POST", body=b"x" * 60_000, end=False)
        assert (await client.answer(refused)).reset == ErrorCodes.REFUSED_STREAM
        seen = await client.answer(await client.ask(method="POST", body=b"x" * 200_000))
        assert seen.status == 200
    assert not origin.requests[0].complete
    assert origin.violations == []


async def test_a_client_is_told_to_spare_itself_the_rest() -> None:
    """RFC 9113 section 8.1: the whole answer, then RST_STREAM with NO_ERROR, while the request is under way."""
    step = StreamReset(ErrorCodes.NO_ERROR, "end", Answer(413, body=b"too large"), early=True)
    async with http2(step) as origin, h2_client(origin) as client:
        stream = await client.ask(method="POST", end=False)
        seen = client.streams[stream]
        await client.until(lambda: seen.reset is not None)
        assert (seen.status, seen.body, seen.ended, seen.reset) == (413, b"too large", True, 0)


# --- GOAWAY ---


@contextlib.asynccontextmanager
async def told_to_go(step: GoAway) -> AsyncIterator[tuple[H2Client, Seen, Seen, Seen]]:
    """(client, earlier stream, the asking stream, later stream) after a GOAWAY; the neighbours take a moment."""
    async with http2({"/go": step, "*": Answer(delay=0.1)}) as origin, h2_client(origin) as client:
        streams = [await client.ask("/earlier"), await client.ask("/go"), await client.ask("/later")]
        await client.until(lambda: bool(client.goaways()))
        assert await client.outcome(1.0) == "fin"
        earlier, asking, later = (client.streams[stream] for stream in streams)
        yield client, earlier, asking, later


@pytest.mark.parametrize(("last", "number"), [("before", 1), ("this", 3), ("max", MAX)])
async def test_a_connection_is_closed_with_a_goaway_and_no_answers(last: str, number: int) -> None:
    """RFC 9113 section 6.8: what is above the last stream may be repeated, what is not, may have been done."""
    step = GoAway(ErrorCodes.ENHANCE_YOUR_CALM, last, data=b"too_many_pings")  # type: ignore[arg-type]
    async with told_to_go(step) as (client, earlier, asking, later):
        assert client.goaways() == [(number, ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings")]
        assert (earlier.headers, asking.headers, later.headers) == ({}, {}, {})


@pytest.mark.parametrize(
    ("last", "numbers", "answered"),
    [("before", [1], (200, 0, 0)), ("this", [3], (200, 201, 0)), ("max", [MAX, 5], (200, 201, 200))],
)
async def test_a_graceful_shutdown_finishes_what_it_admits_to(
    last: str, numbers: list[int], answered: tuple[int, ...]
) -> None:
    """And nothing else; the one that begins with 2**31-1 says at the end how far it got (RFC 9113 section 6.8)."""
    step = GoAway(last_stream=last, then="finish", answer=Answer(201, delay=0.2))  # type: ignore[arg-type]
    async with told_to_go(step) as (client, earlier, asking, later):
        assert client.goaways() == [(number, 0, b"") for number in numbers]
        assert (earlier.status, asking.status, later.status) == answered
        assert [seen.ended for seen in (earlier, asking, later)] == [status > 0 for status in answered]


async def test_a_request_after_a_goaway_is_noted_and_not_served() -> None:
    """Its client may repeat it elsewhere; it takes no step from the plan."""
    plan = [GoAway(then="finish", answer=Answer(delay=0.2)), Answer(), Answer(202)]
    async with http2(plan) as origin:
        async with h2_client(origin) as client:
            going = await client.ask("/going")
            await client.until(lambda: bool(client.goaways()))
            late = await client.ask("/late")
            assert (await client.answer(going)).ended
            assert await client.outcome() == "fin"
            assert not client.streams[late].headers
        async with h2_client(origin) as client:
            assert (await client.answer(await client.ask())).status == 200
    assert [(r.target, r.refused) for r in origin.requests] == [("/going", False), ("/late", True), ("/", False)]


async def test_a_stream_that_hangs_holds_up_a_graceful_shutdown() -> None:
    """Until its client gives up."""
    plan = {"/hangs": Break("request", "hang"), "*": GoAway(then="finish")}
    async with http2(plan) as origin, h2_client(origin) as client:
        hangs, going = await client.ask("/hangs"), await client.ask()
        assert (await client.answer(going)).ended
        assert await client.outcome() == "hang"
        client.core.reset_stream(hangs, ErrorCodes.CANCEL)
        client.flush()
        assert await client.outcome() == "fin"


async def test_stopping_resets_every_connection() -> None:
    """Also those with streams under way, stalled ones and those that are nearly closed."""
    plan = {"/slow": Answer(delay=60), "/stall": Stall(), "/fin": Break("request", "fin")}
    async with http2(plan) as origin, contextlib.AsyncExitStack() as stack:
        clients: list[H2Client] = []
        for path in plan:
            clients.append(client := await stack.enter_async_context(h2_client(origin)))
            await client.ask(path)
        await origin.wait_for(len(plan))
        await asyncio.sleep(0.05)
        async with origin.refusing():
            assert [await client.outcome() for client in clients] == ["reset", "reset", "fin"]
