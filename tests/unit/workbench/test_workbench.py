"""workbench: the parts of the commands that need no running mitmproxy."""

import time
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import contentviews, types
from mitmproxy.test import taddons, tflow
from prometheus_client import CollectorRegistry

from holdfast.captures import Capture
from holdfast.captures.opening import Places
from holdfast.captures.view import Captures
from holdfast.engine.leg import build_leg
from holdfast.engine.timers import Timers
from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.exchange import exchange_of
from holdfast.gateway import Gateway
from holdfast.marks import by_hand
from holdfast.policy.endpoint import Endpoint
from holdfast.policy.replaying.requests import ReplayRequest
from holdfast.profile.load import load_profile
from holdfast.workbench.arguments import CaptureFilter, CaptureId, Sending, ServerName
from holdfast.workbench.commands import Workbench
from holdfast.workbench.loading import flow_of, server_for
from holdfast.workbench.looking import ask

NOWHERE = Places(outbox=None, audit=None, sink=None, replayer=None)
CAPTURE = Capture(
    id="ID", captured=1.0, state="dead", route="users", method="POST", path="/", error="http_503", status=503
)


def gateway(folder: Path, upstream: str) -> Gateway:
    """Of a profile with this `upstream`, and nothing that has been started."""
    file = folder / "profile.yaml"
    file.write_text(f"version: 1\nupstream: {upstream}\naddons: [failure_sink: {{outbox: {folder / 'x.db'}}}]\n")
    profile, registry = load_profile(str(file)), CollectorRegistry()
    return Gateway(profile, build_leg(profile, Timers(lambda _: None), registry), registry)


def test_the_content_view_and_the_types_come_and_go_with_the_chain(tmp_path: Path) -> None:
    """mitmproxy completes arguments by them; where nothing is stored yet, there is nothing to complete to."""
    bench = Workbench(gateway(tmp_path, "{servers: ['http://a.test', 'http://b.test']}"))
    with taddons.context() as context:
        bench.load(None)  # type: ignore[arg-type]  # it asks nothing of it
        assert "holdfast capture" in contentviews.registry.available_views()
        completed: dict[Any, Any] = {}
        for kind in (CaptureFilter, CaptureId, Sending, ServerName):
            known = types.CommandTypes.get(kind)
            assert known
            completed[kind] = known.completion(context.master.commands, kind, "")
        assert completed[CaptureId] == []
        assert completed[Sending] == ("edit", "send")
        assert completed[ServerName] == ["http://a.test:80", "http://b.test:80"]
        assert {"state=dead", "since=", "limit="} <= set(completed[CaptureFilter])
        bench.done()
        assert "holdfast capture" not in contentviews.registry.available_views()


@pytest.mark.parametrize("body", [b"\x00rubbish", b"{}", b'{"error_reason": 1}', b"[" * 50_000 + b'"error_reason"'])
def test_the_content_view_leaves_what_is_no_capture_to_others(tmp_path: Path, body: bytes) -> None:
    """However much it looks like one; and says so where a person has asked for it."""
    bench, flow = Workbench(gateway(tmp_path, "{servers: ['http://a.test']}")), tflow.tflow(resp=True)
    assert flow.response
    flow.response.content = body
    with taddons.context():
        bench.load(None)  # type: ignore[arg-type]
        assert contentviews.prettify_message(flow.response, flow).view_name != "Holdfast capture"
        assert "Couldn't parse" in contentviews.prettify_message(flow.response, flow, "Holdfast capture").text
        bench.done()


def test_a_store_that_does_not_answer_holds_nothing_up_for_long() -> None:
    """A command has to have its answer at once, and everybody waits for it."""

    async def never(_: Captures) -> None:
        time.sleep(5)

    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.05 s"):
        ask(NOWHERE, never, patience=0.05)
    assert time.monotonic() - began < 2


def test_what_a_store_raises_is_raised_where_it_was_asked() -> None:
    """With its own words."""

    async def away(_: Captures) -> None:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable, match="away"):
        ask(NOWHERE, away)


def test_a_loaded_capture_is_the_request_of_the_replayer_and_says_what_it_is() -> None:
    """Byte for byte but for what belongs to the connection; not sent, and marked."""
    fields = ((b"x-a", b"1"), (b"x-a", b"\xff"), (b"x-forwarded-host", b"api.test"))
    request = ReplayRequest("POST", "/a%20b\xff?x=1", fields, b"\x00body")
    flow = flow_of(request, CAPTURE, Endpoint("https", "a.test", 8443, ip="10.0.0.1"))
    sent = flow.request
    assert (sent.data.path, sent.raw_content, sent.scheme, sent.port) == (b"/a%20b\xff?x=1", b"\x00body", "https", 8443)
    assert sent.headers.fields == (
        (b"host", b"a.test:8443"),
        *fields,
        (b"content-length", b"5"),
    )
    assert (flow.marked, exchange_of(flow)["by_hand"], flow.response) == (":hand:", "ID", None)
    assert flow.comment.startswith("capture ID, dead: http_503\n· not sent yet")
    by_hand(flow)
    assert (exchange_of(flow)["original_host"], exchange_of(flow)["edited"]) == ("api.test", False)


def test_a_server_that_may_be_asked_is_preferred(tmp_path: Path) -> None:
    """One that is held back only where all are; and none that mitmproxy's replay cannot speak to."""
    made = gateway(tmp_path, "{servers: ['http://a.test', 'http://b.test']}")
    made.leg.force("a.test:80", is_open=True)
    assert server_for(made, "users").host == "b.test"
    made.leg.force("b.test:80", is_open=True)
    assert server_for(made, "users").host == "a.test"
    with pytest.raises(HoldfastError, match="speaks HTTP/2 without TLS"):
        server_for(gateway(tmp_path, "{servers: ['h2c://a.test']}"), "users")
