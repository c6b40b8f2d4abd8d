"""guard: one addon's exception harms neither the others nor, unless the profile says so, the request."""

import asyncio

import pytest
from mitmproxy.exceptions import AddonHalt
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.test import tflow

from holdfast.exchange import exchange_of
from holdfast.guard import Guard
from holdfast.profile.settings import AddonEntry


class Broken:
    """Raises in every way a hook can."""

    def request(self, flow: HTTPFlow) -> None:
        raise RuntimeError("plain")

    async def response(self, flow: HTTPFlow) -> None:
        raise RuntimeError("async")

    def responseheaders(self, flow: HTTPFlow) -> object:
        return self.response(flow)

    def error(self, flow: HTTPFlow) -> None:
        raise AddonHalt


def guarded(addon: object, on_error: str) -> tuple[Guard, list[tuple[str, str]]]:
    """A guard around the addon, and where it reports to."""
    reports: list[tuple[str, str]] = []
    entry = AddonEntry(name="broken", target="x:Y", settings={}, on_error=on_error, line=1, file="p.yaml")
    return Guard(addon, entry, lambda name, hook: reports.append((name, hook))), reports


def test_an_exception_is_counted_and_does_not_come_out() -> None:
    """`on_error: open`: the request goes on as if the addon were not there."""
    guard, reports = guarded(Broken(), "open")
    flow = tflow.tflow()
    guard.request(flow)
    assert reports == [("broken", "request")]
    assert flow.response is None


async def test_an_async_hook_is_guarded_too() -> None:
    """Also one that is a plain function and hands back a coroutine."""
    guard, reports = guarded(Broken(), "open")
    flow = tflow.tflow(resp=True)
    await guard.response(flow)
    await guard.responseheaders(flow)
    assert reports == [("broken", "response"), ("broken", "responseheaders")]


def test_closed_answers_500_with_a_problem_document() -> None:
    """`on_error: closed`: better no answer than one without this addon."""
    guard, _ = guarded(Broken(), "closed")
    flow = tflow.tflow()
    flow.request.stream = True
    guard.request(flow)
    assert flow.response and flow.response.status_code == 500
    assert flow.response.headers["content-type"] == "application/problem+json"
    assert flow.request.stream is False, "a response and a streamed request exclude each other"
    assert exchange_of(flow)["closed_by"] == "broken"


async def test_closed_replaces_the_origins_answer() -> None:
    """In `response` the origin has answered already, and the client has not seen it yet."""
    guard, _ = guarded(Broken(), "closed")
    flow = tflow.tflow(resp=Response.make(200, b"secret"))
    await guard.response(flow)
    assert flow.response and flow.response.status_code == 500 and b"secret" not in flow.response.content


def test_halting_the_chain_on_purpose_is_no_error() -> None:
    """AddonHalt is how an addon keeps an event from those after it."""
    guard, reports = guarded(Broken(), "closed")
    with pytest.raises(AddonHalt):
        guard.error(tflow.terr())
    assert reports == []


def test_commands_attributes_and_sub_addons_stay_reachable() -> None:
    """mitmproxy looks for commands through dir() and for sub-addons in `addons`."""

    class Inner:
        name = "inner"

        def request(self, flow: HTTPFlow) -> None:
            raise RuntimeError

    class Outer:
        answer = 42

        def __init__(self) -> None:
            self.addons = [Inner()]

    guard, reports = guarded(Outer(), "open")
    assert "answer" in dir(guard) and guard.answer == 42
    (inner,) = guard.addons
    inner.request(tflow.tflow())
    assert inner.name == "inner" and reports == [("inner", "request")]


def test_a_hook_the_addon_does_not_have_is_not_there() -> None:
    """mitmproxy asks with getattr(addon, hook, None)."""
    guard, _ = guarded(object(), "open")
    assert getattr(guard, "request", None) is None
    assert guard.addons == []


class Slow:
    """Busy until it is told otherwise."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.heard: list[str] = []

    async def request(self, flow: HTTPFlow) -> None:
        await self.go.wait()
        self.heard.append("request")

    def response(self, flow: HTTPFlow) -> None:
        self.heard.append("response")

    def done(self) -> None:
        self.heard.append("done")


async def test_a_guard_knows_what_its_addon_is_busy_with_and_ends_its_life() -> None:
    """An addon that has left the chain finishes what it does, hears nothing more, and gets `done`."""
    slow = Slow()
    guard, _ = guarded(slow, "open")
    under_way = [asyncio.create_task(guard.request(tflow.tflow())) for _ in range(2)]
    await asyncio.sleep(0)
    resting = asyncio.create_task(guard.life.rest())
    await asyncio.sleep(0)
    assert guard.life.busy == 2 and not resting.done()
    slow.go.set()
    await asyncio.gather(*under_way, resting)
    guard.life.over = True
    guard.response(tflow.tflow())
    await guard.request(tflow.tflow())
    guard.done()
    assert slow.heard == ["request", "request", "done"]
