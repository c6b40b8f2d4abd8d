"""From a capture to a flow: what the replayer would send, as something that a person can edit and replay."""

from __future__ import annotations

import time

from mitmproxy import ctx
from mitmproxy.addons.view import View
from mitmproxy.connection import Client, Server
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow, Request, Response
from mitmproxy.net.http.url import hostport

from holdfast.captures import Capture
from holdfast.errors import HoldfastError
from holdfast.exchange import KEY, Exchange
from holdfast.gateway import Gateway
from holdfast.marks import BETWEEN, BY_HAND, fingerprint, label
from holdfast.policy.endpoint import Endpoint, parse_listen
from holdfast.policy.replaying.requests import ReplayRequest
from holdfast.replay.sending import as_request, clients_host

SHOWN = ":mag:"


def server_for(gateway: Gateway, route: str) -> Endpoint:
    """The first that may be asked now, or else the first. HoldfastError where mitmproxy's replay cannot speak to it."""
    servers, now = gateway.leg.plan(route).pool.servers, gateway.leg.clock()
    chosen = next((each for each in servers if each.available(now)), servers[0]).endpoint
    if chosen.http2_only:
        raise HoldfastError(
            f"{chosen} speaks HTTP/2 without TLS, which mitmproxy's client replay does not: "
            "`holdfast captures redrive` has it sent by the replayer"
        )
    return chosen


def flow_of(request: ReplayRequest, capture: Capture, to: Endpoint) -> HTTPFlow:
    """Not sent, and with no connection of its own."""
    now = time.time()
    client = Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0), timestamp_start=now)
    flow = HTTPFlow(client, Server(address=to.address))
    flow.request = as_request(request, now)
    flow.request.data.host, flow.request.data.port = to.address
    flow.request.scheme = to.uri_scheme
    flow.request.headers.insert(0, "host", hostport(to.uri_scheme, to.host, to.port))
    known: Exchange = {"by_hand": capture.id, "as_captured": fingerprint(flow.request)}
    known["original_host"] = clients_host(request)
    flow.metadata[KEY] = known
    label(flow, BY_HAND, _comment(capture, to))
    return flow


def _comment(capture: Capture, to: Endpoint) -> str:
    state = f"{capture.state} ({capture.reason})" if capture.reason else capture.state
    return BETWEEN.join([
        f"capture {capture.id}, {state}: {capture.error}",
        f"not sent yet: edit it if you like, then replay it; it goes to {to}",
    ])  # fmt: skip


def shown_flow(document: bytes, capture_id: str, admin: str) -> HTTPFlow:
    """What the control surface's page of a capture says, as a flow: a place to read it, no request has been made."""
    now = time.time()
    host, port = parse_listen(admin)
    client = Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0), timestamp_start=now)
    flow = HTTPFlow(client, Server(address=(host, port)))
    flow.request = Request.make("GET", f"http://{hostport('http', host, port)}/captures/{capture_id}")
    flow.request.timestamp_end = now
    flow.response = Response.make(200, document, {"content-type": "application/json"})
    flow.response.timestamp_end = now
    label(flow, SHOWN, "made by holdfast.show: nothing was sent")
    return flow


def flow_list() -> View | None:
    """mitmweb's or the console's; mitmdump has none."""
    found = ctx.master.addons.get("view")
    return found if isinstance(found, View) else None


def is_mitmweb() -> bool:
    """Whose command bar shows a result in one line, whatever it is."""
    return ctx.master.addons.get("webaddon") is not None


def put_into(view: View, flow: Flow) -> None:
    """At its end, and chosen."""
    view.add([flow])
    view.focus.flow = flow
