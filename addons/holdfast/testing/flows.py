"""Flows, a clock and a driver for the hooks of one addon, for unit tests without a proxy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mitmproxy import eventsequence
from mitmproxy.flow import Error
from mitmproxy.http import Headers, HTTPFlow, Request, Response
from mitmproxy.test import taddons, tflow

type HeaderFields = Mapping[str, str] | Sequence[tuple[str, str]]


class FixedClock:
    """A clock that stands still until it is told to go on; call it for the time in seconds."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Go on by so many seconds; returns the new time."""
        self.now += seconds
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Stands in for `asyncio.sleep`: the time passes at once."""
        self.advance(seconds)


def make_flow(
    method: str = "GET",
    url: str = "http://origin.test/",
    *,
    headers: HeaderFields = (),
    body: bytes = b"",
    response: Response | int | None = None,
    error: str | None = None,
    exchange: Mapping[str, Any] | None = None,
) -> HTTPFlow:
    """A flow as a hook gets it.

    `response` is a status or a whole response, `error` the message of a connection that failed, `exchange` what
    Holdfast has noted of the request so far (`flow.metadata["holdfast"]`).
    """
    flow = tflow.tflow()
    flow.request = Request.make(method, url, body, Headers(_encoded(headers)))
    flow.request.timestamp_start = flow.timestamp_created
    flow.response = Response.make(response) if isinstance(response, int) else response
    flow.error = Error(error) if error is not None else None
    if exchange is not None:
        flow.metadata["holdfast"] = dict(exchange)
    return flow


async def run_addon(addon: object, flow: HTTPFlow, *hooks: str, **options: Any) -> HTTPFlow:
    """Drive a flow through the hooks of one addon, asynchronous or not, and return it.

    Without `hooks` these are the ones that mitmproxy would call for the flow, in their order: a response that the
    addon sets in `request` is seen by its `response`. `options` are mitmproxy's. What a hook raises is not caught.
    """
    with taddons.context(addon, loadcore=False) as context:
        if options:
            context.options.update(**options)
        for name in hooks or _hooks_of(flow):
            hook = getattr(addon, name, None)
            result = hook(flow) if hook is not None else None
            if inspect.isawaitable(result):
                await result
    return flow


def _hooks_of(flow: HTTPFlow) -> Any:
    """Lazily, since what comes next depends on what the addon did."""
    return (event.name for event in eventsequence.iterate(flow))


def _encoded(headers: HeaderFields) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in pairs]
