"""Settings per route: servers, patience, retries and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e.harness import Gateway, addon, profile

ROUTES = [{"name": name, "path": f"/{name}"} for name in ("slow", "once", "own", "upload", "open")]


def made(upstream: str, routes: dict[str, Any], limits: dict[str, Any] | None = None) -> dict[str, Any]:
    """The harness's profile with these routes."""
    whole = profile(upstream, upstream__routes=routes, limits={"routes": limits or {}})
    whole["addons"][0] = {"router": {"routes": ROUTES}}
    return whole


async def test_each_route_has_its_own_patience_retries_and_servers(tmp_path: Path) -> None:
    """The rest is as for all."""
    plan: dict[str, Any] = {"/slow": Answer(body=b"late", delay=0.6), "*": Break("request", "hang")}
    async with MisbehavingOrigin(plan) as origin, MisbehavingOrigin(Answer(body=b"other")) as other:
        routes = {
            "slow": {"response_timeout": "5s", "deadline": "6s"},
            "once": {"retry": {"attempts": 1}},
            "own": {"servers": [other.url]},
        }
        async with Gateway(tmp_path, made=made(origin.url, routes)) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
                assert (await client.get("/slow")).text == "late"
                assert (await client.get("/own")).text == "other"
                for path, attempts in (("/once", 1), ("/any", 3)):
                    origin.forget()
                    answer = await client.get(path)
                    assert answer.status_code == 503
                    assert len(origin.requests) == attempts
            health = (await gateway.admin("/health")).json()["upstream"]
            assert set(health) == {origin.url, other.url}
            figures = await gateway.metrics()
            assert figures["holdfast_upstream_attempts_total", "outcome=ok", f"server={other.url}"] == 1


async def test_a_circuit_of_one_route_is_not_anothers(tmp_path: Path) -> None:
    """A route with a breaker of its own judges the same server by itself."""
    async with MisbehavingOrigin(Answer(body=b"fine")) as origin:
        routes = {"open": {"breaker": {"max_fails": 2, "fail_timeout": "60s"}, "retry": {"attempts": 1}}}
        rule = {"fault": "status", "at": "upstream", "route": "open"}
        async with Gateway(tmp_path, made=addon(made(origin.url, routes), "faults", rules=[rule])) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
                answers = [await client.post("/open") for _ in range(4)]
                tokens = ["destination_unavailable" in a.headers["proxy-status"] for a in answers]
                assert tokens == [False, False, True, True]
                assert (await client.get("/any")).text == "fine"
            figures = await gateway.metrics()
            opened = {k[1]: v for k, v in figures.items() if k[0] == "holdfast_upstream_open"}
            assert opened == {f"server={origin.url}": 0.0, f"server={origin.url} (open)": 1.0}


async def test_sizes_differ_per_route(tmp_path: Path) -> None:
    """A request above `max_body` is refused with 413, a response above `max_response` is a failure that says so."""
    async with MisbehavingOrigin(Answer(body=b"x" * 5000)) as origin:
        limits = {"upload": {"max_body": "100KiB"}, "own": {"max_response": "4KiB"}}
        whole = made(origin.url, {}, limits)
        whole["limits"]["max_body"] = "1KiB"
        async with (
            Gateway(tmp_path, made=whole) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=10) as client,
        ):
            body = b"y" * 50_000
            assert (await client.post("/any", content=body)).status_code == 413
            assert (await client.post("/upload", content=body)).status_code == 200
            assert (await client.post("/upload", content=body * 3)).status_code == 413
            assert (await client.get("/any")).status_code == 200
            refused = await client.get("/own")
            assert refused.status_code == 502
            assert "error=http_response_body_size" in refused.headers["proxy-status"]
            assert "holdfast-not-retried=not_retriable" in refused.headers["proxy-status"]


async def test_a_response_that_grows_too_large_is_cut_where_the_client_is_reading_it(tmp_path: Path) -> None:
    """It was being streamed: the client must not take it for whole."""
    async with MisbehavingOrigin(Answer(body=b"x" * 300_000, chunked=True, pieces=30)) as origin:
        whole = made(origin.url, {}, {"own": {"max_response": "200KiB"}})
        whole["limits"]["buffer_body"] = "64KiB"
        async with Gateway(tmp_path, made=whole) as gateway:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
                assert len((await client.get("/any")).content) == 300_000
                try:
                    answer = await client.get("/own")
                except httpx.RemoteProtocolError:
                    pass
                else:
                    raise AssertionError(f"taken for whole: {len(answer.content)} bytes")
            figures = await gateway.metrics()
            outcomes = {k[1] for k in figures if k[0] == "holdfast_upstream_attempts_total"}
            assert "outcome=http_response_body_size" in outcomes
