"""understudy: what it records, what it answers, and what it keeps its hands off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from mitmproxy.http import Headers, HTTPFlow, Response
from prometheus_client import CollectorRegistry

from holdfast.exchange import exchange_of
from holdfast.gateway import Gateway
from holdfast.recordings.settings import RouteUnderstudySettings, UnderstudySettings
from holdfast.testing import FixedClock, make_flow
from holdfast.understudy import Understudy

REFUSED = {"error": "connection_refused", "detail": "the upstream refused the connection", "not_retried": "attempts"}
ATTEMPT = {"server": "s", "error": None, "status": 200, "duration_ms": 1.0}


class Rig:
    """An understudy alone: `fetch` is an answer of the upstream's to a request, `failed` a request without one."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        clock = FixedClock()
        leg: Any = SimpleNamespace(clock=clock)
        profile: Any = SimpleNamespace()
        self.gateway = Gateway(profile, leg, self.registry, wall_clock=clock)
        self.folder = folder / "understudy"
        self.addon = Understudy(UnderstudySettings(folder=str(self.folder), **settings), self.gateway)

    async def fetch(self, path: str = "/a", body: bytes = b"[1]", *, method: str = "GET", **more: Any) -> HTTPFlow:
        fields = Headers([(b"Content-Type", more.pop("kind", b"application/json"))])
        flow = self.flow(path, method, attempts=[ATTEMPT], **more)
        flow.response = Response.make(more.get("status", 200), body, fields)
        self.addon.response(flow)
        return flow

    def flow(self, path: str = "/a", method: str = "GET", **known: Any) -> HTTPFlow:
        headers = known.pop("headers", [])
        exchange = {"request_id": "r1", "route": "users", "attempts": [], "original_host": "site.test", **known}
        flow = make_flow(method, f"http://upstream.test{path}", headers=headers, exchange=exchange)
        self.addon.requestheaders(flow)
        return flow

    async def failed(self, path: str = "/a", method: str = "GET", **known: Any) -> HTTPFlow:
        flow = self.flow(path, method, **{**REFUSED, **known})
        await self.addon.upstream_failed(flow)
        return flow

    async def written(self) -> None:
        """Until the thread has nothing left to do."""
        self.addon._recorder.stop(10)
        self.addon._recorder._thread = None

    def count(self, result: str) -> float:
        return self.registry.get_sample_value("holdfast_understudy_total", {"route": "users", "result": result}) or 0.0


