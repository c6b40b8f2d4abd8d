"""Addon entries held against the addons they name: built-in, announced by a package, or anybody's class."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from holdfast.profile.check import BAD, Check
from holdfast.profile.entries import Entry, path_of
from holdfast.profile.hints import either_of, found
from holdfast.profile.nodes import Plain, Table, join, problems, to_plain
from holdfast.profile.settings import AddonEntry, OnError
from holdfast.profile.shapes import shape_of
from holdfast.registry import AddonType, known_names, resolve, settings_class


def check_entries(entries: Iterable[Entry], check: Check) -> tuple[AddonEntry, ...]:
    """The entries that are sound; what is wrong with the others is in `check.faults`."""
    checked = [_check_entry(entry, check) for entry in entries]
    return tuple(entry for entry in checked if entry is not None)


def _check_entry(entry: Entry, check: Check) -> AddonEntry | None:
    path = path_of(entry.name)
    on_error: Any = "open"
    if entry.on_error is not None:
        on_error = check.node(entry.on_error, shape_of(OnError), join(path, "on_error"), "open")
    assert entry.target is not None
    addon = _resolved(entry, path, check)
    settings = BAD if addon is BAD else _settings(entry, addon, path, check)
    if settings is BAD or on_error is BAD:
        return None
    return AddonEntry(
        name=entry.name,
        target=entry.target,
        settings=settings,
        on_error=on_error,
        line=entry.where.line,
        file=entry.where.file,
    )


def _resolved(entry: Entry, path: str, check: Check) -> AddonType:
    try:
        return resolve(entry.target or "")
    except LookupError as error:
        names = known_names()
        hint = either_of(entry.target or "", names) or f"known are {', '.join(names)}"
        message = f"{error.args[0]}: {hint} (anybody's class is named by '- use: package.module:Class')"
        return check.fault(entry.where, path, message)
    except ImportError as error:
        return check.fault(entry.where, path, str(error))


def _settings(entry: Entry, addon: AddonType, path: str, check: Check) -> Any:
    at = join(path, entry.with_key) if entry.with_key else path
    table = entry.settings or Table(entry.where)
    if not isinstance(table, Table):
        return check.fault(table.where, at, f"expected a mapping of settings; found {found(table)}")
    declared = settings_class(addon)
    if declared is not None:
        return check.struct(table, declared, at)
    unfilled = list(problems(table, at))
    if unfilled:
        check.faults.extend(unfilled)
        return BAD
    return _arguments(table, addon, at, check)


def _arguments(table: Table, addon: AddonType, at: str, check: Check) -> Any:
    """Keyword arguments of a class without `Settings`, as far as its signature can tell."""
    arguments: dict[str, Plain] = {key: to_plain(node) for key, node in table.entries.items()}
    if not callable(addon):
        if arguments:
            return check.fault(table.where, at, "is a ready-made instance, which takes no settings")
        return arguments
    try:
        inspect.signature(addon).bind(**arguments)
    except TypeError as error:
        name = getattr(addon, "__name__", type(addon).__name__)
        return check.fault(table.where, at, f"{name} cannot be made with these settings: {error}")
    except ValueError:
        pass  # a class written in C may have no signature; it will speak for itself
    return arguments
