"""A profile with everything it extends, and the command line, laid over each other into one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast.errors import Fault, ProfileError
from holdfast.profile.compose import ROOT
from holdfast.profile.entries import Entry, entries_of, path_of
from holdfast.profile.files import read_table
from holdfast.profile.merge import merge, merge_addons
from holdfast.profile.nodes import Node, Scalar, Table, Where, from_plain
from holdfast.profile.shipped import is_shipped_name, shipped_file
from holdfast.profile.tested import cases_of, is_in_tests, laid_over

COMMAND_LINE = Where("command line", 0)
_LONGEST_CHAIN = 16


@dataclass(frozen=True, slots=True)
class Document:
    """One file, or several laid over each other: all keys but `addons` and `tests`, and what is in those two.

    `tests` are those of the last file alone, `inherited` those of all files; each with its path in its file.
    """

    table: Table
    entries: list[Entry]
    tests: list[tuple[str, Node]]
    inherited: list[tuple[str, Node]]


class Reading:
    """The reading of one profile; `faults` is what has been found so far, `files` those opened, in their order.

    Without `with_tests` nobody looks at `tests:`.
    """

    def __init__(self, env: Mapping[str, str], *, with_tests: bool = False) -> None:
        self.faults: list[Fault] = []
        self.files: list[str] = []
        self._env = env
        self._with_tests = with_tests
        self._whole: Document | None = None

    def named(self, name: str) -> Document | None:
        """The merged document of this profile, None if its first file gives nothing to go on with."""
        where = Where(name, 0)
        file = self._located(name, None, where, ROOT)
        return self._document(file, [], where, ROOT) if file else None

    def overridden(self, document: Document, overrides: Mapping[str, object]) -> Document:
        """The command line, dotted paths and their values, laid over the document."""
        self._whole = self._overridden(document, overrides)
        return self._whole

    def _overridden(self, document: Document, overrides: Mapping[str, object]) -> Document:
        table: dict[str, Any] = {}
        for path, value in overrides.items():
            _set(table, path.split("."), value)
        addons = table.pop("addons", {})
        if not isinstance(addons, dict):
            self.faults.append(COMMAND_LINE.fault("addons", "name the addon and its setting: addons.NAME.KEY"))
            return document
        entries = [Entry(COMMAND_LINE, name, None, from_plain(value, COMMAND_LINE)) for name, value in addons.items()]
        merged = merge(document.table, from_plain(table, COMMAND_LINE)) if table else document.table
        assert isinstance(merged, Table)
        return replace(document, table=merged, entries=merge_addons(document.entries, entries, self.faults))

    @property
    def document(self) -> Document | None:
        """The whole, with the command line laid over it; None if the files did not give one."""
        return self._whole

    def place(self, path: str) -> Where:
        """Where the key of this dotted path stands in the whole document; where it is left out, what it belongs to."""
        assert self._whole
        node: Node | None = self._whole.table
        where, keys = self._whole.table.where, path.split(".")
        for entry in self._whole.entries:
            if path == path_of(entry.name) or path.startswith(path_of(entry.name) + "."):
                node, where, keys = entry.settings, entry.where, path.removeprefix(path_of(entry.name)).split(".")[1:]
        for key in keys:
            node = node.entries.get(key) if isinstance(node, Table) else None
            where = node.where if node else where
        return where

    def ordered(self, faults: list[Fault]) -> list[Fault]:
        """The faults as a reader goes through the files; what an alias or a merge shows twice is told once."""
        rank = {file: index for index, file in enumerate(self.files)}
        return sorted(dict.fromkeys(faults), key=lambda fault: (rank.get(fault.file, len(rank)), fault.line))

    def _located(self, name: str, beside: Path | None, where: Where, path: str) -> Path | None:
        if not is_shipped_name(name):
            return beside / name if beside else Path(name)
        try:
            return shipped_file(name)
        except LookupError as error:
            self.faults.append(where.fault(path, str(error.args[0])))
            return None

    def _document(self, file: Path, chain: list[Path], where: Where, path: str) -> Document | None:
        """The file and all it extends; `where` and `path` are those of the name that led here."""
        self.files.append(str(file))
        try:
            table, faults = read_table(file, self._env, where, path)
        except ProfileError as error:
            self.faults.extend(error.faults)
            return None
        self.faults.extend(fault for fault in faults if self._with_tests or not is_in_tests(fault.path))
        table = self._versioned(table)
        tests = cases_of(table.entries.get("tests"), self.faults) if self._with_tests else []
        entries = entries_of(table.entries.get("addons"), self.faults)
        own = Document(_without(table, "addons", "tests"), entries, tests, tests)
        base = self._base(table, file, [*chain, file.resolve()])
        if base is None:
            # Without what it builds on, an entry that refers to an inherited one cannot be told from a mistake.
            kept = own.entries if "extends" in table.entries else merge_addons([], own.entries, self.faults)
            return replace(own, entries=[entry for entry in kept if not entry.removed])
        merged = merge(_without(base.table, "extends"), own.table)
        assert isinstance(merged, Table)
        entries = merge_addons(base.entries, own.entries, self.faults)
        return Document(merged, entries, tests, laid_over(base.inherited, tests))

    def _versioned(self, table: Table) -> Table:
        """Every file says its version itself: what it extends may move on to another."""
        if "version" in table.entries:
            return table
        self.faults.append(table.where.fault("version", "is missing: begin every profile with 'version: 1'"))
        return Table(table.where, {"version": Scalar(table.where, "1", plain=True), **table.entries})

    def _base(self, table: Table, file: Path, chain: list[Path]) -> Document | None:
        node = table.entries.get("extends")
        if not isinstance(node, Scalar) or node.problem or node.is_null():
            return None  # a wrong type is the check's business
        base = self._located(node.text, file.parent, node.where, "extends")
        if base is None:
            return None
        refusal = _refusal(base, chain)
        if refusal:
            self.faults.append(node.where.fault("extends", refusal))
            return None
        return self._document(base, chain, node.where, "extends")


def _refusal(base: Path, chain: list[Path]) -> str:
    """Why the chain of files must not go on to this one."""
    try:
        resolved = base.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be found: {error}"
    if resolved in chain:
        circle = [*chain[chain.index(resolved) :], resolved]
        return f"goes round in a circle: {' -> '.join(path.name for path in circle)}"
    return f"goes over more than {_LONGEST_CHAIN} files" if len(chain) >= _LONGEST_CHAIN else ""


def _without(table: Table, *keys: str) -> Table:
    return Table(table.where, {name: node for name, node in table.entries.items() if name not in keys})


def _set(table: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            table[part] = inner = {}
        table = inner
    table[path[-1]] = value
