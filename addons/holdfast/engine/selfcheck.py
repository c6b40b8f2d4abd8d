"""Is this the mitmproxy that the engine was written against? Asked once, before anything is put onto it.

The engine overrides methods that mitmproxy does not promise to keep. A method that has gone, or takes other arguments,
would show as a hang or a lost answer under load; here it is a sentence at start.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from mitmproxy import addonmanager, flow, hooks, version
from mitmproxy.addons import proxyserver
from mitmproxy.proxy import layer, mode_servers, server
from mitmproxy.proxy.layers import ClientTLSLayer, http
from mitmproxy.proxy.layers.http import _http1, _http2

from holdfast.engine import SUPPORTED
from holdfast.errors import EngineMismatch

type Expected = tuple[tuple[Callable[..., object], str], ...]
"""What is overridden or called, with the names of its parameters."""

EXPECTED: Expected = (
    (http.Http1Client.read_headers, "self event"),
    (http.Http1Client.send, "self event"),
    (http.Http1Client.read_body, "self event"),
    (http.Http1Server.send, "self event"),
    (http.Http1Server.read_headers, "self event"),
    (http.Http1Server.read_body, "self event"),
    (http.Http1Server.mark_done, "self request response"),
    (http.Http1Server.wait, "self event"),
    (_http1.make_body_reader, "expected_size"),
    (_http2.Http2Client.__init__, "self context"),
    (_http2.Http2Client._handle_event, "self event"),
    (_http2.Http2Client._handle_event2, "self event"),
    (_http2.Http2Client.handle_h2_event, "self event"),
    (_http2.Http2Client.close_connection, "self msg"),
    (_http2.Http2Server._handle_event, "self event"),
    (_http2.Http2Server.handle_h2_event, "self event"),
    (_http2.Http2Server.protocol_error, "self message error_code"),
    (ClientTLSLayer.start_handshake, "self"),
    (ClientTLSLayer.on_handshake_error, "self err"),
    (_http2.Http2Connection.is_closed, "self stream_id"),
    (_http2.Http2Connection.is_open_for_us, "self stream_id"),
    (http.HttpLayer.make_stream, "self stream_id"),
    (http.HttpLayer.event_to_child, "self child event"),
    (http.HttpLayer.get_connection, "self event reuse"),
    (http.HttpLayer.register_connection, "self command"),
    (http.HttpStream.__init__, "self context stream_id"),
    (http.HttpStream.make_server_connection, "self"),
    (http.HttpStream.start_request_stream, "self"),
    (http.HttpStream.start_response_stream, "self"),
    (http.HttpStream.check_invalid, "self request"),
    (http.HttpStream.check_killed, "self emit_error_hook"),
    (http.HttpStream.send_response, "self already_streamed"),
    (http.HttpStream.flow_done, "self"),
    (http.HttpStream.handle_protocol_error, "self event"),
    (http.GetHttpConnection, "address tls via transport_protocol"),
    (http.GetHttpConnectionCompleted, "command reply"),
    (http.ResponseProtocolError, "stream_id message code"),
    (layer.Layer.handle_event, "self event"),
    (server.ConnectionHandler.server_event, "self event"),
    (mode_servers.ProxyConnectionHandler.handle_hook, "self hook"),
    (proxyserver.Servers.update, "self modes"),
    (proxyserver.Proxyserver.setup_servers, "self"),
    (addonmanager.AddonManager.register, "self addon"),
    (addonmanager.AddonManager.invoke_addon, "self addon event"),
    (addonmanager.AddonManager.invoke_addon_sync, "self addon event"),
    (hooks.Hook.args, "self"),
    (flow.Flow.wait_for_resume, "self"),
)
STATES = (
    "state_wait_for_request_headers",
    "state_wait_for_response_headers",
    "state_consume_response_body",
    "state_stream_request_body",
    "state_stream_response_body",
    "state_done",
    "state_errored",
)


def check_engine(installed: str = version.VERSION) -> None:
    """EngineMismatch with every difference found; nothing if mitmproxy is what it should be."""
    faults = differences(EXPECTED)
    faults += [f"HttpStream.{state} is missing" for state in STATES if not hasattr(http.HttpStream, state)]
    if installed.split(".")[:2] != SUPPORTED.split("."):
        faults.insert(0, f"its version is {installed}")
    if faults:
        raise EngineMismatch(
            f"this mitmproxy does not fit Holdfast's upstream leg: {'; '.join(faults)}. "
            f'Supported is mitmproxy {SUPPORTED}.x: pip install "mitmproxy~={SUPPORTED}.0"'
        )


def differences(expected: Expected) -> list[str]:
    """What the installed mitmproxy has otherwise, a line each."""
    return [fault for fault in (_fault(function, wanted) for function, wanted in expected) if fault]


def _fault(function: Callable[..., object], wanted: str) -> str | None:
    found = " ".join(inspect.signature(function).parameters)
    name = getattr(function, "__qualname__", repr(function))
    return None if found == wanted else f"{name} takes ({found}), not ({wanted})"
