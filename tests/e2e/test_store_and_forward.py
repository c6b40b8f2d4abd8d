"""`mode: always`: a request is accepted because it is on the disk, and for no other reason, and no server is asked."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing import Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import PROBLEM, Gateway, addon, profile, until
from tests.e2e.test_fate import told
from tests.e2e.test_http2 import http2_client

BODY = os.urandom(300_000)
HOOKS = {"routes": [{"name": "hooks", "path": "/hooks/{rest*}"}]}


def accepting(upstream: str, *, sink: dict[str, Any] | None = None, **hooks: Any) -> dict[str, Any]:
    """A profile that accepts what comes to /hooks at once, and streams what is larger than 64 KiB."""
    made = profile(upstream, limits={"buffer_body": "64KiB"}, log={"format": "json"})
    addon(made, "router", **HOOKS)
    addon(made, "interceptor", routes={"hooks": {"mode": "always", "answer": 202, **hooks}})
    return addon(made, "failure_sink", **(sink or {}))


def accepted(answer: httpx.Response) -> str:
    """The id of what was accepted, after a look at everything that says so."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["content-type"] == PROBLEM
    identifier = answer.headers["holdfast-capture-id"]
    assert answer.json()["capture_id"] == identifier
    assert answer.headers["location"] == f"/.holdfast/captures/{identifier}"
    assert answer.headers["proxy-status"].endswith("; holdfast-fate=captured")
    assert "error=" not in answer.headers["proxy-status"]
    return identifier


def client_of(gateway: Gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, timeout=15)


async def test_it_is_accepted_at_once_however_the_upstream_is(tmp_path: Path) -> None:
    """Healthy, frozen, absent: no connection is made; and everything that is observed says what happened."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=accepting(origin.url)) as gateway:
        async with client_of(gateway) as client:
            answer = await client.post("/hooks/a?n=1", json={"n": 1})
            identifier = accepted(answer)
            origin.plan = Break("request", "hang")
            accepted(await client.post("/hooks/a", content=b"x", timeout=5))
            async with origin.refusing():
                accepted(await client.post("/hooks/a", content=b"x"))
            assert origin.connections == 0
            assert (await client.get(answer.headers["location"])).json()["state"] == "pending"
            line = await told(gateway, answer)
            assert (line["fate"], line["reason"], line["capture_id"]) == ("captured", "accepted", identifier)
        envelope = (await gateway.exported())[identifier]
        assert (envelope["error"], envelope["attempts"]) == ("accepted", [])
        assert envelope["error_reason"] == "accepted without trying the upstream"
        assert envelope["backend_url"] == origin.url
        assert (envelope["uri"], json.loads(envelope["body"])) == ("/hooks/a?n=1", {"n": 1})
        figures = await gateway.metrics()
        assert figures["holdfast_captures_total", "error=accepted", "route=hooks"] == 3
        labels = ("fate=captured", "method=POST", "route=hooks", "status=202")
        assert figures["holdfast_requests_total", *labels] == 3


async def test_only_what_changes_something_is_accepted(tmp_path: Path) -> None:
    """Safe methods (RFC 9110, section 9.2.1), other routes and upgrades go to the upstream."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=accepting(origin.url)) as gateway,
        client_of(gateway) as client,
    ):
        for method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            assert (await client.request(method, "/hooks/a")).status_code == 200
        assert (await client.post("/elsewhere", content=b"x")).status_code == 200
        upgrade = {"connection": "upgrade", "upgrade": "other"}
        assert (await client.post("/hooks/a", headers=upgrade)).status_code == 200
        assert len(origin.requests) == 6
        for method in ("POST", "PUT", "PATCH", "DELETE", "PROPFIND"):
            accepted(await client.request(method, "/hooks/a"))
        assert len(origin.requests) == 6


