"""interceptor: which failures are stored, and what the client is told."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.test import tflow

from holdfast.engine.hooks import RequestGrownHook
from holdfast.errors import CaptureRefused, StoreUnavailable
from holdfast.exchange import exchange_of
from holdfast.guard import Guard
from holdfast.interceptor import Interceptor, InterceptorSettings, RouteAnswer
from holdfast.policy.failure import Failure
from holdfast.profile.settings import AddonEntry
from holdfast.profile.values import Duration
from holdfast.testing import make_flow
from tests.unit.hooks import finished


class Sink:
    """Stores in memory, or refuses."""

    outbox = None

    def __init__(self, refuse: str | None = None, *, waits: bool = False) -> None:
        self.refuse = refuse
        self.held_up = waits
        self.stored: list[Failure] = []

    async def capture(self, flow: HTTPFlow, failure: Failure) -> str:
        if self.refuse:
            raise CaptureRefused(self.refuse)
        self.stored.append(failure)
        return "the-id"

    async def key_of(self, flow: HTTPFlow) -> str:
        return flow.request.path

    async def waits(self, key: str) -> bool:
        return self.held_up


async def intercepted(
    settings: InterceptorSettings, sink: Sink | None, *, status: int | None = None, route: str = "user"
) -> HTTPFlow:
    """A flow whose upstream has failed, after the interceptor has seen it."""
    flow = tflow.tflow(resp=Response.make(status, b"origin") if status else False)
    error = f"http_{status}" if status else "connection_refused"
    exchange_of(flow).update(error=error, detail="it failed", route=route, not_retried="attempts")
    gateway: Any = SimpleNamespace(sink=sink, stand_in=None)
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


async def test_an_answer_that_was_let_go_for_another_attempt_is_still_a_failure() -> None:
    """The circuit opens while a 503 is about to be tried again: there is no answer any more, and no other attempt."""
    flow = tflow.tflow()
    exchange_of(flow).update(error="http_503", detail="the upstream answered 503", not_retried="breaker")
    sink = Sink()
    gateway: Any = SimpleNamespace(sink=sink, stand_in=None)
    await Interceptor(InterceptorSettings(), gateway).upstream_failed(flow)
    assert [(failure.kind, failure.status) for failure in sink.stored] == [("503", 503)]
    assert exchange_of(flow)["capture_id"] == "the-id"


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


@pytest.mark.parametrize("stands_in", [True, False])
async def test_a_recording_is_asked_for_before_anything_is_stored(stands_in: bool) -> None:
    """Wherever the understudy stands in the chain: what is answered need not be sent again."""
    sink, flow = Sink(), tflow.tflow()
    exchange_of(flow).update(error="connection_refused", detail="it failed", route="user", not_retried="attempts")

    async def stand_in(asked: HTTPFlow) -> None:
        assert asked is flow
        assert not sink.stored
        if stands_in:
            exchange_of(asked)["understudy"], asked.response = "exact", Response.make(200)

    gateway: Any = SimpleNamespace(sink=sink, stand_in=stand_in)
    await Interceptor(InterceptorSettings(), gateway).upstream_failed(flow)
    assert flow.response
    assert (flow.response.status_code, len(sink.stored)) == ((200, 0) if stands_in else (503, 1))


ALWAYS = InterceptorSettings(mode="always", answer=202)
ORDER = InterceptorSettings(order=True)


async def asked(settings: InterceptorSettings, sink: Sink, flow: HTTPFlow) -> HTTPFlow:
    """The flow once its whole request has passed the interceptor."""
    gateway: Any = SimpleNamespace(sink=sink, stand_in=None)
    await finished(Interceptor(settings, gateway).request(flow))
    return flow


async def test_always_stores_and_accepts_before_any_server_is_asked() -> None:
    """202 with the id and where to ask; nothing that reads like a failure, and nothing to retry."""
    sink = Sink()
    flow = await asked(ALWAYS, sink, make_flow("POST", "http://origin.test/a", body=b"x"))
    assert flow.response and flow.response.status_code == 202
    assert flow.response.headers["location"] == "/.holdfast/captures/the-id"
    assert flow.response.headers["proxy-status"] == 'holdfast; details="accepted without trying the upstream"'
    assert "retry-after" not in flow.response.headers
    assert [f.error for f in sink.stored] == ["accepted"]
    exchange = exchange_of(flow)
    assert (exchange["withheld"], exchange["capture_id"], exchange["answered"]) == ("accepted", "the-id", True)


@pytest.mark.parametrize(
    ("method", "headers", "known"),
    [
        ("GET", {}, {}),
        ("HEAD", {}, {}),
        ("OPTIONS", {}, {}),
        ("TRACE", {}, {}),
        ("CONNECT", {}, {}),
        ("POST", {"content-type": "application/grpc"}, {}),
        ("POST", {"connection": "upgrade", "upgrade": "websocket"}, {}),
        ("POST", {}, {"replay": "the capture's id"}),
        ("POST", {}, {"refresh": "a key"}),
        ("POST", {}, {"request_streamed": True}),
    ],
)
@pytest.mark.parametrize("settings", [ALWAYS, ORDER], ids=["always", "order"])
async def test_what_is_not_withheld(
    settings: InterceptorSettings, method: str, headers: dict[str, str], known: dict[str, Any]
) -> None:
    """What only asks, converses, or is the gateway's own; and what is on its way upstream already."""
    sink = Sink(waits=True)
    flow = await asked(settings, sink, make_flow(method, "http://origin.test/a", headers=headers, exchange=known))
    assert flow.response is None
    assert "withheld" not in exchange_of(flow)
    assert sink.stored == []


