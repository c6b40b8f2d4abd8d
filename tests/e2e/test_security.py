"""What means harm, or does not know better: each row of the tables gets what docs/security.md says it gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Garbage, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.attacks import ATTACKS, Attack
from tests.e2e.bad_responses import BAD_RESPONSES, BadResponse
from tests.e2e.frames import FrameClient
from tests.e2e.h2_attacks import HTTP2_ATTACKS, Http2Attack
from tests.e2e.harness import PROBLEM, Gateway, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")
HELD = 100_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """One gateway for them all: it has to survive every one."""
    async with MisbehavingOrigin() as origin:
        made = profile(origin.url, limits={"buffer_body": str(HELD)})
        async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as gateway:
            yield gateway, origin
            assert "Traceback" not in gateway.log(100_000)
            assert "crashed" not in gateway.log(100_000)
            assert gateway.exit_code is None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(
    tmp_path_factory: pytest.TempPathFactory, running: tuple[Gateway, MisbehavingOrigin]
) -> AsyncIterator[Gateway]:
    """Another before the same origin, which captures nothing and does not try again."""
    _, origin = running
    made = profile(origin.url, upstream__retry__attempts=1)
    made["addons"] = ["metrics"]
    async with Gateway(tmp_path_factory.mktemp("plain"), origin.url, made=made) as gateway:
        yield gateway
        assert "Traceback" not in gateway.log(100_000)
        assert "crashed" not in gateway.log(100_000)


@pytest.fixture
def gateway(running: tuple[Gateway, MisbehavingOrigin]) -> Gateway:
    """The gateway."""
    return running[0]


@pytest.fixture
def origin(running: tuple[Gateway, MisbehavingOrigin]) -> MisbehavingOrigin:
    """The upstream behind it, well and with nothing received."""
    running[1].forget()
    running[1].plan = Answer()
    return running[1]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_gets_what_the_table_says(gateway: Gateway, origin: MisbehavingOrigin, attack: Attack) -> None:
    """One answer for each request, and behind the gateway what the table allows, whole and well-formed."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(attack.sent)
        answers = [await client.answer(within=5) for _ in attack.gets]
        assert tuple(answer.status for answer in answers) == attack.gets
        if attack.refused:
            _is_refusal(answers[-1], attack.fault)
            assert await client.ends(5) == b""
        else:
            assert (await client.request("GET", "/next")).status == 200
    whole = [r for r in origin.requests if r.complete]
    assert attack.aborted or len(whole) == len(origin.requests)
    seen = [f"{r.method} {r.target} {r.body.decode('latin-1')}" for r in whole]
    assert seen == [*attack.origin, *([] if attack.refused else ["GET /next "])]
    for received in whole:
        framing = [name.lower() for name, _ in received.headers]
        assert framing.count("content-length") + framing.count("transfer-encoding") <= 1
        assert framing.count("host") == 1


def _is_refusal(answer: raw.Answer, fault: str) -> None:
    assert answer.header("content-type") == PROBLEM
    assert answer.header("connection") == "close"
    assert "holdfast; error=http_request_error" in (answer.header("proxy-status") or "")
    assert (answer.json()["status"], answer.json()["fault"]) == (answer.status, fault)
    assert "server" not in dict(answer.headers)


@pytest.mark.parametrize("attack", HTTP2_ATTACKS, ids=lambda attack: attack.name)
async def test_an_attack_over_http2_gets_what_the_table_says(
    gateway: Gateway, origin: MisbehavingOrigin, attack: Http2Attack
) -> None:
    """A malformed request is answered on its stream and disturbs no other; a flood ends the connection."""
    before = gateway.memory()
    async with FrameClient(gateway.port) as client:
        await client.begin()
        await client.send(attack.sent)
        if attack.goaway:
            heard = await client.end()
            assert heard.goaway == attack.goaway
        else:
            heard = await client.until(1)
            assert heard.statuses.get(1) == attack.status
            assert await client.is_served()
    if attack.fault:
        assert heard.fields[1]["content-type"] == PROBLEM
        assert "holdfast; error=http_request_error" in heard.fields[1]["proxy-status"]
        assert json.loads(heard.bodies[1])["fault"] == attack.fault
    seen = [f"{r.method} {r.target} {r.body.decode('latin-1')}" for r in origin.requests if r.complete]
    if not attack.goaway:
        assert seen == [*attack.origin, "GET /next "]
    assert not any("smuggled" in r.target for r in origin.requests)
    assert gateway.memory() - before < 32 * 2**20


