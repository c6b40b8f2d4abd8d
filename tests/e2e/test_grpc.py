"""gRPC through the gateway, with grpcio on both sides: unary calls are as safe as any request, streams are not touched.

The client dials the gateway without TLS, as one does in development: HTTP/2 with prior knowledge on both legs.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from holdfast.testing import (
    Answer,
    Break,
    ErrorCodes,
    GoAway,
    GrpcAnswer,
    MisbehavingOrigin,
    Received,
    Stall,
    StreamReset,
    grpc_frame,
)
from tests.e2e.harness import Gateway, profile, until
from tests.services.process import free_port

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Backend(grpc.GenericRpcHandler):
    """A service of four methods over plain bytes, which notes what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []
        self.failing = False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """By the last part of the path."""
        made = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
        }
        return made.get(details.method.rpartition("/")[2])

    async def unary(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Echoes; `fail` is answered with the status the backend gives for what it cannot find."""
        self.calls.append(("Unary", request))
        await context.send_initial_metadata((("seen", "yes"),))
        if request == b"fail":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 50% é")
        if self.failing:
            await context.abort(UNAVAILABLE, "warming up")
        context.set_trailing_metadata((("cost", "7"),))
        return b"echo " + request

    async def down(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        """Three messages, 100 ms apart."""
        self.calls.append(("Down", request))
        for number in range(3):
            yield b"%s %d" % (request, number)
            await asyncio.sleep(0.1)

    async def up(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """How many messages came, and the first of them."""
        received = [message async for message in requests]
        self.calls.append(("Up", b",".join(received)))
        return b"%d" % len(received)

    async def both(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        """Each message back at once."""
        self.calls.append(("Both", b""))
        async for message in requests:
            yield b"re: " + message


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[Backend, int, grpc.aio.Server]]:
    """A grpcio server on loopback."""
    backend, server = Backend(), grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((backend,))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield backend, bound, server
    finally:
        await server.stop(None)


@pytest.fixture
async def backend() -> AsyncIterator[tuple[Backend, int, grpc.aio.Server]]:
    """One server."""
    async with serving() as made:
        yield made


def channel(gateway: Gateway) -> grpc.aio.Channel:
    """A client that does not repeat a call by itself."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=[("grpc.enable_retries", 0)])


def made_for(*ports: int, **changes: Any) -> dict[str, Any]:
    """A profile with these servers, HTTP/2 without TLS."""
    return profile("", upstream__servers=[f"h2c://127.0.0.1:{port}" for port in ports], **changes)


def details(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """What the gateway says about its failure, read by the library that clients use."""
    rich = rpc_status.from_call(error)
    assert rich
    info = error_details_pb2.ErrorInfo()
    assert rich.details[0].Unpack(info)
    return info


async def failed(call: Any) -> grpc.aio.AioRpcError:
    """The error that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def metadata(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """Of a Trailers-Only answer grpcio shows them as trailing, or as initial, by its version."""
    both = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    return {key: value for key, value in both if isinstance(value, str)}


async def test_all_four_kinds_of_call_pass(tmp_path: Path, backend: tuple[Backend, int, grpc.aio.Server]) -> None:
    """Messages, metadata, trailers and the backend's own errors arrive as they were sent."""
    _, port, _ = backend
    async with Gateway(tmp_path, made=made_for(port)) as gateway, channel(gateway) as to:
        call = to.unary_unary("/t.T/Unary")(b"hello", metadata=(("who", "me"),))
        assert await call == b"echo hello"
        assert ("seen", "yes") in list(await call.initial_metadata())
        assert ("cost", "7") in list(await call.trailing_metadata())
        assert [m async for m in to.unary_stream("/t.T/Down")(b"x")] == [b"x 0", b"x 1", b"x 2"]

        async def three() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number
                await asyncio.sleep(0.05)

        assert await to.stream_unary("/t.T/Up")(three()) == b"3"
        assert [m async for m in to.stream_stream("/t.T/Both")(three())] == [b"re: 0", b"re: 1", b"re: 2"]
        error = await failed(to.unary_unary("/t.T/Unary")(b"fail"))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing: 50% é")
        missing = await failed(to.unary_unary("/t.T/None")(b""))
        assert missing.code() is grpc.StatusCode.UNIMPLEMENTED
        large = bytes(range(256)) * 8192  # 2 MiB
        assert await to.unary_unary("/t.T/Unary")(large) == b"echo " + large
        assert await to.unary_unary("/t.T/Unary")(b"") == b"echo "
        assert not await gateway.captures()


async def test_messages_of_a_stream_are_passed_on_at_once(
    tmp_path: Path, backend: tuple[Backend, int, grpc.aio.Server]
) -> None:
    """Ping-pong on one call: each answer is back long before the next message is sent."""
    _, port, _ = backend
    async with Gateway(tmp_path, made=made_for(port)) as gateway, channel(gateway) as to:
        call = to.stream_stream("/t.T/Both")()
        took = []
        for number in range(100):
            began = time.monotonic()
            await call.write(b"%d" % number)
            assert await call.read() == b"re: %d" % number
            took.append(time.monotonic() - began)
        await asyncio.sleep(0.7)  # longer than every time limit of the profile but the deadline
        await call.write(b"after a pause")
        assert await call.read() == b"re: after a pause"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        # Not a measurement: an answer that waited for a buffer or a timer would be there after hundreds of ms at best.
        assert sorted(took)[50] < 0.25


async def test_a_client_may_wait_for_the_servers_first_message(
    tmp_path: Path, backend: tuple[Backend, int, grpc.aio.Server]
) -> None:
    """A call that has sent nothing yet has reached the server all the same."""
    served, port, _ = backend
    async with Gateway(tmp_path, made=made_for(port)) as gateway, channel(gateway) as to:
        call = to.stream_stream("/t.T/Both")()
        await call.wait_for_connection()
        await until(lambda: served.calls == [("Both", b"")], what="the call to arrive")
        call.cancel()


async def test_a_unary_call_is_tried_on_another_server(tmp_path: Path) -> None:
    """One server is gone: nobody notices, and the servers' order does not matter."""
    async with serving() as (backend, port, _):
        made = made_for(free_port(), port)
        async with Gateway(tmp_path, made=made) as gateway, channel(gateway) as to:
            for number in range(6):
                assert await to.unary_unary("/t.T/Unary")(b"%d" % number) == b"echo %d" % number
            assert [call[1] for call in backend.calls] == [b"%d" % number for number in range(6)]
            figures = await gateway.metrics()
            fates = {k: v for k, v in figures.items() if k[0] == "holdfast_requests_total"}
            assert sum(v for k, v in fates.items() if "fate=retried" in k) == 3


async def test_a_call_that_the_server_did_not_take_goes_to_another(tmp_path: Path) -> None:
    """REFUSED_STREAM, and a GOAWAY below the call's stream: it was not processed, RFC 9113 section 8.7."""
    steps = [StreamReset(ErrorCodes.REFUSED_STREAM), GoAway(last_stream="before", then="finish")]
    async with (
        MisbehavingOrigin([*steps, GrpcAnswer([b"well"])], protocol="h2") as first,
        serving() as (backend, port, _),
    ):
        made = made_for(first.port, port)
        async with Gateway(tmp_path, made=made) as gateway, channel(gateway) as to:
            for _ in range(4):
                assert await to.unary_unary("/t.T/Unary")(b"x") == b"echo x"
            assert len(backend.calls) == 4
            assert len(first.requests) == 2
            assert not await gateway.captures()


async def test_a_failed_unary_call_is_unavailable_captured_and_can_be_replayed(tmp_path: Path) -> None:
    """Promise 1 for calls: the client is told the id; what is stored is the call, byte for byte."""
    port = free_port()
    async with Gateway(tmp_path, made=made_for(port)) as gateway, channel(gateway) as to:
        error = await failed(to.unary_unary("/t.T/Unary")(b"\x00keep me", metadata=(("who", "me"),)))
        assert error.code() is UNAVAILABLE
        info = details(error)
        assert (info.reason, info.domain) == ("CAPTURED", "holdfast")
        capture_id = info.metadata["capture_id"]
        assert metadata(error)["holdfast-capture-id"] == capture_id
        assert "error=connection_refused" in metadata(error)["proxy-status"]
        assert metadata(error)["retry-after"]
        envelope = (await gateway.exported())[capture_id]
        assert (envelope["method"], envelope["path"], envelope["error"]) == ("POST", "/t.T/Unary", "connection_refused")
        assert base64.b64decode(envelope["body"]) == grpc_frame(b"\x00keep me")
        assert envelope["headers"]["who"] == "me"
        async with serving(port) as (backend, _, _):
            assert await to.unary_unary("/t.T/Unary")(b"recovered") == b"echo recovered"
            status, answer = await replayed(envelope, port)
            assert (status, answer) == ("0", grpc_frame(b"echo \x00keep me"))
            assert backend.calls[-1] == ("Unary", b"\x00keep me")


async def replayed(envelope: dict[str, Any], port: int) -> tuple[str, bytes]:
    """Make the call again from what was stored, with an HTTP/2 library: (grpc-status, body)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    wire.initiate_connection()
    own = {name: value for name, value in envelope["headers"].items() if name not in ("host", "content-length")}
    pseudo = {":method": envelope["method"], ":scheme": "http", ":authority": "replay", ":path": envelope["uri"]}
    wire.send_headers(1, [*pseudo.items(), *own.items()])
    wire.send_data(1, base64.b64decode(envelope["body"]), end_stream=True)
    body, status = b"", ""
    try:
        async with asyncio.timeout(10):
            while not status:
                writer.write(wire.data_to_send())
                for event in wire.receive_data(await reader.read(65536)):
                    if isinstance(event, h2.events.DataReceived):
                        body += event.data
                    elif isinstance(event, h2.events.TrailersReceived):
                        status = dict(event.headers)["grpc-status"]
    finally:
        writer.close()
    return status, body


async def test_a_server_that_says_unavailable_is_a_failed_server(tmp_path: Path) -> None:
    """Its call is captured like one that got a 503; with the profile's leave it is made again elsewhere."""
    unavailable = GrpcAnswer(status=14, message="warming up", trailers_only=True)
    async with MisbehavingOrigin(unavailable, protocol="h2") as origin, serving() as (_, port, _):
        async with Gateway(tmp_path / "one", made=made_for(origin.port)) as gateway, channel(gateway) as to:
            error = await failed(to.unary_unary("/t.T/Unary")(b"x"))
            assert (error.code(), details(error).reason) == (UNAVAILABLE, "CAPTURED")
            (listed,) = await gateway.captures()
            assert listed["error"] == "grpc_unavailable"
        made = made_for(origin.port, port, upstream__retry__methods=["POST"])
        async with Gateway(tmp_path / "two", made=made) as gateway, channel(gateway) as to:
            for _ in range(4):
                assert await to.unary_unary("/t.T/Unary")(b"x") == b"echo x"
        made = made_for(origin.port)
        made["addons"] = ["metrics"]
        async with Gateway(tmp_path / "three", made=made) as gateway, channel(gateway) as to:
            plain = await failed(to.unary_unary("/t.T/Unary")(b"x"))
            assert (plain.code(), plain.details()) == (UNAVAILABLE, "warming up")


@pytest.mark.parametrize(
    ("step", "token"),
    [
        (Break("request", "reset"), "connection_terminated"),
        (Break("request", "hang"), "http_response_timeout"),
        (Break("header", "reset", GrpcAnswer([b"never"])), "http_response_incomplete"),
        (Break("body", "reset", GrpcAnswer([b"x" * 1000])), "http_response_incomplete"),
        (StreamReset(ErrorCodes.INTERNAL_ERROR), "connection_terminated"),
        (Answer(503, body=b"busy"), "http_503"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_call_that_may_have_arrived_is_sent_once_and_captured(tmp_path: Path, step: Any, token: str) -> None:
    """gRPC calls are POST: promise 3. The next call on the same channel succeeds."""
    async with (
        MisbehavingOrigin([step, GrpcAnswer([b"well"])], protocol="h2") as origin,
        Gateway(tmp_path, made=made_for(origin.port)) as gateway,
        channel(gateway) as to,
    ):
        error = await failed(to.unary_unary("/t.T/Unary")(b"x"))
        assert (error.code(), details(error).reason) == (UNAVAILABLE, "CAPTURED")
        assert len(origin.requests) == 1
        (listed,) = await gateway.captures()
        assert listed["error"] == token
        assert await to.unary_unary("/t.T/Unary")(b"y") == b"well"


async def test_a_stream_that_breaks_ends_with_a_status_and_is_not_captured(tmp_path: Path) -> None:
    """What the client has read of it stays read; nothing is ever captured half."""
    broken = Break("body", "reset", GrpcAnswer([b"one" * 400, b"two" * 400]))
    async with (
        MisbehavingOrigin(broken, protocol="h2") as origin,
        Gateway(tmp_path, made=made_for(origin.port)) as gateway,
        channel(gateway) as to,
    ):
        down = to.unary_stream("/t.T/Down")(b"x")
        assert await down.read() == b"one" * 400
        error = await failed(down.read())
        assert (error.code(), details(error).reason) == (UNAVAILABLE, "UPSTREAM_FAILED")
        both = to.stream_stream("/t.T/Both")()
        await both.write(b"first")
        await both.done_writing()
        assert await both.read() == b"one" * 400
        assert (await failed(both.read())).code() is UNAVAILABLE
        assert not await gateway.captures()


async def test_a_server_that_shuts_down_gracefully_loses_no_call(tmp_path: Path) -> None:
    """grpcio sends GOAWAY and finishes what it has begun: calls under way end well, new ones go to the other server."""
    async with serving() as (slow, first, server), serving() as (other, second, _):
        made = made_for(first, second, upstream__response_timeout="2s")
        async with Gateway(tmp_path, made=made) as gateway, channel(gateway) as to:
            streams = [to.unary_stream("/t.T/Down")(b"s%d" % n) for n in range(6)]
            begun = [await stream.read() for stream in streams]
            assert len(begun) == 6
            stopping = asyncio.create_task(server.stop(5))
            # What reaches grpcio's server between its decision to stop and its GOAWAY it answers with CANCELLED itself.
            await asyncio.sleep(0.2)
            answers = [await to.unary_unary("/t.T/Unary")(b"%d" % n) for n in range(20)]
            assert answers == [b"echo %d" % n for n in range(20)]
            for number, stream in enumerate(streams):
                rest = [await stream.read() for _ in range(3)]
                assert rest == [b"s%d 1" % number, b"s%d 2" % number, grpc.aio.EOF]
            await stopping
            assert slow.calls
            assert other.calls
            assert not await gateway.captures()


async def test_a_frozen_server_costs_each_call_one_timeout_and_new_ones_get_a_new_connection(tmp_path: Path) -> None:
    """A connection that says nothing for a whole response_timeout is not asked again."""
    async with (
        MisbehavingOrigin([Stall(), GrpcAnswer([b"well"])], protocol="h2") as origin,
        Gateway(tmp_path, made=made_for(origin.port)) as gateway,
        channel(gateway) as to,
    ):
        error = await failed(to.unary_unary("/t.T/Unary")(b"x"))
        assert error.code() is UNAVAILABLE
        assert await to.unary_unary("/t.T/Unary")(b"y") == b"well"
        assert origin.connections == 2


async def test_a_call_is_cancelled_upstream_when_the_client_gives_up(tmp_path: Path) -> None:
    """The client's deadline passes: the server is told, and the connection is kept."""
    async with MisbehavingOrigin([GrpcAnswer(delay=30), GrpcAnswer([b"well"])], protocol="h2") as origin:
        made = made_for(origin.port, upstream__response_timeout="20s", upstream__deadline="30s")
        async with Gateway(tmp_path, made=made) as gateway, channel(gateway) as to:
            error = await failed(to.unary_unary("/t.T/Unary")(b"x", timeout=0.3))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await to.unary_unary("/t.T/Unary")(b"y") == b"well"
            assert origin.connections == 1
            assert not await gateway.captures()


async def test_many_calls_at_once_share_one_connection_upstream(tmp_path: Path) -> None:
    """Multiplexed on both legs; each call gets its own answer."""

    def name(received: Received) -> GrpcAnswer:
        return GrpcAnswer([received.target.encode()], delay=0.05)

    async with (
        MisbehavingOrigin(name, protocol="h2") as origin,
        Gateway(tmp_path, made=made_for(origin.port, upstream__response_timeout="10s")) as gateway,
        channel(gateway) as to,
    ):
        for _ in range(2):
            answers = await asyncio.gather(*(to.unary_unary(f"/t.T/{n}")(b"x") for n in range(300)))
            assert answers == [b"/t.T/%d" % n for n in range(300)]
        assert (len(origin.requests), origin.connections) == (600, 1)
