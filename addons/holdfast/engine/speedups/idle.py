"""mitmproxy's own addons that have nothing to do are not asked.

Most of its forty do nothing until an option tells them to. Which of them are idle is looked up when the table of
handlers is made, and so again whenever an option has changed. Two look at every request for something that none has:
those are asked when a look at it shows that they may act. An addon of another class, one that has been given another
method, and everybody else's are always asked. (mitmproxy 12.2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mitmproxy import ctx
from mitmproxy.addons import (
    anticache,
    anticomp,
    blocklist,
    dumper,
    maplocal,
    mapremote,
    modifybody,
    modifyheaders,
    onboarding,
    proxyauth,
    save,
    savehar,
    stickyauth,
    stickycookie,
    tlsconfig,
    upstream_auth,
)
from mitmproxy.http import HTTPFlow
from mitmproxy.master import Master

from holdfast.engine.dispatch import Handler, table_of

_UNTIL_CONFIGURED: tuple[tuple[type, str, Callable[[Any], bool]], ...] = (
    (blocklist.BlockList, "request", lambda addon: not addon.items),
    (anticache.AntiCache, "request", lambda _: not ctx.options.anticache),
    (anticomp.AntiComp, "request", lambda _: not ctx.options.anticomp),
    (onboarding.Onboarding, "request", lambda _: not ctx.options.onboarding),
    (mapremote.MapRemote, "request", lambda addon: not addon.replacements),
    (maplocal.MapLocal, "request", lambda addon: not addon.replacements),
    (modifybody.ModifyBody, "request", lambda addon: not addon.replacements),
    (modifybody.ModifyBody, "response", lambda addon: not addon.replacements),
    (modifyheaders.ModifyHeaders, "requestheaders", lambda addon: not addon.replacements),
    (modifyheaders.ModifyHeaders, "responseheaders", lambda addon: not addon.replacements),
    (stickyauth.StickyAuth, "request", lambda addon: not addon.flt),
    (stickycookie.StickyCookie, "request", lambda addon: not addon.flt),
    (stickycookie.StickyCookie, "response", lambda addon: not addon.flt),
    (save.Save, "request", lambda addon: not addon.stream),
    (save.Save, "response", lambda addon: not addon.stream),
    (proxyauth.ProxyAuth, "requestheaders", lambda addon: not addon.validator),
    (upstream_auth.UpstreamAuth, "requestheaders", lambda addon: not addon.auth),
    (savehar.SaveHar, "response", lambda _: not ctx.options.hardump),
    (dumper.Dumper, "response", lambda _: ctx.options.flow_detail == 0),
)
"""Who has nothing to do with which event, and how it shows: all of it changes in `configure` alone."""

_F = (onboarding.Onboarding, proxyauth.ProxyAuth, upstream_auth.UpstreamAuth, dumper.Dumper)
EXPECTED = (
    *((getattr(kind, event), "self f" if kind in _F else "self flow") for kind, event, _ in _UNTIL_CONFIGURED),
    (onboarding.Onboarding.should_serve, "self flow"),
    (tlsconfig.TlsConfig.request, "self flow"),
    (tlsconfig.TlsConfig.crl_path, "self"),
)


def is_idle(addon: object) -> bool:
    """Whether it is one of these, and has nothing to do with any event."""
    own = [idle for kind, _, idle in _UNTIL_CONFIGURED if kind is type(addon)]
    return bool(own) and all(idle(addon) for idle in own)


def sift(addon: object, event: str, handler: Handler) -> Handler | None:
    """What is asked instead of this handler; None for nobody."""
    kind = type(addon)
    if getattr(handler, "__func__", None) is not getattr(kind, event, None):
        return handler
    if any(kind is one and event == when and idle(addon) for one, when, idle in _UNTIL_CONFIGURED):
        return None
    if event == "request" and kind is onboarding.Onboarding:
        return _if_it_may_be_the_app(addon, handler)
    if event == "request" and kind is tlsconfig.TlsConfig:
        return _if_it_may_be_a_revocation_list(handler)
    return handler


def _if_it_may_be_the_app(addon: Any, handler: Handler) -> Handler:
    def request(flow: HTTPFlow) -> Any:
        return handler(flow) if addon.host in (flow.request.host_header or flow.request.host) else None

    return request


def _if_it_may_be_a_revocation_list(handler: Handler) -> Handler:
    def request(flow: HTTPFlow) -> Any:
        return handler(flow) if flow.request.data.path.endswith(b".crl") else None

    return request


def leave_out_idle(master: Master) -> None:
    """From now on; where events do not go by a table, nothing changes."""
    table = table_of(master)
    if table:
        table.sift = sift
        table.forget()
