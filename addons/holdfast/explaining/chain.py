"""Every addon of the chain, asked in its order what it would do with one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mitmproxy.hooks import all_hooks
from mitmproxy.http import HTTPFlow, Response

from holdfast.exchange import exchange_of, route_of
from holdfast.explaining.imagined import imagined_flow
from holdfast.explaining.upstream import explained_upstream
from holdfast.gateway import Explaining, Gateway, WouldDo
from holdfast.policy.caching.model import Fields

type Named = tuple[str, object]  # the entry's name in the profile, and the addon
type Step = tuple[str, object, WouldDo]
_TRAFFIC = ("requestheaders", "request", "responseheaders", "response", "error", "upstream_failed")


async def explained_request(
    gateway: Gateway, own: Sequence[object], members: Sequence[Named], method: str, url: str, fields: Fields
) -> dict[str, Any]:
    """`own` are the addons that every chain has, before `members`. ValueError for what is no request.

    The document: `request`, `chain` (a list in order: addon, acts, does), `details` by addon, `answered_by`,
    `upstream` (see `explaining.upstream`).
    """
    forwarded = gateway.profile.upstream.forwarded
    flow = imagined_flow(method, url, fields, gateway.router, gateway.leg.endpoints[0], forwarded=forwarded)
    steps, answered_by = list[Step](), ""
    named_own = [(str(getattr(addon, "name", "")), addon) for addon in own]
    for name, addon in (*named_own, *members):
        told = await _asked(addon, flow)
        if (name, addon) in named_own and not told.acts:
            continue  # nobody has put it there, so it is named only where it matters
        steps.append((name, addon, told))
        if told.answers and not answered_by:
            answered_by, flow.response = name, Response.make(200)
    agreed = _agreed(gateway, steps)
    exchange = exchange_of(flow)
    params = dict(exchange.get("route_params", {}))
    return {
        "request": {"method": method, "url": url, "route": route_of(flow), "params": params},
        "chain": [{"addon": name, "acts": told.acts, "does": told.says} for name, _, told in agreed],
        "answered_by": answered_by or "upstream",
        "upstream": explained_upstream(gateway.leg, flow),
        "details": {name: told.details for name, _, told in agreed if told.details},
    }


def _agreed(gateway: Gateway, steps: list[Step]) -> list[Step]:
    """With what one addon decides for the others, wherever it stands: whether there is a capture, and who answers first
    for a failed upstream: the cache, then the understudy, then the interceptor.
    """
    is_captured = any(told.details.get("captures") for _, _, told in steps)
    first = [name for name, addon, told in steps if "if_failed" in told.details and addon is gateway.cache]
    first += [name for name, addon, told in steps if "if_failed" in told.details and addon is not gateway.cache]

    def agreed(name: str, addon: object, told: WouldDo) -> WouldDo:
        before = first[: first.index(name)] if name in first else first if "on" in told.details else []
        if told.acts and not is_captured and addon in (gateway.sink, gateway.replays):
            return WouldDo(False, "nobody has it captured")
        if told.acts and before and not told.answers:
            return replace(told, says=f"{told.says}, unless {' or '.join(before)} has an answer")
        return told

    return [(name, addon, agreed(name, addon, told)) for name, addon, told in steps]


async def _asked(addon: object, flow: HTTPFlow) -> WouldDo:
    if isinstance(addon, Explaining):
        return await addon.would_do(flow)
    hooks = [hook for hook in _TRAFFIC if hook in all_hooks and callable(getattr(addon, hook, None))]
    if not hooks:
        return WouldDo(False, "has no hook for requests")
    return WouldDo(True, f"sees it in {', '.join(hooks)}; what it does there only its author knows")
