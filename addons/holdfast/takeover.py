"""From the profile that holds to the next one: all or nothing, in one step of the event loop, beside the traffic.

What becomes of an addon, whoever wrote it, is decided by its entry in the profile:

- the same name, addon and settings: the object stays as it is, wherever it stands in the new order;
- the same name and addon, other settings: an addon that declares a `Settings` class and has a method
  `reload(settings)` is handed them; any other is made anew, with its new settings;
- any other entry is a new addon, and an entry that is gone takes its addon along.

A new addon lives as mitmproxy's do: constructor, `load`, `configure`, and once it is in the chain `running`. One that
goes is called no more once it has finished what it was busy with, and gets `done`; that comes before the `running` of
one made in its place. Counters that the constructor registers with `gateway.registry` go on from where they were.
`reload` must not wait, and should not raise: what can be refused belongs into the settings' `__post_init__`.

Everything that somebody may refuse comes first and is undone if anybody does. What follows cannot fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mitmproxy import ctx, hooks
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.utils import asyncio_utils

from holdfast.chain import Chain, Member, adopt, build_members, refused
from holdfast.engine import swap
from holdfast.engine.front_ends import event_log, owns_terminal
from holdfast.errors import ProfileError
from holdfast.guard import Guard
from holdfast.logs import set_up_logs
from holdfast.profile.changes import Change, changes_of, same_addon
from holdfast.profile.nodes import Where
from holdfast.profile.settings import AddonEntry, Profile
from holdfast.registry import resolve, settings_class

logger = logging.getLogger(__name__)
PATIENCE = 5.0  # seconds for an addon that goes to finish what it is busy with, and again for its `done`
Place = Callable[[str], Where]


@dataclass(frozen=True, slots=True)
class _Next:
    """An entry of the new profile, and the member that it stands for."""

    entry: AddonEntry
    member: Member
    fate: Literal["kept", "reloaded", "made"]


@dataclass(frozen=True, slots=True)
class Turnover:
    """What has changed, for people, and whose life begins or ends with it."""

    told: dict[str, object]
    gone: list[Guard]
    made: list[Guard]


def take_over(chain: Chain, profile: Profile, place: Place) -> Turnover:
    """Let this profile hold from now on; then `settle`. ProfileError with every fault, and nothing has changed."""
    before = chain.gateway.profile
    changes = changes_of(before, profile)
    _refuse_what_needs_a_restart(changes, place)
    _refuse_bad_authorities(before, profile, place)
    following = _following(chain, profile)
    gone = [member for member in chain.members if all(member is not each.member for each in following)]
    with contextlib.ExitStack() as undo:
        _admit(chain, gone, following, undo)
        _set_options(chain, profile, place, undo)
        for each in following:
            if each.fate == "made":
                _asked(each.entry, "configure", swap.configure, ctx.master, each.member.guard)
            elif each.fate == "reloaded":
                _reload(each, undo)
        chain.upstream.follow(profile)
        undo.pop_all()
    told = _told(chain, profile, changes, [each.member for each in following if each.fate == "made"], gone)
    _commit(chain, profile, following)
    return Turnover(
        told, [each.guard for each in gone], [each.member.guard for each in following if each.fate == "made"]
    )


async def settle(turnover: Turnover) -> None:
    """End the lives of those that have gone, then begin those of the new ones."""
    await asyncio.gather(*(_end(guard) for guard in turnover.gone))
    for guard in turnover.made:
        try:
            await ctx.master.addons.invoke_addon(guard, hooks.RunningHook())
        except (AddonHalt, OptionsError) as error:
            logger.warning("addon not started", extra={"addon": guard.name, "error": str(error)})


# -- what may be refused --------------------------------------------------------------------------------------------


def _refuse_what_needs_a_restart(changes: list[Change], place: Place) -> None:
    fault = "cannot change while the gateway runs: it needs a restart, or put back what it was"
    faults = [place(change.path).fault(change.path, fault) for change in changes if change.restart]
    if faults:
        raise ProfileError(faults)


def _refuse_bad_authorities(before: Profile, after: Profile, place: Place) -> None:
    """A file that cannot be used would only show when the next server is connected to."""
    file = after.upstream.ca_file
    if file is None or file == before.upstream.ca_file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        at = "upstream.ca_file"
        raise ProfileError([place(at).fault(at, f"{file!r} cannot be used: {error.strerror or error}")]) from error


def _following(chain: Chain, profile: Profile) -> list[_Next]:
    """Who is kept, who gets new settings, and those that are made anew; all of them, before any is asked for more."""
    known = {member.entry.name: member for member in chain.members}
    fates = {entry.name: _fate(known.get(entry.name), entry) for entry in profile.addons}
    fresh = build_members(chain, [entry for entry in profile.addons if fates[entry.name] == "made"])
    known |= {member.entry.name: member for member in fresh}
    return [_Next(entry, known[entry.name], fates[entry.name]) for entry in profile.addons]


def _fate(member: Member | None, entry: AddonEntry) -> Literal["kept", "reloaded", "made"]:
    if member is None or not same_addon(member.entry, entry):
        return "made"
    if member.entry.settings == entry.settings:
        return "kept"
    knows_us = settings_class(resolve(entry.target)) is not None
    return "reloaded" if knows_us and callable(getattr(member.addon, "reload", None)) else "made"


def _admit(chain: Chain, gone: list[Member], following: list[_Next], undo: contextlib.ExitStack) -> None:
    """Metrics change places; then `load`, as mitmproxy would."""
    for member in gone:
        undo.callback(chain.registry.adopt, member.collectors)
        chain.registry.drop(member.collectors)
    commands = ctx.master.commands
    undo.callback(setattr, commands, "commands", dict(commands.commands))
    taken = swap.taken_names(ctx.master, [member.guard for member in gone])
    for entry, member in [(each.entry, each.member) for each in following if each.fate == "made"]:
        adopt(chain, member)
        undo.callback(chain.registry.drop, member.collectors)
        undo.callback(_dismiss, member.guard)
        _asked(entry, "load", swap.introduce, ctx.master, member.guard, taken)


def _dismiss(guard: Guard) -> None:
    """It has been asked to load and is not wanted after all."""
    guard.life.over = True
    asyncio_utils.create_task(_end(guard), name="dismiss addon", keep_ref=True)


def _set_options(chain: Chain, profile: Profile, place: Place, undo: contextlib.ExitStack) -> None:
    options = ctx.options
    wanted = chain.options(options, profile, chain.gateway.profile)
    undo.callback(options.update, **{name: getattr(options, name) for name in wanted})
    try:
        options.process_deferred()
        options.update(**wanted)
    except OptionsError as error:
        raise ProfileError([place("upstream").fault("upstream", f"mitmproxy refuses an option: {error}")]) from error


def _reload(each: _Next, undo: contextlib.ExitStack) -> None:
    addon: Any = each.member.addon
    undo.callback(addon.reload, each.member.entry.settings)
    _asked(each.entry, "reload", addon.reload, each.entry.settings)


def _asked(entry: AddonEntry, what: str, function: Callable[..., object], *args: object) -> None:
    try:
        function(*args)
    except Exception as error:
        raise refused(entry, f"its `{what}` raised {type(error).__name__}: {error}") from error


# -- what cannot fail -----------------------------------------------------------------------------------------------


def _commit(chain: Chain, profile: Profile, following: list[_Next]) -> None:
    gateway, addons = chain.gateway, chain.addons
    for each in following:
        each.member.entry = each.member.guard.entry = each.entry
    chain.consist_of([each.member for each in following])
    swap.swap(ctx.master, addons, chain.addons)
    if profile.log != gateway.profile.log:
        set_up_logs(profile.log, event_log(ctx.master), to_stderr=not owns_terminal(ctx.master))
    gateway.profile, gateway.profile_since = profile, gateway.wall_clock()


def _told(
    chain: Chain, profile: Profile, changes: list[Change], made: list[Member], gone: list[Member]
) -> dict[str, object]:
    """The fields of the log line, those that have something to say."""
    before = chain.gateway.profile
    old_names, names = [e.name for e in before.addons], [e.name for e in profile.addons]
    old_servers, servers = _servers(before), _servers(profile)
    kept = [name for name in names if name in old_names]
    reordered = kept != [name for name in old_names if name in names]
    lists = {
        "addons_added": [n for n in names if n not in old_names],
        "addons_removed": [n for n in old_names if n not in names],
        "addons_made_anew": sorted({m.entry.name for m in made} & {m.entry.name for m in gone}),
        "addons_in_order": names if reordered else [],
        "servers_added": [s for s in servers if s not in old_servers],
        "servers_removed": [s for s in old_servers if s not in servers],
        "changed": [change.path for change in changes],
    }
    return {name: ",".join(value) for name, value in lists.items() if value} or {"changed": "nothing"}


def _servers(profile: Profile) -> list[str]:
    upstream = profile.upstream
    every = [s.url for each in (upstream, *upstream.routes.values()) for s in each.each_server()]
    return list(dict.fromkeys(every))


async def _end(guard: Guard) -> None:
    """`done`, once the addon has finished what it is busy with, or has had time enough to."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await guard.life.rest()
    guard.life.over = True
    try:
        async with asyncio.timeout(PATIENCE):
            await ctx.master.addons.invoke_addon(guard, hooks.DoneHook())
    except (AddonHalt, OptionsError, TimeoutError) as error:
        logger.warning("addon not ended", extra={"addon": guard.name, "error": str(error) or type(error).__name__})
