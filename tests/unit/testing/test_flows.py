"""Flows, the clock and the driver of hooks, for addon authors."""

from __future__ import annotations

import asyncio

import pytest
from mitmproxy.http import HTTPFlow, Response

from holdfast.testing import FixedClock, make_flow, run_addon


async def test_the_fixed_clock_moves_only_when_told() -> None:
    """Calling it does not make it go on; sleeping on it does, at once."""
    clock = FixedClock(100.0)
    assert (clock(), clock(), clock.advance(5)) == (100.0, 100.0, 105.0)
    await clock.sleep(2)
    assert clock() == 107.0


class Recorder:
    """An addon that notes its hooks, one of them asynchronous, and answers by itself."""

    def __init__(self, status: int | None = None) -> None:
        self.status = status
        self.called: list[str] = []

    async def requestheaders(self, flow: HTTPFlow) -> None:
        await asyncio.sleep(0)
        self.called.append("requestheaders")

    def request(self, flow: HTTPFlow) -> None:
        self.called.append("request")
        if self.status:
            flow.response = Response.make(self.status)

    def response(self, flow: HTTPFlow) -> None:
        self.called.append("response")

    def error(self, flow: HTTPFlow) -> None:
        self.called.append("error")


def test_a_flow_is_built_from_what_the_test_cares_about() -> None:
    """Method, address, repeated headers, raw body, and what Holdfast noted."""
    flow = make_flow(
        "POST", "https://api.test:8443/x?y=1", headers=[("A", "1"), ("A", "2")], body=b"\xff", exchange={"route": "x"}
    )
    assert (flow.request.method, flow.request.pretty_url) == ("POST", "https://api.test:8443/x?y=1")
    assert flow.request.headers.get_all("a") == ["1", "2"]
    assert flow.request.raw_content == b"\xff"
    assert flow.metadata["holdfast"] == {"route": "x"}
    assert (flow.response, flow.error) == (None, None)


@pytest.mark.parametrize(
    ("addon", "flow", "called"),
    [
        (Recorder(), make_flow(), ["requestheaders", "request"]),
        (Recorder(), make_flow(response=200), ["requestheaders", "request", "response"]),
        (Recorder(418), make_flow(), ["requestheaders", "request", "response"]),
        (Recorder(), make_flow(error="refused"), ["requestheaders", "request", "error"]),
    ],
)
async def test_an_addon_is_driven_through_the_hooks_that_mitmproxy_would_call(
    addon: Recorder, flow: HTTPFlow, called: list[str]
) -> None:
    """Asynchronous hooks are awaited; a response that the addon made leads on to `response`."""
    assert await run_addon(addon, flow) is flow
    assert addon.called == called


async def test_single_hooks_can_be_driven_and_what_they_raise_is_not_hidden() -> None:
    """Named hooks only, in the order given."""
    addon = Recorder()
    await run_addon(addon, make_flow(response=200), "response", "request")
    assert addon.called == ["response", "request"]

    class Broken:
        def request(self, flow: HTTPFlow) -> None:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await run_addon(Broken(), make_flow())
