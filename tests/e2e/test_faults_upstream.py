"""Faults at the upstream: the gateway takes them for real ones, whatever the server does, and says whose they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e.harness import Gateway, addon, profile, until
from tests.e2e.raw import RawClient
from tests.e2e.test_grpc import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY = b"0123456789" * 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[MisbehavingOrigin]:
    """An upstream in good health."""
    async with MisbehavingOrigin(Answer(200, [("Cache-Control", "max-age=60")], BODY), protocol="any") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, origin: MisbehavingOrigin) -> AsyncIterator[Gateway]:
    """One for all tests, with a cache."""
    made = addon(profile(origin.url, limits__buffer_body="64KiB"), "faults")
    made["addons"].insert(2, "cache")
    addon(made, "failure_sink", spool={"max_body": "1MiB"})
    async with Gateway(tmp_path_factory.mktemp("gateway"), origin.url, made=made) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Gateway, origin: MisbehavingOrigin) -> AsyncIterator[RawClient]:
    """One connection to it; nothing has been asked yet, and nothing fails."""
    await gateway.inject()
    origin.forget()
    async with RawClient(gateway.port) as connected:
        yield connected


CASES: list[tuple[dict[str, Any], str, str, bool]] = [  # a rule, what it is taken for, its class, is the server asked
    ({"fault": "refuse"}, "error=connection_refused", "connect", False),
    ({"fault": "reset"}, "error=connection_terminated", "reset", False),
    ({"fault": "hang"}, "error=http_response_timeout", "timeout", False),
    ({"fault": "status", "status": 502}, "received-status=502", "502", False),
    ({"fault": "truncate"}, "error=http_response_incomplete", "reset", True),
    ({"fault": "latency", "delay": "5s"}, "error=http_response_timeout", "timeout", True),
    ({"fault": "slow", "rate": 1}, "error=connection_read_timeout", "timeout", True),
]


@pytest.mark.parametrize(("rule", "token", "kind", "asked"), CASES, ids=lambda value: str(value)[:30])
async def test_a_fault_is_taken_for_a_real_one(
    gateway: Gateway,
    origin: MisbehavingOrigin,
    client: RawClient,
    rule: dict[str, Any],
    token: str,
    kind: str,
    asked: bool,
) -> None:
    """A POST is captured with the error of a real failure, and what it says names the rule."""
    await gateway.inject({**rule, "name": "asked-for"})
    answer = await client.request("POST", "/api/users", body=b"{}")
    assert answer.status == 503
    assert token in (answer.header("proxy-status") or "")
    assert "(injected by the fault asked-for)" in (answer.header("proxy-status") or "")
    assert answer.header("holdfast-fault") == f"asked-for; kind={rule['fault']}; at=upstream"
    envelope = (await gateway.exported())[answer.capture_id or ""]
    assert envelope["error_reason"].endswith("(injected by the fault asked-for)")
    assert len(envelope["attempts"]) == (3 if kind == "connect" else 1)  # only what never arrived goes again
    assert len(origin.requests) == (1 if asked else 0)


@pytest.mark.parametrize("fault", [{"fault": "reset"}, {"fault": "truncate", "after": 5}, {"fault": "hang"}])
async def test_fail_the_first_two_then_pass_is_a_retry_that_succeeds(
    gateway: Gateway, origin: MisbehavingOrigin, client: RawClient, fault: dict[str, Any]
) -> None:
    """The third attempt is the server's own; the answer says what the first two were."""
    await gateway.inject({**fault, "script": ["fail*2", "pass"]})
    answer = await client.request("GET", "/api/users", [("Cache-Control", "no-store")])
    assert (answer.status, answer.body) == (200, BODY)
    assert 'details="attempts:3"; holdfast-fate=retried' in (answer.header("proxy-status") or "")
    assert answer.header("holdfast-fault") == f"{fault['fault']}; kind={fault['fault']}; at=upstream"
    (rule,) = (await gateway.admin("/faults")).json()["rules"]
    assert (rule["asked"], rule["fired"], rule["over"]) == (3, 2, "script")


async def test_rules_that_are_over_make_room_for_the_next(gateway: Gateway, client: RawClient) -> None:
    """One after the other on the same route: a story of several failures."""
    await gateway.inject({"fault": "reset", "times": 1}, {"fault": "status", "status": 504, "times": 1})
    answer = await client.request("GET", "/api/users", [("Cache-Control", "no-store")])
    assert answer.status == 200
    assert answer.header("holdfast-fault") == "reset; kind=reset; at=upstream, status; kind=status; at=upstream"


async def test_a_damaged_answer_is_not_stored(gateway: Gateway, client: RawClient) -> None:
    """Nobody gets it once the fault is gone; a late one is as good as any."""
    await gateway.inject({"fault": "corrupt", "times": 1})
    broken, well = [await client.request("GET", "/damaged") for _ in range(2)]
    assert len(broken.body) == len(BODY)
    assert broken.body != well.body == BODY
    assert "stored" not in (broken.header("cache-status") or "").replace("stored=?0", "")
    await gateway.inject({"fault": "latency", "delay": "50ms"})
    await client.request("GET", "/late")
    assert "hit" in ((await client.request("GET", "/late")).header("cache-status") or "")


