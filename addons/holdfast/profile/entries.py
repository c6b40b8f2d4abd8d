"""Addon entries as they are written: the short form, `use:`, and `name: false`, which takes an inherited entry away."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.errors import Fault
from holdfast.profile.hints import either_of, found
from holdfast.profile.nodes import Node, Scalar, Sequence, Table, Where, join

_USE_KEYS = ("use", "with", "name", "on_error")
_EXAMPLE = "write '- metrics', '- router: {...}' or '- use: package.module:Class'"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry before its addon is looked up. A `target` of None leaves that to the inherited entry of this name."""

    where: Where
    name: str
    target: str | None
    settings: Node | None = None
    on_error: Node | None = None
    removed: bool = False
    with_key: str = ""  # "with" if the settings stand under such a key, for the paths of faults


def path_of(name: str) -> str:
    """The dotted path of an entry: by its name, as its index changes with every profile laid over it."""
    return f"addons.{name}"


def entries_of(node: Node | None, faults: list[Fault]) -> list[Entry]:
    """The entries of one file's `addons`, with what is wrong with their form."""
    if node is None:
        return []
    if not isinstance(node, Sequence):
        faults.append(node.where.fault("addons", f"expected a list: {_EXAMPLE}; found {found(node)}"))
        return []
    seen: dict[str, Entry] = {}
    for index, item in enumerate(node.items):
        entry = _entry(item, f"addons[{index}]", faults)
        if entry is None:
            continue
        if entry.name in seen:
            message = (
                f"the addon {entry.name!r} stands here twice, first on line {seen[entry.name].where.line}: "
                "join the two, or give one a name of its own with 'use: ...' and 'name: ...'"
            )
            faults.append(entry.where.fault(path_of(entry.name), message))
        else:
            seen[entry.name] = entry
    return list(seen.values())


def _entry(item: Node, path: str, faults: list[Fault]) -> Entry | None:
    if isinstance(item, Scalar) and item.text and not item.is_null():
        if item.problem:
            faults.append(item.where.fault(path, item.problem))
            return None
        return Entry(item.where, _short_name(item.text), item.text)
    if isinstance(item, Table) and item.entries:
        return _used(item, path, faults) if "use" in item.entries else _short(item, path, faults)
    faults.append(item.where.fault(path, f"expected an addon: {_EXAMPLE}; found {found(item)}"))
    return None


def _short(item: Table, path: str, faults: list[Fault]) -> Entry | None:
    """`- router: {...}`, with `on_error` beside it if need be."""
    names = [key for key in item.entries if key != "on_error"]
    if not names:
        faults.append(item.where.fault(path, f"names no addon: {_EXAMPLE}"))
        return None
    target = names[0]
    for key in names[1:]:
        hint = either_of(key, ["on_error"])
        message = hint or (
            f"indent it further if it belongs to {target!r}, or start it with '- ' if it is another addon"
        )
        faults.append(item.entries[key].where.fault(path, f"{key!r} stands beside {target!r}: {message}"))
    node = item.entries[target]
    removed = isinstance(node, Scalar) and node.value() is False
    settings = None if removed else _settings(node)
    return Entry(node.where, _short_name(target), target, settings, item.entries.get("on_error"), removed)


def _used(item: Table, path: str, faults: list[Fault]) -> Entry | None:
    """`- use: package.module:Class`, with `with`, `name` and `on_error`."""
    for key, node in item.entries.items():
        if key not in _USE_KEYS:
            hint = either_of(key, _USE_KEYS) or f"the keys beside 'use' are {', '.join(_USE_KEYS[1:])}"
            faults.append(node.where.fault(join(path, key), f"unknown key: {hint}"))
    target = _text(item.entries["use"], join(path, "use"), faults)
    name_node = item.entries.get("name")
    name = _text(name_node, join(path, "name"), faults) if name_node else _short_name(target or "")
    if target is None or name is None:
        return None
    settings, on_error = _settings(item.entries.get("with")), item.entries.get("on_error")
    return Entry(item.entries["use"].where, name, target, settings, on_error, with_key="with")


def _settings(node: Node | None) -> Node | None:
    """`- router:` with nothing behind it says no more than `- router`."""
    return None if isinstance(node, Scalar) and node.is_null() and not node.problem else node


def _text(node: Node, path: str, faults: list[Fault]) -> str | None:
    if isinstance(node, Scalar) and node.text and not node.is_null():
        if not node.problem:
            return node.text
        faults.append(node.where.fault(path, node.problem))
        return None
    faults.append(node.where.fault(path, f"expected a name; found {found(node)}"))
    return None


def _short_name(target: str) -> str:
    """`Banner` for `mypackage.addons:Banner`: what logs and metrics call it."""
    return target.rpartition(":")[2] or target
