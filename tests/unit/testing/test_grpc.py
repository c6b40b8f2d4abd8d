"""gRPC answers of the misbehaving origin, as a client of gRPC's own library finds them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from holdfast.testing import (
    Answer,
    Break,
    ErrorCodes,
    GoAway,
    GrpcAnswer,
    MisbehavingOrigin,
    Step,
    StreamReset,
    grpc_frame,
    grpc_messages,
)
from tests.unit.testing.h2_client import h2_client

METHOD = "/shop.Cart/Get"
BIG = bytes(range(256)) * 8192
"""2 MiB: many windows, and below the 4 MiB that a client takes by default."""


@pytest.fixture
async def origin() -> AsyncIterator[MisbehavingOrigin]:
    """Plaintext, as inside a mesh."""
    async with MisbehavingOrigin(GrpcAnswer(), protocol="h2") as running:
        yield running


@pytest.fixture
async def channel(origin: MisbehavingOrigin) -> AsyncIterator[grpc.aio.Channel]:
    """A client that does not repeat anything by itself."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{origin.port}", [("grpc.enable_retries", 0)]) as made:
        yield made


async def failure(channel: grpc.aio.Channel, **options: float) -> grpc.aio.AioRpcError:
    """What a call that has to fail fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await channel.unary_unary(METHOD)(b"", timeout=options.get("timeout", 5))
    return failed.value


async def test_a_call_is_answered_by_one_message(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """With metadata before and after it; what was asked is there to be read."""
    origin.plan = GrpcAnswer([b"\x00answer"], headers=[("x-a", "1")], trailers=[("x-b-bin", "AP8=")])
    call = channel.unary_unary(METHOD)(b"\xffquestion", metadata=[("x-k", "v")])
    assert await call == b"\x00answer"
    assert ("x-a", "1") in list(await call.initial_metadata())
    assert ("x-b-bin", b"\x00\xff") in list(await call.trailing_metadata())
    assert await call.code() is grpc.StatusCode.OK
    (received,) = origin.requests
    assert (received.method, received.target, received.protocol) == ("POST", METHOD, "HTTP/2")
    assert (received.header("content-type"), received.header("x-k")) == ("application/grpc", "v")
    assert grpc_messages(received.body) == [b"\xffquestion"]


async def test_messages_can_be_large_both_ways(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """Within the windows of HTTP/2."""
    origin.plan = GrpcAnswer([BIG])
    assert await channel.unary_unary(METHOD)(BIG) == BIG
    assert grpc_messages(origin.requests[0].body) == [BIG]


async def test_a_server_streams_messages_at_its_pace(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """Each is there when it is sent; then comes the status, also a bad one."""
    origin.plan = GrpcAnswer([b"a", b"", b"c"], pace=0.05, status=8, message="enough")
    arrived = []
    call = channel.unary_stream(METHOD)(b"")
    for _ in range(3):
        arrived.append(await call.read())
    assert arrived == [b"a", b"", b"c"]
    assert (await call.code(), await call.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


async def test_a_client_streams_messages(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """All of them are in the body."""

    async def messages() -> AsyncIterator[bytes]:
        for message in (b"a", b"", b"c"):
            yield message

    assert await channel.stream_unary(METHOD)(messages()) == b""
    assert grpc_messages(origin.requests[0].body) == [b"a", b"", b"c"]


async def test_both_stream_at_once(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """An early answer does not wait for the client to be done."""
    origin.plan = GrpcAnswer([b"1", b"2"], early=True)
    call = channel.stream_stream(METHOD)()
    assert [message async for message in call] == [b"1", b"2"]
    assert not origin.requests[0].complete


@pytest.mark.parametrize("trailers_only", [False, True])
async def test_a_failure_has_a_status_a_message_and_metadata(
    origin: MisbehavingOrigin, channel: grpc.aio.Channel, trailers_only: bool
) -> None:
    """The message is percent-encoded on the wire, whatever is in it."""
    text = "Kein Körbchen: 100% leer\nwirklich"
    origin.plan = GrpcAnswer([], 5, text, trailers=[("x-why", "moved")], trailers_only=trailers_only)
    error = await failure(channel)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, text)
    assert ("x-why", "moved") in list(error.trailing_metadata())


async def test_a_failure_can_carry_details(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """google.rpc.Status in `grpc-status-details-bin`."""
    detail = Any()
    detail.Pack(RetryInfo())
    status = Status(code=14, message="later", details=[detail])
    encoded = base64.b64encode(status.SerializeToString()).decode()
    origin.plan = GrpcAnswer((), 14, "later", trailers=[("grpc-status-details-bin", encoded)], trailers_only=True)
    call = channel.unary_unary(METHOD)(b"")
    await call.code()
    assert await rpc_status.aio.from_call(call) == status


async def test_on_the_wire_trailers_only_is_one_block_of_fields(origin: MisbehavingOrigin) -> None:
    """HEADERS with END_STREAM and nothing else, where the long form ends by a block of trailers."""
    async with h2_client(origin) as client:
        origin.plan = [GrpcAnswer([], 12, trailers_only=True), GrpcAnswer([b"m"])]
        short, long = [await client.answer(await client.ask(METHOD, method="POST")) for _ in range(2)]
    assert (short.headers["grpc-status"], short.body, short.trailers) == ("12", b"", [])
    assert short.headers["content-type"] == long.headers["content-type"] == "application/grpc"
    assert (long.body, long.trailers) == (b"\0\0\0\0\1m", [("grpc-status", "0")])


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (StreamReset(ErrorCodes.REFUSED_STREAM), "UNAVAILABLE"),
        (StreamReset(ErrorCodes.CANCEL), "CANCELLED"),
        (StreamReset(ErrorCodes.ENHANCE_YOUR_CALM), "RESOURCE_EXHAUSTED"),
        (StreamReset(ErrorCodes.INTERNAL_ERROR, "body", GrpcAnswer([b"x" * 9])), "INTERNAL"),
        (Break("request", "reset"), "UNAVAILABLE"),
        (Break("body", "fin", GrpcAnswer([b"x" * 9])), "UNAVAILABLE"),
        (GoAway(last_stream="before"), "UNAVAILABLE"),
        (Answer(503), "UNAVAILABLE"),
        (Answer(404), "UNIMPLEMENTED"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_failures_below_grpc_become_its_codes(
    origin: MisbehavingOrigin, channel: grpc.aio.Channel, step: Step, code: str
) -> None:
    """The tables of "gRPC over HTTP2" and "HTTP to gRPC Status Code Mapping", by a client that follows them."""
    origin.plan = step
    assert (await failure(channel)).code() is grpc.StatusCode[code]


async def test_a_call_that_hangs_is_taken_back_at_its_deadline(
    origin: MisbehavingOrigin, channel: grpc.aio.Channel
) -> None:
    """The origin sees `grpc-timeout`, and then RST_STREAM with CANCEL; the connection serves on."""
    origin.plan = [Break("request", "hang"), GrpcAnswer([b"well"])]
    assert (await failure(channel, timeout=0.2)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await channel.unary_unary(METHOD)(b"") == b"well"
    assert origin.requests[0].header("grpc-timeout")
    assert origin.requests[0].reset == ErrorCodes.CANCEL
    assert origin.connections == 1


async def test_a_graceful_shutdown_goes_unnoticed(origin: MisbehavingOrigin, channel: grpc.aio.Channel) -> None:
    """The call is answered, and the next one comes on another connection."""
    origin.plan = [GoAway(last_stream="max", then="finish", answer=GrpcAnswer([b"1"])), GrpcAnswer([b"2"])]
    assert [await channel.unary_unary(METHOD)(b"") for _ in range(2)] == [b"1", b"2"]
    assert origin.connections == 2


# --- the framing ---


@given(st.lists(st.binary(max_size=300)))
def test_messages_are_read_as_they_were_framed(messages: list[bytes]) -> None:
    """Any number of them, empty ones too."""
    assert grpc_messages(b"".join(map(grpc_frame, messages))) == messages


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"\0\0\0\0", "ends within the prefix of message 1"),
        (grpc_frame(b"a") + b"\0", "ends within the prefix of message 2"),
        (grpc_frame(b"a") + grpc_frame(b"abc")[:-1], "message 2 has 2 of its 3 bytes"),
        (b"\1\0\0\0\0", "message 1 is compressed"),
        (b"not gRPC at all", "message 1 is compressed .its flag is 110"),
    ],
)
def test_a_broken_body_is_not_taken_for_messages(body: bytes, fault: str) -> None:
    """Which message it is, and what is wrong with it."""
    with pytest.raises(ValueError, match=fault):
        grpc_messages(body)
