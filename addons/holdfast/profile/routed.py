"""`upstream.routes` and `limits.routes`: what a route leaves out is taken from what holds for all routes.

It is filled in before the check, as part of the tree, so that `retry: {attempts: 1}` on a route changes one key and
keeps the others, and so that rules between keys see what will really hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from holdfast.errors import Fault
from holdfast.profile.merge import merge
from holdfast.profile.nodes import Node, Table, Where
from holdfast.profile.settings import (
    AddonEntry,
    LimitSettings,
    Profile,
    RouteLimitSettings,
    RouteUpstreamSettings,
    UpstreamSettings,
)
from holdfast.profile.shapes import fields_of

_ROUTED: dict[str, type[Struct]] = {"upstream": RouteUpstreamSettings, "limits": RouteLimitSettings}
_NAMING_ROUTES = {  # keys of addons
    "interceptor": ("routes",),
    "cache": ("routes", "skip"),
    "surrogate": ("tags",),
    "notifier": ("routes",),
    "understudy": ("routes",),
    "faults": ("routes",),
}
_GATEWAYS_OWN = frozenset({"health", "captures", "unrouted"})  # labels of what no router has named


def filled_in(table: Table) -> Table:
    """The profile's table with every route's section completed."""
    entries = dict(table.entries)
    for name, cls in _ROUTED.items():
        section = entries.get(name)
        if isinstance(section, Table) and isinstance(section.entries.get("routes"), Table):
            entries[name] = _filled_section(section, cls)
    return Table(table.where, entries)


def _filled_section(section: Table, cls: type[Struct]) -> Table:
    shared = {item.name for item in fields_of(cls)}
    base = Table(section.where, {key: node for key, node in section.entries.items() if key in shared})
    routes = section.entries["routes"]
    assert isinstance(routes, Table)
    filled: dict[str, Node] = {
        name: merge(base, own) if isinstance(own, Table) else own for name, own in routes.entries.items()
    }
    return Table(section.where, {**section.entries, "routes": Table(routes.where, filled)})


def without_echoes(faults: Iterable[Fault]) -> list[Fault]:
    """A fault of what holds for all routes is told once, not again for each route that takes it over."""
    kept: dict[tuple[str, int, str], Fault] = {}
    for fault in faults:
        key = (fault.file, fault.line, fault.message)
        if key not in kept or ".routes." in kept[key].path:
            kept[key] = fault
    return list(kept.values())


def unknown_routes(profile: Profile, table: Table) -> list[Fault]:
    """Names of routes that the profile's router does not give; none are known where another addon may name them."""
    labels = route_labels(profile)
    if labels is None:
        return []
    known = ", ".join(sorted(labels - _GATEWAYS_OWN))
    named: list[tuple[Where, str, str]] = []
    for section in ("upstream", "limits"):
        settings: UpstreamSettings | LimitSettings = getattr(profile, section)
        named += [(_where(table, section, name), f"{section}.routes", name) for name in settings.routes]
    for entry in profile.addons:
        at, path = Where(entry.file, entry.line), f"addons.{entry.name}"
        for key in _NAMING_ROUTES.get(entry.target, ()):
            named += [(at, f"{path}.{key}", name) for name in getattr(entry.settings, key)]
    return [
        where.fault(f"{path}.{name}", f"the router gives no route this name: there are {known}")
        for where, path, name in named
        if name not in labels
    ]


def route_labels(profile: Profile) -> set[str] | None:
    """Every name that a request's route may have; None where anybody's addon may give it another."""
    routers = [entry for entry in profile.addons if entry.target == "router"]
    if not routers or any(":" in entry.target for entry in profile.addons):
        return None
    return {label for entry in routers for label in _labels(entry)} | _GATEWAYS_OWN


def _labels(entry: AddonEntry) -> list[str]:
    return [*(route.name for route in entry.settings.routes), entry.settings.default]


def _where(table: Table, section: str, name: str) -> Where:
    node: Node = table
    for key in (section, "routes", name):
        if isinstance(node, Table):
            node = node.entries[key]
    return node.where
