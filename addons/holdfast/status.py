"""What became of an accepted request, for the client that holds its id: `/.holdfast/captures/{id}` on the proxied port.

`Location` of a 202 names this page. Who knows the id may ask: it cannot be guessed. It tells where the capture stands
and, where `replayer.show_answer` allows it, what its replay was answered; nothing of the request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from mitmproxy.http import HTTPFlow, Response

from holdfast.errors import StoreUnavailable
from holdfast.exchange import exchange_of
from holdfast.gateway import Gateway, WouldDo
from holdfast.policy.answer import PROBLEM, STATUS_PATH
from holdfast.policy.uuid7 import is_uuid

if TYPE_CHECKING:
    from holdfast.audit import AttemptLog
    from holdfast.captures import Capture
    from holdfast.captures.opening import GatewayCaptures
    from holdfast.captures.view import Captures

SOONEST, LATEST, USUAL = 1, 300, 5  # seconds of Retry-After
_SHOWN = {"published": "pending", "parked": "dead"}  # differences that are for whoever runs the gateway
_NOT_FOUND = {"type": "about:blank", "title": "No such capture", "status": 404}
_AWAY = {"type": "about:blank", "title": "Not known now", "status": 503, "detail": "ask again in a moment"}
_NOT_ALLOWED = {"type": "about:blank", "title": "Method not allowed", "status": 405}


class StatusPage:
    """Part of every chain; without a failure sink the path is the upstream's."""

    name = "holdfast-status"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stores: GatewayCaptures | None = None

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """For any other request there is nothing to wait for."""
        if flow.response or not self._is_asked(flow) or "replay" in exchange_of(flow):
            return None
        return self._answer(flow)

    async def _answer(self, flow: HTTPFlow) -> None:
        exchange_of(flow)["route"] = "captures"
        if flow.request.method not in ("GET", "HEAD"):
            flow.response = _response(flow, _NOT_ALLOWED, {"allow": "GET, HEAD"})
            return
        capture_id = flow.request.path.removeprefix(STATUS_PATH).partition("?")[0].lower()
        try:
            document, fields = await self._found(capture_id) if is_uuid(capture_id) else (_NOT_FOUND, {})
        except StoreUnavailable:  # the operator hears of it by the health page
            document, fields = _AWAY, {"retry-after": str(USUAL)}
        flow.response = _response(flow, document, fields)

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """The page is the gateway's own."""
        if flow.response or not self._is_asked(flow):
            return WouldDo(False, "is not asked")
        exchange_of(flow)["route"] = "captures"
        return WouldDo(True, "tells what became of a capture", answers=True)

    def _is_asked(self, flow: HTTPFlow) -> bool:
        return self._gateway.sink is not None and flow.request.path.startswith(STATUS_PATH)

    def done(self) -> None:
        if self._stores:
            self._stores.close()

    def _captures(self) -> Captures | None:
        if self._stores is None:
            from holdfast.captures.opening import GatewayCaptures  # a gateway that captures nothing needs none of it

            self._stores = GatewayCaptures(self._gateway)
        return self._stores.captures()

    async def _found(self, capture_id: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The document and header fields."""
        captures = self._captures()
        capture = await captures.get(capture_id) if captures else None
        if captures is None or capture is None:
            return _NOT_FOUND, {}
        document: dict[str, Any] = {
            "id": capture.id,
            "state": _SHOWN.get(capture.state, capture.state),
            "captured_at": capture.captured,
            "settled_at": capture.settled,
            "attempts": capture.attempts,
        }
        if document["state"] == "pending":
            return document, {"retry-after": str(self._wait(capture))}
        replays = self._gateway.replays
        if replays and replays.shows_answer(capture.route):
            document["answer"] = _last(await captures.attempts(capture.id))
        return document, {}

    def _wait(self, capture: Capture) -> int:
        if capture.due is None:
            return USUAL
        return max(SOONEST, min(LATEST, math.ceil(capture.due - self._gateway.wall_clock())))


def _last(attempts: list[AttemptLog]) -> dict[str, Any] | None:
    from holdfast.captures.documents import answer

    last = attempts[-1] if attempts else None
    return answer(last.status, last.headers, last.body, last.body_truncated) if last and last.status else None


def _response(flow: HTTPFlow, document: dict[str, Any], fields: dict[str, str]) -> Response:
    """JSON that nobody keeps, and no browser takes for something else: an answer of the upstream's may be in it."""
    status = document.get("status", 200)
    kind = "application/json" if status == 200 else PROBLEM
    common = {"content-type": kind, "cache-control": "no-store", "x-content-type-options": "nosniff"}
    body = b"" if flow.request.method == "HEAD" else json.dumps(document).encode() + b"\n"
    response = Response.make(status, body, common | fields)
    if not body:
        del response.headers["content-length"]  # it would not be that of the body which GET gets
    return response
