"""The fate of a request: access log, metric and `Proxy-Status` show the same, and so does mitmweb's comment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e.harness import Gateway, addon, profile, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One whose upstream is well, and whose failures are asked for; of one route only `connect` is captured."""
    async with MisbehavingOrigin({"/large": Answer(body=b"y" * 90_000), "/404": Answer(404), "*": Answer()}) as origin:
        made = profile(origin.url, log={"format": "json"}, limits={"max_body": "4KiB", "buffer_body": "64KiB"})
        addon(addon(made, "interceptor", routes={"user": {"on": ["connect"]}}), "faults")
        async with Gateway(tmp_path_factory.mktemp("gateway"), made=made) as running:
            yield running


RESET: dict[str, Any] = {"fault": "reset"}
OF_503: dict[str, Any] = {"fault": "status", "status": 503}
LARGE, KNOWN_USER = {**GET, "url": "/large"}, {**POST, "url": "/api/users/1"}


@pytest.mark.parametrize(
    ("faults", "request_", "fate", "reason"),
    [
        ([], GET, "ok", None),
        ([], {**GET, "url": "/404"}, "ok", None),
        ([{**RESET, "times": 1}], GET, "retried", "attempts:2"),
        ([{**RESET, "times": 1}], LARGE, "retried", "attempts:2"),
        ([{**OF_503, "times": 1}, {**OF_503, "status": 502, "times": 1, "name": "502"}], GET, "retried", "attempts:3"),
        ([RESET], POST, "captured", "connection_terminated"),
        ([OF_503], POST, "captured", "http_503"),
        ([{"fault": "refuse"}], POST, "captured", "connection_refused"),
        ([OF_503], KNOWN_USER, "failed", "http_503"),
        ([{"fault": "hang"}], KNOWN_USER, "failed", "http_response_timeout"),
        ([], {**POST, "content": b"x" * 5000}, "rejected", "body_too_large"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_all_show_the_same(
    gateway: Gateway, faults: list[dict[str, Any]], request_: dict[str, Any], fate: str, reason: str | None
) -> None:
    """One place decides."""
    await gateway.inject(*faults)
    before = await gateway.metrics()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
        answer = await client.request(**request_)
    line = await told(gateway, answer)
    assert (line["fate"], line.get("reason")) == (fate, reason)
    assert fate_in(answer) == fate
    figures = await gateway.metrics()
    counted = [k for k, v in figures.items() if k[0] == "holdfast_requests_total" and v == before.get(k, 0) + 1]
    assert [part for key in counted for part in key if part.startswith("fate=")] == [f"fate={fate}"]


@pytest.mark.parametrize("status", [503, 404])
async def test_one_that_was_asked_for_at_the_client_is_shown_to_be_that(gateway: Gateway, status: int) -> None:
    """`failed`, and the rule is the reason, whatever the upstream has answered."""
    await gateway.inject({"fault": "status", "status": status, "at": "client", "name": "mine"})
    async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
        answer = await client.request(**GET)
    line = await told(gateway, answer)
    assert (line["fate"], line["reason"], line["status"], line["attempts"]) == ("failed", "fault:mine", status, 1)
    assert (answer.status_code, fate_in(answer)) == (status, "failed")


async def test_what_the_origins_own_proxies_said_stays(tmp_path: Path) -> None:
    """RFC 9209 section 2: a list, the member nearest to the origin first."""
    plan = [Break("request", "reset"), Answer(headers=[("Proxy-Status", "inner; received-status=200")])]
    async with MisbehavingOrigin(plan) as origin, Gateway(tmp_path, origin.url) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
            answer = await client.get("/")
        first, second = answer.headers.get_list("proxy-status")
        assert first == "inner; received-status=200"
        assert second == 'holdfast; received-status=200; details="attempts:2"; holdfast-fate=retried'
