"""What the gateway says of itself is so: health, metrics, configuration, the command line beside it."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.conftest import SampleOrigin
from tests.e2e.harness import Gateway, addon, profile, run_cli, until


async def health(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    """The admin surface's page."""
    answer = await gateway.admin("/health")
    return answer.status_code, answer.json()


async def test_health_follows_the_upstream_down_and_up(tmp_path: Path) -> None:
    """It says that the upstream is down while it is, and recovers by itself; the gateway stays ready throughout."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, origin.url) as gateway:
        status, document = await health(gateway)
        assert (status, document["status"]) == (200, "ok")
        assert document["upstream"][origin.url]["status"] == "ok"
        assert {"gateway", "redis", "kafka", "outbox", "upstream"} <= document.keys()
        assert document["kafka"]["status"] == document["redis"]["status"] == "not_configured"
        async with origin.refusing():
            await until(lambda: _upstream_is(gateway, origin.url, "failing"), what="health to see the upstream down")
            status, document = await health(gateway)
            # Requests can still be captured: degraded, and not a reason to take the gateway out of service.
            assert (status, document["status"]) == (200, "degraded")
            assert (await gateway.admin("/readyz")).status_code == 200
            assert (await gateway.admin("/healthz")).status_code == 200
            async with raw.RawClient(gateway.port) as client:
                public = await client.request("GET", "/health")
                assert public.json()["status"] == "degraded"
                assert public.json()["upstream"] == {"servers": 1, "up": 0}
        await until(lambda: _upstream_is(gateway, origin.url, "ok"), what="health to see the upstream up again")


async def _upstream_is(gateway: Gateway, url: str, state: str) -> bool:
    _, document = await health(gateway)
    return bool(document["upstream"][url]["status"] == state)


async def test_health_sees_an_upstream_that_accepts_and_never_answers(tmp_path: Path) -> None:
    """A connection alone is no health: the last attempts count."""
    async with MisbehavingOrigin(Break("request", "hang")) as origin, Gateway(tmp_path, origin.url) as gateway:
        async with raw.RawClient(gateway.port) as client:
            assert (await client.request("GET", "/api/users")).status == 503
        await until(lambda: _upstream_is(gateway, origin.url, "failing"), what="health to see the silent upstream")


async def test_health_fails_where_a_request_would_be_lost(tmp_path: Path) -> None:
    """No upstream and nowhere to store: 503."""
    made = addon(profile("http://127.0.0.1:1"), "failure_sink", outbox="/proc/nowhere/outbox.db")
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        status, document = await health(gateway)
        assert (status, document["status"], document["outbox"]["status"]) == (503, "failing", "failing")
        answer = await client.request("POST", "/api/users", body=b"x")
        assert (answer.status, answer.header("holdfast-capture")) == (503, "failed; reason=outbox_unavailable")


async def test_metrics_tell_the_fate_of_known_traffic(tmp_path: Path, sample: SampleOrigin) -> None:
    """Each request is counted once, under its route, its status and its fate; attempts and captures agree."""
    async with Gateway(tmp_path / "gateway", sample.url) as gateway, raw.RawClient(gateway.port) as client:
        for _ in range(4):
            await client.request("GET", "/api/users")
        for number in (1, 2, 999):
            await client.request("GET", f"/api/users/{number}")
        await client.request("GET", "/elsewhere?secret=1")
        await client.request("BREW", "/api/users")
        await sample.tell(fail=503, times=1)
        await client.request("GET", "/api/users")
        await client.request("POST", "/api/users?fail=502", body=b"{}")
        await client.request("GET", "/api/users?fail=504")
        await client.request("GET", "/api/users?fail=500")
        figures = await gateway.metrics()
    requests = {key[1:]: value for key, value in figures.items() if key[0] == "holdfast_requests_total"}
    assert requests == {
        ("fate=ok", "method=GET", "route=users", "status=200"): 4,
        ("fate=ok", "method=GET", "route=user", "status=200"): 2,
        ("fate=ok", "method=GET", "route=user", "status=404"): 1,
        ("fate=ok", "method=GET", "route=other", "status=404"): 1,
        ("fate=ok", "method=OTHER", "route=users", "status=405"): 1,
        ("fate=retried", "method=GET", "route=users", "status=200"): 1,
        ("fate=captured", "method=POST", "route=users", "status=503"): 1,
        ("fate=captured", "method=GET", "route=users", "status=503"): 1,
        ("fate=ok", "method=GET", "route=users", "status=500"): 1,
    }
    attempts = {key[1]: value for key, value in figures.items() if key[0] == "holdfast_upstream_attempts_total"}
    assert attempts == {"outcome=ok": 11, "outcome=http_503": 1, "outcome=http_502": 1, "outcome=http_504": 3}
    assert figures["holdfast_captures_total", "error=http_502", "route=users"] == 1
    assert figures["holdfast_captures_total", "error=http_504", "route=users"] == 1
    assert sum(value for key, value in figures.items() if key[0] == "holdfast_outbox_records") == 2
    assert figures[("holdfast_outbox_bytes",)] > 0
    assert figures["holdfast_request_duration_seconds_count", "fate=captured", "route=users"] == 2
    assert next(value for key, value in figures.items() if key[0] == "holdfast_build_info") == 1
    assert not any("secret" in label or "elsewhere" in label for key in figures for label in key)


async def test_a_client_that_leaves_is_counted_as_failed(tmp_path: Path) -> None:
    """Not as an answer that it never got."""
    async with MisbehavingOrigin(Answer(delay=0.2)) as origin, Gateway(tmp_path, origin.url) as gateway:
        async with raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/api/users"))
            await origin.wait_for(1)
        await until(lambda: _failed(gateway), what="the request to be counted")
        figures = await gateway.metrics()
        assert figures["holdfast_requests_total", "fate=failed", "method=GET", "route=users", "status=none"] == 1


async def _failed(gateway: Gateway) -> bool:
    return any("fate=failed" in key for key in await gateway.metrics() if key[0] == "holdfast_requests_total")


async def test_the_upstreams_last_answer_is_in_the_capture(tmp_path: Path) -> None:
    """Status, header fields and body of the 503, so that somebody can see later what was wrong."""
    answer_ = {"status": 503, "headers": {"X-Why": "overloaded"}, "body": '{"why":"overloaded"}'}
    rule = {"fault": "status", "at": "upstream", **answer_}
    made = addon(profile("http://127.0.0.1:1"), "faults", rules=[rule])
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        answer = await client.request("POST", "/api/users", body=b"{}")
        envelope = (await gateway.exported())[answer.capture_id or ""]
    assert envelope["error"] == "http_503"
    assert envelope["response"]["status"] == 503
    assert envelope["response"]["headers"]["x-why"] == "overloaded"
    assert envelope["response"]["body"] == '{"why":"overloaded"}'


async def test_secrets_do_not_reach_the_disk(tmp_path: Path) -> None:
    """Neither the credentials of a captured request nor a token in its query: not in any file, not in the log."""
    secrets = {"Authorization": "Bearer s3cr3t-one", "Cookie": "session=s3cr3t-two", "X-Api-Key": "s3cr3t-three"}
    async with Gateway(tmp_path) as gateway, raw.RawClient(gateway.port) as client:
        answer = await client.request("POST", "/api/users?token=s3cr3t-four&a=1", list(secrets.items()), b"{}")
        envelope = (await gateway.exported())[answer.capture_id or ""]
        assert {"authorization", "cookie", "x-api-key"} <= {
            name.lower().split(":")[-1] for name in envelope["redacted"]
        }
        assert await gateway.terminate() == 0
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"s3cr3t" not in file.read_bytes(), file


async def test_accepted_routes_are_told_where_to_ask(tmp_path: Path) -> None:
    """`answer: 202` on one route: accepted with a Location there, 503 everywhere else."""
    made = addon(profile("http://127.0.0.1:1"), "interceptor", routes={"users": {"answer": 202, "retry_after": "7s"}})
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        accepted = await client.request("POST", "/api/users", body=b"{}")
        assert (accepted.status, accepted.header("retry-after")) == (202, "7")
        assert accepted.capture_id
        # The client cannot reach the admin surface, so the place is on the port that it knows.
        status = await client.request("GET", accepted.header("location") or "")
        assert (status.status, status.json()["id"], status.json()["state"]) == (200, accepted.capture_id, "pending")
        assert (await client.request("GET", f"{accepted.header('location')}x")).status == 404
        assert (await client.request("POST", "/api/users/1", body=b"{}")).status == 503


async def test_the_command_line_and_the_admin_api_agree(tmp_path: Path) -> None:
    """The same filters give the same captures, by both ways; show and export give the same envelope."""
    async with (
        MisbehavingOrigin(Answer(502)) as origin,
        Gateway(tmp_path, origin.url) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        first = await client.request("POST", "/api/users", body=b"1")
        async with origin.refusing():
            second = await client.request("DELETE", "/api/users/7")
        for query, args, expected in (
            ("route=user", ("--route", "user"), {second.capture_id}),
            ("status=502", ("--status", "502"), {first.capture_id}),
            ("since=1h", ("--since", "1h"), {first.capture_id, second.capture_id}),
            ("limit=1", ("--limit", "1"), {second.capture_id}),
            ("route=nothing", ("--route", "nothing"), set()),
        ):
            listed = {capture["id"] for capture in await gateway.captures(*args)}
            asked = (await gateway.admin(f"/captures?{query}")).json()["captures"]
            assert listed == {capture["id"] for capture in asked} == expected, query
        shown = json.loads(await gateway.cli("captures", "show", "--json", first.capture_id or ""))
        assert shown["request"] == (await gateway.exported())[first.capture_id or ""]
        code, _, error = await run_cli("captures", "show", "nothing", "--profile", gateway.profile, cwd=tmp_path)
        assert (code, "nothing" in error) == (1, True)


async def test_curl_sees_an_honest_answer(tmp_path: Path) -> None:
    """An ordinary client, with its own ideas of HTTP: a large POST with Expect, against a dead upstream."""
    curl = shutil.which("curl")
    assert curl, "curl is needed"
    (tmp_path / "body").write_bytes(b"x" * 2_000_000)
    async with Gateway(tmp_path) as gateway:
        process = await asyncio.create_subprocess_exec(
            curl, "-sS", "-i", "-H", "Expect: 100-continue", "--data-binary", "@body", f"{gateway.url}/api/users",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(20):
            out, err = await process.communicate()
        assert process.returncode == 0, err
        assert b"HTTP/1.1 503" in out
        (capture,) = await gateway.captures()
        assert f"holdfast-capture-id: {capture['id']}".encode() in out.lower()
        assert raw.body_of((await gateway.exported())[capture["id"]]) == b"x" * 2_000_000
