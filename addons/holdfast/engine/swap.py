"""Exchanges addons on mitmproxy's manager while it runs.

mitmproxy walks a list of addons for each event. The list is never changed but replaced, in one step of the event loop:
an event that is under way goes on over the addons it began with, the next one meets the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mitmproxy import hooks
from mitmproxy.addonmanager import Loader, LoadHook, _get_name, traverse
from mitmproxy.exceptions import AddonManagerError
from mitmproxy.master import Master


def taken_names(master: Master, leaving: Iterable[object]) -> set[str]:
    """The names that mitmproxy knows addons by, without those that are about to leave."""
    return set(master.addons.lookup) - set(_names(leaving))


def introduce(master: Master, addon: object, taken: set[str]) -> None:
    """Its `load`, and its commands, as by mitmproxy's `register`; it is in no list yet, and its names are `taken` now.

    AddonManagerError if one is already; beside that whatever `load` raises. Options it has added stay in any case:
    nothing reads them.
    """
    for name in _names([addon]):
        if name in taken:
            raise AddonManagerError(f"an addon called {name!r} exists already")
        taken.add(name)
    master.addons.invoke_addon_sync(addon, LoadHook(Loader(master)))
    for each in traverse([addon]):
        master.commands.collect_commands(each)


def configure(master: Master, addon: object) -> None:
    """Its `configure`, with all options; whatever that raises."""
    master.addons.invoke_addon_sync(addon, hooks.ConfigureHook(set(master.options.keys())))


def swap(master: Master, before: Sequence[object], after: Sequence[object]) -> None:
    """In place of `before`, which stand next to each other, `after` from now on. Calls nothing of theirs."""
    manager = master.addons
    index = next(i for i, each in enumerate(manager.chain) if each is before[0])
    others = [each for each in manager.chain[index:] if not _among(each, before)]
    for name in _names(each for each in before if not _among(each, after)):
        manager.lookup.pop(name, None)
    for each in traverse([each for each in after if not _among(each, before)]):
        manager.lookup[_get_name(each)] = each
    manager.chain = [*manager.chain[:index], *after, *others]


def _names(addons: Iterable[object]) -> Iterator[str]:
    return (_get_name(each) for each in traverse(addons))


def _among(addon: object, addons: Iterable[object]) -> bool:
    return any(addon is each for each in addons)
