"""What people send who mean no good, or do not know better: to the proxied port and to the admin surface."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import PROBLEM, Gateway, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKEN = "correct horse battery staple"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """One gateway for all strangers, whose admin surface wants a token: it has to survive them all."""
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url, admin={"token": TOKEN})
        async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as gateway:
            yield gateway, origin


@pytest.fixture
def gateway(running: tuple[Gateway, MisbehavingOrigin]) -> Gateway:
    """The gateway."""
    return running[0]


@pytest.fixture
def origin(running: tuple[Gateway, MisbehavingOrigin]) -> MisbehavingOrigin:
    """The healthy upstream behind it, with nothing received yet."""
    running[1].forget()
    return running[1]


# -- the proxied port -----------------------------------------------------------------------------------------------

H = b"Host: h\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MALFORMED = {
    "nothing but a line": b"hello\r\n\r\n",
    "binary": bytes(range(256)) + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a version of the future": b"GET / HTTP/9.9\r\n" + H + b"\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\n" + H + b"nonsense\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + H + b"Content-Length : 3\r\n\r\nabc",
    "two lengths": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a length and chunks": b"POST / HTTP/1.1\r\n"
    + H
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -1\r\n\r\n",
    "a length of letters": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: abc\r\n\r\n",
    "a length with a sign": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc",
    "a chunk size of letters": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "an unknown transfer coding": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a bare line feed in a value": b"GET / HTTP/1.1\r\n" + H + b"X: a\nInjected: yes\r\n\r\n",
    "a NUL in a value": b"GET / HTTP/1.1\r\n" + H + b"X: a\x00b\r\n\r\n",
    "an absolute target of another host": b"GET http://elsewhere.test/ HTTP/1.1\r\n" + H + b"\r\n",
    "CONNECT": b"CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test:443\r\n\r\n",
    "a target with a space": b"GET /a b HTTP/1.1\r\n" + H + b"\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
}


async def test_malformed_requests_harm_nobody(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """Each is answered, or its connection closed; never a 5xx of the gateway's own making, and never a capture."""
    faults = []
    for name, sent in MALFORMED.items():
        async with raw.RawClient(gateway.port) as stranger, raw.RawClient(gateway.port) as other:
            await stranger.send(sent)
            stranger.finish()
            try:
                said = await stranger.ends(within=3)
            except TimeoutError:
                faults.append(f"{name}: the connection hangs")
                continue
            if said.startswith(b"HTTP/1.1 5") and not said.startswith((b"HTTP/1.1 501", b"HTTP/1.1 505")):
                faults.append(f"{name}: {said[:200]!r}")
            if (await other.request("GET", "/api/users")).status != 200:
                faults.append(f"{name}: the next client is not served")
    assert not faults, "\n".join(faults)
    assert await gateway.captures() == []
    assert gateway.exit_code is None
    assert "Traceback" not in gateway.log(2000)


