"""Replays of what is no plain HTTP/1.1 request with a plain answer: gRPC calls, and answers that have no end."""

from __future__ import annotations

from pathlib import Path

import grpc
import httpx
import pytest

from holdfast.testing import Answer, MisbehavingOrigin
from holdfast.testing.received import Received
from tests.e2e.harness import Gateway, profile, until
from tests.services.process import free_port

QUICK = {"audit": "audit.db", "attempts": 3, "schedule": {"delays": ["50ms"]}, "slow_start": "100ms"}


class Service(grpc.GenericRpcHandler):
    """One method, which notes what it was called with."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def unary(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            self.calls.append(request)
            if request == b"refused":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            return b"done"

        return grpc.unary_unary_rpc_method_handler(unary)


async def test_a_grpc_call_is_captured_and_replayed_as_one(tmp_path: Path) -> None:
    """Over HTTP/2, byte for byte; its status decides, not the 200 that carries it."""
    port = free_port()
    made = profile("", upstream__servers=[f"h2c://127.0.0.1:{port}"], upstream__retry={"attempts": 1})
    made["addons"].insert(3, {"replayer": QUICK})
    async with Gateway(tmp_path, made=made) as gateway:
        options = [("grpc.enable_retries", 0)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as to:
            for number, message in enumerate((b"\x00\xffhello", b"refused")):
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await to.unary_unary(f"/t.T/Call{number}")(message)
                assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(await gateway.captures()) == 2
        service, server = Service(), grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        try:

            async def states() -> bool:
                return {each["state"] for each in await gateway.captures()} == {"delivered", "dead"}

            await until(states, within=20, every=0.5, what="both to be settled")
        finally:
            await server.stop(None)
    assert sorted(service.calls) == sorted((b"\x00\xffhello", b"refused"))


async def test_an_answer_without_an_end_does_not_keep_a_place_for_ever(tmp_path: Path) -> None:
    """A stream of events, one every tenth of a second: the other captures are delivered all the same."""

    def answer(received: Received) -> Answer:
        if received.target == "/endless":
            kind = [("Content-Type", "text/event-stream")]
            return Answer(headers=kind, body=b"data: x\n\n" * 2000, chunked=True, pieces=2000, pace=0.1)
        return Answer()

    port = free_port()
    made = profile(f"http://127.0.0.1:{port}", upstream__retry={"attempts": 1}, upstream__deadline="500ms")
    made["addons"].insert(3, {"replayer": QUICK | {"concurrency": 1}})
    async with Gateway(tmp_path, made=made) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        for path in ("/endless", "/other"):
            assert (await client.post(path)).headers["holdfast-capture-id"]
        async with MisbehavingOrigin(answer, port=port) as origin:
            await until(
                lambda: any(each.target == "/other" for each in origin.requests), within=20, what="the other to come"
            )
            other = next(each for each in origin.requests if each.target == "/other")
    assert other.header("content-length") == "0", "a POST without a body says so"
