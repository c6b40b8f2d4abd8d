"""Notices: a real gateway, and a receiver that checks the signature as any user of Standard Webhooks would."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx

from holdfast.policy.signature import parse_signing_keys, verify
from holdfast.testing import Answer, Break, MisbehavingOrigin, Received, self_signed
from tests.e2e import raw
from tests.e2e.harness import Gateway, addon, profile, until
from tests.e2e.live import change, entry_of, quiet
from tests.services.process import free_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")


def notifying(upstream: str, receiver: str, **settings: Any) -> dict[str, Any]:
    """The harness's profile, without retries, with a notifier behind it."""
    made = profile(upstream, upstream__retry={"attempts": 1})
    return addon(made, "notifier", **{"webhook": f"{receiver}/hooks/T0", "repeat": ["50ms", "50ms"], **settings})


def genuine(request: Received) -> dict[str, Any]:
    """The document, its signature checked."""
    fields = {name.lower(): value for name, value in request.headers}
    verify(parse_signing_keys(SECRET), fields, request.body, time.time())
    document: dict[str, Any] = json.loads(request.body)
    return document


async def arrived(receiver: MisbehavingOrigin, number: int) -> list[dict[str, Any]]:
    """So many documents, and no more."""
    await until(lambda: len(receiver.requests) >= number, what=f"{number} notices")
    await asyncio.sleep(0.1)
    assert len(receiver.requests) == number
    return [genuine(request) for request in receiver.requests]


async def fail(gateway: Gateway, times: int = 1) -> list[raw.Answer]:
    """Requests that the gateway captures."""
    async with raw.RawClient(gateway.port) as client:
        answers = [await client.request("POST", "/api/users", [CLIENT], b'{"pin": "s3cret"}') for _ in range(times)]
    assert {answer.status for answer in answers} == {503}
    return answers


async def test_an_outage_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    """First failure: one notice. Fifty more: none. Back again: one."""
    async with (
        MisbehavingOrigin() as origin,
        MisbehavingOrigin(Answer(204)) as receiver,
        Gateway(tmp_path, made=notifying(origin.url, receiver.url, key=SECRET)) as gateway,
    ):
        async with origin.refusing():
            (first,) = await fail(gateway)
            (failing,) = await arrived(receiver, 1)
            later = await fail(gateway, 50)
            await arrived(receiver, 1)
        async with raw.RawClient(gateway.port) as client:
            for _ in range(3):
                assert (await client.request("GET", "/api/users")).status == 200
        _, recovered = await arrived(receiver, 2)
        figures = await gateway.metrics()
        health = (await gateway.admin("/health")).json()
        listed = await gateway.cli(*failing["data"]["command"].split()[1:], "--json")
        config = (await gateway.admin("/config")).text
    data = failing["data"]
    assert (failing["type"], data["route"], data["fate"]) == ("holdfast.route.failing", "users", "captured")
    assert (data["error"], data["capture_ids"], data["trace_id"]) == ("connection_refused", [first.capture_id], TRACE)
    assert [record["id"] for record in json.loads(listed)] == [each.capture_id for each in reversed([first, *later])]
    assert recovered["type"] == "holdfast.route.recovered"
    assert recovered["data"]["counts"] == {"captured": 51, "failed": 0, "unsettled": None, "suppressed": 0}
    assert recovered["data"]["lasted_seconds"] > 0
    assert figures["holdfast_notices_total", "outcome=sent", "type=failing"] == 1
    assert figures["holdfast_notices_total", "outcome=sent", "type=recovered"] == 1
    assert health["notifier"] == {"status": "ok", "waiting": 0}
    assert not any(b"s3cret" in request.body for request in receiver.requests)
    assert SECRET not in config
    assert "/hooks/T0" not in config


async def test_a_receiver_that_fails_is_tried_again_with_the_same_id(tmp_path: Path) -> None:
    """Twice 500, then taken: each try is signed anew, and one notice was sent."""
    async with (
        MisbehavingOrigin(Answer(503)) as origin,
        MisbehavingOrigin([Answer(500), Break("request", "reset"), Answer(200)]) as receiver,
        Gateway(tmp_path, made=notifying(origin.url, receiver.url, key=SECRET)) as gateway,
    ):
        await fail(gateway)
        documents = await arrived(receiver, 3)
        figures = await gateway.metrics()
    assert documents[0] == documents[1] == documents[2]
    assert len({request.header("webhook-id") for request in receiver.requests}) == 1
    assert figures["holdfast_notices_total", "outcome=sent", "type=failing"] == 1
    assert figures["holdfast_notices_total", "outcome=failed", "type=failing"] == 0