async def test_nothing_is_smuggled_to_the_upstream(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """Where two readings of a request are possible, the upstream never sees a second request."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    for attempt in (
        b"POST / HTTP/1.1\r\n"
        + H
        + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(inner)),
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + H + b"X: a\n\nContent-Length: %d\r\n\r\n" % len(inner),
    ):
        async with raw.RawClient(gateway.port) as stranger:
            await stranger.send(attempt)
            first = len(origin.requests)
            await asyncio.sleep(0.1)
            with contextlib.suppress(ConnectionError):
                await stranger.send(inner)
            stranger.finish()
            await stranger.ends(within=3)
        seen = [(r.method, r.target) for r in origin.requests[first:]]
        # Either the whole connection was refused, or the second request is a request of its own.
        assert all(target in ("/", "/smuggled") for _, target in seen)
        assert all(b"smuggled" not in r.body for r in origin.requests)


async def test_a_header_line_cannot_be_injected_into_the_answer(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """An id of the client's own is kept only if it is a plain word."""
    async with raw.RawClient(gateway.port) as client:
        for given in ("ok-1", "a b", "x" * 129, "é", 'quo"te'):
            answer = await client.request("GET", "/api/users", [("X-Request-ID", given)])
            kept = answer.header("x-request-id") or ""
            assert kept.isascii()
            assert kept.isprintable()
            assert 0 < len(kept) <= 128
            assert " " not in kept
            assert (kept == given) == (given in ("ok-1", 'quo"te'))
            assert origin.requests[-1].header("x-request-id") == kept


async def test_a_pipelined_burst_is_answered_in_order(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """Fifty requests in one packet, some with bodies that look like requests."""
    trap = b"GET /trap HTTP/1.1\r\nHost: h\r\n\r\n"
    burst = b""
    for number in range(25):
        burst += raw.head("GET", f"/get/{number}") + raw.head("POST", f"/post/{number}", length=len(trap)) + trap
    async with raw.RawClient(gateway.port) as client:
        await client.send(burst)
        answers = [await client.answer() for _ in range(50)]
    assert {answer.status for answer in answers} == {200}
    expected = [f"/{kind}/{number}" for number in range(25) for kind in ("get", "post")]
    assert [received.target for received in origin.requests] == expected


async def test_a_tls_hello_that_is_none_harms_nobody(gateway: Gateway) -> None:
    """Plain bytes, but the first record of a TLS connection that never comes about."""
    async with raw.RawClient(gateway.port) as stranger, raw.RawClient(gateway.port) as other:
        await stranger.send(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(161))
        assert (await other.request("GET", "/api/users")).status == 200
    assert "Traceback" not in gateway.log(2000)


@pytest.mark.parametrize("line", [b"X: " + b"a" * 60_000, b"X: aaaaaaaa\r\n" * 6000], ids=["one line", "many lines"])
async def test_a_header_without_end_is_refused(gateway: Gateway, line: bytes) -> None:
    """The gateway does not hold what a stranger sends for ever: an answer or an end, long before 64 MiB."""
    before, sent = gateway.memory(), 0
    async with raw.RawClient(gateway.port) as stranger:
        await stranger.send(b"GET / HTTP/1.1\r\n" + H)
        with contextlib.suppress(ConnectionError):
            while sent < 64 * 2**20:
                await stranger.send(line)
                sent += len(line)
    async with raw.RawClient(gateway.port) as other:
        assert (await other.request("GET", "/api/users")).status == 200
    assert sent < 64 * 2**20
    assert gateway.memory() - before < 32 * 2**20


# -- the admin surface ----------------------------------------------------------------------------------------------

PAGES = ["/health", "/metrics", "/captures", "/captures/x", "/config", "/nothing"]
WRONG = [None, "", "Bearer", "Bearer ", "Bearer wrong", f"bearer{TOKEN}", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_call_without_the_right_token_is_refused(gateway: Gateway, path: str) -> None:
    """401 with a challenge, and nothing is told; the two probes alone need none."""
    async with raw.RawClient(gateway.admin_port) as client:
        for value in WRONG:
            headers = [] if value is None else [("Authorization", value)]
            for method in ("GET", "POST"):
                answer = await client.request(method, path, headers)
                assert answer.status in (401, 405), (method, value)
                assert answer.status == 401 or method == "POST"
                if answer.status == 401:
                    assert (answer.header("www-authenticate") or "").startswith("Bearer")
                    assert answer.header("content-type") == PROBLEM
                assert b"holdfast_" not in answer.body
        for probe in ("/healthz", "/readyz"):
            assert (await client.request("GET", probe)).status == 200


async def test_the_token_opens_the_pages_and_is_never_shown(gateway: Gateway) -> None:
    """Masked in /config, absent from the log."""
    for path, status in zip(PAGES, [200, 200, 200, 404, 200, 404], strict=True):
        assert (await gateway.admin(path)).status_code == status
    shown = (await gateway.admin("/config")).text
    assert TOKEN not in shown
    assert json.loads(shown)
    assert TOKEN not in gateway.log(1000)


TRICKS = [
    "../config",
    "..%2fconfig",
    "%2e%2e/config",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "'",
    "'%20OR%201=1%20--",
    "%22",
    "%00",
    "x%00",
    "a" * 60_000,
    "%ff%fe",
    "01890000-0000-7000-8000-000000000000",
    "..;/config",
    "*",
    "%25",
    "null",
    "-1",
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: str(trick)[:30])
async def test_tricks_with_the_capture_id_find_nothing(gateway: Gateway, trick: str) -> None:
    """404 or 400; never a file, never another page, never a trace."""
    async with raw.RawClient(gateway.admin_port) as client:
        answer = await client.request("GET", f"/captures/{trick}", [("Authorization", f"Bearer {TOKEN}")])
    assert answer.status in (400, 404, 414, 431)
    assert b"Traceback" not in answer.body
    assert b"root:" not in answer.body
    assert b"upstream" not in answer.body
    assert (await gateway.admin("/healthz")).status_code == 200
    assert "Traceback" not in gateway.log(1000)


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "limit=99999999999999999999", "status=abc", "since=yesterday", "since=-5m", "status=%00"],
)
async def test_a_filter_that_makes_no_sense_is_refused(gateway: Gateway, query: str) -> None:
    """400 with the reason; or a list, where the number can be understood after all."""
    answer = await gateway.admin(f"/captures?{query}")
    assert answer.status_code in (200, 400), answer.text
    assert answer.json()
    assert "Traceback" not in gateway.log(1000)


async def test_without_a_token_only_this_machine_is_answered(tmp_path: Path) -> None:
    """A page in a browser that was sent to a name which resolves to 127.0.0.1 is refused (DNS rebinding)."""
    async with Gateway(tmp_path) as gateway, raw.RawClient(gateway.admin_port) as client:
        own = f"127.0.0.1:{gateway.admin_port}"
        for host, status in (
            (own, 200),
            ("localhost", 200),
            ("evil.example", 403),
            (f"evil.example:{gateway.admin_port}", 403),
        ):
            await client.send(f"GET /captures HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await client.answer()).status == status, host


async def test_the_admin_surface_is_not_reachable_through_the_proxied_port(
    gateway: Gateway, origin: MisbehavingOrigin
) -> None:
    """The paths of the admin surface are the upstream's there, but for the health path, which tells no address."""
    async with raw.RawClient(gateway.port) as client:
        for path in ("/metrics", "/captures", "/config", "/readyz"):
            assert (await client.request("GET", path)).body == b"ok"
            assert origin.requests[-1].target == path
        health = await client.request("GET", "/health")
        assert health.status == 200
        assert str(origin.port).encode() not in health.body
        assert origin.requests[-1].target == "/readyz"
