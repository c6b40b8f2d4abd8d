"""The fate of a request: access log, metric and `Proxy-Status` show the same, and so does mitmweb's comment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.testing import Answer, Break, MisbehavingOrigin, Plan
from tests.e2e.harness import Gateway, addon, profile, until
from tests.services.process import free_port

GET: dict[str, Any] = {"method": "GET", "url": "/api/users"}
POST: dict[str, Any] = {"method": "POST", "url": "/api/users", "content": b"x" * 100}


async def told(gateway: Gateway, answer: httpx.Response) -> dict[str, Any]:
    """The access log's line for this answer."""

    def line() -> dict[str, Any] | None:
        lines = [json.loads(text) for text in gateway.log(500).splitlines() if '"request"' in text]
        return next((each for each in lines if each.get("request_id") == answer.headers["x-request-id"]), None)

    return await until(line, what="the log line")


def fate_in(answer: httpx.Response) -> str:
    """What `Proxy-Status` says; an answer of the upstream's own at the first attempt needs no word."""
    members = [m for m in answer.headers.get("proxy-status", "").split(",") if m.strip().startswith("holdfast")]
    found = [p.strip() for m in members for p in m.split(";") if p.strip().startswith("holdfast-fate=")]
    assert len(found) <= 1
    return found[0].partition("=")[2] if found else "ok"


@pytest.mark.parametrize(
    ("plan", "request_", "changes", "fate", "reason"),
    [
        (Answer(), GET, {}, "ok", None),
        (Answer(404), GET, {}, "ok", None),
        ([Break("request", "reset"), Answer()], GET, {}, "retried", "attempts:2"),
        ([Break("request", "reset"), Answer(body=b"y" * 90_000)], GET, {}, "retried", "attempts:2"),
        ([Answer(503), Answer(502), Answer()], GET, {}, "retried", "attempts:3"),
        (Break("request", "reset"), POST, {}, "captured", "connection_terminated"),
        (Answer(503), POST, {}, "captured", "http_503"),
        (None, POST, {}, "captured", "connection_refused"),
        (Answer(503), POST, {"on": ["connect"]}, "failed", "http_503"),
        (Break("request", "hang"), POST, {"on": ["connect"]}, "failed", "http_response_timeout"),
        (Answer(), {**POST, "content": b"x" * 5000}, {}, "rejected", "body_too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_all_show_the_same(
    tmp_path: Path, plan: Plan | None, request_: dict[str, Any], changes: dict[str, Any], fate: str, reason: str | None
) -> None:
    """One place decides."""
    async with MisbehavingOrigin(plan or Answer()) as origin:
        url = origin.url if plan else f"http://127.0.0.1:{free_port()}"
        made = profile(url, log={"format": "json"}, limits={"max_body": "4KiB", "buffer_body": "64KiB"})
        addon(made, "interceptor", **changes)
        async with Gateway(tmp_path, made=made) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
                answer = await client.request(**request_)
            line = await told(gateway, answer)
            assert (line["fate"], line.get("reason")) == (fate, reason)
            assert fate_in(answer) == fate
            figures = await gateway.metrics()
            counted = [k for k, v in figures.items() if k[0] == "holdfast_requests_total" and v == 1]
            assert [part for key in counted for part in key if part.startswith("fate=")] == [f"fate={fate}"]


async def test_what_the_origins_own_proxies_said_stays(tmp_path: Path) -> None:
    """RFC 9209 section 2: a list, the member nearest to the origin first."""
    plan = [Break("request", "reset"), Answer(headers=[("Proxy-Status", "inner; received-status=200")])]
    async with MisbehavingOrigin(plan) as origin, Gateway(tmp_path, origin.url) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
            answer = await client.get("/")
        first, second = answer.headers.get_list("proxy-status")
        assert first == "inner; received-status=200"
        assert second == 'holdfast; received-status=200; details="attempts:2"; holdfast-fate=retried'
