"""What a client on one kept connection sees of an HTTP/1.1 upstream, beyond the cells of the failure matrix.

Its connections go stale, its header is too large, its body slow, its certificate wrong; all attempts have one deadline.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, Certificate, MisbehavingOrigin, oversized, self_signed
from tests.e2e import raw
from tests.e2e.harness import PROBLEM, Gateway, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")
ATTEMPTS = 3
BODY = b"\x00\xff one body, byte for byte \r\n\r\n"
WELL = Answer(body=b"recovered", hang_up=True)


@dataclass
class Bench:
    """A client of a gateway, and the origin behind that."""

    client: raw.RawClient
    origin: MisbehavingOrigin


def check_answer(answer: raw.Answer, token: str, status: int | None) -> None:
    """What a client is told of a captured request."""
    assert answer.status == 503
    assert answer.header("content-type") == PROBLEM
    assert answer.capture_id
    assert int(answer.header("retry-after") or "") >= 1
    proxy_status = [part.strip() for part in (answer.header("proxy-status") or "").split(";")]
    assert proxy_status[0] == "holdfast"
    assert (f"error={token}" if status is None else f"received-status={status}") in proxy_status
    document = answer.json()
    assert document["status"] == 503
    assert {"type", "title", "detail", "capture_id"} <= document.keys()
    assert answer.header("x-request-id")


def check_envelope(envelope: dict[str, Any], answer: raw.Answer, method: str, token: str, attempts: int) -> None:
    """What was stored."""
    assert envelope["id"] == answer.capture_id
    assert envelope["error"] == token
    assert envelope["method"] == method
    assert (envelope["path"], envelope["query_string"]) == ("/api/users", "q=1")
    assert envelope["route"] == "users"
    assert envelope["request_id"] == answer.header("x-request-id")
    assert raw.body_of(envelope) == (BODY if method == "POST" else b"")
    assert [attempt["error"] for attempt in envelope["attempts"]] == [token] * attempts


@pytest_asyncio.fixture(params=["plaintext", "tls"], scope="module", loop_scope="module")
async def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """One gateway for all that follows."""
    tls, folder = request.param == "tls", tmp_path_factory.mktemp(request.param)
    async with MisbehavingOrigin(WELL, tls=certificate if tls else None) as origin:
        made = profile(origin.url, upstream__ca_file=str(certificate.write(folder)) if tls else None)
        async with Gateway(folder, origin.url, made=made) as gateway:
            yield gateway, origin


@pytest_asyncio.fixture(loop_scope="module")
async def bench(shared: tuple[Gateway, MisbehavingOrigin]) -> AsyncIterator[Bench]:
    """One connection, and an upstream that is well and has received nothing yet."""
    gateway, origin = shared
    origin.plan = WELL
    origin.forget()
    async with raw.RawClient(gateway.port) as client:
        yield Bench(client, origin)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_stale_idle_connection_is_not_the_clients_problem(bench: Bench, method: str) -> None:
    """The upstream closed the connection it had kept: the next request simply gets a new one."""
    bench.origin.plan = Answer(body=b"fine", hang_up=True)
    for _ in range(5):
        answer = await bench.client.request(method, "/api/users", body=BODY if method == "POST" else b"")
        assert (answer.status, answer.body) == (200, b"fine")
    assert len(bench.origin.requests) == 5


async def test_how_the_upstream_ends_its_connection_is_not_the_clients_affair(bench: Bench) -> None:
    """RFC 9110 section 7.6.1: `Connection` and what it names concern one hop only, in both directions."""
    hop = [("Connection", "close, X-Hop"), ("Keep-Alive", "timeout=1"), ("X-Hop", "1"), ("X-End", "2")]
    bench.origin.plan = Answer(headers=hop, body=b"bye", hang_up=True)
    answer = await bench.client.request("GET", "/", [("Connection", "X-Mine"), ("X-Mine", "1"), ("X-Other", "2")])
    assert answer.body == b"bye"
    assert (answer.header("x-hop"), answer.header("keep-alive"), answer.header("x-end")) == (None, None, "2")
    assert await bench.client.is_kept()
    received = bench.origin.requests[-1]
    assert (received.header("x-mine"), received.header("x-other")) == ("", "2")
    assert (await bench.client.request("GET", "/")).body == b"bye"


async def test_a_connection_that_goes_stale_as_the_request_is_sent(bench: Bench) -> None:
    """A GET goes again on a new connection; a POST may have arrived, so it is captured and sent once."""
    bench.origin.plan = [Answer(), Break("request", "fin"), Answer(body=b"again")]
    assert (await bench.client.request("GET", "/1")).status == 200
    assert (await bench.client.request("GET", "/2")).body == b"again"
    bench.origin.plan = [Answer(), Break("request", "reset"), Answer(body=b"again")]
    assert (await bench.client.request("GET", "/3")).status == 200
    post = await bench.client.request("POST", "/4", body=BODY)
    assert (post.status, bool(post.capture_id)) == (503, True)
    assert [r.target for r in bench.origin.requests] == ["/1", "/2", "/2", "/3", "/4"]


async def test_an_oversized_header_does_not_end_the_clients_connection(bench: Bench) -> None:
    """Refused, but answered."""
    bench.origin.plan = oversized(300_000)
    answer = await bench.client.request("GET", "/api/users")
    assert answer.status in (502, 503)
    bench.origin.plan = WELL
    assert (await bench.client.request("GET", "/api/users")).body == b"recovered"


async def test_a_slow_body_is_waited_for_as_long_as_it_moves(bench: Bench) -> None:
    """Longer in all than any single timeout, but never silent for that long."""
    bench.origin.plan = Answer(body=b"z" * 1000, pieces=5, pace=0.15)
    answer = await bench.client.request("GET", "/api/users")
    assert (answer.status, answer.body) == (200, b"z" * 1000)
    assert len(bench.origin.requests) == 1


async def test_a_deadline_bounds_all_attempts_together(tmp_path: Path) -> None:
    """Three attempts of 300 ms do not fit into 500 ms."""
    async with MisbehavingOrigin(Break("request", "hang")) as origin:
        made = profile(origin.url, upstream__deadline="500ms")
        async with Gateway(tmp_path, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answer = await client.request("GET", "/api/users")
            check_answer(answer, "http_response_timeout", None)
            envelope = (await gateway.admin(f"/captures/{answer.capture_id}")).json()["request"]
            assert 450 <= envelope["duration_ms"] <= 1000
            assert len(envelope["attempts"]) == 2


@pytest.mark.parametrize("names", [("other.example",), ("127.0.0.1",)], ids=["wrong name", "unknown authority"])
async def test_a_certificate_that_cannot_be_trusted_is_a_failure_to_connect(
    tmp_path: Path, certificate: Certificate, names: tuple[str, ...]
) -> None:
    """The request never left, so even a POST is tried again before it is captured."""
    wrong = self_signed(*names)
    trusted = wrong if names == ("other.example",) else certificate
    async with MisbehavingOrigin(tls=wrong) as origin:
        made = profile(origin.url, upstream__ca_file=str(trusted.write(tmp_path)))
        async with Gateway(tmp_path, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            for method in ("GET", "POST"):
                answer = await client.request(method, "/api/users?q=1", body=BODY if method == "POST" else b"")
                check_answer(answer, "tls_certificate_error", None)
                envelope = (await gateway.admin(f"/captures/{answer.capture_id}")).json()["request"]
                check_envelope(envelope, answer, method, "tls_certificate_error", ATTEMPTS)
            assert not origin.requests
            assert origin.connections >= ATTEMPTS * 2
