"""What means harm, or does not know better: each row of the tables gets what docs/security.md says it gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.attacks import ATTACKS, Attack
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