async def test_what_another_addon_has_answered_is_not_accepted() -> None:
    """A refusal stays one."""
    sink, flow = Sink(), make_flow("POST", "http://origin.test/a")
    flow.response = Response.make(401)
    assert (await asked(ALWAYS, sink, flow)).response.status_code == 401
    assert sink.stored == []


@pytest.mark.parametrize("answer", [202, 503])
async def test_a_request_whose_key_is_held_up_is_stored_behind(answer: Any) -> None:
    """And the others go on."""
    settings = InterceptorSettings(order=True, answer=answer)
    sink = Sink(waits=True)
    flow = await asked(settings, sink, make_flow("POST", "http://origin.test/a"))
    assert flow.response and flow.response.status_code == answer
    assert [f.error for f in sink.stored] == ["queued"]
    assert ("retry-after" in flow.response.headers) is (answer == 503)
    free = await asked(settings, Sink(), make_flow("POST", "http://origin.test/a"))
    assert free.response is None


async def test_a_large_body_is_claimed_before_any_of_it_goes_upstream() -> None:
    """The engine keeps it; the answer waits until all of it is there."""
    sink, flow = Sink(), make_flow("POST", "http://origin.test/a")
    gateway: Any = SimpleNamespace(sink=sink, stand_in=None)
    interceptor = Interceptor(ALWAYS, gateway)
    exchange_of(flow)["request_streamed"] = True
    await interceptor.request_grown(flow)
    assert exchange_of(flow)["withheld"] == "accepted"
    assert flow.response is None
    assert sink.stored == []
    await finished(interceptor.request(flow))
    assert flow.response and flow.response.status_code == 202


@pytest.mark.parametrize("full", [429, 503])
@pytest.mark.parametrize("reason", ["outbox_full", "outbox_age", "outbox_busy", "disk_full", "outbox_unavailable"])
@pytest.mark.parametrize("mode", ["always", "on_failure"])
async def test_what_a_full_outbox_says_is_for_the_profile_to_choose(mode: Any, reason: str, full: Any) -> None:
    """429 or 503 with Retry-After where 202 was to be said; a fault that is no bound is 503."""
    settings = InterceptorSettings(mode=mode, answer=202, full=full, retry_after=Duration("30s"))
    if mode == "always":
        flow = await asked(settings, Sink(reason), make_flow("POST", "http://origin.test/a"))
        assert exchange_of(flow)["rejected"] == reason
    else:
        flow = await intercepted(settings, Sink(reason))
    assert flow.response
    assert flow.response.status_code == (503 if reason == "outbox_unavailable" else full)
    assert flow.response.headers["retry-after"] == "30"
    assert flow.response.headers["holdfast-capture"] == f"failed; reason={reason}"
    assert "location" not in flow.response.headers


async def test_a_sender_that_is_answered_503_is_answered_503_at_the_bound_too() -> None:
    """`full` is for those who are used to 202."""
    flow = await intercepted(InterceptorSettings(full=429), Sink("outbox_full"))
    assert flow.response and flow.response.status_code == 503


async def test_what_is_too_large_to_be_accepted_need_not_come_again() -> None:
    """413 without Retry-After (RFC 9110, section 15.5.14)."""
    flow = await asked(ALWAYS, Sink("too_large"), make_flow("POST", "http://origin.test/a"))
    assert flow.response and flow.response.status_code == 413
    assert "retry-after" not in flow.response.headers


async def test_a_replay_continues_the_requests_own_span() -> None:
    """No server was asked, so there is no attempt whose span it could continue."""
    flow = make_flow("POST", "http://origin.test/a", headers={"traceparent": "00-" + "a" * 32 + "-" + "c" * 16 + "-01"})
    flow.metadata["holdfast_trace"] = {"trace_id": "a" * 32, "span_id": "b" * 16, "flags": 1}
    await asked(ALWAYS, Sink(), flow)
    assert flow.request.headers["traceparent"] == "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.mark.parametrize(("on_error", "status"), [("open", None), ("closed", 500)])
@pytest.mark.parametrize("hook", ["request", RequestGrownHook.name])
async def test_whether_to_go_on_without_knowing_is_for_on_error_to_say(hook: str, on_error: Any, status: Any) -> None:
    """The outbox cannot be read: `open` sends the request, `closed` does not."""

    class Unknowing(Sink):
        async def waits(self, key: str) -> bool:
            raise StoreUnavailable("nobody can say")

    gateway: Any = SimpleNamespace(sink=Unknowing(), stand_in=None)
    entry = AddonEntry(name="i", target="interceptor", settings=None, on_error=on_error, line=1, file="p.yaml")
    guard: Any = Guard(Interceptor(ORDER, gateway), entry, lambda name, hook: None)
    flow = make_flow("POST", "http://origin.test/a")
    exchange_of(flow)["request_streamed"] = hook == "request_grown"
    await getattr(guard, hook)(flow)
    assert (flow.response.status_code if flow.response else None) == status
    assert "withheld" not in exchange_of(flow)
