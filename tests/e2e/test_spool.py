"""Streamed requests: what can be captured where the profile keeps their bodies, and what is said where it does not."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, addon, environment, profile, until
from tests.e2e.test_http2 import http2_client

BODY = os.urandom(300_000)
SMALL = {"buffer_body": "64KiB"}


def spooling(upstream: str, **settings: Any) -> dict[str, Any]:
    """A profile that streams what is larger than 64 KiB, and keeps it."""
    return addon(profile(upstream, limits=dict(SMALL)), "failure_sink", spool={"max_body": "1MiB", **settings})


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize(
    "plan",
    [None, Break("request", "reset"), Break("request", "hang"), Answer(503, early=True), Break("body", "reset")],
    ids=["refused", "reset", "hang", "early 503", "broken answer"],
)
async def test_a_streamed_request_is_captured_whole(tmp_path: Path, plan: Any, chunked: bool) -> None:
    """Whenever the upstream fails, also in the middle of the upload."""
    async with MisbehavingOrigin(plan or Answer()) as origin, Gateway(tmp_path, made=spooling(origin.url)) as gateway:
        if plan is None:
            await origin.stop()

        async def pieces() -> Any:
            for start in range(0, len(BODY), 30_000):
                yield BODY[start : start + 30_000]
                await asyncio.sleep(0.01)

        async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as client:
            fields = {} if chunked else {"content-length": str(len(BODY))}
            answer = await client.post("/api/users", content=pieces(), headers=fields)
            assert answer.status_code == 503
            envelope = (await gateway.exported())[answer.headers["holdfast-capture-id"]]
            assert raw.body_of(envelope) == BODY
            assert len(envelope["attempts"]) == (3 if plan is None else 1)
            again = await client.get("/health")
            assert again.status_code == 200
        assert not [f for f in tmp_path.iterdir() if f.stat().st_size >= len(BODY) and "outbox" not in f.name]


async def test_the_same_over_http2(tmp_path: Path) -> None:
    """Several at once on one connection."""
    async with (
        MisbehavingOrigin(Break("request", "reset")) as origin,
        Gateway(tmp_path, made=spooling(origin.url)) as gateway,
        http2_client(gateway) as client,
    ):
        answers = await asyncio.gather(*(client.put(f"/{n}", content=BODY + b"%d" % n) for n in range(4)))
        stored = await gateway.exported()
        for number, answer in enumerate(answers):
            assert answer.status_code == 503
            envelope = stored[answer.headers["holdfast-capture-id"]]
            assert raw.body_of(envelope) == BODY + b"%d" % number


async def test_a_good_answer_leaves_nothing_behind(tmp_path: Path) -> None:
    """And the upload arrives as it was sent."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=spooling(origin.url)) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as client:
            for _ in range(3):
                assert (await client.post("/", content=BODY)).status_code == 200
        assert {hashlib.sha256(r.body).digest() for r in origin.requests} == {hashlib.sha256(BODY).digest()}
        assert not await gateway.captures()
        held = [os.readlink(f"/proc/{gateway.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{gateway.pid}/fd")]
        assert not [path for path in held if "(deleted)" in path]


@pytest.mark.parametrize(
    "settings", [{"max_body": "100KiB"}, {"max_total": "100KiB"}, None], ids=["body", "all", "off"]
)
async def test_what_is_not_kept_is_said_and_counted(tmp_path: Path, settings: dict[str, str] | None) -> None:
    """Over a bound, or without a spool: an honest answer without an id."""
    async with MisbehavingOrigin(Break("request", "reset")) as origin:
        made = profile(origin.url, limits=dict(SMALL)) if settings is None else spooling(origin.url, **settings)
        async with Gateway(tmp_path, made=made) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as client:
                answer = await client.post("/api/users", content=BODY)
            assert answer.status_code == 503
            assert "holdfast-capture-id" not in answer.headers
            assert answer.headers["holdfast-capture"] == "failed; reason=too_large"
            assert "holdfast-not-retried=" in answer.headers["proxy-status"]
            assert not await gateway.captures()
            figures = await gateway.metrics()
            assert figures["holdfast_capture_failures_total", "reason=too_large"] == 1


async def test_a_client_that_leaves_in_the_middle_is_not_captured_half(tmp_path: Path) -> None:
    """Promise 1 is for whoever was given an id."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=spooling(origin.url)) as gateway:
        await origin.stop()
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + BODY[:200_000])
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()

        async def ended() -> bool:
            return any(k[0] == "holdfast_requests_total" and "fate=failed" in k for k in await gateway.metrics())

        await until(ended, what="the request to be accounted for")
        assert not await gateway.captures()


async def test_a_client_that_stalls_in_the_middle_gets_408(tmp_path: Path) -> None:
    """The rest of the body is waited for no longer than `limits.body_timeout`."""
    async with MisbehavingOrigin() as origin:
        made = spooling(origin.url)
        made["limits"]["body_timeout"] = "400ms"
        async with Gateway(tmp_path, made=made) as gateway:
            await origin.stop()
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"POST /api/users HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + BODY[:200_000])
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"request_timeout" in gateway.log_file.read_bytes()
            writer.close()
            assert not await gateway.captures()


def test_a_spool_that_no_record_can_hold_is_a_fault(tmp_path: Path) -> None:
    """The profile says what to raise."""
    made = addon(profile("http://127.0.0.1:1"), "failure_sink", spool={"max_body": "64MiB"})
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(made))
    checked = subprocess.run(
        [sys.executable, "-m", "holdfast", "check", str(file)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 2
    assert "raise max_record" in checked.stdout + checked.stderr