type Make = Callable[..., Rig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda **settings: Rig(tmp_path, **settings)


async def test_a_good_answer_is_recorded_and_stands_in(make: Make) -> None:
    """The whole of it, once."""
    rig = make()
    await rig.fetch()
    await rig.written()
    flow = await rig.failed()
    assert flow.response and flow.response.content == b"[\n  1\n]"
    assert flow.response.reason == "OK"
    assert flow.response.headers["x-request-id"] == "r1"
    assert (exchange_of(flow)["understudy"], exchange_of(flow)["answered"]) == ("exact", True)
    assert (rig.count("recorded"), rig.count("answered")) == (1, 1)


@pytest.mark.parametrize(
    "known",
    [
        {"status": 404}, {"method": "POST"}, {"method": "HEAD"}, {"answered": True}, {"cached": "hit"},
        {"attempts": []}, {"replay": "id"}, {"refresh": "key"}, {"error": "http_503"},
        {"headers": [("Holdfast-Replay", "id")]}, {"distorted": True},
    ],
)  # fmt: skip
async def test_only_good_answers_of_the_upstream_to_clients_are_recorded(make: Make, known: dict[str, Any]) -> None:
    """Not those of the gateway, of another addon, or to requests of its own; and none of them is counted."""
    rig = make()
    status, method = known.pop("status", 200), known.pop("method", "GET")
    flow = rig.flow("/a", method, **{"attempts": [ATTEMPT], **known})
    flow.response = Response.make(status, b"[]")
    rig.addon.response(flow)
    await rig.written()
    assert not rig.folder.exists()
    assert not [each for each in rig.registry.collect() if each.name == "holdfast_understudy" and each.samples]


@pytest.mark.parametrize(("kind", "reason"), [(b"text/event-stream", "streamed"), (b"application/grpc", "streamed")])
async def test_what_cannot_be_recorded_is_counted(make: Make, kind: bytes, reason: str) -> None:
    """Streams, and what is too large."""
    rig = make(max_body=10)
    await rig.fetch(kind=kind)
    await rig.fetch(body=b"x" * 11)
    assert (rig.count(reason), rig.count("too_large")) == (1, 1)


async def test_an_answer_that_has_just_been_compared_is_not_compared_again(make: Make) -> None:
    """A thousand a second must not be a thousand files read a second; another answer is at once."""
    rig = make()
    for _ in range(3):
        await rig.fetch()
    await rig.fetch(body=b"[2]")
    await rig.written()
    assert (rig.count("recorded"), rig.count("unchanged")) == (2, 0)


@pytest.mark.parametrize(
    "known",
    [
        {"cached": "stale"}, {"capture_id": "id"}, {"capture_failed": "disk_full"}, {"replay": "id"}, {"refresh": "k"},
        {"headers": [("Holdfast-Replay", "id")]}, {"headers": [("If-Match", '"1"')]},
        {"headers": [("Content-Type", "application/grpc")]},
        {"headers": [("Connection", "upgrade"), ("Upgrade", "websocket")]},
        {"error": "http_response_body_size"}, {"method": "DELETE"}, {"path": "/b"},
    ],
)  # fmt: skip
async def test_what_is_not_its_business_is_left_alone(make: Make, known: dict[str, Any]) -> None:
    """What is settled, what no client waits for, what only the origin can know; above all a replay."""
    rig = make()
    await rig.fetch()
    await rig.written()
    flow = await rig.failed(**known)
    assert flow.response is None
    assert "understudy" not in exchange_of(flow)


async def test_the_conditions_are_those_of_the_client(make: Make) -> None:
    """A cache before it puts its own in their place, and a 304 to those would be nobody's answer."""
    rig = make()
    await rig.fetch()
    await rig.written()
    etag = (await rig.failed()).response.headers["etag"]  # type: ignore[union-attr]
    flow = rig.flow(**REFUSED)
    flow.request.headers["If-None-Match"] = etag  # the cache's
    await rig.addon.upstream_failed(flow)
    assert flow.response and flow.response.status_code == 200
    flow = rig.flow(headers=[("If-None-Match", etag)], **REFUSED)
    del flow.request.headers["If-None-Match"]
    await rig.addon.upstream_failed(flow)
    assert flow.response and flow.response.status_code == 304


@pytest.mark.parametrize(
    ("known", "answered"), [({}, True), ({"capture_id": "id"}, False), ({"capture_failed": "x"}, False)]
)
async def test_an_unsafe_request_waits_for_the_interceptor(make: Make, known: dict[str, str], answered: bool) -> None:
    """`unsafe: capture`: what was captured, or should have been, keeps its answer."""
    rig = make(methods=("GET", "POST"))
    await rig.fetch(method="POST")
    await rig.written()
    flow = await rig.failed(method="POST")
    assert flow.response is None
    flow.response = Response.make(503)
    exchange_of(flow).update(**known)  # type: ignore[typeddict-item]
    await rig.addon.responseheaders(flow)
    assert flow.response.status_code == (200 if answered else 503)


async def test_an_unsafe_request_is_answered_first_where_the_profile_says_so(make: Make) -> None:
    """`unsafe: answer`: before the interceptor is asked."""
    rig = make(methods=("POST",), unsafe="answer")
    await rig.fetch(method="POST")
    await rig.written()
    flow = await rig.failed(method="POST")
    assert flow.response and flow.response.status_code == 200


async def test_offline_no_server_is_asked(make: Make) -> None:
    """`answer: always`: the recording, or 504 with the name of the file that is looked for."""
    rig = make(answer="always")
    flow = rig.flow()
    await rig.addon.request(flow)
    assert flow.response and flow.response.status_code == 504
    assert b"users/get.a.yaml" in (flow.response.content or b"")
    assert exchange_of(flow)["rejected"] == "not_recorded"
    (rig.folder / "users").mkdir(parents=True)
    (rig.folder / "users" / "get.a.yaml").write_text("status: 418\n")
    flow = rig.flow()
    await rig.addon.request(flow)
    assert flow.response and flow.response.status_code == 418
    assert flow.response.headers["holdfast-understudy"] == "users; edited"
    post = rig.flow(method="POST")
    await rig.addon.request(post)
    assert post.response is None


async def test_a_route_may_differ(make: Make) -> None:
    """What it leaves out is as for all."""
    rig = make(
        routes={"users": RouteUnderstudySettings(answer="never"), "other": RouteUnderstudySettings(match="route")}
    )
    await rig.fetch()
    await rig.fetch("/o/1", route="other")
    await rig.written()
    assert (await rig.failed()).response is None
    other = await rig.failed("/o/2", route="other")
    assert other.response and 'of="/o/1"' in other.response.headers["holdfast-understudy"]


async def test_a_broken_file_is_told_once_and_again_when_it_changes(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """With file and line; and the health page says so until it is mended."""
    rig = make()
    file = rig.folder / "users" / "get.a.yaml"
    file.parent.mkdir(parents=True)
    for text in ("status: x", "status: x", "status: 200\nheaders: [\n"):
        file.write_text(text)
        assert (await rig.failed()).response is None
    assert [each.__dict__["fault"].partition(": ")[0] for each in caplog.records] == [f"{file}:1", f"{file}:3"]
    health = await rig.gateway.checks["understudy"]()
    assert (health.status, health.figures["broken"]) == ("failing", 1)
    file.write_text("status: 200")
    assert (await rig.failed()).response
    assert (await rig.gateway.checks["understudy"]()).status == "ok"
    assert rig.count("broken") == 3


async def test_it_tells_what_it_would_do(make: Make) -> None:
    """For `holdfast explain`."""
    rig = make(methods=("GET", "POST"))
    await rig.fetch()
    await rig.fetch(method="POST")
    await rig.written()
    told = [await rig.addon.would_do(rig.flow(path, method)) for path, method in
            (("/a", "GET"), ("/b", "GET"), ("/a", "POST"), ("/a", "PUT"), ("/a", "get"))]  # fmt: skip
    assert [each.acts for each in told] == [True, True, True, False, False]
    assert ["if_failed" in each.details for each in told] == [True, False, False, False, False]
    assert "get.a.yaml if the upstream fails" in told[0].says
    assert "has no recording" in told[1].says
    assert "nothing was to be captured" in told[2].says
    offline = Rig(rig.folder.parent, answer="always")
    found = await offline.addon.would_do(offline.flow())
    assert found.answers
    assert "no server is asked" in found.says


@pytest.mark.parametrize(
    "settings",
    [
        {"headers": ["Authorization"]}, {"headers": ["X-Mine"], "redact": {"headers": ["x-mine"]}},
        {"methods": ["get"]}, {"methods": ["CONNECT"]}, {"statuses": ["ok"]}, {"ignore": ["now"]},
        {"redact": {"json_paths": ["password"]}},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    """Above all a secret as part of the key: it would be in the file."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, UnderstudySettings)