async def test_the_rest_of_an_answer_comes_slowly(gateway: Gateway, client: RawClient) -> None:
    """400 bytes at 1000 a second; each piece is progress."""
    await gateway.inject({"fault": "slow", "rate": 1000})
    began = time.monotonic()
    answer = await client.request("GET", "/slowly")
    assert (answer.status, answer.body) == (200, BODY)
    assert time.monotonic() - began >= 0.35


async def test_health_does_not_take_the_upstream_for_dead(gateway: Gateway, origin: MisbehavingOrigin) -> None:
    """The faults are shown in a place of their own."""
    await gateway.inject({"fault": "reset"})
    async with RawClient(gateway.port) as client:
        for _ in range(3):
            await client.request("POST", "/api/users", body=b"{}")
    await asyncio.sleep(1.1)  # a page is kept for a second
    document = (await gateway.admin("/health")).json()
    server = document["upstream"][origin.url]
    assert (server["status"], server["consecutive_failures"]) == ("ok", 0)
    assert (document["faults"]["active"], document["faults"]["rules"][0]["fired"]) == (1, 3)
    assert "requests fail on purpose" in document["faults"]["detail"]
    figures = await gateway.metrics()
    assert figures["holdfast_faults_total", "at=upstream", "kind=reset", "rule=reset"] >= 3
    assert figures["holdfast_faults_active",] == 1


async def test_one_server_of_two_is_down(tmp_path: Path, origin: MisbehavingOrigin) -> None:
    """A rule for one server: the other takes over."""
    async with MisbehavingOrigin(Answer(body=b"other")) as other:
        made = addon(profile("", upstream__servers=[origin.url, other.url]), "faults")
        async with Gateway(tmp_path, made=made) as gateway, RawClient(gateway.port) as client:
            await gateway.inject({"fault": "refuse", "server": origin.url})
            answers = [await client.request("POST", "/api/users", body=b"x") for _ in range(4)]
            assert {(a.status, a.body) for a in answers} == {(200, b"other")}
            assert await gateway.fired() >= 2


@pytest.mark.parametrize("rule", [{"fault": "hang"}, {"fault": "latency", "delay": "5m"}])
async def test_a_client_that_leaves_meanwhile_is_let_go(gateway: Gateway, rule: dict[str, Any]) -> None:
    """Its request ends, and its attempt says nothing of the server."""
    await gateway.inject(rule)
    before = await _failed(gateway)
    async with RawClient(gateway.port) as client:
        await client.send(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(gateway.fired, what="the fault to act")
    await until(lambda: _more(gateway, before), within=2, what="the request to end")


async def _failed(gateway: Gateway) -> float:
    figures = await gateway.metrics()
    return sum(v for k, v in figures.items() if k[0] == "holdfast_requests_total" and "status=none" in k)


async def _more(gateway: Gateway, before: float) -> bool:
    return await _failed(gateway) > before


@pytest.mark.parametrize("status", [503, 404])
async def test_a_large_upload_is_answered(
    gateway: Gateway, origin: MisbehavingOrigin, client: RawClient, status: int
) -> None:
    """It is streamed, so that nothing can be tried again; a 503 is captured once all of it is there."""
    await gateway.inject({"fault": "status", "status": status, "body": "told"})
    answer = await client.request("POST", "/api/users", body=b"u" * 150_000)
    assert answer.status == status
    assert (answer.capture_id is not None) is (status == 503)
    assert origin.requests == []
    await gateway.inject()
    assert (await client.request("GET", "/api/users")).status == 200


async def test_over_http2_on_both_sides(tmp_path: Path, origin: MisbehavingOrigin) -> None:
    """An attempt that is broken off takes only its own stream along."""
    url = origin.url.replace("http://", "h2c://")
    async with (
        Gateway(tmp_path, made=addon(profile(url), "faults")) as gateway,
        httpx.AsyncClient(base_url=gateway.url, http1=False, http2=True, timeout=5) as client,
    ):
        for rule in ({"fault": "truncate", "after": 3}, {"fault": "latency", "delay": "5s"}, {"fault": "hang"}):
            await gateway.inject({**rule, "times": 1})
            answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(5)))
            assert {(a.status_code, a.content) for a in answers} == {(200, BODY)}
            assert sum("holdfast-fault" in answer.headers for answer in answers) == 1


async def test_a_call_of_grpc_is_tried_again(tmp_path: Path) -> None:
    """As after a real reset; and one that is not gets a status."""
    async with serving() as (backend, port, _):
        made = addon(profile(f"h2c://127.0.0.1:{port}", upstream__retry__methods=["POST"]), "faults")
        async with (
            Gateway(tmp_path, made=made) as gateway,
            grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
        ):
            call = channel.unary_unary("/t.S/Unary")
            await gateway.inject({"fault": "reset", "script": ["fail*2", "pass"]})
            assert await call(b"x", timeout=5) == b"echo x"
            assert backend.calls == [("Unary", b"x")]
            await gateway.inject({"fault": "status", "status": 503})
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"y", timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
