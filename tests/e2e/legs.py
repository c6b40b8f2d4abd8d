"""A gateway between a client and an origin, each of which speaks HTTP/1.1 or HTTP/2, with TLS or without."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx

from holdfast.testing import Answer, Certificate, MisbehavingOrigin, self_signed
from tests.e2e.harness import Gateway, profile
from tests.e2e.test_http2 import OnlyHttp2
from tests.unit.testing.h2_client import H2Client

type Client = Literal["http/1.1", "h2", "h2c"]
type Upstream = Literal["http/1.1", "h2", "h2c"]

LEGS: list[tuple[Client, Upstream]] = [
    ("http/1.1", "http/1.1"),
    ("http/1.1", "h2c"),
    ("h2", "http/1.1"),
    ("h2", "h2"),
    ("h2c", "h2c"),
]
PATIENT = {"upstream__connect_timeout": "10s", "upstream__response_timeout": "20s", "upstream__read_timeout": "20s"}
NO_LIMIT = {**PATIENT, "upstream__deadline": "60s"}
LARGE = random.Random(7).randbytes(20 * 2**20)
"""Twenty mebibytes of which no two are alike."""


def client_of(gateway: Gateway, speaks: Client, *, connections: int = 1) -> httpx.AsyncClient:
    """A client of this kind; over TLS the gateway's certificate is mitmproxy's own."""
    scheme, http2 = ("https" if speaks == "h2" else "http"), speaks != "http/1.1"
    limits = httpx.Limits(max_connections=connections)
    base = f"{scheme}://127.0.0.1:{gateway.port}"
    context = OnlyHttp2(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return httpx.AsyncClient(http1=not http2, http2=http2, verify=context, base_url=base, limits=limits, timeout=60)


@asynccontextmanager
async def between(
    folder: Path, upstream: Upstream, plan: Any = None, *, max_streams: int | None = None, **changes: Any
) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """A gateway before an origin of this kind."""
    tls = self_signed() if upstream == "h2" else None
    protocol: Any = "http/1.1" if upstream == "http/1.1" else "h2"
    async with MisbehavingOrigin(plan or Answer(), tls=tls, protocol=protocol, max_streams=max_streams) as origin:
        url = f"h2c://127.0.0.1:{origin.port}" if upstream == "h2c" else origin.url
        made = profile(url, **{**NO_LIMIT, **trusting(tls, folder), **changes})
        async with Gateway(folder, made=made) as gateway:
            yield gateway, origin
        assert "Traceback" not in gateway.log(100_000)
        assert not origin.violations


def trusting(tls: Certificate | None, folder: Path) -> dict[str, str]:
    """What a profile says of an origin with this certificate."""
    return {"upstream__ca_file": str(tls.write(folder))} if tls else {}


@asynccontextmanager
async def talk(gateway: Gateway) -> AsyncIterator[H2Client]:
    """A connection of frames, with prior knowledge."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        yield H2Client(reader, writer)
    finally:
        writer.transport.abort()