async def test_every_framing_is_accepted_whole(tmp_path: Path) -> None:
    """Length, chunks, compression, `Expect: 100-continue`, and a request with no body at all."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=accepting(origin.url)) as gateway:

        async def chunks() -> Any:
            for piece in (b"one ", b"two ", b"three"):
                yield piece

        packed = gzip.compress(b'{"n": 1}')
        async with client_of(gateway) as client:
            whole = {
                accepted(await client.post("/hooks/a", content=b"plain")): b"plain",
                accepted(await client.post("/hooks/a", content=chunks())): b"one two three",
                accepted(await client.post("/hooks/a", content=packed, headers={"content-encoding": "gzip"})): packed,
                accepted(await client.post("/hooks/a")): b"",
            }
        async with raw.RawClient(gateway.port) as patient:
            await patient.send(raw.head("POST", "/hooks/a", [("Expect", "100-continue")], 4))
            assert (await patient.answer_head()).status == 100
            await patient.send(b"body")
            identifier = (await patient.answer()).capture_id
            assert identifier
            whole[identifier] = b"body"
        stored = await gateway.exported()
        assert {each: raw.body_of(stored[each]) for each in whole} == whole
        assert origin.connections == 0


async def test_the_same_over_http2(tmp_path: Path) -> None:
    """Many at once on one connection, held and spooled; a call of gRPC is the server's to answer."""
    made = accepting("http://127.0.0.1:1", sink={"spool": {"max_body": "1MiB"}})
    async with Gateway(tmp_path, made=made) as gateway, http2_client(gateway) as client:
        bodies = [b"%d" % n + (BODY if n % 2 else b"") for n in range(8)]
        answers = await asyncio.gather(*(client.post("/hooks/a", content=body) for body in bodies))
        stored = await gateway.exported()
        assert [raw.body_of(stored[accepted(answer)]) for answer in answers] == bodies
        call = await client.post("/hooks/a", content=b"\0\0\0\0\0", headers={"content-type": "application/grpc"})
        assert (call.status_code, call.headers["grpc-status"]) == (200, "14")


async def test_a_body_that_is_not_held_goes_to_the_spool_and_to_no_server(tmp_path: Path) -> None:
    """Also where only its growing shows that it is too large to hold."""
    async with MisbehavingOrigin() as origin:
        made = accepting(origin.url, sink={"spool": {"max_body": "1MiB"}})
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:

            async def pieces() -> Any:
                for start in range(0, len(BODY), 30_000):
                    yield BODY[start : start + 30_000]

            for fields in ({}, {"content-length": str(len(BODY))}):
                identifier = accepted(await client.post("/hooks/a", content=pieces(), headers=fields))
                assert raw.body_of((await gateway.exported())[identifier]) == BODY
            assert origin.connections == 0
            assert (await client.post("/elsewhere", content=BODY)).status_code == 200


@pytest.mark.parametrize(
    ("spool", "for_now"),
    [(None, False), ({"max_body": "100KiB"}, False), ({"max_body": "1MiB", "max_total": "100KiB"}, True)],
    ids=["no spool", "one", "all"],
)
async def test_a_body_that_cannot_be_kept_is_refused_and_goes_nowhere(
    tmp_path: Path, spool: dict[str, str] | None, for_now: bool
) -> None:
    """413 (RFC 9110, section 15.5.14), with Retry-After where it is not for its own size."""
    chunks = [BODY[start : start + 50_000] for start in range(0, len(BODY), 50_000)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in chunks) + b"0\r\n\r\n"
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=accepting(origin.url, sink={"spool": spool})) as gateway,
    ):
        for head, body in (
            (raw.head("POST", "/hooks/a", length=len(BODY)), BODY),
            (raw.head("POST", "/hooks/a", [("Transfer-Encoding", "chunked")]), chunked),
        ):
            async with raw.RawClient(gateway.port) as client:
                await client.send(head + body)
                answer = await client.answer()
            assert (answer.status, answer.header("content-type")) == (413, PROBLEM)
            assert answer.header("holdfast-capture") == "failed; reason=too_large"
            assert (answer.header("retry-after") == "5") is for_now
        assert origin.connections == 0
        assert not await gateway.captures()
        figures = await gateway.metrics()
        labels = ("fate=rejected", "method=POST", "route=hooks", "status=413")
        assert figures["holdfast_requests_total", *labels] == 2