@pytest.mark.parametrize("bad", BAD_RESPONSES, ids=lambda bad: bad.name)
async def test_a_bad_response_gets_what_the_table_says(
    plain: Gateway, origin: MisbehavingOrigin, bad: BadResponse
) -> None:
    """It is mended, or it is a failure of the upstream; the client's connection stays in step."""
    origin.plan = Garbage(bad.sent)
    async with raw.RawClient(plain.port) as client:
        answer = await client.request(bad.method, "/", bad.asks)
        assert answer.status == bad.status
        if bad.status == 502:
            assert answer.header("content-type") == PROBLEM
            assert "holdfast; error=http_" in (answer.header("proxy-status") or "")
        else:
            assert answer.body == bad.body
        assert [(name, answer.header(name)) for name, _ in bad.shows] == list(bad.shows)
        assert answer.header("injected") is None
        origin.plan = Answer(body=b"next")
        assert await client.is_kept()
        assert (await client.request("GET", "/next")).body == b"next"


# -- what does not fit into a table ---------------------------------------------------------------------------------


async def test_what_is_sent_ahead_of_its_turn_is_bounded(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """Requests without end behind one that takes its time: it is answered, and then the connection ends."""
    origin.plan = Answer(body=b"slow", delay=0.25)
    before, sent = gateway.memory(), 0
    piece = raw.head("GET", "/ahead") * 1000
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("GET", "/"))
        await origin.wait_for(1)
        while sent < 8 * 2**20:
            await client.send(piece)
            sent += len(piece)
        assert (await client.answer()).body == b"slow"
        assert await client.ends(5) == b""
    assert len(origin.requests) == 1
    assert gateway.memory() - before < 8 * 2**20


async def test_a_bad_body_is_answered_after_100_continue_too(gateway: Gateway) -> None:
    """The interim answer was none."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(raw.head("POST", "/", [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]))
        assert (await client.answer_head()).status == 100
        await client.send(b"zz\r\n")
        assert (await client.answer()).status == 400
        assert await client.ends(5) == b""


async def test_an_upgrade_to_h2c_is_not_passed_on(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """Behind it the client would talk to the server unseen; the request itself is served over HTTP/1.1."""
    fields = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ]
    async with raw.RawClient(gateway.port) as client:
        assert (await client.request("GET", "/", fields)).status == 200
    assert not {"upgrade", "http2-settings", "connection"} & {name.lower() for name, _ in origin.requests[0].headers}


async def test_refusals_are_counted_and_written_down(gateway: Gateway) -> None:
    """A rejected request in the metrics, and a line in the log that names the fault and the peer."""
    async with raw.RawClient(gateway.port) as client:
        await client.send(b"GET /api/users HTTP/1.1\r\n\r\n")
        assert (await client.answer()).status == 400
    counted = {key: value for key, value in (await gateway.metrics()).items() if "fate=rejected" in key}
    assert counted
    assert "request refused fault=no_host peer=127.0.0.1" in gateway.log(1000)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/metrics", "/captures", "/config", "/captures/x"])
async def test_the_pages_of_the_admin_surface_answer_head_and_refuse_other_methods(gateway: Gateway, path: str) -> None:
    """RFC 9110, sections 9.3.2 and 15.5.6."""
    async with raw.RawClient(gateway.admin_port) as client:
        local = [("Host", "localhost")]
        get, head = await client.request("GET", path, local), await client.request("HEAD", path, local)
        assert head.status == get.status
        assert head.header("content-type") == get.header("content-type")
        for method in ("DELETE", "OPTIONS", "PUT", "BREW"):
            answer = await client.request(method, path, local)
            assert (answer.status, answer.header("content-type")) == (405, PROBLEM)
            assert answer.header("allow") == "GET, HEAD"


async def test_refusals_are_counted_by_fault(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """No addon sees these requests, and yet an operator can tell that somebody tries."""
    name = ("holdfast_malformed_requests_total", "fault=no_host")
    before = (await gateway.metrics()).get(name, 0)
    async with raw.RawClient(gateway.port) as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.answer()).status == 400
    assert (await gateway.metrics())[name] == before + 1
