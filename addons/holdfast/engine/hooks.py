"""Events that the upstream leg adds to mitmproxy's: any addon may have a method of that name, plain or async."""

from __future__ import annotations

from dataclasses import dataclass

from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.commands import StartHook


@dataclass
class UpstreamRetryHook(StartHook):
    """`upstream_retry(flow)`: an attempt has failed and another follows once every handler has returned."""

    flow: HTTPFlow


@dataclass
class UpstreamFailedHook(StartHook):
    """`upstream_failed(flow)`: the last attempt has failed.

    `flow.response` is what the upstream answered, or None if it did not. A response that a handler sets is sent.
    """

    flow: HTTPFlow


@dataclass
class RequestGrownHook(StartHook):
    """`request_grown(flow)`: the request's body turned out larger than what is held; none of it has gone upstream yet.

    Once every handler has returned it is passed on as it comes, or, where one has set `withheld` in the exchange, kept
    in the spool: `request` comes when all of it is there, and is to answer. A response that a handler sets is sent.
    """

    flow: HTTPFlow


@dataclass
class ResponseGrownHook(StartHook):
    """`response_grown(flow)`: the response turned out larger than what is held, and is passed on as it comes from here.

    Its header goes out once every handler has returned; `response` comes at the end, without the body.
    """

    flow: HTTPFlow
