"""Puts addons onto mitmproxy's manager, at the top level and before its `next_layer` addon.

Top-level addons are isolated from each other, those nested under a script are not; and what runs before `next_layer`
runs before the views too, so that a mark or a comment is there when mitmweb draws the flow.
"""

from __future__ import annotations

from collections.abc import Sequence

from mitmproxy import hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.master import Master
from mitmproxy.utils import asyncio_utils

from holdfast.engine.speed import make_fast
from holdfast.engine.upstream import UpstreamLeg


def place(master: Master, addons: Sequence[object]) -> None:
    """Load and configure `addons` in this order. If mitmproxy already runs, their `running` follows at once.

    HoldfastError for an engine's mode that there is not.
    """
    manager = master.addons
    manager.add(*addons)
    make_fast(master)
    kept = [a for a in manager.chain if not any(a is b for b in addons)]
    index = next((i for i, a in enumerate(kept) if a is manager.get("nextlayer")), len(kept))
    # A new list, not a changed one: mitmproxy may be walking the old one right now.
    manager.chain = [*kept[:index], *addons, *kept[index:]]
    for addon in addons:
        # mitmproxy does not configure what is added while another addon loads.
        manager.invoke_addon_sync(addon, hooks.ConfigureHook(set(master.options.keys())))
    if _is_running(manager):
        asyncio_utils.create_task(_start(manager, addons), name="start addons", keep_ref=True)


def is_placed(master: Master) -> bool:
    """Whether a chain is on this mitmproxy already."""
    return master.addons.get(UpstreamLeg.name) is not None


def _is_running(manager: AddonManager) -> bool:
    proxyserver = manager.get("proxyserver")
    return isinstance(proxyserver, Proxyserver) and proxyserver.is_running


async def _start(manager: AddonManager, addons: Sequence[object]) -> None:
    for addon in addons:
        await manager.invoke_addon(addon, hooks.RunningHook())
