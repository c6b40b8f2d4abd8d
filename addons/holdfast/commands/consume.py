"""`holdfast consume`: the chain of a profile without clients, to replay what was captured."""

from __future__ import annotations

import argparse

from mitmproxy.options import Options
from mitmproxy.tools import cmdline
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.main import run as run_mitmproxy

from holdfast.commands.run import mitmproxy_arguments
from holdfast.failure_sink import settings_in
from holdfast.loader import Loader
from holdfast.profile.settings import Profile
from holdfast.replay.settings import ReplayerSettings
from holdfast.source import ProfileSource


def consume(args: argparse.Namespace) -> int:
    """Replay until a signal ends it. ProfileError, or ValueError for a profile that has nothing to replay."""
    overrides: dict[str, object] = {"admin.listen": args.admin}  # the gateway beside it has the profile's
    if args.upstream:
        overrides["upstream.servers"] = list(args.upstream)
    source = ProfileSource(args.profile, overrides)
    profile = source.load()
    _refuse_what_cannot_be_replayed(profile, args.profile)

    def master(options: Options) -> DumpMaster:
        made = DumpMaster(options)
        made.addons.add(Loader(source, profile, "consumer"))
        return made

    arguments = [*mitmproxy_arguments(profile, web=False), *args.mitmproxy_args]
    run_mitmproxy(master, cmdline.mitmdump, arguments)  # type: ignore[arg-type]  # any callable that makes a master
    return 0


def _refuse_what_cannot_be_replayed(profile: Profile, name: str) -> None:
    sink = settings_in(profile)
    if sink is None:
        raise ValueError(f"the profile {name} has no failure_sink, so there is nothing to consume")
    if not sink.broker.startswith(("kafka://", "embedded://")):
        scheme = sink.broker.partition("://")[0]
        raise ValueError(
            f"{scheme}:// cannot be consumed: name kafka://HOST:PORT or embedded:// in failure_sink.broker"
        )
    if not any(isinstance(entry.settings, ReplayerSettings) for entry in profile.addons):
        raise ValueError(f"the profile {name} has no replayer: add `- replayer` to its addons")