async def test_a_record_that_is_too_large_is_refused_with_413(tmp_path: Path) -> None:
    """`max_record` is below `buffer_body` here: the outbox refuses it, and it goes nowhere."""
    async with MisbehavingOrigin() as origin:
        made = accepting(origin.url, sink={"max_record": "20KiB"})
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:
            answer = await client.post("/hooks/a", content=BODY[:40_000])
            assert (answer.status_code, answer.headers["holdfast-capture"]) == (413, "failed; reason=too_large")
            assert "retry-after" not in answer.headers
            assert origin.connections == 0


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(tmp_path: Path) -> None:
    """Half a request is none, in memory and in the spool."""
    made = accepting("http://127.0.0.1:1", sink={"spool": {"max_body": "1MiB"}})
    async with Gateway(tmp_path, made=made) as gateway:
        for length in (1000, len(BODY)):
            async with raw.RawClient(gateway.port) as client:
                await client.send(raw.head("POST", "/hooks/a", length=length) + BODY[: length - 10])
                # A whole exchange on another connection comes after what this one has sent.
                async with client_of(gateway) as other:
                    accepted(await other.post("/hooks/other"))

        async def accounted() -> bool:
            labels = ("fate=failed", "method=POST", "route=hooks", "status=none")
            return (await gateway.metrics()).get(("holdfast_requests_total", *labels)) == 2

        await until(accounted, what="the requests to be accounted for")
        assert {each["path"] for each in await gateway.captures()} == {"/hooks/other"}
        assert gateway.log().count('"reason": "client_disconnected"') == 2


async def test_what_was_accepted_survives_kill_9(tmp_path: Path) -> None:
    """Killed the moment the answer is there, a few times: durable first, then 202."""
    made = accepting("http://127.0.0.1:1", sink={"spool": {"max_body": "1MiB"}})
    promised: dict[str, bytes] = {}
    for run in range(2):
        gateway = Gateway(tmp_path, made=made)
        async with gateway, client_of(gateway) as client:
            body = b"%d" % run + (BODY if run == 1 else b"")
            promised[accepted(await client.post("/hooks/a", content=body))] = body
            gateway.kill()
            stored = await gateway.exported()
    assert {each: raw.body_of(stored[each]) for each in promised} == promised


async def test_at_the_bound_the_sender_is_told_to_come_again(tmp_path: Path) -> None:
    """Never a 202 that is not true; and once there is room again, 202."""
    made = accepting("http://127.0.0.1:1", sink={"max_records": 2}, full=429, retry_after="7s")
    made["addons"][2]["interceptor"] |= {"mode": "always", "answer": 202}
    async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:
        kept = [accepted(await client.post("/hooks/a", content=b"x")) for _ in range(2)]
        for target, status, wait in (("/hooks/a", 429, "7"), ("/elsewhere", 503, "5")):
            refused = await client.post(target, content=b"x")
            assert (refused.status_code, refused.headers["content-type"]) == (status, PROBLEM)
            assert refused.headers["holdfast-capture"] == "failed; reason=outbox_full"
            assert refused.headers["retry-after"] == wait
            assert not {"location", "holdfast-capture-id"} & set(refused.headers)
        await gateway.cli("captures", "discard", kept[0], "--yes")

        async def again() -> httpx.Response | None:
            answer = await client.post("/hooks/a", content=b"x")
            return answer if answer.status_code == 202 else None

        accepted(await until(again, within=10, what="room in the outbox"))
        figures = await gateway.metrics()
        assert figures["holdfast_capture_failures_total", "reason=outbox_full"] >= 2


