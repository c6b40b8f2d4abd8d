"""An upstream that fails and recovers: what the client sees, and how often the upstream was really asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until

FLAPS = [
    Break("request", "reset"),
    Break("request", "fin"),
    Break("request", "hang"),
    Break("body", "fin"),
    Answer(503),
]
WELL = Answer(201, [("X-Served-By", "origin")], b"served", hang_up=True)
"""Without a connection that is kept: what fails on one of those is no attempt."""


@pytest.fixture
async def origin() -> AsyncIterator[MisbehavingOrigin]:
    """An upstream to be told."""
    async with MisbehavingOrigin() as running:
        yield running


@pytest.fixture
async def gateway(tmp_path: Path, origin: MisbehavingOrigin) -> AsyncIterator[Gateway]:
    """A gateway before it."""
    async with Gateway(tmp_path, origin.url) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[raw.RawClient]:
    """One connection to it."""
    async with raw.RawClient(gateway.port) as connected:
        yield connected


async def test_a_first_attempt_that_fails_is_not_noticed(
    gateway: Gateway, origin: MisbehavingOrigin, client: raw.RawClient
) -> None:
    """GET, PUT and DELETE go again; the origin sees both attempts, with the same id, the client only the answer."""
    for flap in FLAPS:
        for method in ("GET", "PUT", "DELETE"):
            origin.forget()
            origin.plan = [flap, WELL]
            answer = await client.request(method, "/api/users/1", body=b"{}" if method == "PUT" else b"")
            assert (answer.status, answer.body) == (201, b"served"), (flap, method)
            assert answer.capture_id is None
            assert "error=" not in (answer.header("proxy-status") or "")
            first, second = origin.requests
            assert (first.method, first.target, first.body) == (second.method, second.target, second.body)
            assert first.header("x-request-id") == second.header("x-request-id") == answer.header("x-request-id")
    figures = await gateway.metrics()
    retried = [v for k, v in figures.items() if k[0] == "holdfast_requests_total" and "fate=retried" in k]
    assert sum(retried) == len(FLAPS) * 3
    assert await gateway.captures() == []


async def test_a_post_with_an_idempotency_key_goes_again(origin: MisbehavingOrigin, client: raw.RawClient) -> None:
    """The key says that the origin knows a repetition; both attempts carry it, and the whole body."""
    for flap in FLAPS:
        origin.forget()
        origin.plan = [flap, WELL]
        answer = await client.request("POST", "/api/users", [("Idempotency-Key", "k-1")], b'{"a":1}')
        assert answer.status == 201, flap
        assert [(r.body, r.header("idempotency-key")) for r in origin.requests] == [(b'{"a":1}', "k-1")] * 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_what_may_have_arrived_and_is_not_idempotent_is_sent_once(
    gateway: Gateway, origin: MisbehavingOrigin, client: raw.RawClient, method: str
) -> None:
    """Although the second attempt would have succeeded."""
    for flap in FLAPS:
        origin.forget()
        origin.plan = [flap, WELL]
        answer = await client.request(method, "/api/users", body=b'{"a":1}')
        assert answer.status == 503, flap
        assert answer.capture_id
        assert len(origin.requests) == 1
    assert len(await gateway.captures()) == len(FLAPS)


async def test_a_post_that_was_refused_goes_again(origin: MisbehavingOrigin, gateway: Gateway) -> None:
    """It never reached the upstream: repeating it repeats nothing. The port opens while the gateway waits."""
    slow = profile(origin.url)
    slow["upstream"]["retry"] = {"attempts": 20, "backoff": {"base": "100ms", "max": "100ms"}}
    patient = Gateway(gateway.folder / "patient", origin.url, made=slow)
    async with patient, raw.RawClient(patient.port) as client:
        async with origin.refusing():
            asked = asyncio.create_task(client.request("POST", "/api/users", body=b"once"))
            await until(lambda: _refused(patient), what="a refused attempt")
        answer = await asked
    assert answer.status == 200
    assert [(r.method, r.body) for r in origin.requests] == [("POST", b"once")]


async def _refused(gateway: Gateway) -> float:
    figures = await gateway.metrics()
    return sum(v for k, v in figures.items() if k[0] == "holdfast_upstream_attempts_total" and k[1] != "outcome=ok")


async def test_the_origins_own_errors_are_passed_on_as_they_are(
    gateway: Gateway, origin: MisbehavingOrigin, client: raw.RawClient
) -> None:
    """400, 404, 409, 500: an answer is not a failure, and it is asked once."""
    for status in (400, 404, 409, 429, 500, 501):
        origin.forget()
        origin.plan = Answer(status, [("X-Own", "yes")], b"mine")
        answer = await client.request("GET", "/api/users")
        assert (answer.status, answer.header("x-own"), answer.body) == (status, "yes", b"mine")
        assert len(origin.requests) == 1
    assert await gateway.captures() == []


async def test_a_second_server_takes_over_when_the_first_is_down(tmp_path: Path) -> None:
    """Failover: the client sees an answer, and the dead server got nothing."""
    async with MisbehavingOrigin() as dead, MisbehavingOrigin(Answer(body=b"second")) as alive:
        made = profile(dead.url)
        made["upstream"]["servers"] = [dead.url, alive.url]
        async with Gateway(tmp_path, dead.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            async with dead.refusing():
                for method in ("GET", "POST"):
                    answer = await client.request(method, "/api/users", body=b"x" if method == "POST" else b"")
                    assert (answer.status, answer.body) == (200, b"second")
            assert not dead.requests
            assert [r.header("host") for r in alive.requests] == [alive.url.removeprefix("http://")] * 2
            assert (await client.request("GET", "/api/users")).body == b"ok"
            assert len(dead.requests) == 1


async def test_a_name_with_two_addresses_is_served_and_refused_like_one(tmp_path: Path) -> None:
    """`localhost` is ::1 and 127.0.0.1, and the upstream listens on one of them only."""
    async with MisbehavingOrigin() as origin:
        url = f"http://localhost:{origin.port}"
        async with Gateway(tmp_path, url, made=profile(url)) as gateway, raw.RawClient(gateway.port) as client:
            assert (await client.request("GET", "/api/users")).status == 200
            assert origin.requests[0].header("host") == f"localhost:{origin.port}"
            async with origin.refusing():
                refused = await client.request("GET", "/api/users")
            assert "error=connection_refused" in (refused.header("proxy-status") or "")


async def test_many_clients_through_a_flapping_upstream_get_what_they_asked_for(
    gateway: Gateway, origin: MisbehavingOrigin
) -> None:
    """Every third request is cut; nobody gets somebody else's answer, and nobody gets none."""
    asked = 0

    def flap(received: object) -> Answer | Break:
        nonlocal asked
        asked += 1
        target = received.target  # type: ignore[attr-defined]
        return Break("body", "reset") if asked % 3 == 0 else Answer(body=target.encode())

    origin.plan = flap

    async def one(number: int) -> int:
        async with raw.RawClient(gateway.port) as client:
            for turn in range(10):
                target = f"/api/data?{number}.{turn}"
                answer = await client.request("GET", target)
                assert answer.status == 503 or answer.body == target.encode()
        return 10

    assert sum(await asyncio.gather(*(one(n) for n in range(20)))) == 200
