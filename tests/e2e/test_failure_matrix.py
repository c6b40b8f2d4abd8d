"""The failure matrix: every cell of `tests/e2e/matrix.py` happens, on one kept client connection for each protocol.

After each failure the upstream is healthy again, and the same client connection is served, without a restart of
anything. What else a kept connection sees of an HTTP/1.1 upstream is in `test_upstream_connections.py`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Certificate, GrpcAnswer, MisbehavingOrigin, Protocol, Received
from tests.e2e import matrix, raw
from tests.e2e.harness import ROOT, Gateway, addon, profile, until
from tests.e2e.matrix import Cell, Row
from tests.e2e.matrix_clients import Client, Got, OverGrpc, OverHttp1, OverHttp2

type Speaks = Literal["http/1.1", "h2", "h2c", "grpc"]

SHORT, LONG = "250ms", "20s"
LIMITS = {
    "connection_timeout": "connect_timeout",
    "http_response_timeout": "response_timeout",
    "connection_read_timeout": "read_timeout",
}
"""The limit that rings for a token. It is short on a route of its own, and long where another failure is meant."""
BODY = b"\x00\xff one body, byte for byte \r\n\r\n"
LARGE_BODY = bytes(range(256)) * (matrix.LARGE // 256)
TWO_MESSAGES = b"one|two"
KEY = {"Idempotency-Key": "k-1"}
REQUESTS = {
    "GET": ("GET", {}, b""),
    "POST": ("POST", {}, BODY),
    "POST with `Idempotency-Key`": ("POST", KEY, BODY),
    "POST, streamed": ("POST", {}, LARGE_BODY),
    "PUT, streamed": ("PUT", {}, LARGE_BODY),
    "unary call": ("POST", {}, BODY),
    "unary call with `idempotency-key`": ("POST", KEY, BODY),
    "client stream": ("POST", {}, TWO_MESSAGES),
    "the client is reading": ("GET", {}, b""),
}


@dataclass(frozen=True)
class Kind:
    """One set-up: what the client speaks, what the upstream, and what is made to happen there."""

    name: str
    client: Speaks
    upstream: Protocol
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    tls: bool = False
    spool: bool = False
    """Whether streamed bodies are kept on disk: then they are captured as well."""

    @property
    def cells(self) -> list[tuple[Row, str, Cell]]:
        """Row by row."""
        chosen = [row for row in self.rows if row.tls is None or row.tls is self.tls]
        return [(row, column, cell) for row in chosen for column, cell in zip(self.columns, row.cells, strict=True)]


KINDS = [
    Kind("HTTP/1.1", "http/1.1", "http/1.1", matrix.HTTP1, matrix.REQUESTS),
    Kind("HTTP/1.1 over TLS", "http/1.1", "http/1.1", matrix.HTTP1, matrix.REQUESTS, tls=True, spool=True),
    Kind("HTTP/2 client, HTTP/1.1 upstream", "h2", "http/1.1", matrix.HTTP1, matrix.REQUESTS),
    Kind("HTTP/1.1 client, h2c upstream", "http/1.1", "h2", matrix.HTTP2, matrix.REQUESTS),
    Kind("HTTP/2 over TLS", "h2", "h2", matrix.HTTP2, matrix.REQUESTS, tls=True, spool=True),
    Kind("gRPC", "grpc", "h2", matrix.GRPC, matrix.CALLS),
    Kind("streamed over HTTP/1.1", "http/1.1", "http/1.1", matrix.STREAMED, matrix.READING),
    Kind("streamed over h2c", "h2c", "h2", (*matrix.STREAMED, *matrix.STREAMED_HTTP2), matrix.READING),
    Kind("streamed to HTTP/2 from HTTP/1.1", "h2", "http/1.1", matrix.STREAMED, matrix.READING),
    Kind("streamed to HTTP/1.1 from h2c", "http/1.1", "h2", (*matrix.STREAMED, *matrix.STREAMED_HTTP2), matrix.READING),
    Kind("streamed over gRPC", "grpc", "h2", matrix.STREAMED_GRPC, matrix.READING),
]


@dataclass(frozen=True)
class Outcome:
    """What is known of one request when it is over: by the client, by the log, and by the origin."""

    attempts: int
    token: str
    told: str
    why: str
    seen: int

    def __str__(self) -> str:
        why, token = self.why and f" ({self.why})", self.token and f" `{self.token}`"
        return f"{self.told} after {self.attempts}{why}{token}, seen {self.seen} times"

    @classmethod
    def expected(cls, kind: Kind, row: Row, column: str, cell: Cell) -> Outcome:
        """What the matrix says."""
        told = "captured" if cell.told == "not stored" and kind.spool else cell.told
        return cls(cell.attempts, row.token, told, cell.why, cell.attempts if row.seen else 0)


class Bench:
    """A gateway with one client connection, before an origin that breaks."""

    client: Client

    def __init__(self, gateway: Gateway, origin: MisbehavingOrigin, kind: Kind) -> None:
        self.gateway = gateway
        self.origin = origin
        self.kind = kind
        # Over HTTP/1.1 the next failure begins on a new connection.
        self.well = GrpcAnswer([b"well"]) if kind.client == "grpc" else Answer(body=b"well", hang_up=not self._http2)
        self._asked = self._read = 0

    @property
    def _http2(self) -> bool:
        return self.kind.upstream == "h2"

    async def connect(self) -> None:
        """A new client connection."""
        if self.kind.client == "http/1.1":
            self.client = await OverHttp1.connect(self.gateway.port)
        elif self.kind.client == "grpc":
            self.client = OverGrpc(self.gateway.port)
        else:
            self.client = await OverHttp2.connect(self.gateway.port, tls=self.kind.client == "h2")

    async def check(self, row: Row, column: str, cell: Cell) -> None:
        """The failure, what everybody knows of it, and the recovery."""
        got, seen, line = await self.happen(row, column)
        status = dict(part.strip().partition("=")[::2] for part in got.headers.get("proxy-status", "").split(";"))
        why = line.get("not_retried", "")
        failed = line["fate"] in ("captured", "failed")
        observed = Outcome(line["attempts"], line.get("reason", "") if failed else "", got.told, why, len(seen))
        expected = Outcome.expected(self.kind, row, column, cell)
        if observed != expected:
            raise AssertionError(f"\n  expected {expected}\n  observed {observed}\n  {got}")
        if got.told in ("captured", "not stored"):
            assert status["holdfast-not-retried"] == why
            code = row.token.removeprefix("http_")
            assert (status.get("received-status") or status["error"]) in (code, row.token, "200")
        if got.told == "captured":
            await self.check_envelope(row, column, got, line)
        # A client of HTTP/1.1 whose answer broke off comes again on a new connection, and has new ones upstream.
        known = self._http2 and row.kept is not None and (got.whole or self.kind.client != "http/1.1")
        await self.check_recovery(seen[-1].connection if known else 0, row.kept)

    async def happen(self, row: Row, column: str) -> tuple[Got, list[Received], dict[str, Any]]:
        """One request while the upstream fails this way: what the client got, the origin saw and the log says."""
        method, headers, body = REQUESTS[column]
        if row.fresh and self._http2:
            async with self.origin.refusing():
                pass  # drops the connections that there are
            await self.noticed()
        self.origin.forget()
        self.origin.plan = row.plan
        door: AbstractAsyncContextManager[None] = (
            getattr(self.origin, row.door)() if row.door else contextlib.nullcontext()
        )
        async with door:
            if row.door and self._http2:
                await self.noticed()
            target = f"/{row.token}/x" if row.token in LIMITS else "/other/x"
            got, line = await self.ask(method, target, headers, body)
        return got, list(self.origin.requests), line

    async def noticed(self) -> None:
        """The gateway knows which of its connections have ended: it has gone round its event loop since they did."""
        for _ in range(3):
            await self.gateway.admin("/healthz")

    async def check_envelope(self, row: Row, column: str, got: Got, line: dict[str, Any]) -> None:
        """What was stored."""
        method, _, body = REQUESTS[column]
        envelope = (await self.gateway.admin(f"/captures/{got.headers['holdfast-capture-id']}")).json()["request"]
        assert (envelope["method"], envelope["error"]) == (method, row.token)
        assert [attempt["error"] for attempt in envelope["attempts"]] == [row.token] * line["attempts"]
        stored = raw.body_of(envelope)
        assert (stored[5:] if self.kind.client == "grpc" else stored) == body

    async def check_recovery(self, connection: int, kept: bool | None) -> None:
        """The client's connection is served, and the upstream's is used again if it is still good for that."""
        self.origin.plan = self.well
        got, _ = await self.ask("GET", "/well/x", {})
        assert (got.told, got.body) == ("passed on", b"well")
        if connection:
            again = self.origin.requests[-1].connection == connection
            assert again is kept, f"connection used again: {again}"

    async def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[Got, dict[str, Any]]:
        """One request: what the client got, and the line of the access log."""
        self._asked += 1
        identifier = f"request-{self._asked}"
        got = await self.client.ask(method, target, {**headers, "X-Request-ID": identifier}, body)
        return got, await until(lambda: self._logged(identifier), within=10, every=0.005, what="the log line")

    def _logged(self, identifier: str) -> dict[str, Any] | None:
        with self.gateway.log_file.open("rb") as file:
            file.seek(self._read)
            for text in file:
                if not text.endswith(b"\n"):
                    return None
                self._read += len(text)
                line = json.loads(text) if text.startswith(b"{") else {}
                if (line.get("message"), line.get("request_id")) == ("request", identifier):
                    return dict(line)
        return None


def profile_of(kind: Kind, url: str, ca_file: str | None) -> dict[str, Any]:
    """Long limits, but for those that are meant to ring; small bodies are held."""
    long = {f"upstream__{limit}": LONG for limit in (*LIMITS.values(), "deadline")}
    made = profile(url, upstream__ca_file=ca_file, limits={"buffer_body": matrix.BUFFER}, **long)
    made["upstream"]["retry"]["backoff"] = {"base": "5ms", "max": "10ms"}
    made["upstream"]["routes"] = {token: {limit: SHORT} for token, limit in LIMITS.items()}
    made["log"] = {"format": "json"}
    routes = [{"name": token, "pattern": f"^/{token}/"} for token in LIMITS]
    return addon(
        addon(made, "router", routes=routes), "failure_sink", spool={"max_body": "1MiB"} if kind.spool else None
    )


@pytest_asyncio.fixture(params=KINDS, ids=lambda kind: kind.name, scope="module", loop_scope="module")
async def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> AsyncIterator[Bench]:
    """One gateway and one client connection for all that follows."""
    kind, folder = request.param, tmp_path_factory.mktemp("matrix")
    tls = certificate if kind.tls else None
    async with MisbehavingOrigin(tls=tls, protocol=kind.upstream) as origin:
        url = origin.url if kind.tls or kind.upstream != "h2" else f"h2c://127.0.0.1:{origin.port}"
        made = profile_of(kind, url, str(certificate.write(folder)) if tls else None)
        async with Gateway(folder, made=made) as gateway:
            yield (made_bench := Bench(gateway, origin, kind))
            made_bench.client.close()


@pytest.mark.timeout(300)
@pytest.mark.asyncio(loop_scope="module")
async def test_every_cell_of_the_matrix_is_as_it_says(bench: Bench) -> None:
    """Promises 1 and 3: captured before it is answered, and what may not be repeated is not repeated."""
    faults = []
    await bench.connect()
    for row, column, cell in bench.kind.cells:
        try:
            await bench.check(row, column, cell)
        except (AssertionError, EOFError, OSError, TimeoutError) as error:
            faults.append(f"{row.name} | {column}: {type(error).__name__} {str(error)[:600]}")
            bench.client.close()
            await bench.connect()
    if "Traceback" in bench.gateway.log(last=100_000):
        faults.append(bench.gateway.log())
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


def test_the_page_for_users_is_current() -> None:
    """python -m tests.e2e.matrix > docs/failures.md"""
    committed = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    assert committed == matrix.page(), "run: python -m tests.e2e.matrix > docs/failures.md"