async def test_without_an_outbox_nothing_is_accepted(tmp_path: Path) -> None:
    """No bound but a fault: 503 whatever `full` says, and no server gets it."""
    (tmp_path / "outbox.db").mkdir()
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, made=accepting(origin.url, full=429)) as gateway,
        client_of(gateway) as client,
    ):
        answer = await client.post("/hooks/a", content=b"x")
        assert answer.status_code == 503
        assert answer.headers["holdfast-capture"] == "failed; reason=outbox_unavailable"
        assert origin.connections == 0


async def test_with_every_circuit_open_no_connection_is_tried(tmp_path: Path) -> None:
    """`answer: 202` on failure: at once, and true; at the bound 429."""
    async with MisbehavingOrigin(Break("request", "reset")) as origin:
        made = profile(origin.url, upstream__breaker={"max_fails": 1, "fail_timeout": "60s"})
        made["upstream"]["retry"]["attempts"] = 1
        addon(made, "interceptor", answer=202, full=429)
        addon(made, "failure_sink", max_records=3)
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:
            assert (await client.post("/api/users", content=b"0")).status_code == 202
            tried = origin.connections
            assert tried == 1
            for _ in range(2):
                answer = await client.post("/api/users", content=b"x")
                assert (answer.status_code, "location" in answer.headers) == (202, True)
                assert "error=destination_unavailable" in answer.headers["proxy-status"]
            full = await client.post("/api/users", content=b"x")
            assert (full.status_code, full.headers["retry-after"]) == (429, "60")
            assert full.headers["holdfast-capture"] == "failed; reason=outbox_full"
            assert origin.connections == tried
            assert len(await gateway.captures()) == 3


async def test_the_webhook_profile_accepts_and_then_delivers_in_order(tmp_path: Path) -> None:
    """As it is shipped, in front of an application that is away for a while."""
    async with (
        MisbehavingOrigin() as origin,
        Gateway(tmp_path, origin.url, made="webhook") as gateway,
        client_of(gateway) as client,
    ):
        async with origin.refusing():
            for number in range(5):
                accepted(await client.post("/webhooks/orders", content=b"%d" % number))

        def delivered() -> list[bytes]:
            return [each.body for each in origin.requests if each.complete]

        await until(lambda: len(delivered()) == 5, within=20, what="what was accepted meanwhile")
        accepted(await client.post("/webhooks/orders", content=b"5"))
        await until(lambda: len(delivered()) == 6, within=20, what="what was accepted last")
        assert delivered() == [b"%d" % number for number in range(6)]


OWN = '''
from mitmproxy.http import Response


class Watchman:
    """Refuses large bodies of one kind, and fails on another."""

    def request_grown(self, flow):
        if flow.request.path == "/refused":
            flow.response = Response.make(403, b"not here")
        if flow.request.path == "/broken":
            raise KeyError("broken on purpose")
        if flow.request.path == "/claimed":
            flow.metadata["holdfast"]["withheld"] = "mine"
'''


async def test_an_addon_of_ones_own_may_answer_before_a_large_body_goes_upstream(tmp_path: Path) -> None:
    """`request_grown`: an answer is sent, `on_error` holds; what is claimed and not answered is not passed on."""
    (tmp_path / "own.py").write_text(OWN)
    async with MisbehavingOrigin() as origin:
        made = accepting(origin.url, sink={"spool": {"max_body": "1MiB"}})
        made["addons"].insert(1, {"use": "own:Watchman", "on_error": "closed"})
        async with Gateway(tmp_path, made=made) as gateway, client_of(gateway) as client:
            for path, status in (("/refused", 403), ("/broken", 500), ("/claimed", 503)):
                assert (await client.post(path, content=BODY)).status_code == status
            assert origin.connections == 0
            (claimed,) = await gateway.captures()
            assert (claimed["path"], claimed["error"]) == ("/claimed", "destination_unavailable")
            assert (await client.post("/free", content=BODY)).status_code == 200
