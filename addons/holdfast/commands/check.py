"""`holdfast check` and `holdfast profiles`: what a profile says, without starting anything."""

from __future__ import annotations

import argparse
import json
import os
import sys

from holdfast.caching.settings import CacheSettings
from holdfast.chain import build_chain
from holdfast.lane.onlookers import onlookers_of
from holdfast.profile.describe import masked, profile_schema
from holdfast.profile.doubts import doubts_about
from holdfast.profile.load import read_profile, shipped_profiles
from holdfast.profile.reading import Reading
from holdfast.profile.settings import Profile


def check(args: argparse.Namespace) -> int:
    """Load the profile and make its addons, which have no side effects. ProfileError with every fault.

    What can hardly be meant is a warning, which changes nothing about the exit status.
    """
    if args.schema:
        print(json.dumps(profile_schema(), indent=2))
        return 0
    reading = Reading(os.environ, with_tests=True)
    profile = read_profile(args.profile, reading, {})
    build_chain(profile)
    doubts = doubts_about(profile, reading)
    for doubt in (*doubts.order, *doubts.values):
        print(f"{doubt}; {doubt.advice} (warning)", file=sys.stderr)
    print(json.dumps(masked(profile), indent=2) if args.json else chain_text(profile))
    return 0


def hits_told(profile: Profile) -> list[str]:
    """Which way hits of the cache go, and why; nothing where there is no cache."""
    settings = next((each.settings for each in profile.addons if isinstance(each.settings, CacheSettings)), None)
    if settings is None:
        return []
    if seeing := onlookers_of(profile.addons):
        return [f"hits      no fast lane: {', '.join(seeing)} may need to see them"]
    ways = {True: "fast lane", False: "no fast lane (`fast_lane: false`)"}
    others = [name for name, own in settings.routes.items() if own.fast_lane is (not settings.fast_lane)]
    told = f", but {ways[not settings.fast_lane]} on {', '.join(others)}" if others else ""
    return [f"hits      {ways[settings.fast_lane]}{told}"]


def profiles(args: argparse.Namespace) -> int:
    """The shipped profiles, a line each."""
    shipped = list(shipped_profiles())
    if args.json:
        print(json.dumps([{"name": name, "story": story} for name, story in shipped], indent=2))
    else:
        width = max(len(name) for name, _ in shipped)
        print("\n".join(f"{name:<{width}}  {story}" for name, story in shipped))
    return 0


def chain_text(profile: Profile) -> str:
    """The resolved chain for people."""
    lines = [f"{profile.source}: ok", f"listen    {profile.listen}"]
    lines.append(f"admin     {profile.admin.listen or 'off'}{' (token)' if profile.admin.token else ''}")
    lines += [
        f"upstream  {server.url}{' (backup)' if server.backup else ''}" for server in profile.upstream.each_server()
    ]
    width = max((len(entry.name) for entry in profile.addons), default=0)
    for number, entry in enumerate(profile.addons, 1):
        where = f"{entry.file}:{entry.line}"
        lines.append(f"{number:>3}. {entry.name:<{width}}  on_error: {entry.on_error}  {where}")
    lines += hits_told(profile)
    if profile.tests:
        lines.append(f"tests     {len(profile.tests)} (holdfast check {profile.source} --test)")
    return "\n".join(lines)
