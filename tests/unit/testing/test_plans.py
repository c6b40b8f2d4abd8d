"""Plans that cannot be: an error where they are written, or else where the test ends."""

from __future__ import annotations

import httpx
import pytest

from holdfast.testing import (
    Answer,
    Break,
    ErrorCodes,
    GoAway,
    GrpcAnswer,
    MisbehavingOrigin,
    Plan,
    Protocol,
    Received,
    Stall,
    Step,
    StreamReset,
)

ONLY_HTTP2 = [StreamReset(ErrorCodes.CANCEL), GoAway(), GrpcAnswer(), Break("body", answer=GrpcAnswer())]


async def visit(plan: Plan, protocol: Protocol = "http/1.1") -> None:
    """Ask the origin once, over HTTP/2 if it speaks nothing else, and stop it."""
    http2 = protocol == "h2"
    client = httpx.AsyncClient(http1=not http2, http2=http2)
    async with MisbehavingOrigin(plan, protocol=protocol) as origin, client:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.get(f"{origin.url}/x")


@pytest.mark.parametrize("step", [*ONLY_HTTP2, Stall(answer=GrpcAnswer())], ids=lambda step: type(step).__name__)
def test_a_step_of_http2_is_refused_for_an_origin_without_it(step: Step) -> None:
    """When the origin is made, when it gets another plan, and wherever in the plan it is."""
    plans: list[Plan] = [step, [Answer(), step], {"/a": step}, {"*": [Answer(), step]}]
    for plan in plans:
        with pytest.raises(ValueError, match="exists only over HTTP/2, and this origin has protocol="):
            MisbehavingOrigin(plan)
    origin = MisbehavingOrigin()
    with pytest.raises(ValueError, match="exists only over HTTP/2"):
        origin.plan = step
    MisbehavingOrigin(step, protocol="any")


@pytest.mark.parametrize("step", ONLY_HTTP2, ids=lambda step: type(step).__name__)
async def test_a_step_of_http2_that_http1_comes_to_is_raised_at_the_end(step: Step) -> None:
    """The connection is reset at once, and the test fails with the reason."""
    with pytest.raises(ValueError, match="only over HTTP/2, and GET /x came over HTTP/1"):
        await visit(step, "any")


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_what_the_function_of_a_plan_raises_is_raised_at_the_end(protocol: Protocol) -> None:
    """And does not hang the client."""

    def plan(received: Received) -> Step:
        raise KeyError(received.target)

    with pytest.raises(KeyError, match="/x"):
        await visit(plan, protocol)


async def test_what_was_wrong_with_a_plan_is_raised_once() -> None:
    """An origin that is started again begins afresh."""
    origin = MisbehavingOrigin(lambda _: 503)  # type: ignore[arg-type,return-value]
    await origin.start()
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ReadError):
            await client.get(origin.url)
    with pytest.raises(ValueError, match="returns a step, not 503"):
        await origin.stop()
    async with origin:
        pass


async def test_an_error_of_the_test_goes_before_that_of_its_plan() -> None:
    """Which is told in a note, as the likely cause."""
    with pytest.raises(httpx.ReadError) as failed:
        async with MisbehavingOrigin(lambda _: 503) as origin, httpx.AsyncClient() as client:  # type: ignore[arg-type,return-value]
            await client.get(origin.url)
    assert "returns a step, not 503" in failed.value.__notes__[0]


@pytest.mark.parametrize("interim", [b"HTTP/1.1 200 OK\r\n\r\n", b"\x00\r\n\r\n", b"HTTP/1.1 103 Early"])
async def test_interim_bytes_that_http2_cannot_say_are_raised_at_the_end(interim: bytes) -> None:
    """Over HTTP/1.1 they may be anything."""
    with pytest.raises(ValueError, match="over HTTP/2 `interim` has to be"):
        await visit(Answer(interim=interim), "h2")


def test_an_origin_cannot_be_made_of_anything() -> None:
    """Protocols and limits are checked at once."""
    with pytest.raises(ValueError, match="any, not 'h3'"):
        MisbehavingOrigin(protocol="h3")  # type: ignore[arg-type]
    for options in ({"max_streams": 1}, {"max_streams": -1, "protocol": "h2"}):
        with pytest.raises(ValueError, match="max_streams is for HTTP/2"):
            MisbehavingOrigin(**options)  # type: ignore[arg-type]
