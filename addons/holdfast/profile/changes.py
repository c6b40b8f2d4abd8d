"""What differs between two profiles, as dotted paths; values are not named, as they may be secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from holdfast.profile.entries import path_of
from holdfast.profile.nodes import join
from holdfast.profile.settings import AddonEntry, Profile
from holdfast.profile.shapes import fields_of


@dataclass(frozen=True, slots=True)
class Change:
    """A key with another value. `restart`: it cannot change while the gateway runs."""

    path: str
    restart: bool = False


def changes_of(before: Profile, after: Profile) -> list[Change]:
    """Every key whose value differs, those of addons that both profiles have among them."""
    found = list(_differences(before, after, ""))
    known = {entry.name: entry for entry in before.addons}
    for entry in after.addons:
        old = known.get(entry.name)
        if old and same_addon(old, entry):
            found += _unlike(old.settings, entry.settings, path_of(entry.name))
            found += [Change(join(path_of(entry.name), "on_error"))] if old.on_error != entry.on_error else []
    return found


def same_addon(one: AddonEntry, other: AddonEntry) -> bool:
    """Whether both entries name the same addon by the same name."""
    return (one.name, one.target) == (other.name, other.target)


def _differences(before: Struct, after: Struct, path: str) -> Iterator[Change]:
    for item in fields_of(type(after)):
        if item.internal or item.name == "addons":
            continue
        old, new = getattr(before, item.attribute), getattr(after, item.attribute)
        for change in _unlike(old, new, join(path, item.name)):
            yield Change(change.path, change.restart or item.restart)


def _unlike(old: Any, new: Any, path: str) -> Iterator[Change]:
    """Sections are gone into, and so are names with sections or values of their own; lists are one value."""
    if isinstance(new, Struct) and type(old) is type(new):
        yield from _differences(old, new, path)
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=str):
            if key in old and key in new:
                yield from _unlike(old[key], new[key], join(path, str(key)))
            else:
                yield Change(join(path, str(key)))
    elif old != new:
        yield Change(path)
