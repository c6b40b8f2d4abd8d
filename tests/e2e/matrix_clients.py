"""The clients of the failure matrix: one connection each, and each says in the same words what came back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from h2.exceptions import ProtocolError

from tests.e2e import raw
from tests.e2e.harness import PROBLEM
from tests.unit.testing.h2_client import H2Client, trusting_anybody

ENOUGH = 15.0


@dataclass
class Got:
    """What a client was told. `status` is HTTP's; of a call it is what stands for its outcome."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True

    @property
    def told(self) -> str:
        """The word of the matrix for it; AssertionError where the answer is none that the gateway may give."""
        if not self.whole:
            assert self.status == 200, self
            return "broken off"
        if not {"holdfast-capture", "holdfast-capture-id"} & self.headers.keys():
            assert "error=" not in self.headers.get("proxy-status", ""), self
            return "passed on"
        assert self.status == 503, self
        assert self.headers["proxy-status"].startswith("holdfast; ")
        assert int(self.headers["retry-after"]) >= 1
        if "holdfast-capture-id" in self.headers:
            assert "holdfast-capture" not in self.headers
            return "captured"
        assert self.headers["holdfast-capture"] == "failed; reason=too_large"
        return "not stored"


class Client(Protocol):
    """One connection to the gateway, until it is closed."""

    async def ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Got:
        """One request, and its outcome."""

    def close(self) -> None:
        """Leave."""


class OverHttp1:
    """HTTP/1.1."""

    def __init__(self, connection: raw.RawClient) -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, port: int) -> OverHttp1:
        """To the gateway's port."""
        return cls(await raw.RawClient(port).__aenter__())

    async def ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Got:
        """A problem document has to say the same as the header."""
        length = len(body) if method != "GET" else None
        await self._connection.send(raw.head(method, target, list(headers.items()), length) + body)
        async with asyncio.timeout(ENOUGH):
            answer = await self._connection.answer_head()
            got = Got(answer.status, {name.lower(): value for name, value in answer.headers})
            try:
                got.body = answer.body = await _body(self._connection.reader, got.headers)
            except (EOFError, ConnectionError):
                got.whole = False
                self._connection = await raw.RawClient(self._connection.port).__aenter__()
        if "holdfast-capture-id" in got.headers:
            assert answer.header("content-type") == PROBLEM
            assert answer.capture_id
        return got

    def close(self) -> None:
        self._connection.leave()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


class OverHttp2:
    """HTTP/2, with prior knowledge or over TLS."""

    def __init__(self, talk: H2Client) -> None:
        self._talk = talk

    @classmethod
    async def connect(cls, port: int, *, tls: bool) -> OverHttp2:
        """To the gateway's port."""
        context = trusting_anybody("h2") if tls else None
        return cls(H2Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context)))

    async def ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Got:
        """What is not yet uploaded when the answer comes stays where it is."""
        fields = [(name.lower(), value) for name, value in headers.items()]
        stream = await self._talk.ask(target, method=method, headers=fields, end=method == "GET")
        with contextlib.suppress(ProtocolError):
            if method != "GET":
                await self._talk.upload(stream, body)
        seen = await self._talk.answer(stream, within=ENOUGH)
        assert not self._talk.ended, f"the connection ended: {self._talk.ended}"
        return Got(seen.status, seen.headers, seen.body, whole=seen.ended)

    def close(self) -> None:
        self._talk.writer.transport.abort()


class OverGrpc:
    """grpcio. A POST of two pieces is a client's stream; a GET stands for a call that is answered by a stream."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)])

    async def ask(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Got:
        """The outcome of a call as if it were HTTP."""
        metadata = [(name.lower(), value) for name, value in headers.items()]
        pieces = body.split(b"|")
        if method == "GET":
            call = self._channel.unary_stream(target)(body, metadata=metadata, timeout=ENOUGH)
        elif len(pieces) > 1:
            call = self._channel.stream_stream(target)(_slowly(pieces), metadata=metadata, timeout=ENOUGH)
        else:
            call = self._channel.unary_stream(target)(body, metadata=metadata, timeout=ENOUGH)
        messages = []
        try:
            messages = [message async for message in call]
        except grpc.aio.AioRpcError as error:
            return _failed(error)
        return Got(200, body=b"".join(messages))

    def close(self) -> None:
        """The channel goes with its loop."""


async def _slowly(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.05)  # longer than a call is held at a message's end


def _failed(error: grpc.aio.AioRpcError) -> Got:
    """What the gateway says about its failure in a header and in the status' details has to be the same."""
    both = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    headers = {name: value for name, value in both if isinstance(value, str)}
    rich, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    if rich is None or not rich.details or not rich.details[0].Unpack(info):
        return Got(200, headers)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert info.domain == "holdfast"
    assert info.metadata.get("capture_id") == headers.get("holdfast-capture-id")
    assert info.reason == ("CAPTURED" if "holdfast-capture-id" in headers else "UPSTREAM_FAILED")
    whole = bool(
        {"holdfast-capture", "holdfast-capture-id"} & headers.keys()
    )  # else it is the end of a call whose first message was there
    return Got(503 if whole else 200, headers, whole=whole)
