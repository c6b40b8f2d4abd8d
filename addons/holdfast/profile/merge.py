"""A profile laid over the one it extends: mappings merge, everything else is replaced, addons merge by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from holdfast.errors import Fault
from holdfast.profile.entries import Entry, path_of
from holdfast.profile.hints import either_of
from holdfast.profile.nodes import Node, Table


def merge(base: Node, over: Node) -> Node:
    """Deeply, and the later wins; a mapping then stands where the later one stands."""
    if not isinstance(base, Table) or not isinstance(over, Table):
        return over
    entries = dict(base.entries)
    for key, node in over.entries.items():
        entries[key] = merge(entries[key], node) if key in entries else node
    return Table(over.where, entries)


def merge_addons(base: Sequence[Entry], over: Sequence[Entry], faults: list[Fault]) -> list[Entry]:
    """An entry of an inherited name changes that one where it stands, `false` removes it, others go to the end."""
    merged = {entry.name: entry for entry in base}
    for entry in over:
        if entry.name in merged:
            if entry.removed:
                del merged[entry.name]
            else:
                merged[entry.name] = _merged(merged[entry.name], entry)
        elif entry.removed or entry.target is None:
            faults.append(_not_there(entry, [inherited.name for inherited in base]))
        else:
            merged[entry.name] = entry
    return list(merged.values())


def _merged(base: Entry, over: Entry) -> Entry:
    # The short form by an inherited entry's own name means that entry, wherever its class comes from.
    target = base.target if over.target in (None, over.name) else over.target
    if target != base.target:
        return replace(over, on_error=over.on_error or base.on_error)
    if over.settings is None or base.settings is None:
        settings, key_of = over.settings or base.settings, over if over.settings else base
    else:
        settings, key_of = merge(base.settings, over.settings), over
    return Entry(over.where, over.name, target, settings, over.on_error or base.on_error, with_key=key_of.with_key)


def _not_there(entry: Entry, names: list[str]) -> Fault:
    hint = either_of(entry.name, names) or (f"there are {', '.join(names)}" if names else "it has none")
    what = "takes away" if entry.removed else "changes"
    return entry.where.fault(path_of(entry.name), f"{what} an addon that this profile does not inherit: {hint}")
