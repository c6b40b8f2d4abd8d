"""What makes mitmproxy faster and changes nothing else. `HOLDFAST_ENGINE=plain` in the environment leaves it out.

Each part names what it relies on in mitmproxy. One that does not find it is left out with a warning, and the gateway is
slower; the upstream leg, without which there is no gateway, refuses to start instead (`selfcheck`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping

from mitmproxy import addonmanager, hooks
from mitmproxy.master import Master
from mitmproxy.proxy import mode_servers, server, server_hooks

from holdfast.engine.dispatch import dispatch_by_table
from holdfast.engine.selfcheck import Expected, differences
from holdfast.engine.speedups import fields, idle, inline, layers, values
from holdfast.engine.upstream import feed_directly, share_connections, shorten_hits
from holdfast.errors import HoldfastError

logger = logging.getLogger(__name__)
MODE = "HOLDFAST_ENGINE"
_MANAGER = addonmanager.AddonManager
_HANDLER = server.ConnectionHandler
_READING: Expected = (
    (_HANDLER.handle_connection, "self connection"),
    (asyncio.StreamReader.feed_data, "self data"),
    (asyncio.StreamReader.read, "self n"),
    (asyncio.StreamReaderProtocol.data_received, "self data"),
)
PARTS: tuple[tuple[str, Callable[[Master], object], Expected], ...] = (
    (
        "events by a table",
        dispatch_by_table,
        (
            (_MANAGER.register, "self addon"),
            (_MANAGER.trigger_event, "self event"),
            (_MANAGER.handle_lifecycle, "self event"),
            (_MANAGER._iter_hooks, "self addon event"),
            (addonmanager.cut_traceback, "tb func_name"),
            (hooks.Hook.args, "self"),
            (hooks.UpdateHook, "flows"),
        ),
    ),
    (
        "events without tasks",
        inline.take_inline,
        (
            (server.ConnectionHandler.server_event, "self event"),
            (server.ConnectionHandler.hook_task, "self hook"),
            (server.ConnectionHandler.open_connection, "self command"),
            (server.ConnectionHandler.wakeup, "self request"),
            (server.ConnectionHandler.close_connection, "self connection half_close"),
            (server.ConnectionHandler.drain_writers, "self"),
            (server.TimeoutWatchdog.disarm, "self"),
            (mode_servers.ProxyConnectionHandler.__init__, "self master r w options mode"),
            (mode_servers.ProxyConnectionHandler.handle_hook, "self hook"),
        ),
    ),
    ("layers in one loop", layers.hurry_layers, layers.EXPECTED),
    ("idle addons left out", idle.leave_out_idle, idle.EXPECTED),
    ("header fields in one step", fields.look_up_in_one_step, fields.EXPECTED),
    ("values that are remembered", values.remember_values, values.EXPECTED),
    (
        "connections to servers shared by all clients",
        share_connections,
        (
            (_HANDLER.open_connection, "self command"),
            (_HANDLER.close_connection, "self connection half_close"),
            (_HANDLER.server_event, "self event"),
            (_HANDLER.drain_writers, "self"),
            (_HANDLER.handle_client, "self"),
            (server.ConnectionIO, "handler reader writer"),
            (server_hooks.ServerConnectionHookData, "server client"),
            (server_hooks.ServerDisconnectedHook, "data"),
        ),
    ),
    (
        "bytes taken where they arrive",
        feed_directly,
        _READING,
    ),
    (
        "hits that pass mitmproxy by",
        shorten_hits,
        (*_READING, (server.TimeoutWatchdog.register_activity, "self")),
    ),
)


def make_fast(master: Master, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Put every part that fits onto this mitmproxy; the names of those. HoldfastError for a mode that there is not."""
    mode = environ.get(MODE, "")
    if mode not in ("", "plain"):
        raise HoldfastError(f"{MODE}={mode}: write `plain`, or leave it out")
    done = []
    for name, put, expected in () if mode else PARTS:
        faults = differences(expected)
        if faults:
            logger.warning("left out: this mitmproxy does not fit", extra={"part": name, "faults": faults})
            continue
        put(master)
        done.append(name)
    return done
