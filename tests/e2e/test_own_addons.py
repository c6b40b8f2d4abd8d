"""Addons of one's own in the chain, by dotted path: good ones work, broken ones harm nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast.testing import MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import PROBLEM, Front, Gateway, profile

OWN = '''
from mitmproxy import command, ctx


class Banner:
    """Stamps every answer."""

    def __init__(self, text, times=1):
        self.text = text * times

    async def request(self, flow):
        flow.request.headers["x-banner-in"] = self.text

    def responseheaders(self, flow):
        flow.response.headers["x-banner"] = self.text


class Broken:
    """Raises in the hook it was told."""

    def __init__(self, hook):
        setattr(self, hook, self._fail)

    def _fail(self, flow):
        raise KeyError("broken on purpose")


class BrokenLater:
    """Raises from an asynchronous hook, after having waited."""

    async def request(self, flow):
        import asyncio
        await asyncio.sleep(0)
        raise RuntimeError("broken on purpose")


class Retries:
    """Hears of the events that Holdfast adds."""

    def upstream_retry(self, flow):
        flow.metadata["retries"] = flow.metadata.get("retries", 0) + 1

    async def upstream_failed(self, flow):
        if flow.response is None and flow.request.path == "/own-answer":
            from mitmproxy.http import Response
            flow.response = Response.make(299, b"mine", {"x-retries": str(flow.metadata.get("retries", 0))})
'''


def with_addons(upstream: str, first: list[Any], last: list[Any]) -> dict[str, Any]:
    """A profile with these before and behind Holdfast's own."""
    made = profile(upstream)
    made["addons"] = [*first, *made["addons"], *last]
    return made


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder on the gateway's PYTHONPATH with addons of one's own."""
    (tmp_path / "own_addons.py").write_text(OWN)
    return tmp_path


BANNER = {"use": "own_addons:Banner", "with": {"text": "hello ", "times": 2}}


@pytest.mark.parametrize("front", ["run", "mitmdump", "mitmweb"])
async def test_an_addon_by_dotted_path_takes_part(own: Path, front: Front) -> None:
    """With its keyword arguments, on requests and answers, those of the gateway included."""
    async with MisbehavingOrigin() as origin:
        made = with_addons(origin.url, [BANNER], [])
        async with Gateway(own, origin.url, front=front, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answer = await client.request("GET", "/api/users")
            assert (answer.status, answer.header("x-banner")) == (200, "hello hello")
            assert origin.requests[0].header("x-banner-in") == "hello hello"
            async with origin.refusing():
                captured = await client.request("GET", "/api/users")
            assert (captured.status, captured.header("x-banner")) == (503, "hello hello")


@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders", "response"])
async def test_a_broken_addon_that_fails_open_harms_nobody(own: Path, hook: str) -> None:
    """The request is served, the others run, and the failure is logged with its trace and counted."""
    broken = {"use": "own_addons:Broken", "with": {"hook": hook}}
    async with MisbehavingOrigin() as origin:
        made = with_addons(origin.url, [broken], [BANNER])
        async with Gateway(own, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            for _ in range(3):
                answer = await client.request("GET", "/api/users")
                assert (answer.status, answer.body, answer.header("x-banner")) == (200, b"ok", "hello hello")
                assert answer.header("x-request-id")
            figures = await gateway.metrics()
            failures = {key: value for key, value in figures.items() if key[0] == "holdfast_addon_errors_total"}
            assert list(failures.values()) == [3]
            assert f"hook={hook}" in next(iter(failures))
            assert figures["holdfast_requests_total", "fate=ok", "method=GET", "route=users", "status=200"] == 3
            assert "KeyError: 'broken on purpose'" in gateway.log(200)
        assert len(origin.requests) == 3


@pytest.mark.parametrize("hook", ["requestheaders", "request", "responseheaders", "response"])
async def test_a_broken_addon_that_fails_closed_fails_the_request(own: Path, hook: str) -> None:
    """500 with a problem document; nothing of the upstream's answer gets out, and the connection is kept."""
    broken = {"use": "own_addons:Broken", "with": {"hook": hook}, "on_error": "closed"}
    async with MisbehavingOrigin() as origin:
        made = with_addons(origin.url, [], [broken, BANNER])
        async with Gateway(own, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            for method, body in (("GET", b""), ("POST", b"x" * 100_000), ("GET", b"")):
                answer = await client.request(method, "/api/users", body=body)
                assert (answer.status, answer.header("content-type")) == (500, PROBLEM)
                assert "error=proxy_internal_error" in (answer.header("proxy-status") or "")
                assert answer.json()["status"] == 500
                assert answer.header("x-request-id")
            figures = await gateway.metrics()
            assert figures["holdfast_requests_total", "fate=failed", "method=GET", "route=users", "status=500"] == 2
        if hook in ("requestheaders", "request"):
            assert not origin.requests


async def test_an_asynchronous_failure_is_caught_too(own: Path) -> None:
    """Raised behind an await, open and closed in one chain: closed wins, and both are counted."""
    broken = {"use": "own_addons:BrokenLater"}
    async with MisbehavingOrigin() as origin:
        made = with_addons(origin.url, [broken], [BANNER])
        async with Gateway(own, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            answer = await client.request("GET", "/api/users")
            assert (answer.status, answer.header("x-banner")) == (200, "hello hello")
            assert "RuntimeError: broken on purpose" in gateway.log(200)


async def test_an_addon_hears_of_retries_and_may_answer_itself(own: Path) -> None:
    """`upstream_retry` and `upstream_failed` are events like any other; an answer set there is the answer."""
    async with MisbehavingOrigin() as origin:
        made = with_addons(origin.url, [], [{"use": "own_addons:Retries"}])
        made["addons"] = [entry for entry in made["addons"] if entry != "interceptor"]
        async with Gateway(own, origin.url, made=made) as gateway, raw.RawClient(gateway.port) as client:
            async with origin.refusing():
                answer = await client.request("GET", "/own-answer")
                plain = await client.request("GET", "/no-answer")
            assert (answer.status, answer.body, answer.header("x-retries")) == (299, b"mine", "2")
            assert (plain.status, plain.header("content-type")) == (502, PROBLEM)
            assert "error=connection_refused" in (plain.header("proxy-status") or "")
            assert (await client.request("GET", "/api/users")).status == 200
