"""What came of a replay, as the rules and the log have it; and the request as the layer gets it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mitmproxy.http import Headers, HTTPFlow

from holdfast.exchange import exchange_of
from holdfast.gateway import Gateway
from holdfast.policy.replaying.requests import ReplayRequest
from holdfast.replay import sending
from holdfast.replay.sending import ChainSender, Sent
from holdfast.testing import make_flow
from tests.unit.replay.fakes import EPOCH, in_virtual_time

REQUEST = ReplayRequest("POST", "/a?b=%C3", ((b"x", b"1"),), b"body")


def attempt(status: int | None = None, error: str | None = None) -> dict[str, Any]:
    return {"server": "s", "error": error, "status": status, "duration_ms": 1.0}


async def outcome(monkeypatch: pytest.MonkeyPatch, flow: HTTPFlow, *attempts: dict[str, Any], **more: Any) -> Sent:
    """Of a request whose flow has ended so."""
    exchange_of(flow).update(cast(Any, {"attempts": list(attempts), **more}))

    async def send(*args: Any) -> HTTPFlow:
        return flow

    return await made(monkeypatch, send).send(REQUEST, "1")


def made(monkeypatch: pytest.MonkeyPatch, send: Any) -> ChainSender:
    """A sender whose requests are sent by this."""
    monkeypatch.setattr(sending, "send_in_background", send)
    monkeypatch.setattr(sending, "current_mode", lambda: None)
    bounds = SimpleNamespace(deadline=4.0, read_timeout=1.0)
    gateway = SimpleNamespace(leg=SimpleNamespace(plans={"": SimpleNamespace(bounds=bounds)}))
    return ChainSender(cast(Gateway, gateway), 4, lambda: EPOCH)


async def test_an_answer_is_told_with_its_beginning_and_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of the body as is kept."""
    flow = make_flow(response=200)
    assert flow.response
    flow.response.headers["set-cookie"] = "secret"
    flow.response.raw_content = b"longer"
    sent = await outcome(monkeypatch, flow, attempt(200))
    assert (sent.answer.status, sent.answer.error, sent.answered, sent.answer.unreachable) == (200, None, True, False)
    assert (sent.log.body, sent.log.body_truncated, sent.log.server) == (b"long", True, "s")
    assert "secret" not in str(sent.log.headers)


async def test_what_was_not_reached_is_told_from_what_may_have_been(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt of several that has reached a server is enough."""
    refused, reset = attempt(error="connection_refused"), attempt(error="connection_terminated")
    for attempts, error, unreachable in (
        ([refused, refused], "connection_refused", True),
        ([], "destination_unavailable", True),
        ([reset, refused], "connection_refused", False),
        ([refused, reset], "connection_terminated", False),
        ([attempt(503, "http_503"), refused], "connection_refused", False),
    ):
        flow = make_flow(response=502)
        sent = await outcome(monkeypatch, flow, *attempts, error=error, answered=True)
        assert (sent.answer.unreachable, sent.answered) == (unreachable, False), attempts
        assert sent.answer.status is None


@pytest.mark.parametrize(
    ("status", "error", "answered"), [(503, "http_503", False), (503, None, True), (500, None, True)]
)
async def test_a_gateway_that_says_there_is_no_server_has_not_answered(
    monkeypatch: pytest.MonkeyPatch, status: int, error: str | None, answered: bool
) -> None:
    """Unless the profile calls that status no failure; the status is told to the rules in any case."""
    more = {"error": error} if error else {}
    sent = await outcome(monkeypatch, make_flow(response=status), attempt(status, error), **more)
    assert (sent.answer.status, sent.answered) == (status, answered)


async def test_retry_after_and_the_status_of_a_call_are_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the gateway's own words; a call without a status has an unknown one."""
    flow = make_flow(response=429)
    assert flow.response
    flow.response.headers["retry-after"] = "30"
    assert (await outcome(monkeypatch, flow, attempt(429))).answer.retry_after == 30.0
    own = make_flow(response=503)
    assert own.response
    own.response.headers["retry-after"] = "30"
    sent = await outcome(monkeypatch, own, attempt(error="connection_refused"), error="x", answered=True)
    assert sent.answer.retry_after is None
    for trailers, status in (
        (Headers([(b"grpc-status", b"14")]), 14),
        (None, 2),
        (Headers([(b"grpc-status", b"x")]), 2),
    ):
        call = make_flow(response=200)
        assert call.response
        call.response.headers["content-type"] = "application/grpc"
        call.response.trailers = trailers
        assert (await outcome(monkeypatch, call, attempt(200))).answer.grpc_status == status


async def test_a_flow_without_any_outcome_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An addon has answered for a failure of its own, say."""
    sent = await outcome(monkeypatch, make_flow(response=503), answered=True)
    assert (sent.answer.error, sent.answer.status) == ("proxy_internal_response", None)


@in_virtual_time
async def test_an_answer_without_an_end_is_an_attempt_that_failed() -> None:
    """Its server is alive; what was begun is broken off."""
    broken_off = asyncio.Event()

    async def send(*args: Any) -> HTTPFlow:
        try:
            await asyncio.sleep(10_000.0)
        finally:
            broken_off.set()
        raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        began = asyncio.get_running_loop().time()
        sent = await made(patch, send).send(REQUEST, "1")
        assert asyncio.get_running_loop().time() - began < 20.0
    assert broken_off.is_set()
    assert (sent.answer.error, sent.answer.unreachable, sent.answered) == ("http_response_incomplete", False, True)


@pytest.mark.parametrize(
    ("method", "body", "length"), [("POST", b"abc", "3"), ("POST", b"", "0"), ("GET", b"", None), ("DELETE", b"", None)]
)
def test_the_length_of_the_body_is_said_where_there_may_be_one(method: str, body: bytes, length: str | None) -> None:
    """RFC 9110, section 8.6; the target is sent byte for byte."""
    request = sending.as_request(ReplayRequest(method, "/a?b=\xc3", ((b"x", b"1"),), body), EPOCH)
    assert request.headers.get("content-length") == length
    assert request.raw_content == body
    assert request.headers["x"] == "1"


async def test_a_replay_is_of_the_host_that_the_client_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routes by host find it, and the cache what it makes out of date; the upstream's name is in Host by then."""
    known: list[dict[str, str]] = []

    async def send(*args: Any) -> HTTPFlow:
        known.append(args[3])
        return make_flow(response=200)

    sender = made(monkeypatch, send)
    for fields in (((b"x-forwarded-host", b"api.test"),), ()):
        await sender.send(ReplayRequest("GET", "/", fields, b""), "1")
    assert known == [{"replay": "1", "original_host": "api.test"}, {"replay": "1", "original_host": ""}]
