"""interceptor: which failures are stored, and what the client is told."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.test import tflow

from holdfast.errors import CaptureRefused
from holdfast.exchange import exchange_of
from holdfast.interceptor import Interceptor, InterceptorSettings, RouteAnswer
from holdfast.policy.failure import Failure
from holdfast.profile.values import Duration


class Sink:
    """Stores in memory, or refuses."""

    outbox = None

    def __init__(self, refuse: str | None = None) -> None:
        self.refuse = refuse
        self.stored: list[Failure] = []

    async def capture(self, flow: HTTPFlow, failure: Failure) -> str:
        if self.refuse:
            raise CaptureRefused(self.refuse)
        self.stored.append(failure)
        return "the-id"


async def intercepted(
    settings: InterceptorSettings, sink: Sink | None, *, status: int | None = None, route: str = "user"
) -> HTTPFlow:
    """A flow whose upstream has failed, after the interceptor has seen it."""
    flow = tflow.tflow(resp=Response.make(status, b"origin") if status else False)
    error = f"http_{status}" if status else "connection_refused"
    exchange_of(flow).update(error=error, detail="it failed", route=route, not_retried="attempts")
    gateway: Any = SimpleNamespace(sink=sink)
    await Interceptor(settings, gateway).upstream_failed(flow)
    return flow


async def test_a_failure_is_stored_and_answered_503_with_the_id() -> None:
    """The promise of the whole thing."""
    sink = Sink()
    flow = await intercepted(InterceptorSettings(), sink)
    assert flow.response and flow.response.status_code == 503
    assert flow.response.headers["holdfast-capture-id"] == "the-id"
    assert json.loads(flow.response.content)["capture_id"] == "the-id"
    assert flow.response.headers["retry-after"] == "5"
    assert exchange_of(flow)["capture_id"] == "the-id"
    assert [f.error for f in sink.stored] == ["connection_refused"]


async def test_a_refused_capture_is_told_and_not_claimed() -> None:
    """Disk full: 503 without an id."""
    flow = await intercepted(InterceptorSettings(), Sink(refuse="disk_full"))
    assert flow.response and flow.response.status_code == 503
    assert flow.response.headers["holdfast-capture"] == "failed; reason=disk_full"
    assert "holdfast-capture-id" not in flow.response.headers
    assert exchange_of(flow)["capture_failed"] == "disk_full"


@pytest.mark.parametrize("refuse", [None, "outbox_full"])
async def test_202_is_only_said_of_what_is_stored(refuse: str | None) -> None:
    """`answer: 202` must never accept what could not be kept."""
    settings = InterceptorSettings(routes={"user": RouteAnswer(answer=202, retry_after=Duration("1500ms"))})
    flow = await intercepted(settings, Sink(refuse))
    assert flow.response and flow.response.status_code == (503 if refuse else 202)
    assert ("location" in flow.response.headers) is (refuse is None)
    assert flow.response.headers["retry-after"] == "2"


async def test_a_failure_that_is_not_listed_is_left_alone() -> None:
    """The origin's own answer goes to the client."""
    sink = Sink()
    flow = await intercepted(InterceptorSettings(on=("connect",)), sink, status=503)
    assert flow.response and flow.response.content == b"origin"
    assert sink.stored == []


async def test_a_route_may_have_a_list_of_its_own() -> None:
    """Per route: what is left out is as for all."""
    settings = InterceptorSettings(on=("connect",), routes={"user": RouteAnswer(on=("503",))})
    stored, other = Sink(), Sink()
    await intercepted(settings, stored, status=503)
    await intercepted(settings, other, status=503, route="other")
    assert [f.status for f in stored.stored] == [503]
    assert other.stored == []


@pytest.mark.parametrize("sink", [None, Sink()])
async def test_without_a_sink_or_with_capture_off_it_only_answers(sink: Sink | None) -> None:
    """No word of a capture then, neither of success nor of failure."""
    settings = InterceptorSettings(routes={"user": RouteAnswer(capture=False)})
    flow = await intercepted(settings, sink)
    assert flow.response and flow.response.status_code == 503
    assert not any(name.startswith("holdfast-capture") for name in flow.response.headers)