async def test_a_receiver_that_hangs_costs_no_request_anything(tmp_path: Path) -> None:
    """Not while it fails, not while it is well; health says so, and a stop takes no longer than its flush."""
    async with (
        MisbehavingOrigin() as origin,
        MisbehavingOrigin(Break("request", "hang")) as receiver,
        MisbehavingOrigin(Answer(200)) as other,
    ):
        made = notifying(origin.url, receiver.url, timeout="300ms", key=SECRET)
        addon(made, "notifier", webhook=[receiver.url, other.url])
        async with Gateway(tmp_path, made=made) as gateway:
            async with origin.refusing():
                await fail(gateway)
                await until(lambda: bool(receiver.requests), what="the first try")
                before = time.monotonic()
                await fail(gateway, 20)
            async with raw.RawClient(gateway.port) as client:
                for _ in range(20):
                    assert (await client.request("GET", "/api/users")).status == 200
            assert time.monotonic() - before < 6  # a tenth of it, as a rule; 12 if each waited for the receiver
            await arrived(other, 2)
            await until(lambda: _failed(gateway), within=10, what="the notice to be given up")
            health = (await gateway.admin("/health")).json()
            assert (health["status"], health["notifier"]["status"]) == ("degraded", "failing")
            assert receiver.url in health["notifier"]["detail"]
            assert await gateway.terminate(within=8) == 0
        log = gateway.log_file.read_text()
        assert "notice not delivered" in log
        assert "Traceback" not in log


async def _failed(gateway: Gateway) -> bool:
    return (await gateway.metrics())["holdfast_notices_total", "outcome=failed", "type=failing"] == 1


async def test_a_notice_on_its_way_is_delivered_by_a_stop(tmp_path: Path) -> None:
    """SIGTERM while its first try is pending a repeat."""
    async with (
        MisbehavingOrigin(Answer(503)) as origin,
        MisbehavingOrigin([Answer(500), Answer(200)]) as receiver,
        Gateway(tmp_path, made=notifying(origin.url, receiver.url, key=SECRET, repeat=["1m"])) as gateway,
    ):
        await fail(gateway)
        await until(lambda: len(receiver.requests) == 1, what="the first try")
        assert await gateway.terminate(within=8) == 0
        assert len(receiver.requests) == 2


async def test_a_receiver_over_tls_is_checked(tmp_path: Path) -> None:
    """With an authority that this machine trusts it is told; without it is not."""
    certificate = self_signed("localhost")
    async with (
        MisbehavingOrigin(Answer(503)) as origin,
        MisbehavingOrigin(Answer(200), tls=certificate) as receiver,
    ):
        made = notifying(origin.url, f"https://localhost:{receiver.port}", key=SECRET, repeat=[])
        async with Gateway(tmp_path / "a", made=made) as gateway:
            await fail(gateway)
            await until(lambda: _failed(gateway), what="the notice to fail")
            assert "certificate" in (await gateway.admin("/health")).json()["notifier"]["detail"]
            assert not receiver.requests
        trusting = {"SSL_CERT_FILE": str(certificate.write(tmp_path))}
        async with Gateway(tmp_path / "b", made=made, env=trusting) as gateway:
            await fail(gateway)
            await arrived(receiver, 1)


async def test_a_changed_profile_tells_another_receiver(tmp_path: Path) -> None:
    """While the gateway runs; what is known of the route stays, so that only its recovery is news."""
    async with MisbehavingOrigin() as origin, MisbehavingOrigin(Answer(200)) as receiver:
        made = quiet(notifying(origin.url, f"http://127.0.0.1:{free_port()}", key=SECRET, good_answers=1))
        async with Gateway(tmp_path, made=made) as gateway:
            async with origin.refusing():
                await fail(gateway)
            await change(gateway, lambda made: entry_of(made, "notifier").update(webhook=receiver.url))
            async with httpx.AsyncClient(base_url=gateway.url) as client:
                assert (await client.get("/api/users")).status_code == 200
            (document,) = await arrived(receiver, 1)
    assert document["type"] == "holdfast.route.recovered"


async def test_what_becomes_of_captures_is_told(tmp_path: Path) -> None:
    """By the replayer of the gateway: one is delivered, which is the end of the outage; one is a dead letter."""
    async with (
        MisbehavingOrigin([Answer(503), Answer(201), Answer(503), Answer(400)]) as origin,
        MisbehavingOrigin(Answer(200)) as receiver,
    ):
        made = notifying(origin.url, receiver.url, key=SECRET, quiet="0s")
        made["addons"].insert(-2, {"replayer": {"schedule": {"delays": ["50ms"]}}})
        async with Gateway(tmp_path, made=made) as gateway:
            await fail(gateway)
            _, recovered = await arrived(receiver, 2)
            (second,) = await fail(gateway)
            *_, dead = await arrived(receiver, 4)
    assert (recovered["type"], recovered["data"]["fate"]) == ("holdfast.route.recovered", "delivered")
    assert recovered["data"]["counts"] == {"captured": 1, "failed": 0, "unsettled": 0, "suppressed": 0}
    assert (dead["type"], dead["data"]["fate"]) == ("holdfast.capture.dead_letter", "dead")
    assert (dead["data"]["capture_ids"], dead["data"]["status"]) == ([second.capture_id], 400)
    assert dead["data"]["command"] == f"holdfast captures replay {second.capture_id}"
    assert dead["data"]["trace_id"] == TRACE
