"""The first addon of every chain: opens the exchange, names the request, refuses what must not pass, drains.

It is always there; a profile does not name it. Its counterpart at the other end of the chain is `accesslog`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Response

from holdfast.admin.health import health_document
from holdfast.engine.gate import close_listener
from holdfast.exchange import exchange_of, is_replay
from holdfast.gateway import Gateway, WouldDo
from holdfast.marks import by_hand
from holdfast.request_ids import new_request_id, new_traceparent

logger = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class Intake:
    """Gives every request an id, a trace and the forwarding header fields, and counts those in flight."""

    name = "holdfast-intake"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._idle = asyncio.Event()
        self._open: dict[str, str] = {}  # flow -> client connection

    # -- traffic ----------------------------------------------------------------------------------------------------

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """What is handed back answers the health page; for any other request there is nothing to wait for."""
        if flow.is_replay == "request":
            by_hand(flow)
        exchange = exchange_of(flow)
        exchange["started"] = self._gateway.leg.clock()
        exchange["attempts"] = []
        if "replay" not in exchange:  # the replayer waits for its own
            self._open[flow.id] = flow.client_conn.id
            self._gateway.in_flight = len(self._open)
        headers = flow.request.headers
        given = headers.get("x-request-id", "")
        exchange["request_id"] = given if given and _REQUEST_ID.fullmatch(given) else new_request_id()
        headers["x-request-id"] = exchange["request_id"]
        if not _TRACEPARENT.fullmatch(headers.get("traceparent", "")):
            headers["traceparent"] = new_traceparent()
            exchange["trace_minted"] = True
        if is_replay(exchange):
            return None
        if self._gateway.profile.upstream.forwarded:
            self._forwarded(flow)
        return self._answer_health(flow) if self._is_health(flow) else None

    def responseheaders(self, flow: HTTPFlow) -> None:
        assert flow.response
        flow.response.headers["x-request-id"] = exchange_of(flow).get("request_id", "")
        if self._gateway.phase == "draining" and not flow.request.is_http2:
            flow.response.headers["connection"] = "close"

    def response(self, flow: HTTPFlow) -> None:
        self._ended(flow)

    def error(self, flow: HTTPFlow) -> None:
        self._ended(flow)

    def client_disconnected(self, client: Client) -> None:
        """What was under way on this connection has ended with it, told or not: a stop must not wait for it."""
        for flow_id in [f for f, connection in self._open.items() if connection == client.id]:
            self._forget(flow_id)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """The health page is the gateway's own."""
        if not self._is_health(flow):
            return WouldDo(False, "gives it an id and a trace")
        exchange_of(flow)["route"] = "health"
        return WouldDo(True, "answers the health page itself", answers=True)

    # -- the end ----------------------------------------------------------------------------------------------------

    async def done(self) -> None:
        """Stop accepting, then let what is in flight finish for at most `shutdown_grace`."""
        self._gateway.phase = "draining"
        close_listener()
        grace = float(self._gateway.profile.shutdown_grace)
        logger.info("stopping", extra={"in_flight": len(self._open), "grace_s": grace})
        if not self._open:
            return
        self._idle.clear()
        try:
            await asyncio.wait_for(self._idle.wait(), grace)
            await asyncio.sleep(0.05)  # the last answer has been handed to the socket; let the loop write it out
        except TimeoutError:
            logger.warning("stopped with requests in flight", extra={"in_flight": len(self._open)})

    def _ended(self, flow: HTTPFlow) -> None:
        self._forget(flow.id)

    def _forget(self, flow_id: str) -> None:
        self._open.pop(flow_id, None)
        self._gateway.in_flight = len(self._open)
        if not self._open:
            self._idle.set()

    # -- parts ------------------------------------------------------------------------------------------------------

    def _forwarded(self, flow: HTTPFlow) -> None:
        headers, peer = flow.request.headers, flow.client_conn.peername
        told = {name.lower() for name, _ in headers.fields}
        if peer:
            seen = headers["x-forwarded-for"] if b"x-forwarded-for" in told else None
            if seen is None:
                headers.add("x-forwarded-for", peer[0])
            else:
                headers["x-forwarded-for"] = f"{seen}, {peer[0]}" if seen else peer[0]
        if b"x-forwarded-proto" not in told:
            headers.add("x-forwarded-proto", "https" if flow.client_conn.tls else "http")
        host = exchange_of(flow).get("original_host")
        if host and b"x-forwarded-host" not in told:
            headers.add("x-forwarded-host", host)

    def _is_health(self, flow: HTTPFlow) -> bool:
        path, request = self._gateway.profile.admin.health_path, flow.request
        return bool(path) and request.path.partition("?")[0] == path and request.method in ("GET", "HEAD")

    async def _answer_health(self, flow: HTTPFlow) -> None:
        status, document = await health_document(self._gateway, with_addresses=False)
        body = b"" if flow.request.method == "HEAD" else json.dumps(document).encode() + b"\n"
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        flow.response = Response.make(status, body, headers)
        exchange_of(flow)["route"] = "health"
