"""The profile as it is played: nothing outside this process is asked, told or written to.

What stands in for a key is written beside it, as `in_tests`. Servers are scripted ones on this machine; there is no
control surface; nobody is notified, and no spans are exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from holdfast.policy.endpoint import parse_endpoint
from holdfast.profile.settings import AddonEntry, AdminSettings, DnsSettings, Profile, RouteUpstreamSettings
from holdfast.profile.shapes import Field, fields_of

SILENT = frozenset({"notifier", "tracing"})
"""Addons that only tell others: they are left out."""
_OUR_OWN = ("memory", "embedded", "file", "sqlite", "http", "https")


def stood_in(
    profile: Profile, servers: Mapping[str, str], ca_file: Path, folder: Path, *, with_stores: bool, replays: bool
) -> Profile:
    """The profile to play. `servers` maps the profile's URLs to those of the scripted servers.

    `with_stores` keeps the addresses of Redis, Kafka and PostgreSQL; without `replays` nothing is sent again.
    """
    left_out = SILENT if replays else SILENT | {"replayer"}
    return msgspec.structs.replace(
        profile,
        listen="127.0.0.1:0",
        admin=AdminSettings(listen=None, health_path=profile.admin.health_path),
        upstream=msgspec.structs.replace(
            _redirected(profile.upstream, servers),
            ca_file=str(ca_file),
            routes={name: _redirected(route, servers) for name, route in profile.upstream.routes.items()},
        ),
        addons=tuple(_entry(e, folder, with_stores) for e in profile.addons if e.target not in left_out),
    )


def _redirected[T: RouteUpstreamSettings](section: T, servers: Mapping[str, str]) -> T:
    given = [
        msgspec.structs.replace(server, url=servers[str(parse_endpoint(server.url))])
        for server in section.each_server()
    ]
    # Health checks and lookups of names would be asked of the scripts.
    return msgspec.structs.replace(section, servers=tuple(given), health_check=None, dns=DnsSettings(expand=False))


def _entry(entry: AddonEntry, folder: Path, with_stores: bool) -> AddonEntry:
    if not isinstance(entry.settings, Struct):
        return entry
    return msgspec.structs.replace(entry, settings=_settings(entry.settings, folder, with_stores))


def _settings[T: Struct](settings: T, folder: Path, with_stores: bool) -> T:
    """With every key that has a stand-in replaced, also deeper down."""
    changed = {
        item.attribute: _value(item, getattr(settings, item.attribute), folder, with_stores)
        for item in fields_of(type(settings))
    }
    return msgspec.structs.replace(settings, **changed)


def _value(item: Field, value: Any, folder: Path, with_stores: bool) -> Any:
    extras = [meta.extra for meta in item.shape.metas if meta.extra and "in_tests" in meta.extra]
    if extras and not (with_stores and is_store(value)):
        stand_in = extras[0]["in_tests"]
        return stand_in.format(folder=folder) if isinstance(stand_in, str) else stand_in
    if isinstance(value, Struct):
        return _settings(value, folder, with_stores)
    if isinstance(value, Mapping):
        return {k: _settings(v, folder, with_stores) if isinstance(v, Struct) else v for k, v in value.items()}
    return value


def is_store(value: object) -> bool:
    """Whether it is the address of a store that others run: `redis://`, `kafka://`, `postgresql://` ..."""
    scheme, mark, _ = str(value).partition("://")
    return bool(mark) and scheme not in _OUR_OWN
